"""Programs that an earlier process compiled: found without tracing, and only where nothing has changed."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from purejaxdqn.config import Config
from purejaxdqn.loops.lanes import compile_calls
from purejaxdqn.machine.devices import use_compilation_cache
from purejaxdqn.machine.files import make_private
from purejaxdqn.runs import program_cache as programs
from purejaxdqn.runs.program_cache import compiler_of

PROGRAM = """
import sys
from pathlib import Path
import jax
import jax.numpy as jnp
from purejaxdqn.machine.devices import use_compilation_cache
from purejaxdqn.machine.files import make_private
from purejaxdqn.runs import program_cache as programs
from purejaxdqn.loops.lanes import Call
folder, settings = Path(sys.argv[1]), sys.argv[2]
sys.path.append(str(folder))
from made import function
programs.KEPT = int(sys.argv[3])
jax.config.update("jax_compilation_cache_dir", str(folder / "xla"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
x = jnp.arange(6.0)
def say(event, **_):
    if event.endswith(("cache_misses", "cache_hits")):
        print(event.rpartition("_")[2])
def traced(x):
    print("traced")
    return function(x)
calls = [Call(jax.jit(traced, donate_argnums=0), lambda: (x,), "a function of six numbers")]
jax.monitoring.register_event_listener(say)
(program,) = programs.make_compiler(folder / "programs", settings)(calls, jax.devices())
jax.monitoring.unregister_event_listener(say)
after = program(x)
assert x.is_deleted()
print(float(after.sum()), float(after[5]))
"""
CUMULATIVE = "import jax\ndef function(x):\n    return jax.lax.fori_loop(0, 3, lambda _, y: jax.numpy.cumsum(y), x)\n"


@pytest.fixture
def made(tmp_path):
    """Where the function is written that is compiled."""
    (tmp_path / "made.py").write_text(CUMULATIVE)
    return tmp_path


def start(folder, settings="default", kept=100):
    """What a process of its own says of finding or compiling the function, and what the function gives."""
    command = [sys.executable, "-c", PROGRAM, str(folder), settings, str(kept)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *said, numbers = done.stdout.splitlines()
    return said, numbers


ANEW = ["traced", "misses"]
# cumsum of cumsum of cumsum of 0 ... 5: 0 1 5 15 35 70.
NUMBERS = "126.0 70.0"


def test_a_program_is_found_without_tracing_and_gives_the_same(made):
    assert start(made) == (ANEW, NUMBERS)
    assert start(made) == ([], NUMBERS)


@pytest.mark.long
def test_other_settings_are_another_name_of_the_same_program(made):
    assert start(made) == (ANEW, NUMBERS)
    assert start(made, "other") == (["traced"], NUMBERS)
    assert start(made, "other") == ([], NUMBERS)
    # One file of machine code and two names for it, by its settings.
    files = list((made / "programs").iterdir())
    assert len(files) == 3 and {file.stat().st_ino for file in files} == {files[0].stat().st_ino}


@pytest.mark.long
def test_a_changed_source_is_traced_again(made):
    assert start(made) == (ANEW, NUMBERS)
    (made / "made.py").write_text(CUMULATIVE + "# nothing but a remark\n")
    assert start(made) == (["traced"], NUMBERS)
    (made / "made.py").write_text(CUMULATIVE.replace("0, 3", "0, 2"))
    # 0 1 4 10 20 35.
    assert start(made) == (ANEW, "70.0 35.0")


@pytest.mark.parametrize("harm", [*(pytest.param(harm, marks=pytest.mark.long) for harm in (b"", b"no program")), None])
def test_a_damaged_file_is_no_program(made, harm):
    assert start(made) == (ANEW, NUMBERS)
    for file in (made / "programs").iterdir():
        file.write_bytes(file.read_bytes()[:-100] if harm is None else harm)
    # JAX has it still, and what it reads from there cannot be kept.
    assert start(made) == (["traced", "hits"], NUMBERS)
    assert start(made) == (["traced", "hits"], NUMBERS)


def test_a_folder_that_cannot_be_made_is_done_without(made):
    (made / "programs").write_text("a file")
    assert start(made) == (ANEW, NUMBERS)
    assert start(made) == (["traced", "hits"], NUMBERS)


def test_files_that_were_not_used_for_longest_go(made):
    (made / "programs").mkdir()
    for age, name in enumerate(["newer", "older", "oldest"]):
        file = made / "programs" / f"{name}.program"
        file.write_bytes(b"")
        os.utime(file, (1_000 - age, 1_000 - age))
    assert start(made, kept=3) == (ANEW, NUMBERS)
    # The program itself is the third; its other name comes after.
    names = {file.stem for file in (made / "programs").iterdir()}
    assert {"newer", "older"} < names and "oldest" not in names and len(names) == 4


def test_programs_of_others_are_not_kept(monkeypatch, tmp_path):
    """Here the command is pytest, which may have registered anything."""
    before = jax.config.values["jax_compilation_cache_dir"]
    config = Config(env="CartPole-v1")
    try:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path / "xla"))
        assert compiler_of(config) is compile_calls
        # As in a command of this package.
        monkeypatch.setattr(programs, "in_own_command", lambda: True)
        assert compiler_of(config) is not compile_calls
        jax.config.update("jax_compilation_cache_dir", None)
        assert compiler_of(config) is compile_calls
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.long
@pytest.mark.slow
def test_a_second_run_traces_no_training_loop_and_ends_with_the_same_numbers(tmp_path):
    """The command as users give it: what the first run compiled and kept, the second one finds."""
    said, tables = [], []
    script = Path(sys.executable).with_name("purejaxdqn-train")
    start = [str(script)] if script.exists() else [sys.executable, "-m", "purejaxdqn.train"]
    for out in ("first", "second"):
        command = [*start, "--env", "CartPole-v1", "--seed", "5", "--quiet"]
        command += ["--total-steps", "2000", "--eval-episodes", "2", "--out", str(tmp_path / out)]
        variables = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"), "JAX_LOG_COMPILES": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=variables)
        assert done.returncode == 0, done.stderr
        said.append({name for name in ("jit(init)", "jit(<lambda>)", "jit(evaluate_blocks)") if name in done.stderr})
        tables.append((tmp_path / out / "metrics.csv").read_bytes())
    assert said == [{"jit(init)", "jit(<lambda>)", "jit(evaluate_blocks)"}, set()]
    assert tables[0] == tables[1]


class Planted:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def planted(tmp_path):
    """A program of somebody's in a private folder, and the file that tells whether it ran."""
    folder, ran = tmp_path / "programs", tmp_path / "ran"
    folder.mkdir(mode=0o700)
    path = folder / "x.program"
    path.write_bytes(pickle.dumps(Planted(ran)))
    path.chmod(0o600)
    return path, ran


def test_a_program_that_others_may_have_written_is_never_unpickled(planted, monkeypatch, tmp_path):
    path, ran = planted
    for place, mode, safe in ((path.parent, 0o777, 0o700), (path.parent, 0o770, 0o700), (path, 0o666, 0o600)):
        place.chmod(mode)
        assert programs.load(path, jax.devices()) is None and not ran.exists(), (place, mode)
        place.chmod(safe)
    link = path.with_name("link.program")
    link.symlink_to(path)
    assert programs.load(link, jax.devices()) is None and not ran.exists()
    (tmp_path / "linked").symlink_to(path.parent)
    assert programs.load(tmp_path / "linked" / path.name, jax.devices()) is None and not ran.exists()
    with monkeypatch.context() as other:
        uid = os.getuid()
        other.setattr(os, "getuid", lambda: uid + 1)
        assert programs.load(path, jax.devices()) is None and not ran.exists()
    # It would have run: this user's own file is read.
    assert programs.load(path, jax.devices()) is None and ran.exists()


def test_a_folder_of_programs_is_this_users_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        assert make_private(tmp_path / "cache" / "programs")
    finally:
        os.umask(before)
    assert (tmp_path / "cache" / "programs").stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert not make_private(tmp_path / "open")


@pytest.fixture
def no_cache():
    """JAX without a cache, and with what it had afterwards."""
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_where_the_cache_is(no_cache, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert use_compilation_cache() == tmp_path / "cache" / "purejaxdqn" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "given"))
    assert use_compilation_cache() == tmp_path / "given"
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert use_compilation_cache() == tmp_path / "home" / ".cache" / "purejaxdqn" / "xla"
    assert not (tmp_path / "relative").exists() and capsys.readouterr().err == ""


def test_without_a_home_nothing_is_kept_and_one_line_says_so(no_cache, monkeypatch, tmp_path, capsys):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", no_home)
    assert use_compilation_cache() is None
    assert capsys.readouterr().err == "compiled programs are not kept: there is no home folder\n"
    assert jax.config.values["jax_compilation_cache_dir"] is None
    (tmp_path / "purejaxdqn").mkdir()
    (tmp_path / "purejaxdqn").chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert use_compilation_cache() is None
    assert "not this user's alone" in capsys.readouterr().err
