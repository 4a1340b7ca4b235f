"""Minari's datasets (Farama's format of recorded episodes) as files of ours, and files of ours as Minari's.

Its library reads and writes them; it comes with the extra `minari`. Of discrete actions, without masks.
"""

from typing import Any

import gymnasium
import jax
import minari
import numpy as np
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from purejaxdqn.config import EnvSpec, SettingError, require
from purejaxdqn.envs.names import make_env
from purejaxdqn.observations.leaves import Leaf, build, find, leaves_of, list_leaves
from purejaxdqn.replay.dataset import Dataset, check_content, check_path, join, read_dataset, write_dataset

FIELD = "dataset"


def space_of(leaf: Leaf) -> gymnasium.Space[Any]:
    """What Gymnasium says of an array like it; truth values are 0 and 1."""
    dtype: Any = np.dtype(leaf.dtype)
    shape = leaf.shape
    if leaf.num_values is not None:
        return spaces.Discrete(leaf.num_values) if shape == () else spaces.Box(0, leaf.num_values - 1, shape, dtype)
    if dtype.kind == "b":
        return spaces.Box(0, 1, shape, np.uint8)
    least, most = (-np.inf, np.inf) if dtype.kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return spaces.Box(least, most, shape, dtype)


def space_of_tree(leaves: Any) -> gymnasium.Space[Any]:
    """The same of all of an observation."""
    if isinstance(leaves, dict):
        return spaces.Dict({name: space_of_tree(part) for name, part in leaves.items()})
    return spaces.Tuple(map(space_of_tree, leaves)) if isinstance(leaves, tuple) else space_of(leaves)


def check_spec(spec: EnvSpec, name: str) -> None:
    """Raises `SettingError` for an environment with masks or actions of several parts."""
    plain = not spec.masked and spec.action_sizes is None
    require(plain, FIELD, name, f"{spec.env_id} has masks or actions of several parts, which have no place there")


def npz_to_minari(file: str, dataset_id: str, env: str, **about: Any) -> Any:
    """Writes a file of ours as a dataset of Minari's, where its library keeps them.

    Args:
      file: NAME.npz.
      dataset_id: as Minari has it, such as `cartpole/mixed-v0`.
      env: name of the environment.
      about: what else `minari.create_dataset_from_buffers` takes, such as `author` and `description`.

    Raises:
      SettingError: for a file that is not of this environment, that lacks a last observation, or what has no place.
    """
    spec = make_env(env).spec
    check_spec(spec, file)
    held = read_dataset(file, spec)
    remedy = "it lacks observations after terminations: record it by evaluate --save-dataset"
    require(bool(held.final_known.all()), FIELD, file, remedy)

    def episode(index: int) -> Any:
        steps = slice(held.episode_start[index], held.last[index] + 1)

        def whole(column: np.ndarray, final: np.ndarray) -> np.ndarray:
            joined = np.concatenate([column[steps], final[index][None]])
            return joined.astype(np.uint8) if joined.dtype == bool else joined

        return EpisodeBuffer(
            id=index,
            observations=jax.tree.map(whole, held.obs, held.final_obs),
            actions=held.action[steps],
            **{name: getattr(held, column)[steps] for name, column in COLUMNS.items()},
        )

    spoken = {"action_space": spaces.Discrete(spec.num_actions), "observation_space": space_of_tree(leaves_of(spec))}
    episodes = [episode(index) for index in range(len(held.episode_start))]
    # Pictures as they are: by default they would be JPEGs.
    return minari.create_dataset_from_buffers(dataset_id, episodes, jpeg_encoding=False, **spoken, **about)


COLUMNS = {"rewards": "reward", "terminations": "terminated", "truncations": "truncated"}
"""Minari's names and ours."""


def minari_to_npz(dataset_id: str, file: str, env: str) -> Dataset:
    """Reads a dataset that Minari's library has here, and writes it as a file of ours.

    An episode whose end is not recorded is cut there; one that terminated and was cut has terminated.

    Args:
      dataset_id: as Minari has it; download it by its own command.
      file: NAME.npz, to be written.
      env: name of the environment.

    Raises:
      SettingError: where it is not here, or holds other observations or actions than the environment.
    """
    spec, path = make_env(env).spec, check_path("out", file)
    check_spec(spec, dataset_id)
    try:
        found = minari.load_dataset(dataset_id)
    except (OSError, ValueError) as error:
        raise SettingError(FIELD, dataset_id, "it is not here: get it by `minari download`") from error
    space = found.action_space
    fits = isinstance(space, spaces.Discrete) and (space.n, space.start) == (spec.num_actions, 0)
    require(fits, FIELD, dataset_id, f"its actions are {space}, and {env} has Discrete({spec.num_actions})")
    dataset = join([of_episode(episode, spec, dataset_id) for episode in found.iterate_episodes()])
    check_content(dataset, spec, lambda condition, remedy: require(bool(condition), FIELD, dataset_id, remedy))
    write_dataset(path, dataset, spec)
    return dataset


def of_episode(episode: Any, spec: EnvSpec, name: str) -> Dataset:
    """One episode of Minari's; see `minari_to_npz`."""
    count, columns = len(episode.rewards), []
    for leaf in list_leaves(spec):
        try:
            given = np.asarray(find(episode.observations, leaf.path))
        except ValueError as error:
            raise SettingError(FIELD, name, f"{error}, of those of {spec.env_id}") from error
        due = (count + 1, *leaf.shape)
        remedy = f"its {leaf.name or 'observations'} are {given.shape}, and of {spec.env_id} they would be {due}"
        require(given.shape == due, FIELD, name, remedy)
        cast = given.astype(leaf.dtype)
        lossless = leaf.dtype.startswith(("float", "bfloat")) or np.array_equal(cast, given)
        require(lossless, FIELD, name, f"its {leaf.name or 'observations'} are no {leaf.dtype}")
        columns.append(cast)
    obs = build([leaf.path for leaf in list_leaves(spec)], columns)
    terminated = np.asarray(episode.terminations, bool)
    last = np.arange(count) == count - 1
    return Dataset(
        obs=jax.tree.map(lambda column: column[:-1], obs),
        action=np.asarray(episode.actions, np.int32),
        reward=np.asarray(episode.rewards, np.float32),
        terminated=terminated,
        truncated=(last | np.asarray(episode.truncations, bool)) & ~terminated,
        episode_start=np.zeros(1, np.int64),
        episode_seed=np.zeros(1, np.int64),
        episode_whole=np.ones(1, bool),
        final_obs=jax.tree.map(lambda column: column[-1:], obs),
        final_known=np.ones(1, bool),
    )
