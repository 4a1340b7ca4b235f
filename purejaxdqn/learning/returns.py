"""n-step returns and λ-returns."""

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.machine.shapes import assert_array, assert_arrays


def n_step_fold(reward: Array, terminated: Array, truncated: Array, gamma: float | Array) -> tuple[Array, Array, Array]:
    """Folds a window of n consecutive steps of one environment into one step (Sutton 1988; Watkins 1989 for Q).

    The fold stops at the first step that ends an episode, so that nothing of the next episode leaks in.

    Args:
      reward: [n] rewards r_1 … r_n.
      terminated: bool [n].
      truncated: bool [n].
      gamma: discount per step, [].

    Returns:
      The discounted sum of the m rewards folded []; the discount of the value to bootstrap from [], γ^m, or zero where
      step m terminated; and m - 1 [], the offset of the last step folded.
    """
    assert_array("reward", reward, (None,), float)
    assert_arrays(reward.shape, bool, terminated=terminated, truncated=truncated)
    assert_array("gamma", gamma, ())
    done = jnp.logical_or(terminated, truncated)
    # Without a subtraction, which XLA takes out of one step's fold in some programs only: sums around it then differ.
    ended_before = jnp.concatenate((jnp.zeros(1, bool), jnp.cumsum(done[:-1]) > 0))
    in_fold = jnp.logical_not(ended_before)
    powers = jnp.asarray(gamma, reward.dtype) ** jnp.arange(reward.shape[0], dtype=reward.dtype)
    folded_return = jnp.sum(jnp.where(in_fold, powers * reward, 0.0))
    last = jnp.sum(in_fold) - 1
    stopped_by_termination = jnp.any(jnp.logical_and(in_fold, terminated))
    discount = jnp.where(stopped_by_termination, 0.0, powers[last] * gamma)
    return folded_return, discount, last


def cut_after(truncated: Array, n: int | Array) -> Array:
    """Windows of `truncated` in which a fold ends after n steps at the latest, as if the episode were cut there.

    Args:
      truncated: bool [..., N].
      n: steps, int [], of at least 1; above N it cuts nothing.
    """
    assert_array("truncated", truncated, (..., None), bool)
    assert_array("n", n, (), int)
    last = jnp.arange(truncated.shape[-1]) == n - 1
    return jnp.logical_or(truncated, jnp.broadcast_to(last, truncated.shape))


def lambda_returns(
    reward: Array,
    terminated: Array,
    truncated: Array,
    valid: Array,
    value_t: Array,
    gamma: float | Array,
    trace_lambda: float | Array,
) -> Array:
    """λ-returns of every step of one environment's rollout (Sutton and Barto 2018, eq. 12.18).

    G_t = r_t + γ ((1 - λ_t) v_t + λ_t G_{t+1}), without the bracket where step t terminated. λ_t is λ, or 0 where no
    next step continues the episode: it ended there, the rollout did, or the next row is not valid. With v_t the
    greatest action value this is Peng's Q(λ) (Peng and Williams 1994), the target of PQN (Gallici et al. 2024).

    Args:
      reward: [T] rewards.
      terminated: bool [T].
      truncated: bool [T].
      valid: bool [T], False for a row that is not a transition; the return of such a row is meaningless.
      value_t: [T] value of the true observation after each step, of the final one where an episode ended there.
      gamma: discount per step, [].
      trace_lambda: λ in [0, 1], [].

    Returns:
      The λ-returns [T]. No gradient is stopped here.
    """
    assert_array("reward", reward, (None,), float)
    assert_arrays(reward.shape, bool, terminated=terminated, truncated=truncated, valid=valid)
    assert_array("value_t", value_t, reward.shape, float)
    assert_arrays((), gamma=gamma, trace_lambda=trace_lambda)
    next_valid = jnp.concatenate([valid[1:], jnp.zeros(1, bool)])
    goes_on = jnp.logical_and(next_valid, jnp.logical_not(jnp.logical_or(terminated, truncated)))

    if jax.default_backend() == "gpu":
        bootstrap = jnp.where(goes_on, (1.0 - trace_lambda) * value_t, value_t)
        own = reward + jnp.where(terminated, 0.0, gamma * bootstrap)
        return discounted_sums(own, jnp.where(goes_on, gamma * trace_lambda, 0.0))

    def back(g_next: Array, step: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        r, ended, traced, v = step
        # Chosen, not multiplied by zero, so that not even a NaN of another episode gets through.
        bootstrap = jnp.where(traced, (1.0 - trace_lambda) * v + trace_lambda * g_next, v)
        g = r + jnp.where(ended, 0.0, gamma * bootstrap)
        return g, g

    nothing = jnp.zeros_like(reward[-1])
    return jax.lax.scan(back, nothing, (reward, terminated, goes_on, value_t), reverse=True)[1]


def discounted_sums(own: Array, discount: Array) -> Array:
    """G_t = own_t + discount_t G_{t+1} in log₂ T parallel steps: a few kernels of a GPU where a loop launches 3 T.

    Args:
      own: [T].
      discount: [T]; 0 where nothing of the next step counts, not even a NaN.
    """

    def join(later: tuple[Array, Array], earlier: tuple[Array, Array]) -> tuple[Array, Array]:
        (own_after, after), (own_before, before) = later, earlier
        return jnp.where(before == 0.0, own_before, own_before + before * own_after), before * after

    found: Array = jax.lax.associative_scan(join, (own, discount), reverse=True)[0]
    return found
