"""What is read of XLA's dumps of a GPU program, by an excerpt of one, and how its counts are compared and told."""

import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks import common
from benchmarks.pages import gpu_page
from benchmarks.speed import count_case, gpu_count
from benchmarks.speed.thunks import count_program, count_trip, read_program

# Of jax 0.10.2: a loop of unknown length with a graph, an inner loop of five trips with a copy of the ring, a choice.
THUNKS = """\
000: kCopy [source       | next=001 (1)] kCopy
001: kWhile         [prev=000 (1) | next=009 (1)]
condition:
    002: kCustomKernel [source | sink] wrapped_compare grid: [1, 1, 1] threads: [1, 1, 1]  shared_memory: 0 bytes
  body:
    000: kCommandBuffer [source | sink]
        003: kCustomKernel [source        | next=004 (1)] loop_add_fusion grid: [1, 1, 1] threads: [1, 1, 1]
        004: kCopy         [prev=003 (1)  | sink        ] kCopy
    005: kWhile         [prev=000 (1) | next=010 (1)]
condition:
        006: kCustomKernel [source | sink] wrapped_compare_1 grid: [1, 1, 1] threads: [1, 1, 1]
      body:
        007: kCustomKernel [source        | next=008 (1)] loop_dynamic_update_slice_fusion grid: [1, 1, 1]
        008: kCustomKernel [prev=007 (1)  | sink        ] loop_select_fusion grid: [8, 1, 1] threads: [128, 1, 1]
    010: kConditional   [prev=005 (1) | sink        ]
      false_branch:
        011: kCopy [source | sink] kCopy
      true_branch:
        012: kCustomKernel [source       | next=013 (1)] gemm_fusion_dot_3 grid: [32, 1, 1] threads: [64, 1, 1]
        013: kCustomKernel [prev=012 (1) | sink        ] gemm_fusion_dot_4 grid: [32, 1, 1] threads: [64, 1, 1]
009: kCustomKernel  [prev=001 (1) | sink        ] wrapped_add grid: [1, 1, 1] threads: [1, 1, 1]
"""
# All of it indented below one graph, but for the conditions, which never are.
ONE_GRAPH = "000: kCommandBuffer [source | sink]\n" + "".join(
    line if line == "condition:\n" else f"    {line}"
    for line in THUNKS.replace("kCommandBuffer", "kSequential").splitlines(keepends=True)
)
NAMES = {1: "while.1", 2: "compare.1", 4: "copy.7", 5: "while.2", 7: "loop_dynamic_update_slice_fusion.2"}
NAMES |= {8: "select.3"}
HLO = """\
ENTRY %main {
  %copy.7 = pred[]{:T(256)} copy(%p)
  ROOT %while.1 = (s32[], /*index=1*/f32[100,4]{1,0}) while(%tuple), condition=%a, body=%b
  %while.2 = (s32[], f32[100,4]{1,0}) while(%t), backend_config={"known_trip_count":{"n":"5"},"x":[]}
  %loop_dynamic_update_slice_fusion.2 = f32[100,4]{1,0} fusion(%q), kind=kLoop
  %select.3 = (f32[100,4]{1,0}, bf16[2,3]) fusion(%q), kind=kLoop
}
"""


# Written in five trips: the ring, and the ring and six numbers of two bytes; a copy of one byte. Nothing is read here.
MOVED = 5 * (1600 + 1600 + 12) + 1


def dumped(folder, thunks, hidden_trips=1):
    """A program as XLA leaves it in a folder."""
    metadata = "".join(
        f'thunk_metadata {{\n  thunk_info {{\n    profile_annotation: "{name}"\n    thunk_id: {number}\n  }}\n}}\n'
        for number, name in NAMES.items()
    )
    texts = {"thunk_sequence_after_thunk_passes": thunks, "thunk_metadata": metadata, "gpu_after_optimizations": HLO}
    for name, text in texts.items():
        (folder / f"module_0001.jit_counted.{name}.txt").write_text(text)
    return read_program(folder, hidden_trips)


def test_a_trip_of_the_outermost_loop(tmp_path):
    """A look at the condition, a graph of two, five trips of two without a look, and the larger of two branches."""
    found = count_trip(dumped(tmp_path, THUNKS), ring={1600})
    # The slice is written in place; the selection writes all of the ring, five times.
    assert found == {"ops": 1 + 2 + 10 + 2, "copies": 1, "graphs": 1, "waits": 2, "ring_copies": 5, "bytes": MOVED}


