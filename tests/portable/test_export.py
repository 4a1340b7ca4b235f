"""Exported policies: the same values elsewhere, one sentence for what cannot be exported or read, nothing executed."""

import importlib.util
import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purejaxdqn.build import build_model
from purejaxdqn.config import Config, EnvSpec, SettingError
from purejaxdqn.export.command import main
from purejaxdqn.machine.part_values import numbers_of
from purejaxdqn.portable import purejaxdqn_numpy as player
from purejaxdqn.portable.tape import make_tape
from purejaxdqn.runs.policy import Policy, load_policy
from tests.command_lines import refused as refuse

FINISHED = Path(__file__).parents[1] / "fixtures" / "0.1" / "runs" / "finished"
PAGE = Path(__file__).parents[2] / "docs" / "export.md"

SPECS = {
    "vector": EnvSpec("Vector", 3, (5,), "float32", None, 500),
    "picture": EnvSpec("Picture", 3, (10, 10, 4), "bool", None, 500),
    "pixels": EnvSpec("Pixels", 3, (36, 36, 2), "uint8", None, 500),
    "kinds": EnvSpec("Kinds", 3, (), "int32", 7, 500),
    "tree": EnvSpec(
        "Tree",
        6,
        {"hand": (3,), "seen": (8, 8, 2)},
        {"hand": "float32", "seen": "uint8"},
        None,
        500,
        action_sizes=(2, 3),
    ),
}
NEEDS = {name: importlib.util.find_spec(name) is None for name in ("onnx", "flatbuffers", "onnxruntime")}
without_flatbuffers = pytest.mark.skipif(NEEDS["flatbuffers"], reason="the extra export (flatbuffers) is not installed")
without_onnx = pytest.mark.skipif(
    NEEDS["onnx"] or NEEDS["onnxruntime"], reason="the extra export (onnx) or onnxruntime is not installed"
)


def make_policy(spec, **settings):
    """A policy with parameters that nobody trained; statistics are not those that a network begins with."""
    network, head = build_model(Config(hidden=(16, 8), **settings), spec)
    params = jax.jit(network.init)(jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf + 0.05 if leaf.ndim == 1 else leaf, params)

    @jax.jit
    def apply_q(params, obs, carry):
        dist, carry = network.step(params, obs, carry, jax.random.key(0), "greedy")
        return numbers_of(head.q_values(dist)), carry

    return Policy(params, apply_q, spec, network.init_carry, settings.get("branching", False))


def draw(spec, count, seed=1):
    """Observations of one array."""
    rng, shape = np.random.default_rng(seed), (count, *spec.obs_shape)
    if spec.obs_dtype == "float32":
        return rng.normal(size=shape).astype(np.float32)
    return rng.integers(0, spec.num_obs_values or (2 if spec.obs_dtype == "bool" else 256), shape).astype(
        spec.obs_dtype
    )


