"""The commit of the checkout that this package is run from."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def read_commit(root: Path = ROOT) -> str | None:
    """The commit of a checkout, `-dirty` where files of it were changed; None of a package that was installed.

    Args:
      root: the folder that has the package; one that is in another project's checkout has no commit of its own.
    """
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        # Reading is to write nothing, the index included.
        quiet = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
        done = subprocess.run(command, capture_output=True, text=True, env=quiet, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
