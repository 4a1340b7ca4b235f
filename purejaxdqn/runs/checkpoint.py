"""Checkpoints: orbax folders of plain arrays, committed by rename. Loading one executes nothing from it."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from purejaxdqn.config import one_line
from purejaxdqn.machine.quiet import quiet_background

if TYPE_CHECKING:
    # Where it is used it is imported on use: it takes half as long as JAX, and a run needs it at its first checkpoint.
    import orbax.checkpoint as ocp

STATE, POLICY, PROGRESS = "state", "policy", "progress"


class DamagedCheckpoint(Exception):
    """A checkpoint that cannot be read, or that belongs to another configuration. Its text is one sentence."""


class Checkpoint(NamedTuple):
    """One saved moment of a run."""

    step: int
    """Iterations made."""
    state: dict[str, np.ndarray]
    """Leaves of the `State` by path, with a leading axis of lanes."""
    policy: dict[str, dict[str, np.ndarray]]
    """`last` and `best` parameters by path, with a leading axis of lanes."""
    progress: dict[str, Any]
    """What the host keeps: best scores and where they were reached."""


def to_flat(tree: Any) -> dict[str, np.ndarray]:
    """Leaves by path, as numpy arrays."""
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def from_flat(flat: dict[str, np.ndarray], like: Any) -> Any:
    """The tree whose structure, shapes and dtypes `like` gives, with leaves from `to_flat`.

    Raises:
      DamagedCheckpoint: where a leaf is missing or has another shape or dtype.
    """

    def leaf(path: Any, template: Any) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        found = flat.get(name)
        if found is None:
            raise DamagedCheckpoint(f"{name} is missing")
        if found.shape != template.shape or found.dtype != template.dtype:
            raise DamagedCheckpoint(
                f"{name} is {found.dtype}{list(found.shape)} where {template.dtype}{list(template.shape)} belongs"
            )
        return found

    return jax.tree_util.tree_map_with_path(leaf, like)


def open_manager(folder: Path, create: bool = False) -> "ocp.CheckpointManager":
    """orbax's manager of a folder of checkpoints, which keeps the newest whole one."""
    # On use: see above.
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False, create=create)
    return ocp.CheckpointManager(folder.absolute(), options=options, item_names=(STATE, POLICY, PROGRESS))


def save_checkpoint(manager: "ocp.CheckpointManager", checkpoint: Checkpoint) -> None:
    """Writes a checkpoint beside and commits it by rename; only then is the older one removed.

    Raises:
      OSError: where it cannot be written; what was begun is removed and the older checkpoint stays.
    """
    # On use: see above.
    import orbax.checkpoint as ocp

    items = ocp.args.Composite(
        **{
            STATE: ocp.args.PyTreeSave(checkpoint.state),
            POLICY: ocp.args.PyTreeSave(checkpoint.policy),
            PROGRESS: ocp.args.JsonSave(checkpoint.progress),
        }
    )
    try:
        with quiet_background():
            manager.save(checkpoint.step, args=items, force=True)
    except Exception as error:
        remove_unfinished(Path(manager.directory))
        # tensorstore has exceptions of its own for a full disk; callers need to know one.
        raise OSError(one_line(error)) from error


def remove_unfinished(folder: Path) -> None:
    """Removes what a crash left of a checkpoint that was never committed."""
    for left in folder.glob("*orbax-checkpoint-tmp*"):
        shutil.rmtree(left, ignore_errors=True)


def latest_step(folder: Path) -> int | None:
    """Iterations at the newest whole checkpoint of a folder, None where there is none."""
    if not folder.is_dir():
        return None
    with open_manager(folder) as manager:
        return manager.latest_step()


def load_checkpoint(folder: Path, with_state: bool = True) -> Checkpoint:
    """Reads the newest whole checkpoint.

    Args:
      folder: the folder of checkpoints.
      with_state: False leaves the state, and so the replay, unread.

    Raises:
      DamagedCheckpoint: where there is none, or it cannot be read.
    """
    # On use: see above.
    import orbax.checkpoint as ocp

    step = latest_step(folder)
    if step is None:
        raise DamagedCheckpoint("there is no whole checkpoint")
    items: dict[str, Any] = {POLICY: ocp.args.PyTreeRestore(), PROGRESS: ocp.args.JsonRestore()}
    if with_state:
        items[STATE] = ocp.args.PyTreeRestore()
    try:
        with open_manager(folder) as manager:
            found = manager.restore(step, args=ocp.args.Composite(**items))
        state = dict(found[STATE]) if with_state else {}
        return Checkpoint(step, state, found[POLICY], found[PROGRESS])
    except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DamagedCheckpoint(f"checkpoint {step} cannot be read ({one_line(error)})") from error
