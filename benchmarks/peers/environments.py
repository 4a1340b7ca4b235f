"""Makes a virtual environment for every peer.

python -m benchmarks.peers.environments --into FOLDER [--only sbx sb3]

The versions are those that were found to work together with Python 3.11. PureJaxRL, purejaxql, Stoix and CleanRL
are not on the package index: their environments hold what they import, and `benchmarks.speed --clone NAME=FOLDER` says
where a clone is.
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

# Step by step, because torch alone has to be chosen before those that would take another one.
_TORCH = ("torch==2.13.0",)
Steps = tuple[tuple[str, ...], ...]
"""What pip is asked for, one call after another."""
ENVIRONMENTS: dict[str, Steps] = {
    "purejaxrl": (("jax==0.10.2", "gymnax==0.0.9", "flashbax==0.1.3", "flax==0.12.8", "optax==0.2.8", "chex", "six"),),
    "purejaxql": (
        ("jax==0.10.2", "gymnax==0.0.9", "flax==0.12.8", "optax==0.2.8", "chex", "six"),
        ("hydra-core", "omegaconf", "safetensors"),
    ),
    "stoix": (
        ("jax==0.5.3", "gymnax==0.0.9", "flax==0.10.5", "flashbax==0.1.3", "stoa-env==0.1.2", "chex==0.1.89", "six"),
        ("distrax==0.1.5", "rlax==0.1.6", "tensorflow-probability==0.25.0", "gymnasium==1.1.1"),
        ("hydra-core", "omegaconf", "colorama"),
    ),
    "rejax": (("rejax==0.1.3", "jax==0.10.2", "gymnax==0.0.9", "flax==0.12.8", "optax==0.2.8", "six"),),
    "sbx": (_TORCH, ("sbx-rl==0.28.0", "jax==0.10.2")),
    "sb3": (_TORCH, ("stable-baselines3==2.9.2",)),
    "cleanrl": (
        _TORCH,
        ("jax==0.10.2", "flax==0.12.8", "optax==0.2.8", "gymnasium==0.29.1", "tyro", "tensorboard", "numpy"),
        ("ale-py==0.10.1", "opencv-python-headless"),
    ),
    "dopamine": (
        (
            *("dopamine-rl==4.1.2", "jax==0.4.35", "jaxlib==0.4.35", "flax==0.10.0", "optax==0.2.3", "numpy<2.1"),
            *("orbax-checkpoint==0.6.4", "tensorflow==2.18.0", "tf-keras==2.18.0", "tensorflow-probability==0.25.0"),
        ),
    ),
}


def interpreter(folder: Path, name: str) -> Path:
    """The Python of one environment."""
    return folder / name / "bin" / "python"


def make(folder: Path, name: str, steps: Steps) -> str:
    """Makes one environment, and says what came of it in a line."""
    python = interpreter(folder, name)
    if not python.exists():
        venv.create(folder / name, with_pip=True)
    for step in steps:
        done = subprocess.run([str(python), "-m", "pip", "install", "-q", *step], capture_output=True, text=True)
        if done.returncode != 0:
            return f"{name}: failed at {' '.join(step)}: {done.stderr.strip()[-400:]}"
    return f"{name}: {python}"


def main() -> int:
    """Makes those that were asked for; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, required=True, metavar="FOLDER", help="where they are to be")
    parser.add_argument("--only", nargs="+", choices=list(ENVIRONMENTS), default=list(ENVIRONMENTS))
    args = parser.parse_args()
    args.into.mkdir(parents=True, exist_ok=True)
    said = [make(args.into, name, ENVIRONMENTS[name]) for name in args.only]
    print("\n".join(said))
    return int(any(": failed" in line for line in said))


if __name__ == "__main__":
    sys.exit(main())
