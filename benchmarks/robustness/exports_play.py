"""What runs in an empty environment: plays exported policies with NumPy or onnxruntime, and nothing of this project.

python exports_play.py numpy|onnxruntime values FOLDER     compares 10,000 observations with the values beside them
python exports_play.py numpy|onnxruntime cartpole FOLDER   returns of episodes of Gymnasium's CartPole-v1
"""

import json
import sys
from importlib.metadata import distributions
from pathlib import Path

import numpy as np

TOGETHER = 500
"""Observations at a time."""
EPISODES = 20


def open_player(runtime, folder):
    """Observations [B, ...] -> values [B, A], in float32."""
    if runtime == "numpy":
        sys.path.insert(0, str(folder))
        import purejaxdqn_numpy

        return purejaxdqn_numpy.load(folder / "policy.npz").q_values
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "policy.onnx")
    return lambda obs: session.run(["q_values"], {"obs": obs})[0]


def compare(play, folder):
    """How far values are from ours, and which actions differ, with how little ours preferred their own there."""
    obs, ours = np.load(folder / "obs.npy", mmap_mode="r"), np.load(folder / "values.npy")
    values = np.concatenate([play(np.asarray(obs[i : i + TOGETHER])) for i in range(0, len(obs), TOGETHER)])
    differ = np.flatnonzero(values.argmax(axis=1) != ours.argmax(axis=1))
    ordered = np.sort(ours[differ], axis=1)
    return {
        "observations": len(obs),
        "largest_difference": float(np.abs(values - ours).max()),
        "actions_that_differ": len(differ),
        "their_margins": (ordered[:, -1] - ordered[:, -2]).tolist(),
    }


def cartpole(play, folder):
    """Returns of episodes, by the largest value."""
    import gymnasium

    env, returns = gymnasium.make("CartPole-v1"), []
    for seed in range(EPISODES):
        obs, total, over = env.reset(seed=seed)[0], 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(int(play(obs[None].astype(np.float32)).argmax()))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return {"returns": returns}


def main():
    """Prints one line of JSON."""
    runtime, what, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    found = {"values": compare, "cartpole": cartpole}[what](open_player(runtime, folder), folder)
    packages = sorted(f"{one.metadata['Name']} {one.version}" for one in distributions())
    print(json.dumps(found | {"packages": packages}))


if __name__ == "__main__":
    main()
