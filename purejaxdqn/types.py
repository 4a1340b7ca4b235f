"""The pytrees that a run is made of.

Sizes: T time, E environments, B batch, A actions, N atoms. Arrays at a step and the next are `*_tm1` and `*_t` (rlax).
"""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array

from purejaxdqn.bounds import INT32, check


@struct.dataclass
class Hypers:
    """The traced half of a run: scalars that may differ from lane to lane without a recompilation.

    Raises `SettingError` for numbers out of range. Arrays, which may be traced, are not checked: see `validate`.
    """

    learning_rate: float | Array = 1e-3
    """Step size of the optimiser at the start of the run."""
    learning_rate_final: float | Array = 0.0
    """Step size at the end of the run, where the schedule is `linear`."""
    adam_epsilon: float | Array = 1e-8
    """Keeps denominators from zero: added to the root in Adam, inside the root in RMSProp."""
    weight_decay: float | Array = 1e-4
    """Share of each parameter, times the step size, that an update of AdamW takes off it."""
    max_grad_norm: float | Array = float("inf")
    """Largest global norm of a gradient, beyond which it is scaled down; inf switches clipping off."""
    gamma: float | Array = 0.99
    """Discount per environment step, in [0, 1]."""
    gamma_start: float | Array = 0.97
    """Discount from which an annealed one rises to gamma, in [0, 1]."""
    n_step_final: int | Array = 3
    """Steps of reward in a target to which an annealed number falls from n_step."""
    anneal_updates: int | Array = 10_000
    """Gradient updates after each reset over which these are annealed."""
    tau: float | Array = 1.0
    """Share of the online parameters in a target update: 1 is a hard copy, in [0, 1]."""
    average_decay: float | Array = 0.999
    """Share of the moving average of the parameters that an update keeps, in [0, 1)."""
    target_period: int | Array = 50
    """Gradient updates between two target updates."""
    reset_period: int | Array = 40_000
    """Gradient updates between two resets; a whole number of learning phases."""
    reset_shrink: float | Array = 0.5
    """Share of a torso's parameters that a reset keeps, in [0, 1]; a fresh torso's have the rest."""
    reset_until: int | Array = INT32
    """Gradient updates after which there is no further reset."""
    epsilon_start: float | Array = 1.0
    """ε, the probability of a random action, at the start of the run."""
    epsilon_final: float | Array = 0.05
    """ε at the end of its decay."""
    epsilon_fraction: float | Array = 0.5
    """Share of total_steps over which ε decays, in (0, 1]."""
    epsilon_off: float | Array = 0.5
    """Share of total_steps after which ε is 0 (linear-off schedule), in (0, 1]."""
    epsilon_decay: float | Array = 0.995
    """Factor on ε (multiplicative schedule), or what is taken off it (decremental), in each environment step."""
    ladder_exponent: float | Array = 7.0
    """α of a ladder of ε: the last environment's is ε to the power 1 + α."""
    duration_exponent: float | Array = 2.0
    """μ of ez-greedy's durations: n steps have a probability proportional to n to the power -μ; above 1."""
    boltzmann_temperature: float | Array = 0.1
    """Temperature of the boltzmann explorer's softmax, in units of return."""
    huber_delta: float | Array = 1.0
    """|TD error| beyond which the Huber loss is linear, in units of return; κ of the quantile losses."""
    munchausen_alpha: float | Array = 0.9
    """Share of the log-policy that a Munchausen backup adds to the reward, in [0, 1]."""
    munchausen_temperature: float | Array = 0.03
    """Temperature of a Munchausen backup's softmax policy, in units of return."""
    munchausen_clip: float | Array = -1.0
    """Lowest value of temperature × log-policy that a Munchausen backup adds, below 0."""
    priority_exponent: float | Array = 0.6
    """Power of the TD error in a priority: 0 is uniform, 1 proportional."""
    priority_eta: float | Array = 0.9
    """η of a window's priority: η times the largest of its rows' and 1 - η times their mean, in [0, 1]."""
    priority_epsilon: float | Array = 1e-6
    """Added to |TD error|, so that no transition becomes impossible to draw."""
    importance_exponent: float | Array = 0.4
    """β, how far importance weights undo the priorities, at the start of the run, in [0, 1]."""
    importance_exponent_final: float | Array = 1.0
    """β at the end of the run."""
    hindsight_share: float | Array = 0.8
    """Share of a batch whose goals are told in hindsight, in [0, 1]: 0.8 are four for each that is as it was played."""
    trace_lambda: float | Array = 0.65
    """λ of the rollout learner's returns: 0 is one-step, 1 sums all rewards of the rollout."""
    fraction_lr_scale: float | Array = 0.01
    """Step size of fqf's fraction proposal, as a share of the network's."""
    fraction_entropy: float | Array = 0.0
    """Weight of the entropy that keeps fqf's fractions apart."""
    constraint_weight: float | Array = 1.0
    """Weight of a constraint beside the TD loss: CQL's α, DQfD's λ."""
    demo_margin: float | Array = 0.8
    """By how much a demonstrated action's value is to be above the others' (margin constraint)."""
    expectile: float | Array = 0.7
    """τ of the iql head's state values, in (0, 1): the nearer to 1, the nearer to the best action of the data."""
    advantage_scale: float | Array = 3.0
    """β of the iql head's policy: 0 clones the data, more prefers what is better than the state's value."""

    def __post_init__(self) -> None:
        numbers = {name: value for name, value in vars(self).items() if isinstance(value, int | float | np.number)}
        # JAX also puts other things into such a tree: the axes of a vmap, say, which are all whole numbers.
        if not all(type(value) is int for value in vars(self).values()):
            check(numbers)

    def validate(self) -> "Hypers":
        """Returns itself; raises `SettingError` if a value (not a tracer) is out of range."""
        check({name: value for name, value in vars(self).items() if not isinstance(value, jax.core.Tracer)})
        return self

    def as_arrays(self) -> "Hypers":
        """The same values as strongly typed scalars, so that a Python float and an array share one compilation."""
        kinds = {field.name: type(field.default) for field in dataclasses.fields(self)}
        dtypes = {int: jnp.int32, float: jnp.float32}
        return Hypers(**{name: jnp.asarray(getattr(self, name), dtypes[kind]) for name, kind in kinds.items()})


