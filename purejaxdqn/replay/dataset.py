"""Datasets: recorded environment steps in one .npz file, columns of numbers that nothing executes.

Every column has an entry for each of N steps, episode after episode, or for each of M episodes:

    obs              [N, ...]  what was acted on; of a tree one column for each array, obs/hand/0
    action           int32 [N]
    reward           float32 [N], as the environment gave it
    terminated       bool [N]  the episode ended by the environment's rules
    truncated        bool [N]  it was cut there, by a time limit or because recording ended
    mask             bool [N, A], legal actions; only of an environment that has masks
    episode_start    int64 [M]  index of an episode's first step; the next one's is where it ends
    episode_seed     int64 [M]  whose it is
    episode_whole    bool [M]  whether it is recorded from its beginning
    final_obs        [M, ...]  the true observation after an episode's last step
    final_known      bool [M]  False where a terminated episode's was not kept: then it repeats the one before
    final_mask       bool [M, A]  of final_obs

`format` is 1, `env` the environment's name and `num_actions` A.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from purejaxdqn.config import EnvSpec, SettingError, one_line, require
from purejaxdqn.machine.files import written_beside
from purejaxdqn.observations.leaves import bracketed, build, flatten, list_leaves, name_of

FORMAT = 1
SUFFIX = ".npz"
TYPES = {
    **{"action": "int32", "reward": "float32", "terminated": "bool", "truncated": "bool"},
    **{"episode_start": "int64", "episode_seed": "int64", "episode_whole": "bool", "final_known": "bool"},
}
"""Columns that every dataset has, beside those of observations."""


class Dataset(NamedTuple):
    """Recorded steps in numpy; see the module for each column."""

    obs: Any
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    episode_start: np.ndarray
    episode_seed: np.ndarray
    episode_whole: np.ndarray
    final_obs: Any
    final_known: np.ndarray
    mask: np.ndarray | None = None
    final_mask: np.ndarray | None = None

    @property
    def num_steps(self) -> int:
        """N."""
        return len(self.action)

    @property
    def last(self) -> np.ndarray:
        """int64 [M], the last step of each episode."""
        return np.append(self.episode_start[1:], self.num_steps) - 1

    @property
    def returns(self) -> np.ndarray:
        """float64 [M], undiscounted sums of rewards; of an episode that is not whole, of what is recorded."""
        return np.add.reduceat(self.reward.astype(np.float64), self.episode_start)


def check_path(field: str, name: str) -> Path:
    """The path of a dataset to write; raises `SettingError` where no such file can be written."""
    path = Path(name)
    require(path.suffix == SUFFIX, field, name, f"name a file that ends in {SUFFIX}")
    require(path.absolute().parent.is_dir(), field, name, "its folder does not exist: make it first")
    return path


def join(parts: list[Dataset]) -> Dataset:
    """Datasets one after another."""
    before = np.cumsum([0, *(part.num_steps for part in parts)])
    moved = [part._replace(episode_start=part.episode_start + n) for part, n in zip(parts, before, strict=False)]
    return jax.tree.map(lambda *columns: np.concatenate(columns), *moved)


def obs_columns(name: str, obs: Any) -> dict[str, np.ndarray]:
    """The columns of a tree of observations."""
    return {f"{name}/{name_of(path)}".rstrip("/"): leaf for path, leaf in zip(*flatten(obs), strict=True)}


def write_dataset(path: Path, dataset: Dataset, spec: EnvSpec) -> None:
    """Writes a dataset beside its place and renames it into it. Raises OSError where it cannot be written."""
    facts = {"format": np.int64(FORMAT), "env": np.str_(spec.env_id), "num_actions": np.int64(spec.num_actions)}
    plain = {name: getattr(dataset, name) for name in (*TYPES, "mask", "final_mask")}
    columns = obs_columns("obs", dataset.obs) | obs_columns("final_obs", dataset.final_obs)
    columns |= {name: column for name, column in plain.items() if column is not None}
    with written_beside(path) as file:
        np.savez_compressed(file, allow_pickle=False, **facts, **columns)


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """All columns of a file, whose checksums are compared.

    Raises:
      OSError, ValueError: where there is no such file, or it is damaged.
    """
    try:
        with zipfile.ZipFile(path) as held:
            # Before a damaged header can ask for memory.
            damaged = held.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is another")
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    # A zip's part that says it is encrypted is a RuntimeError, of which an unknown compression is a kind.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, AttributeError) as error:
        raise ValueError(one_line(error)) from error


def read_dataset(name: str, spec: EnvSpec, field: str = "dataset") -> Dataset:
    """A dataset from a file, for an environment.

    Args:
      name: of the file.
      spec: of the environment.
      field: the setting that names it, for errors.

    Raises:
      SettingError: where it cannot be read, or is not of this environment, in one sentence.
    """

    def demand(condition: bool, remedy: str) -> None:
        require(bool(condition), field, name, remedy)

    try:
        columns = read_columns(Path(name))
    except OSError as error:
        raise SettingError(field, name, f"it cannot be read ({error.strerror or one_line(error)})") from error
    except ValueError as error:
        raise SettingError(field, name, f"it is damaged or no dataset ({one_line(error)}): write it anew") from error
    masks = ("mask", "final_mask") if spec.masked else ()
    paths = [leaf.path for leaf in list_leaves(spec)]
    names = {kind: [f"{kind}/{name_of(path)}".rstrip("/") for path in paths] for kind in ("obs", "final_obs")}
    for column in ("format", *names["obs"], *TYPES, *names["final_obs"], *masks):
        demand(column in columns, f"it has no column {column}, which a dataset of {spec.env_id} has")
    demand(columns["format"] == FORMAT, f"it is of format {columns['format']}, and this version reads {FORMAT}")
    steps, episodes = columns["action"].size, columns["episode_start"].size
    demand(steps > 0 and episodes > 0, "it holds no steps")
    shapes: dict[str, tuple[int, ...]] = {
        column: (episodes if column.startswith(("episode", "final")) else steps,) for column in TYPES
    }
    kinds = dict(TYPES)
    for kind, count in (("obs", steps), ("final_obs", episodes)):
        shapes |= {column: (count, *leaf.shape) for column, leaf in zip(names[kind], list_leaves(spec), strict=True)}
        kinds |= {column: leaf.dtype for column, leaf in zip(names[kind], list_leaves(spec), strict=True)}
    for column, count in zip(masks, (steps, episodes), strict=False):
        shapes[column], kinds[column] = (count, spec.num_actions), "bool"
    for column, shape in shapes.items():
        found = f"{columns[column].shape} {columns[column].dtype}"
        wanted = f"{shape} {kinds[column]}"
        demand(found == wanted, f"its column {column} is {found}, and of {spec.env_id} it would be {wanted}")
    obs, final_obs = (build(paths, [columns[column] for column in names[kind]]) for kind in ("obs", "final_obs"))
    plain = {column: columns[column] for column in (*TYPES, *masks)}
    dataset = Dataset(obs=obs, final_obs=final_obs, **plain)
    check_content(dataset, spec, demand)
    return dataset


def check_content(dataset: Dataset, spec: EnvSpec, demand: Any) -> None:
    """Checks what columns of the right shapes hold; `demand(condition, remedy)` raises."""
    action, start = dataset.action, dataset.episode_start
    wrong = action[(action < 0) | (action >= spec.num_actions)]
    demand(not wrong.size, f"it has the action {wrong[:1]}, and {spec.env_id} has 0 to {spec.num_actions - 1}")
    if dataset.mask is not None:
        legal = dataset.mask[np.arange(len(action)), action]
        demand(legal.all(), f"its step {np.argmin(legal)} took an action that its mask forbids")
    ascending = start[0] == 0 and (np.diff(start) > 0).all() and start[-1] < dataset.num_steps
    demand(ascending, "its column episode_start is not 0 and then ascending within its steps")
    ends = dataset.terminated | dataset.truncated
    demand(
        np.array_equal(np.flatnonzero(ends), dataset.last) and not (dataset.terminated & dataset.truncated).any(),
        "its episodes do not end, terminated or truncated, where the next one starts",
    )
    demand(dataset.final_known[dataset.truncated[dataset.last]].all(), "it lacks the last observation of a cut episode")
    for path, leaf in zip(*flatten({"reward": dataset.reward, "obs": dataset.obs}), strict=True):
        sound = leaf.dtype.kind != "f" or np.isfinite(leaf).all()
        demand(sound, f"its {path[0]}{bracketed(path[1:])} holds numbers that are not finite")


def steps_of(
    rows: dict[str, Any], after: Any, known: np.ndarray, after_mask: Any, seed: int, begins: bool
) -> Dataset | None:
    """The episodes in one environment's rows, in the order of time.

    A row whose next observation nobody knows, as the newest one of a running episode, only says what the observation
    after the one before it was. Rows that are no transitions are left out; where one follows, an episode was cut.

    Args:
      rows: obs, action, reward, terminated, truncated, valid and mask (or None), [T, ...] each.
      after: the true observation after each row, [T, ...] or a tree.
      known: bool [T], whether it is that.
      after_mask: bool [T, A], or None.
      seed: whose they are.
      begins: whether the first row begins an episode.

    Returns:
      None where nothing is left.
    """
    terminated = rows["terminated"]
    kept = rows["valid"] & (known | terminated)
    ended = terminated | rows["truncated"]
    last = kept & (ended | ~np.append(kept[1:], False))
    index, ends = np.flatnonzero(kept), np.flatnonzero(last)
    if not index.size:
        return None
    # Where an episode begins: after the end of another, or after what is no transition.
    fresh = np.insert((ended | ~rows["valid"])[:-1], 0, begins)
    first = np.insert(last[index][:-1], 0, True)

    def pick(tree: Any, where: np.ndarray) -> Any:
        return jax.tree.map(lambda leaf: np.asarray(leaf)[where], tree)

    final = jax.tree.map(
        lambda new, old: np.where(known[ends].reshape(-1, *[1] * (new.ndim - 1)), new, old),
        pick(after, ends),
        pick(rows["obs"], ends),
    )
    return Dataset(
        obs=pick(rows["obs"], index),
        action=rows["action"][index].astype(np.int32),
        reward=rows["reward"][index].astype(np.float32),
        terminated=terminated[index],
        truncated=(last & ~terminated)[index],
        episode_start=np.flatnonzero(first).astype(np.int64),
        episode_seed=np.full(len(ends), seed, np.int64),
        episode_whole=fresh[index[first]],
        final_obs=final,
        final_known=known[ends],
        mask=pick(rows["mask"], index),
        final_mask=pick(after_mask, ends),
    )