CASES = {
    "scalar": ("vector", {"head": "scalar", "norm": "none"}),
    "fqf": ("vector", {"head": "fqf", "dueling": True, "noisy": True, "norm": "layer", "normalize_obs": True}),
    "categorical": ("kinds", {"head": "categorical", "norm": "batch"}),
    "iqn": ("picture", {"head": "iqn", "ensemble": 2, "prior_scale": 1.0}),
    "quantile": ("pixels", {"head": "quantile", "network": "impala-cnn", "spectral_norm": True, "pool": 2}),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(spec, policy, exported file) of a case, made once."""
    made = {}

    def get(name):
        if name not in made:
            where, settings = CASES[name]
            policy = make_policy(SPECS[where], **settings)
            path = tmp_path_factory.mktemp(name) / "policy.npz"
            made[name] = SPECS[where], policy, path, policy.export(path)
        return made[name]

    return get


@pytest.mark.parametrize(
    "name", [name if name == "scalar" else pytest.param(name, marks=pytest.mark.long) for name in CASES]
)
def test_numpy_alone_gives_the_same_values_and_actions(exported, name):
    """A process that finds nothing but NumPy and the folder; for one observation, too, and for an empty batch."""
    spec, policy, path, written = exported(name)
    assert [file.name for file in written] == ["policy.npz", "purejaxdqn_numpy.py"]
    obs = draw(spec, 300)
    np.save(path.with_name("obs.npy"), obs)
    script = (
        "import sys, numpy as np, purejaxdqn_numpy\n"
        "policy, obs = purejaxdqn_numpy.load('policy.npz'), np.load('obs.npy')\n"
        "np.save('values.npy', policy.q_values(obs)); np.save('actions.npy', policy(obs))\n"
        "assert not {'jax', 'flax', 'purejaxdqn'} & set(sys.modules)\n"
        "assert policy(obs[0]) == policy(obs)[0] and policy.q_values(obs[:0]).shape == (0, 3)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=path.parent, check=True, env={"PYTHONPATH": str(path.parent)})
    ours = policy.q_values(obs)
    assert np.abs(np.load(path.with_name("values.npy")) - ours).max() < 1e-4
    assert np.array_equal(np.load(path.with_name("actions.npy")), policy(obs))


def test_of_branching_the_player_chooses_parts(tmp_path):
    """A million combinations of ten parts."""
    spec = SPECS["vector"]._replace(num_actions=4**10, action_sizes=(4,) * 10)
    policy = make_policy(spec, branching=True)
    policy.export(tmp_path / "policy.npz")
    alone, obs = player.load(tmp_path / "policy.npz"), draw(spec, 50)
    assert np.array_equal(alone(obs), policy(obs)) and alone(obs[0]).shape == (10,)
    with pytest.raises(ValueError, match="knows no mask"):
        alone(obs, np.ones((50, *spec.action_sizes), bool))


@without_onnx
@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_gives_the_same_values(exported, name, tmp_path):
    import onnxruntime

    spec, policy, _, _ = exported(name)
    policy.export(tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    for count in (1, 50):
        obs = draw(spec, count)
        (values,) = session.run(["q_values"], {"obs": obs})
        assert np.abs(values - policy.q_values(obs)).max() < 1e-4
    assert session.get_modelmeta().custom_metadata_map["env"] == json.dumps(spec.env_id)


@without_flatbuffers
def test_stablehlo_gives_the_same_values_for_any_batch(exported, tmp_path):
    spec, policy, _, _ = exported("fqf")
    policy.export(tmp_path / "policy.stablehlo")
    read = jax.export.deserialize(bytearray((tmp_path / "policy.stablehlo").read_bytes()))
    for count in (1, 7):
        obs = draw(spec, count)
        assert np.abs(np.asarray(read.call(obs)[0]) - policy.q_values(obs)).max() < 1e-4


def follow(policy, obs, begins):
    """Values of steps [T, B, ...], asked one after another and told where episodes begin."""
    found = []
    for step, starts in zip(obs, begins, strict=True):
        policy.reset(starts)
        found.append(policy.q_values(step))
    return np.stack(found)


def with_memory(name, tmp_path, **settings):
    """A policy with a memory, a file's path, and observations [T, B, 5] with where episodes begin."""
    spec = SPECS["vector"]
    policy = make_policy(spec, memory=name, memory_size=8, memory_window=3, **settings)
    obs, rng = draw(spec, 7 * 4).reshape(7, 4, 5), np.random.default_rng(2)
    return policy, tmp_path / "policy.npz", obs, rng.random((7, 4)) < 0.2


MEMORIES = {
    "gru": {},
    "lstm": {"normalize_obs": True, "head": "fqf"},
    "lru": {"dueling": True},
    "attention": {"norm": "none"},
}


@pytest.mark.parametrize(
    "name", [name if name == "gru" else pytest.param(name, marks=pytest.mark.long) for name in MEMORIES]
)
def test_numpy_follows_episodes_with_a_memory(name, tmp_path):
    """Step by step what the policy itself gives, in episodes that begin anywhere, and for one environment alone."""
    policy, path, obs, begins = with_memory(name, tmp_path, **MEMORIES[name])
    policy.export(path)
    played = player.load(path)
    ours, theirs = follow(policy, obs, begins), follow(played, obs, begins)
    assert np.abs(ours - theirs).max() < 1e-4 and np.array_equal(ours.argmax(-1), theirs.argmax(-1))
    # It does remember: the same observation is worth something else after others.
    played.reset()
    assert np.abs(played.q_values(obs[-1]) - theirs[-1]).max() > 1e-4
    with pytest.raises(ValueError, match=r"its memory follows 4 episodes, not 1: call policy.reset"):
        played(obs[0, 0])
    kept = played.carry
    first = played.q_values(obs[1])
    played.carry = kept
    assert np.array_equal(played.q_values(obs[1]), first)
    policy.reset(), played.reset()
    assert [int(policy(step)) for step in obs[:, 0]] == [int(played(step)) for step in obs[:, 0]]


@without_onnx
@pytest.mark.parametrize("name", ["gru", "lstm", "attention"])
def test_onnxruntime_follows_episodes_with_a_memory(name, tmp_path):
    """What is carried goes in and comes out; what is there before the first step is not read."""
    import onnxruntime

    policy, _, obs, begins = with_memory(name, tmp_path, **MEMORIES[name])
    policy.export(tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    given, found = [entry.name for entry in session.get_inputs()], []
    kinds = {"tensor(float)": np.float32, "tensor(bool)": bool}
    carry = [np.ones((4, *entry.shape[1:]), kinds[entry.type]) for entry in session.get_inputs()[2:]]
    for time, step in enumerate(obs):
        starts = np.ones(4, bool) if time == 0 else begins[time]
        values, *carry = session.run(None, dict(zip(given, [step, starts, *carry], strict=True)))
        found.append(values)
    assert given[:3] == ["obs", "starts", "carry/0"] and session.get_outputs()[1].name == "next_carry/0"
    assert np.abs(follow(policy, obs, begins) - np.stack(found)).max() < 1e-4


@without_flatbuffers
@pytest.mark.long
def test_stablehlo_carries_a_memory(tmp_path):
    policy, _, obs, _ = with_memory("lru", tmp_path)
    policy.export(tmp_path / "policy.stablehlo")
    read = jax.export.deserialize(bytearray((tmp_path / "policy.stablehlo").read_bytes()))
    values, carry = read.call(obs[0], np.ones(4, bool), np.zeros((4, 16), np.float32))
    again, _ = read.call(obs[1], np.zeros(4, bool), carry)
    assert np.abs(np.stack([values, again]) - follow(policy, obs[:2], np.zeros((2, 4), bool))).max() < 1e-4


def test_a_tree_and_actions_of_several_parts(tmp_path):
    """Arrays are found by name, and there may be more in an observation."""
    spec = SPECS["tree"]
    policy = make_policy(spec, network="mlp")
    policy.export(tmp_path / "tree.npz")
    played, rng = player.load(tmp_path / "tree.npz"), np.random.default_rng(0)
    obs = {"hand": rng.normal(size=(20, 3)), "seen": rng.integers(0, 256, (20, 8, 8, 2)), "text": "unread"}
    assert np.array_equal(played(obs), policy(obs)) and played(obs).shape == (20, 2)
    first = {"hand": obs["hand"][0], "seen": obs["seen"][0]}
    assert played(first).tolist() == played(obs)[0].tolist()
    mask = np.zeros((20, 2, 3), bool)
    mask[:, 1, 2] = True
    assert (played(obs, mask) == [1, 2]).all()
    with pytest.raises(ValueError, match="an observation has no hand"):
        played({"seen": obs["seen"]})
    with pytest.raises(ValueError, match=r"an observation \(obs/seen\) has the shape \(8, 8, 2\)"):
        played({"hand": obs["hand"], "seen": obs["seen"][:, 1:]})
    with pytest.raises(ValueError, match="a mask leaves no legal action"):
        played(obs, np.zeros((20, 2, 3)))


class Convolutions(nn.Module):
    """Every operator that is said in others: convolutions of all kinds, pooling, and functions of one number."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (3, 2), strides=(2, 1), padding="SAME")(x)
        x = nn.Conv(6, (3, 3), kernel_dilation=2, padding=((1, 2), (0, 3)), feature_group_count=3)(x)
        x = nn.avg_pool(nn.max_pool(x, (2, 3), strides=(1, 2), padding="SAME"), (2, 2))
        first, second = jnp.split(x, 2, axis=-1)
        parts = [
            nn.elu(first),
            nn.silu(second),
            jax.lax.rsqrt(1.0 + first**2),
            jnp.log1p(second**4),
            jnp.clip(x, -0.1, 0.1),
        ]
        return jnp.concatenate([*parts, jnp.where(jnp.isfinite(x), x**-2, 0.0), jnp.exp2(x)], axis=-1)


def test_convolutions_pooling_and_other_operators_that_are_said_in_simpler_ones():
    """JAX's own convolution, of a user's network, against slices and products."""
    module, shape = Convolutions(), (9, 8, 3)
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, *shape)))

    def fn(x):
        return (jax.vmap(lambda one: module.apply(params, one[None])[0])(x),)

    tape = make_tape(fn, {"x": jax.ShapeDtypeStruct(shape, "float32")}, ("y",))
    x = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    description = {
        "inputs": [{"name": "x"}],
        "outputs": [{"array": tape.outputs[0].array}],
        "steps": [step._asdict() for step in tape.steps],
    }
    (found,) = player.run_steps(description, tape.constants, [x])
    np.testing.assert_allclose(found, jax.jit(fn)(x)[0], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (lambda x: jnp.sort(x), "sort"),
        (lambda x: jnp.round(x.astype(jnp.int32) // 2).astype(jnp.float32), "div of whole numbers"),
        (lambda x: jnp.broadcast_to(x.sum(0), x.shape), None),
        (lambda x: jnp.concatenate([x, x]), "a size that depends on the number of observations"),
    ],
)
def test_an_unknown_operator_is_named_and_one_that_nothing_needs_is_no_matter(fn, says):
    def both(x):
        jnp.sort(x)
        return (fn(x),)

    inputs = {"x": jax.ShapeDtypeStruct((4,), "float32")}
    if says is None:
        assert "sort" not in {step.operator for step in make_tape(both, inputs, ("y",)).steps}
    else:
        with pytest.raises(Exception, match=says):
            make_tape(both, inputs, ("y",))


def refused(policy, out):
    with pytest.raises(SettingError) as error:
        policy.export(out)
    return error.value.remedy


def test_what_cannot_be_exported_is_one_sentence(exported, tmp_path, monkeypatch):
    spec, policy, _, _ = exported("scalar")
    assert refused(policy, tmp_path / "policy.pkl") == "name a file that ends in one of .npz, .onnx, .stablehlo"
    assert refused(policy, tmp_path / "none" / "policy.npz") == "its folder does not exist: make it first"
    (tmp_path / "folder.npz").mkdir()
    assert refused(policy, tmp_path / "folder.npz") == "it cannot be written (Is a directory)"
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "purejaxdqn.portable.onnx_graph", raising=False)
    assert refused(policy, tmp_path / "policy.onnx") == "ONNX needs what is not installed: install purejaxdqn[export]"
    sorting = Policy({}, lambda params, obs, carry: (jnp.sort(obs)[..., :3], carry), spec)
    assert refused(sorting, tmp_path / "policy.npz").startswith(
        "the network has sort, which the NumPy player has not: use"
    )
    assert list(tmp_path.glob("policy*")) == []


def test_a_file_that_gives_other_values_is_not_written(exported, tmp_path, monkeypatch):
    _, policy, _, _ = exported("scalar")
    monkeypatch.setitem(player.OPERATORS, "add", lambda a, b: np.add(a, b) + np.float32(0.01))
    assert refused(policy, tmp_path / "policy.npz").startswith("its values would differ by ")
    assert list(tmp_path.iterdir()) == []


def test_the_command_exports_a_run(tmp_path, capsys):
    """A run that version 0.1 made; each of its seeds, and its last parameters."""
    out = tmp_path / "policy.npz"
    assert main([str(FINISHED), str(out), "--seed-index", "1", "--which", "last", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == [str(out), str(tmp_path / "purejaxdqn_numpy.py")]
    obs = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    policy = load_policy(FINISHED, 1, "last")
    assert np.array_equal(player.load(out)(obs), policy(obs))
    assert np.abs(player.load(out).q_values(obs) - policy.q_values(obs)).max() < 1e-4
    assert "--out policy.txt: name a file that ends in" in refuse(capsys, main, [str(FINISHED), "policy.txt"])
    assert "it is not the folder of a run" in refuse(capsys, main, [str(tmp_path), str(out)])


def changed(path, change):
    """A copy of an exported file with another description."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    description = json.loads(arrays[player.DESCRIPTION].item())
    change(description)
    file = io.BytesIO()
    np.savez(file, **{**arrays, player.DESCRIPTION: np.asarray(json.dumps(description))})
    file.seek(0)
    return file


def test_what_the_player_cannot_read_is_one_sentence(exported, tmp_path):
    """Truncated anywhere, with a byte changed, of another format, with a foreign operator; a pickle is never opened."""
    _, _, path, _ = exported("scalar")
    whole, broken = path.read_bytes(), tmp_path / "broken.npz"
    for size in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        broken.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="is damaged or no policy that purejaxdqn exported"):
            player.load(broken)
    for place in range(200, len(whole), len(whole) // 23):
        broken.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            player.load(broken)
        except ValueError as error:
            assert "is damaged" in str(error) and "\n" not in str(error)
    with pytest.raises(ValueError, match="asks for system, which this player does not know"):
        player.load(changed(path, lambda found: found["steps"][0].update(operator="system")))
    with pytest.raises(ValueError, match="has the format 3, and this player knows 1 and 2"):
        player.load(changed(path, lambda found: found.update(format=3)))
    with pytest.raises(ValueError, match="asks for nowhere"):
        player.load(changed(path, lambda found: found["steps"][0].update(inputs=["nowhere"])))
    np.savez(broken, description=np.asarray({"format": 1}, dtype=object))
    with pytest.raises(ValueError, match="is damaged or no policy"):
        player.load(broken)
    with pytest.raises(FileNotFoundError):
        player.load(tmp_path / "none.npz")


def test_the_same_policy_gives_the_same_bytes(exported, tmp_path):
    _, policy, path, _ = exported("scalar")
    policy.export(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == path.read_bytes()
    with zipfile.ZipFile(path) as file:
        assert all(name.endswith(".npy") for name in file.namelist())


def test_the_player_imports_nothing_but_numpy_and_the_standard_library():
    names = {"json", "math", "collections.abc", "pathlib", "typing", "numpy"}
    lines = Path(player.__file__).read_text(encoding="utf-8").splitlines()
    assert {line.split()[1] for line in lines if line.startswith(("import ", "from "))} == names


def test_the_page_plays_a_policy_with_numpy(tmp_path, monkeypatch):
    """The page's blocks, as they stand, of a run in the folder that it names."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "cartpole").symlink_to(FINISHED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found = {}
    for block in blocks[:2]:
        exec(block, found)
    assert found["values"].shape == (2,) and found["action"] == found["values"].argmax()
    if not NEEDS["flatbuffers"]:
        load_policy(FINISHED).export("policy.stablehlo")
        exec(blocks[3], found)
        assert np.abs(found["values"][0] - found["policy"].q_values(found["observation"])).max() < 1e-4
    if not (NEEDS["onnx"] or NEEDS["onnxruntime"]):
        load_policy(FINISHED).export("policy.onnx")
        exec(blocks[2], found)
        assert found["action"] == found["policy"](found["observation"])
