"""Loading a trained policy: a callable on NumPy observations, without gymnax or the training code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from purejaxdqn.bounds import whole
from purejaxdqn.build import build_model
from purejaxdqn.config import EnvSpec, SettingError, require
from purejaxdqn.envs.actions import as_mask
from purejaxdqn.machine.number_modes import in_usual_modes
from purejaxdqn.machine.part_values import best_parts, numbers_of
from purejaxdqn.networks.windows import Recall, begin
from purejaxdqn.observations.leaves import build, find, list_leaves
from purejaxdqn.portable.export import export_program, make_program
from purejaxdqn.runs.checkpoint import DamagedCheckpoint, from_flat, load_checkpoint
from purejaxdqn.runs.folder import CHECKPOINTS, read_config

Which = Literal["last", "best"]


class Policy:
    """A greedy policy: `policy(obs)` gives actions, `policy.q_values(obs)` the values behind them.

    Of an environment with action masks it is `policy(obs, mask)`. One with a memory has to be asked step by step, once
    each, and told by `policy.reset()` where an episode begins; one without is told in vain.
    """

    def __init__(
        self,
        params: Any,
        apply_q: Any,
        spec: EnvSpec,
        init_carry: Callable[[int], Any] = lambda batch: (),
        branching: bool = False,
    ):
        self.spec = spec
        self.branching = branching
        """Whether it has values of each part of an action, one part after another, and not of all combinations."""
        self.carry: Any = None
        """What a memory carries to the next step, [B, ...], which may be kept and put back; None where it is to be
        made, as before the first episode."""
        self._params = jax.device_put(params)
        self._apply_q, self._init_carry = apply_q, init_carry

    def reset(self, begins: Any = None) -> None:
        """Forgets what was before.

        Args:
          begins: bool [B], the episodes of a batch that begin with the next observation; by default all do.
        """
        self.carry = None if begins is None or self.carry is None else begin(self.carry, jnp.asarray(begins, bool))

    def q_values(self, obs: Any) -> np.ndarray:
        """Action values.

        Args:
          obs: one observation, of `spec.obs_shape`, or a batch of them with one leading axis. Of a tree each array is
            found by its names, so that there may be more in it, such as the text that no network was given.

        Returns:
          float32 [A], or [B, A] for a batch. With branching A are the choices of all parts, one part after another.

        Raises:
          ValueError: for any other shape, where an array is missing, or for a batch of another size than a memory has
            been following.
        """
        leaves = list_leaves(self.spec)
        arrays = [np.asarray(find(obs, leaf.path)) for leaf in leaves]
        batch = arrays[0].shape[: max(0, arrays[0].ndim - len(leaves[0].shape))][:1]
        for leaf, array in zip(leaves, arrays, strict=True):
            shape, name = leaf.shape, f" ({leaf.name})" if leaf.path else ""
            if array.shape != (*batch, *shape):
                raise ValueError(
                    f"an observation{name} has the shape {shape} and a batch {('B', *shape)}, not {array.shape}"
                )
        made = [
            jnp.asarray(array if batch else array[None], leaf.dtype) for leaf, array in zip(leaves, arrays, strict=True)
        ]
        size = made[0].shape[0]
        carry = self._init_carry(size) if self.carry is None else self.carry
        followed = {leaf.shape[0] for leaf in jax.tree.leaves(carry)} - {size}
        if followed:
            raise ValueError(f"its memory follows {followed.pop()} episodes, not {size}: call policy.reset() first")
        found, self.carry = self._apply_q(self._params, build([leaf.path for leaf in leaves], made), carry)
        values = np.asarray(found)
        return values if batch else values[0]

    def __call__(self, obs: Any, mask: Any = None) -> np.ndarray:
        """The legal action of largest value.

        Args:
          obs: see `q_values`.
          mask: the legal actions, bool [A] or whole numbers 0 and 1, [B, A] for a batch; by default all, unless the
            environment has action masks. For actions of several parts it has one axis for each.

        Returns:
          An integer for one observation, int [B] for a batch; for actions of several parts int [parts] or [B, parts].

        Raises:
          ValueError: for a mask of another shape or type, without any legal action, or that is due and not given.
        """
        action, sizes = self.greedy(obs, mask), self.spec.action_sizes
        return action if sizes is None else np.stack(np.unravel_index(action, sizes), axis=-1)

    def greedy(self, obs: Any, mask: Any = None) -> np.ndarray:
        """The same as one number, also for actions of several parts."""
        values, sizes = self.q_values(obs), self.spec.action_sizes
        if self.branching:
            if mask is not None:
                raise ValueError("it has values of an action's parts, and knows no mask of combinations: leave it out")
            return np.asarray(best_parts(values, sizes or ()))
        if mask is None and self.spec.masked:
            raise ValueError("its environment says which actions are legal: call policy(obs, mask)")
        if mask is not None:
            legal = as_mask(mask, (*values.shape[:-1], *(sizes or values.shape[-1:]))).reshape(values.shape)
            if not legal.any(axis=-1).all():
                raise ValueError("a mask leaves no legal action: leave at least one")
            values = np.where(legal, values, -np.inf)
        return np.argmax(values, axis=-1)

    def export(self, out: str | Path) -> list[Path]:
        """Writes the policy as a file that plays elsewhere, once it is known to give the same values there.

        Args:
          out: `NAME.npz` for NumPy alone, with `purejaxdqn_numpy.py` beside it, which plays it; `NAME.onnx`, or
            `NAME.stablehlo` for JAX alone (`jax.export.deserialize`), with the extra `export`.

        Returns:
          What was written.

        Raises:
          SettingError: for another ending, a folder that does not exist or cannot be written to, a missing package, a
            network with an operator that the format has not.
        """
        params, apply_q, first = self._params, self._apply_q, self._init_carry(1)
        remembers = isinstance(first, Recall)

        def step(obs: Any, starts: Any, carry: Any) -> tuple[jax.Array, Any]:
            values, after = apply_q(params, obs, Recall(carry, starts) if remembers else first)
            return values, after.carry if remembers else ()

        carry = first.carry if remembers else ()
        return export_program(make_program(step, self.spec, carry, self.branching), out)


@in_usual_modes
def load_policy(run_dir: str | Path, seed_index: int = 0, which: Which = "best") -> Policy:
    """Loads a trained policy from a run folder. Nothing from the folder is executed.

    Args:
      run_dir: folder of a run.
      seed_index: which of the run's seeds, from 0.
      which: `best` by evaluation, or `last`.

    Raises:
      SettingError: if the folder is not a run or is damaged, or the seed or `which` does not exist.
    """
    folder = Path(run_dir)
    settings, spec, _ = read_config(folder, "run_dir")
    remedy = f"the run has {len(settings.seeds)} seeds: use 0 to {len(settings.seeds) - 1}"
    require(0 <= whole("seed_index", seed_index) < len(settings.seeds), "seed_index", seed_index, remedy)
    require(which in ("last", "best"), "which", which, "use last or best")
    network, head = build_model(settings.config, spec)
    try:
        flat = load_checkpoint(folder / CHECKPOINTS, with_state=False).policy[which]
        like = jax.eval_shape(network.init, jax.random.key(0))
        params = from_flat({name: leaf[seed_index] for name, leaf in flat.items()}, like)
    except DamagedCheckpoint as error:
        raise SettingError("run_dir", str(run_dir), str(error)) from error

    @jax.jit
    @in_usual_modes
    def apply_q(params: Any, obs: Any, carry: Any) -> tuple[jax.Array, Any]:
        dist, carry = network.step(params, obs, carry, jax.random.key(0), "greedy")
        return numbers_of(head.q_values(dist)), carry

    return Policy(params, apply_q, spec, network.init_carry, settings.config.branching)