def test_the_whole_program(tmp_path):
    """Without another number a loop of unknown length counts as one trip, whose condition is looked at twice."""
    found = count_program(dumped(tmp_path, THUNKS))
    assert found == {"ops": 2 + 2 + 14, "copies": 2, "graphs": 1, "waits": 3, "bytes": MOVED}
    found = count_program(dumped(tmp_path, THUNKS, hidden_trips=3))
    assert found == {"ops": 2 + 4 + 3 * 14, "copies": 1 + 3, "graphs": 3, "waits": 4 + 3, "bytes": 3 * MOVED}


def test_all_of_it_in_one_graph(tmp_path):
    """Nothing is launched or waited for within a trip, but conditions are kernels: one, and six of the inner loop."""
    program = dumped(tmp_path, ONE_GRAPH)
    assert count_trip(program) == {"ops": 15 + 6, "copies": 1, "all_in_one": 1, "bytes": MOVED}
    assert count_program(program)["graphs"] == 1


def test_what_has_grown_is_said_and_what_has_fallen_is_not():
    before = {"iterate": {"plain": {"ops": 95, "waits": 3, "temporaries": 1000}}}
    now = {"iterate": {"plain": {"ops": 96, "waits": 1, "temporaries": 1049}, "kernel": {"ops": 400}}}
    assert gpu_count.growth("dqn", before, now) == ["dqn, iterate, plain: ops from 95 to 96"]
    now["iterate"]["plain"] |= {"ops": 95, "temporaries": 1051}
    assert gpu_count.growth("dqn", before, now) == ["dqn, iterate, plain: temporaries from 1,000 to 1,051"]


@pytest.mark.parametrize(("ops", "code"), [(95, 0), (96, 1)])
def test_the_guard_fails_in_one_sentence(monkeypatch, tmp_path, capsys, ops, code):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    committed = {"jax": "1", "programs": {"iterate": {"plain": {"ops": 95}}}}
    (tmp_path / "gpu_count.json").write_text(json.dumps({"h100": {"purejaxrl": {"1": committed}}}))
    found = {"jax": "1", "programs": {"iterate": {"plain": {"ops": ops}}}}
    monkeypatch.setattr(gpu_count, "compile_for", lambda python, words: found)
    assert gpu_count.check(tmp_path, ["purejaxrl"]) == code
    sentence = "a GPU is asked to do more than it was in 1 place: purejaxrl, iterate, plain: ops from 95 to 96\n"
    assert capsys.readouterr().err == sentence * code


def test_a_compiler_of_another_version_is_not_compared(monkeypatch, tmp_path):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    (tmp_path / "gpu_count.json").write_text(json.dumps({"h100": {"purejaxrl": {"1": {"jax": "1", "programs": {}}}}}))
    monkeypatch.setattr(gpu_count, "compile_for", lambda python, words: {"jax": "2", "programs": {}})
    with pytest.raises(SystemExit, match="counted with jax 2 and before with 1"):
        gpu_count.check(tmp_path, ["purejaxrl"])


def test_a_clone_of_nothing_known_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu_count", "--only", "--clone", "stoix=FOLDER"])
    with pytest.raises(SystemExit, match="2"):
        gpu_count.main()
    assert "--clone stoix: none of purejaxrl, purejaxql, earlier" in capsys.readouterr().err


def test_what_was_never_counted_is_not_checked(monkeypatch, tmp_path):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="dqn: nothing to compare with"):
        gpu_count.check(tmp_path, ["dqn"])


def test_of_a_case_that_does_not_compile_the_compilers_sentence_is_kept(monkeypatch, tmp_path):
    def fail(command, environment):
        raise RuntimeError(
            'Traceback:\n  File "/a/path.py"\njax.JaxRuntimeError: INTERNAL: no tiles\n  /a/path.py:67:15'
        )

    monkeypatch.setattr(gpu_count, "run", fail)
    assert gpu_count.compile_for(tmp_path, []) == {"failed": "jax.JaxRuntimeError: INTERNAL: no tiles"}


