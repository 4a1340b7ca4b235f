"""Exports policies of every network and head, and plays them in empty environments: NumPy alone, and onnxruntime alone.

python -m benchmarks.exports --scratch SCRATCH --cartpole RUN   (RUN: folder of a run on CartPole-v1)

Needs the extra export. SCRATCH keeps the two environments, which are made where they are not there.
"""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.common import last_json, run, write_result
from benchmarks.robustness import exports_play
from purejaxdqn import load_policy
from purejaxdqn.build import build_model
from purejaxdqn.config import Config, EnvSpec
from purejaxdqn.runs.policy import Policy

ALONE = {"PYTHONPATH": ""}
RUNTIMES = {"numpy": ["numpy"], "onnxruntime": ["onnxruntime"]}
"""Name -> what its environment has."""
OBSERVATIONS = 10_000
HEADS = ("scalar", "categorical", "quantile", "iqn", "fqf")
SPECS = {
    "vector": EnvSpec("Vector", 4, (6,), "float32", None, 500),
    "minatar": EnvSpec("MinAtar", 6, (10, 10, 4), "bool", None, 500),
    "atari": EnvSpec("Pixels", 6, (36, 36, 4), "uint8", None, 500),
    "small": EnvSpec("SmallPixels", 6, (18, 18, 4), "uint8", None, 500),
    "kinds": EnvSpec("Kinds", 4, (), "int32", 500, 500),
}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlp": ("vector", {"norm": "none"}),
    "mlp, layer norm": ("vector", {"norm": "layer"}),
    "minatar-cnn": ("minatar", {"network": "minatar-cnn"}),
    "nature-cnn": ("atari", {"network": "nature-cnn"}),
    "half-cnn": ("small", {"network": "half-cnn"}),
    "impala-cnn": ("small", {"network": "impala-cnn"}),
}
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"dueling, noisy {head}": ("vector", {"head": head, "dueling": True, "noisy": True}) for head in HEADS},
    "batch norm": ("vector", {"norm": "batch"}),
    "normalised observations": ("vector", {"normalize_obs": True}),
    "spectral norm, pooled": ("small", {"network": "impala-cnn", "spectral_norm": True, "pool": 2, "head": "iqn"}),
    "ensemble with priors": ("minatar", {"network": "minatar-cnn", "ensemble": 4, "prior_scale": 1.0}),
    "one of many values": ("kinds", {}),
}
CASES = {
    **{f"{name}, {head}": (at, {**given, "head": head}) for name, (at, given) in NETWORKS.items() for head in HEADS},
    **OPTIONS,
}


def make_policy(spec: EnvSpec, settings: dict[str, Any]) -> Policy:
    """A policy with random parameters; biases, scales and statistics differ from those that a network begins with."""
    network, head = build_model(Config(hidden=(64, 32), **settings), spec)
    params, rng = jax.jit(network.init)(jax.random.key(0)), np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: leaf + (rng.uniform(0.0, 0.2, leaf.shape) if leaf.ndim == 1 else 0.0), params)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)
    apply_q = jax.jit(lambda params, obs, carry: (head.q_values(network.apply(params, obs, None, "greedy")), carry))
    return Policy(params, apply_q, spec)


def observations(spec: EnvSpec) -> np.ndarray:
    """Observations of its shape and type, drawn at random."""
    rng, shape = np.random.default_rng(1), (OBSERVATIONS, *spec.obs_shape)
    if spec.obs_dtype == "float32":
        return rng.normal(size=shape).astype(np.float32)
    most = spec.num_obs_values or {"bool": 2, "uint8": 256}[spec.obs_dtype]
    return rng.integers(0, most, shape).astype(spec.obs_dtype)


def export(policy: Policy, folder: Path) -> None:
    """Writes a policy in the formats that are played, and the player's script."""
    folder.mkdir()
    for ending in ("npz", "onnx"):
        policy.export(folder / f"policy.{ending}")
    shutil.copy(exports_play.__file__, folder)


def make_environment(folder: Path, packages: list[str]) -> Path:
    """The interpreter of an environment with these packages alone."""
    python = folder / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", str(folder)])
        run([str(python), "-m", "pip", "install", "-qq", *packages], ALONE)
    return python


def play(python: Path, runtime: str, what: str, folder: Path) -> dict[str, Any]:
    """What the script in a folder finds, in an environment that has nothing of this project."""
    script = str(folder / Path(exports_play.__file__).name)
    command = [str(python), "-P", script, runtime, what, str(folder)]
    return last_json(run(command, ALONE).output)


def main() -> None:
    """Reads the command line, plays all cases and writes results/exports.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--cartpole", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[""], help="cases whose names hold one of these")
    args = parser.parse_args()
    args.scratch.mkdir(exist_ok=True)
    pythons = {name: make_environment(args.scratch / name, packages) for name, packages in RUNTIMES.items()}
    found, folder = [], args.scratch / "case"
    for name, (where, settings) in CASES.items():
        if not any(word in name for word in args.only):
            continue
        shutil.rmtree(folder, ignore_errors=True)
        policy, obs = make_policy(SPECS[where], settings), observations(SPECS[where])
        export(policy, folder)
        np.save(folder / "obs.npy", obs)
        parts = np.split(obs, OBSERVATIONS // exports_play.TOGETHER)
        np.save(folder / "values.npy", np.concatenate([policy.q_values(part) for part in parts]))
        for runtime, python in pythons.items():
            found.append({"case": name, "runtime": runtime, **play(python, runtime, "values", folder)})
            print(found[-1], flush=True)
        jax.clear_caches()
    packages = {one["runtime"]: one.pop("packages") for one in found}
    shutil.rmtree(folder, ignore_errors=True)
    export(load_policy(args.cartpole), folder)
    games = {}
    for runtime, python in pythons.items():
        # For CartPole alone.
        run([str(python), "-m", "pip", "install", "-qq", "gymnasium"], ALONE)
        games[runtime] = play(python, runtime, "cartpole", folder)["returns"]
        print(runtime, games[runtime], flush=True)
    differ = sum(one["actions_that_differ"] for one in found)
    far = max(one["largest_difference"] for one in found)
    print(f"{len(found)} cases: {differ} actions differ, values by at most {far:.2g}")
    what = "Policies of every network and head, exported and played in environments with NumPy or onnxruntime alone."
    summary = {"cases": len(found), "actions_that_differ": differ, "largest_difference": far, "packages": packages}
    write_result("exports", what, {**summary, "cartpole": games, "played": found})


if __name__ == "__main__":
    main()
