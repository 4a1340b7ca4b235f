"""What `python -m purejaxdqn.export RUN OUT` does: writes a run's policy as `.npz`, `.onnx` or `.stablehlo`."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from purejaxdqn import cli
from purejaxdqn.bounds import check
from purejaxdqn.machine.imports import require_imported
from purejaxdqn.runs.folder import read_config
from purejaxdqn.runs.policy import load_policy

COMMAND = "purejaxdqn-export"
DESCRIPTION = """`python -m purejaxdqn.export RUN OUT`: writes a trained run's policy as a file that plays elsewhere.

An .npz needs NumPy alone, with purejaxdqn_numpy.py, which is written beside it; .onnx and .stablehlo are made with the
extra export."""


@dataclasses.dataclass(frozen=True)
class ExportFlags:
    """The flags of `export`."""

    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run."""
    out: Annotated[str, tyro.conf.Positional]
    """The file; it ends in .npz, .onnx or .stablehlo."""
    seed_index: int = 0
    """Which of the run's seeds, from 0."""
    which: Literal["last", "best"] = "best"
    """Which parameters: the last ones, or the best by the evaluations of training."""
    json: bool = False
    """Print JSON and nothing else."""
    imports: cli.Imports = ()
    """A module, or a file such as path/to/file.py, to import first: it has or registers parts of the run."""
    device: Literal["auto", "cpu", "gpu", "tpu"] = "auto"
    """Where the policy is tried before it is written; auto is JAX's own choice."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    return cli.guarded(COMMAND, lambda: export(args))


def export(args: list[str]) -> int:
    """Parses, writes and says what was written."""
    flags: ExportFlags = cli.parse(ExportFlags, args, COMMAND, DESCRIPTION)
    check(vars(flags))
    _, spec, data = read_config(Path(flags.run), "run")
    cli.start_jax(flags.device, compilation_cache=False)
    cli.import_parts(args)
    require_imported(data.get("imports", ()))
    policy = load_policy(flags.run, flags.seed_index, flags.which)
    written = [str(path) for path in policy.export(flags.out)]
    if flags.json:
        print(json.dumps({"env": spec.env_id, "written": written}))
    else:
        print(f"{spec.env_id}: {', '.join(written)}")
    return 0
