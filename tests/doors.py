"""What tests of a user's own parts share: the files that docs/own-environment.md shows."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "own-environment.md"
SMALL = [
    *("--total-steps", "900", "--log-every", "200", "--eval-every", "400", "--eval-episodes", "2", "--num-envs", "4"),
    *("--hidden", "8", "--buffer-size", "400", "--batch-size", "8", "--learning-starts", "100"),
    *("--no-compilation-cache", "--quiet"),
]


def blocks(language="python"):
    """The page's blocks of code, in their order."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


FILES = ("corridor", "room", "climb", "climbs", "walls", "reach", "units", "networks", "values", "hooks", "to_mlflow")
"""Those that the page says to save, in its order."""


def page_file(name):
    """What the page says to save as NAME.py."""
    (code,) = re.findall(rf"`{name}\.py`:\n\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    return code


def write_files(folder):
    """Writes the page's files, as it says."""
    for name in FILES:
        (folder / f"{name}.py").write_text(page_file(name))
    return folder
