"""What makes a start short: modules that wait for their use, and garbage that is collected later."""

import gc
import subprocess
import sys
import textwrap

import pytest

from purejaxdqn.machine.devices import has_graphs_of_loops, is_wide
from purejaxdqn.machine.garbage_collection import collect_later
from purejaxdqn.machine.lazy_imports import StandIn, defer_import
from purejaxdqn.machine.stopwatch import Stopwatch


def python(source, *path):
    """Runs a program in a process of its own, which must end well; what it printed."""
    program = f"import sys; sys.path[:0] = {[str(p) for p in path]!r}\n" + textwrap.dedent(source)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def package(tmp_path):
    """parent/{__init__, child, other}.py, which print when they are loaded; the child looks at its parent."""
    folder = tmp_path / "parent"
    folder.mkdir()
    (folder / "__init__.py").write_text("print('parent'); value = 1\n")
    (folder / "child.py").write_text("import parent\nprint('child'); value = parent.value + 1\n")
    (folder / "other.py").write_text("from parent import value\nprint('other'); value += 2\n")
    return tmp_path


@pytest.mark.parametrize(
    ("use", "printed"),
    [
        ("import parent, parent.child as c; from parent import child", []),
        ("import parent; parent.value", ["parent"]),
        ("import parent.child as c; c.value; c.value", ["parent", "child"]),
        ("from parent.child import value; assert value == 2", ["parent", "child"]),
        ("from parent.other import value; assert value == 3", ["parent", "other"]),
        # Loaded or not, what is reached through the package is the module that `import` gives.
        (
            "import parent.child as early; early.value; import parent, parent.child as late; "
            "assert parent.child is late and not isinstance(late, StandIn) and early.value is late.value",
            ["parent", "child"],
        ),
        ("import parent; parent.value; import parent.child as c; assert c.value == 2", ["parent", "child"]),
    ],
)
def test_a_deferred_module_is_loaded_when_it_is_used_and_once(package, use, printed):
    program = f"""
    from purejaxdqn.machine.lazy_imports import StandIn, defer_import
    defer_import("parent"); defer_import("parent.child")
    {use}
    """
    assert python(program, package) == printed


def test_what_is_loaded_or_missing_is_left_alone():
    defer_import("gc")
    defer_import("no_module_of_this_name")
    assert sys.modules["gc"] is gc and "no_module_of_this_name" not in sys.modules
    assert not isinstance(gc, StandIn)


@pytest.mark.parametrize(
    ("described", "wide"),
    [
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2 avx512f avx512dq\n", True),
        ("vendor_id\t: AuthenticAMD\nflags\t\t: fpu avx2\n", False),
        # Several of Intel's lower their clock.
        ("vendor_id\t: GenuineIntel\nflags\t\t: fpu avx2 avx512f avx512dq\n", False),
        (None, False),
    ],
)
def test_a_processor_with_wide_vectors_is_known(tmp_path, described, wide):
    cpuinfo = tmp_path / "cpuinfo"
    if described is not None:
        cpuinfo.write_text(described)
    assert is_wide(cpuinfo) is wide


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (a@b)\n", True),
        (
            "NVRM version: NVIDIA UNIX x86_64 Kernel Module  545.23.06  Sun Oct 15 17:43:11 UTC 2023\nGCC 12.2.0 \n",
            True,
        ),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.12  Wed Sep 20 09:35:17 UTC 2023\n", False),
        ("nothing known", False),
        (None, False),
    ],
)
def test_graphs_of_loops_are_asked_for_where_the_driver_knows_them(tmp_path, version, known):
    file = tmp_path / "version"
    if version is not None:
        file.write_text(version)
    assert has_graphs_of_loops(file) is known


def test_flags_of_graphs_are_both_added_or_none():
    program = """
    import os
    from purejaxdqn.machine import devices
    devices.is_wide, devices.has_graphs_of_loops = lambda: False, lambda: True
    for device, given in (("auto", ""), ("cpu", ""), ("auto", "--xla_gpu_graph_min_graph_size=5")):
        os.environ["XLA_FLAGS"] = given
        devices.use_platform(device, 1)
        print(os.environ["XLA_FLAGS"].replace(" ", ","))
    """
    threads = "--xla_cpu_multi_thread_eigen=false"
    graphs = "--xla_gpu_enable_command_buffer=+WHILE,--xla_gpu_graph_min_graph_size=1"
    assert python(program) == [f"{threads},{graphs}", threads, f"--xla_gpu_graph_min_graph_size=5,{threads}"]


def test_flags_of_xla_are_added_to_the_users_and_never_contradict_them():
    program = """
    import os
    from purejaxdqn.machine import devices
    devices.is_wide = lambda: True
    for given in ("", "--xla_cpu_prefer_vector_width=128 --xla_cpu_multi_thread_eigen=true"):
        os.environ["XLA_FLAGS"] = given
        devices.use_platform("cpu", 1)
        print(os.environ["XLA_FLAGS"].replace(" ", ","))
    """
    added = "--xla_cpu_multi_thread_eigen=false,--xla_cpu_prefer_vector_width=512"
    assert python(program) == [added, "--xla_cpu_prefer_vector_width=128,--xla_cpu_multi_thread_eigen=true"]


@pytest.mark.slow
def test_a_training_loop_is_made_without_libraries_for_pictures_and_checkpoints():
    """A third of the time to the first step went into these; afterwards they work as ever."""
    heavy = ["pandas", "seaborn.utils", "matplotlib.rcsetup", "orbax"]
    heavy += ["craftax", "jumanji", "navix", "octax", "pgx", "xminigrid"]
    program = f"""
    import purejaxdqn.train.command, purejaxdqn.runs.runner, purejaxdqn.envs.gymnax
    print(*[name for name in {heavy} if name in sys.modules])
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure
    figure = plt.figure()
    assert type(figure) is Figure and matplotlib.pyplot.get_fignums() == [1]
    """
    assert python(program) == []


def test_garbage_is_collected_again_when_told_at_the_end_and_after_errors():
    assert gc.isenabled()
    with collect_later() as started:
        assert not gc.isenabled()
        started()
        assert gc.isenabled()
    with collect_later():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), collect_later():
        raise KeyError
    assert gc.isenabled()


def test_who_collects_no_garbage_is_left_so():
    gc.disable()
    try:
        with collect_later() as started:
            started()
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_stopwatch_counts_from_when_it_was_last_due(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch = Stopwatch(10.0)
    found = []
    for seconds in (100.0, 109.9, 110.0, 119.9, 125.0, 134.0, 135.0):
        now[0] = seconds
        found.append(watch.due())
    assert found == [False, False, True, False, True, False, True]
