"""Fitted Q evaluation: what a policy is worth, from a dataset alone and without playing (Le et al. 2019)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purejaxdqn.build import Parts, build, build_learner
from purejaxdqn.config import Config, require
from purejaxdqn.learn import init_learner
from purejaxdqn.machine.number_modes import in_usual_modes
from purejaxdqn.replay.dataset import Dataset, read_dataset
from purejaxdqn.replay.held import Held, hold, rows_of
from purejaxdqn.replay.transitions import TransitionStore
from purejaxdqn.types import Hypers

READ_AT_ONCE = 8_192
"""Observations of which actions are chosen at once."""
TARGET_PERIOD = 10
"""Updates between copies of the target: rewards travel back by one step with each, so a horizon needs as many."""
PLAIN: dict[str, Any] = {
    **{"learner": "dataset", "head": "scalar", "backup": "max", "replay": "uniform", "n_step": 1, "loss": "huber"},
    **{"norm": "layer", "hidden": (64, 64), "learning_rate_schedule": "linear", "optimizer": "adam"},
}
"""What an evaluation learns with."""


class Valued(NamedTuple):
    """What fitted Q evaluation says of a policy."""

    value: float
    """Mean over the dataset's beginnings s₀ of Q(s₀, π(s₀)), a discounted return."""
    agreement: float
    """Share of the dataset's steps at which the policy would have acted alike."""


def choices(
    policy: Callable[[Any, Any], np.ndarray], obs: Any, mask: np.ndarray | None, num_actions: int
) -> np.ndarray:
    """What a policy does, as a mask of the only legal action, bool [N, A]."""
    count = len(jax.tree.leaves(obs)[0])
    parts = [slice(i, i + READ_AT_ONCE) for i in range(0, count, READ_AT_ONCE)]
    actions = [
        policy(jax.tree.map(lambda leaf, part=part: leaf[part], obs), None if mask is None else mask[part])
        for part in parts
    ]
    return np.arange(num_actions) == np.concatenate(actions)[:, None]


def with_choices(dataset: Dataset, policy: Callable[[Any, Any], np.ndarray], num_actions: int) -> Dataset:
    """A dataset in which no action is legal but the policy's, so that targets bootstrap from nothing else."""
    return dataset._replace(
        mask=choices(policy, dataset.obs, dataset.mask, num_actions),
        final_mask=choices(policy, dataset.final_obs, dataset.final_mask, num_actions),
    )


@in_usual_modes
def fitted_q_evaluation(
    config: Config,
    policies: dict[str, Callable[[Any, Any], np.ndarray]],
    dataset: str,
    updates: int = 10_000,
    hypers: Hypers | None = None,
    seed: int = 0,
) -> dict[str, Valued]:
    """Values policies by the Bellman equation of each on a dataset: regression on r + γ Q⁻(s', π(s')).

    It is the learner that learns from a dataset, told that the policy's action is the only legal one: a maximum over
    one action is that action's value. All are valued by one compiled program, from equal parameters and batches.

    Args:
      config: for the environment, which is not played.
      policies: by name, (obs [B, ...], mask [B, A] or None) -> actions int [B].
      dataset: name of the file.
      updates: gradient updates for each.
      hypers: for γ, the learning rate and the target's period; by default γ = 0.99, 1e-3 and `TARGET_PERIOD`.
      seed: of parameters and batches.

    Raises:
      SettingError: where the dataset does not fit, or has no episode from its beginning.
    """
    world: dict[str, Any] = {name: getattr(config, name) for name in ("env", "env_params", "last_inputs")}
    plain = Config(dataset=dataset, total_steps=updates, **world, **PLAIN)
    parts = build(plain)
    spec = parts.env.spec
    recorded = read_dataset(dataset, spec)
    begins = recorded.episode_start[recorded.episode_whole]
    require(len(begins) > 0, "dataset", dataset, "it has no episode from its beginning, where a policy is valued")
    h = (Hypers(learning_rate=1e-3, target_period=TARGET_PERIOD) if hypers is None else hypers).as_arrays()
    fit, found = make_fit(plain, parts), {}
    for name, policy in policies.items():
        chosen = with_choices(recorded, policy, spec.num_actions)
        assert chosen.mask is not None
        params = fit(jax.random.key(seed), h, hold(rows_of(chosen), n_step=1))
        start = jax.tree.map(lambda leaf: leaf[begins], recorded.obs)
        q = parts.head.q_values(parts.network.apply(params, start, jax.random.key(0), "greedy"))
        value = np.asarray(q)[chosen.mask[begins]].mean()
        alike = chosen.mask[np.arange(recorded.num_steps), recorded.action].mean()
        found[name] = Valued(float(value), float(alike))
    return found


def make_fit(config: Config, parts: Parts) -> Callable[[jax.Array, Hypers, TransitionStore], Any]:
    """(key, hypers, steps) -> parameters after all updates, jitted; the steps are an argument, so that it is compiled
    once for all policies."""
    _, learn = build_learner(config, parts.env, parts.network, parts.head, parts.data)

    @jax.jit
    def fit(key: jax.Array, h: Hypers, steps: TransitionStore) -> Any:
        param_key, learn_key = jax.random.split(key)
        memory, learner = Held(steps), init_learner(config, parts.network, param_key, h)

        def phase(_: jax.Array, learner: Any) -> Any:
            return learn(learner, memory, None, learn_key, h)[0]

        return jax.lax.fori_loop(0, config.num_iterations, phase, learner).params

    return lambda key, h, steps: fit(key, h, jax.tree.map(jnp.asarray, steps))