@struct.dataclass
class Counter:
    """A counter that every lane shares: it determines control flow, so it never has a lane axis (see `lane_axes`)."""

    count: Array
    """int32 []."""


def counter(value: int = 0) -> Counter:
    """A counter with the given value."""
    return Counter(jnp.asarray(value, jnp.int32))


def lane_axes(tree: Any) -> Any:
    """The `in_axes`/`out_axes` of a tree for `jax.vmap` over lanes: None at every `Counter`, 0 elsewhere."""
    return jax.tree.map(lambda node: None if is_counter(node) else 0, tree, is_leaf=is_counter)


def is_counter(node: Any) -> bool:
    """Whether a node of a tree is a `Counter`."""
    return isinstance(node, Counter)


@struct.dataclass
class Row:
    """One environment step of E environments: observation, action and reward, and the state of the episode after it."""

    obs: Any
    """[E, ...] the observation that was acted on, in the environment's own dtype; or a tree of such arrays."""
    action: Array
    """int32 [E]."""
    reward: Array
    """float32 [E], as the environment gave it."""
    terminated: Array
    """bool [E]: the episode ended by the environment's rules; the value after it is zero."""
    truncated: Array
    """bool [E]: the episode was cut and not terminated; a target bootstraps from its last observation."""
    final_obs: Any
    """[E, ...] (or a tree) the true observation after the step, before any reset."""
    valid: Array
    """bool [E]: False for a row that is not a transition (an environment that ignored the action and reset)."""
    mask: Array | None = None
    """bool [E, A]: actions that were legal, of `obs`; None in an environment without action masks."""
    final_mask: Array | None = None
    """bool [E, A] of `final_obs`; of no meaning where the episode terminated."""
    starts: Array | None = None
    """bool [E]: an episode begins with `obs`; None without a memory."""
    carry: Any = None
    """[E, ...] of a network's memory after the observation before `obs`, of another episode where one begins."""


@struct.dataclass
class Transition:
    """The data that a target is computed from, after the n-step fold."""

    obs_tm1: Any
    """[B, ...], or a tree of such arrays."""
    a_tm1: Array
    """int32 [B]."""
    r_t: Array
    """float32 [B]: the discounted sum of up to n rewards."""
    discount_t: Array
    """float32 [B]: γ to the number of steps folded, zero where the episode terminated."""
    obs_t: Any
    """[B, ...] (or a tree) the observation to bootstrap from: the true one, never that of a reset."""
    mask_tm1: Array | None = None
    """bool [B, A]: legal actions; None in an environment without action masks."""
    mask_t: Array | None = None
    """bool [B, A], of `obs_t`."""


@struct.dataclass
class Proposal:
    """What fqf's fractions are learnt from: the N - 1 inner boundaries between N fractions, and the quantiles there."""

    boundary: Array
    """float32 [..., N - 1], increasing in (0, 1); its gradient goes to the proposal alone."""
    x: Array
    """float32 [..., A, N - 1], quantile values at the boundaries, without gradient."""
    entropy: Array
    """float32 [...], entropy of the widths of the N fractions; its gradient goes to the proposal alone."""