def test_a_case_that_does_not_compile_is_kept_as_such(monkeypatch, tmp_path):
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    gpu_count.keep("h100", "dqn", 1, {"jax": "1", "programs": {"iterate": {"plain": {"ops": 5}}}})
    gpu_count.keep("h100", "dqn", 1024, {"failed": "no room"})
    gpu_count.keep("h100", "dqn", 1, {"jax": "1", "programs": {"learn": {"plain": {"ops": 4}}}})
    gpu_count.keep("h100", "dqn", 1, {"jax": "1", "programs": {"iterate": {"kernel": {"ops": 3}}}})
    kept = json.loads((tmp_path / "gpu_count.json").read_text())["h100"]["dqn"]
    assert kept["1024"]["failed"] == "no room" and "failed" not in kept["1"]
    assert kept["1"]["programs"] == {
        "iterate": {"plain": {"ops": 5}, "kernel": {"ops": 3}},
        "learn": {"plain": {"ops": 4}},
    }


def test_the_page_tells_what_was_counted(monkeypatch, tmp_path):
    """A loop that is one CUDA graph has none of its own in a trip."""
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    counts = {
        "ops": 1234,
        "graphs": 0,
        "waits": 0,
        "copies": 7,
        "ring_copies": 2,
        "all_in_one": 1,
        "bytes": 3 * 2**20,
        "temporaries": 2**21,
    }
    # A count of before bytes were counted has none.
    earlier = {name: count for name, count in counts.items() if name != "bytes"}
    programs = {"iterate": {"one graph": counts}, "learn": {"plain": {**earlier, "all_in_one": 0}}}
    gpu_count.keep("h100", "dqn", 1024, {"jax": "1", "programs": programs})
    row = "| `dqn` | 1,024 | one graph | 1,234 | all in one | 0 | 7, 2 of the ring | 3.0 MB | 2.0 MB |"
    assert row in gpu_page.iteration_table() and "a learning phase" not in gpu_page.iteration_table()
    assert (
        "| `dqn` | 1,024 | a learning phase | 1,234 | 0 | 0 | 7, 2 of the ring |  | 2.0 MB |"
        in gpu_page.programs_table()
    )


def test_the_page_tells_how_many_lanes_fit(monkeypatch, tmp_path):
    """A state of 1 MiB and as much besides: 80 % of 16 GB hold 6,103."""
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(gpu_page, "state_bytes", lambda agent: 2**20)
    gpu_count.keep("h100", "dqn", 1024, {"jax": "1", "programs": {"iterate": {"plain": {"temporaries": 2**30}}}})
    assert "| `dqn` | 1.00 MB | 1.00 MB | 6,103 | 30,517 | 53,787 |" in gpu_page.room_table()


def test_programs_of_a_case_take_the_shapes_that_they_are_compiled_for():
    """Two lanes of ten environments; the ring's largest array is 10,000 observations of four numbers of each lane."""
    made = count_case.device_programs(count_case.settings("purejaxrl"), lanes=2)
    assert made.ring == {2 * 10_000 * 4 * 4}
    given = {name: jax.eval_shape(call.function, *call.arguments) for name, call in made.calls.items()}
    assert given["evaluate"].returns.shape == (2, 100)
    assert given["learn"][2].loss.shape == given["iterate"][1].loss_sum.shape == (2,)
    assert jax.tree.map(jnp.shape, given["init"]) == jax.tree.map(jnp.shape, given["iterate"][0])


@pytest.mark.parametrize("case", ["drqn", "pqn-rnn"])
def test_a_memory_learns_from_what_was_carried(case):
    made = count_case.device_programs(count_case.settings(case), lanes=1)
    learnt = jax.eval_shape(made.calls["learn"].function, *made.calls["learn"].arguments)
    assert learnt[2].loss.shape == (1,) and made.kernel is None


def test_lanes_are_divided_over_the_devices_that_they_are_compiled_for():
    """Of four lanes two on each of two devices, by the program that trains lanes."""
    text = count_case.lower_over(count_case.settings("purejaxrl"), 4, jax.devices()[:2]).as_text()
    assert "mhlo.num_partitions = 2" in text
    assert "tensor<4x1000x10x4xf32>" in text and "tensor<2x1000x10x4xf32>" in text


def test_atari_is_compiled_for_without_a_game():
    """A million frames of 84 by 84 bytes, and an update for four steps of each environment."""
    made = count_case.host_programs(count_case.settings("nature-dqn"))
    assert made.ring == {10**6 * 84 * 84} and set(made.calls) == {"learn"}
    learner = jax.eval_shape(made.calls["learn"].function, *made.calls["learn"].arguments)[0]
    assert jax.tree.map(jnp.shape, learner) == jax.tree.map(jnp.shape, made.calls["learn"].arguments[0])