@struct.dataclass
class Dist:
    """Return distributions of every action, each of N entries. A scalar head has N = 1."""

    x: Array
    """float32 [..., A, N]: an expected return (N = 1), logits of atoms, or quantile values."""
    support: Array
    """float32 [..., N]: the atoms' returns, or the quantiles' fractions τ; 0 for an expected return."""
    weight: Array
    """float32 [..., N]: probability mass that each quantile stands for, summing to one; 1 / N for all others."""
    proposal: Proposal | None = None
    """Of fqf's online network only."""


class Outputs(NamedTuple):
    """What a head requires of the network that it reads."""

    num_atoms: int
    """Outputs per action; 1 where the network is asked for one fraction at a time."""
    support: tuple[float, ...]
    """`Dist.support` where it is fixed, of length num_atoms."""
    fractions: Literal["fixed", "sampled", "proposed"]
    """Whether the support is fixed, or fractions that the network draws (iqn) or proposes (fqf)."""


STATISTICS = "batch_stats"
"""Collection, next to `params`, of what a network keeps without learning it: the running statistics of batch norm and
the vectors of spectral norm. Its gradients are zero, and `Network.refresh` alone moves it."""
PRIOR = "prior"
"""Collection, next to `params`, of the parameters of an ensemble's randomised priors, which nothing ever moves."""
PROPOSAL = "fraction_proposal"
"""Name, on the path to its parameters, of the layer that proposes fractions, whose learning rate is its own."""


def is_under(path: Any, name: str | None) -> bool:
    """Whether a path of a pytree has a key of that name on it; never for None."""
    return name is not None and any(getattr(part, "key", None) == name for part in path)


Role = Literal["online", "target", "select", "act", "greedy"]
"""What a forward pass is for: predicting under a gradient, valuing the next observation, choosing the action there,
acting in E environments that explore independently, or acting greedily without any noise."""


@struct.dataclass
class Learner:
    """The part of a run that gradient updates change."""

    params: Any
    target_params: Any
    """Of the same structure; () where the learner has no target network."""
    opt_state: Any
    updates: Counter
    average: Any = ()
    """A moving average of the parameters, where one is asked for; otherwise ()."""
    returns: Any = ()
    """float32 [num_envs], each environment's discounted return so far, where rewards are scaled by it; otherwise ()."""

    @property
    def policy_params(self) -> Any:
        """What evaluations play and a policy keeps: the average where there is one, otherwise the parameters."""
        return self.average if jax.tree.leaves(self.average) else self.params


@struct.dataclass
class Episodes:
    """Running return and length of the episode that each environment is in."""

    episode_return: Array
    """float32 [E]: sum of raw rewards so far."""
    episode_length: Array
    """int32 [E]: environment steps so far."""
    learning_return: Array
    """float32 [E]: sum of the rewards so far as the learner saw them."""
    ended: Array
    """int32 []: episodes of the run that have ended, those of the warm-up included."""


@struct.dataclass
class EpisodeLog:
    """The first K episodes that ended in a chunk, in the order of their ends; what is beyond them is not written."""

    episode_return: Array
    """float32 [K], of raw rewards."""
    learning_return: Array
    """float32 [K], of rewards as the learner saw them."""
    episode_length: Array
    """int32 [K], environment steps."""
    vector_steps: Array
    """int32 [K]: vector steps of the run up to the episode's end."""


@struct.dataclass
class State:
    """A run: everything that the next step depends on, and nothing else."""

    vector_steps: Counter
    learner: Learner
    memory: Any
    env: Any
    episodes: Episodes
    key_data: Array
    """uint32 [2]: raw threefry key, which any version of JAX can save and load."""
    explorer: Any = ()
    """What acting carries from step to step, [E, ...]: the explorer's, and that of a memory; () for nothing."""


@struct.dataclass
class Metrics:
    """Sums over one chunk, reduced on the device; means are taken on the host, where a missing one stays missing."""

    episodes: Array
    """int32: episodes that ended in this chunk."""
    return_sum: Array
    """float32: sum of their raw returns."""
    return_max: Array
    """float32: the largest of them, -inf where none ended."""
    length_sum: Array
    """float32: sum of their lengths in environment steps."""
    env_steps: Array
    """int32: valid environment steps."""
    updates: Array
    """int32: gradient updates."""
    loss_sum: Array
    q_sum: Array
    """float32: sum over updates of the mean Q-value of the actions in the batch."""
    td_sum: Array
    """float32: sum over updates of the mean |TD error|."""
    grad_norm_sum: Array
    """float32: sum over updates of the global gradient norm before clipping."""
    epsilon: Array
    """float32: ε at the end of the chunk."""
    log: Any
    """`EpisodeLog` of `Config.log_episodes` entries; () where that is 0."""
