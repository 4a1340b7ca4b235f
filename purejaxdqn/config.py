"""`Config`: every choice that changes a shape or the compiled program. Plain Python, hashable, validated, no jax."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from purejaxdqn.bounds import INT32, as_pairs, as_type, as_widths
from purejaxdqn.bounds import EnvSpec as EnvSpec
from purejaxdqn.bounds import SettingError as SettingError
from purejaxdqn.bounds import flag_name as flag_name
from purejaxdqn.bounds import one_line as one_line
from purejaxdqn.bounds import require as require

LearnerName = Literal["replay", "rollout", "dataset"]
ReplayMemoryName = Literal["device", "host"]
NormName = Literal["none", "layer", "batch"]
ActivationName = Literal["relu", "tanh", "gelu", "silu", "elu"]
InitializerName = Literal["lecun_normal", "he_normal", "he_uniform", "glorot_uniform", "orthogonal", "normal"]
LossName = Literal["huber", "squared"]
ReductionName = Literal["mean", "sum"]
OptimizerName = Literal["adam", "adamw", "radam", "rmsprop", "sgd"]
EpsilonScheduleName = Literal["linear", "linear-off", "exponential", "multiplicative", "decremental", "constant"]
PrefillName = Literal["random", "policy"]
LearningRateScheduleName = Literal["constant", "linear"]


@dataclass(frozen=True)
class Config:
    """The static half of a run: equal configs share one compiled program; `Hypers` is the traced half.

    Numbers may be Python's or NumPy's, `hidden` one width, a list or an array, `env_params` a mapping or pairs.
    Raises `SettingError` for what cannot work.
    """

    env: str = "CartPole-v1"
    """Environment id: gymnax's, an Atari game of EnvPool such as Pong-v5, envpool/ID for EnvPool's others,
    gymnasium/ID, a suite's such as pgx/2048, or one of your own, MODULE:FACTORY or path/to/file.py:FACTORY."""
    env_params: tuple[tuple[str, Any], ...] = ()
    """Environment parameters that differ from the environment's defaults, as (name, value) pairs."""
    total_steps: int = 200_000
    """Length of the run in environment steps, summed over the environments of one seed, prefill included."""
    num_envs: int = 10
    """Environments stepped side by side by each seed."""
    data_parallel: int = 1
    """Shards of one run, over as many devices as there are: each has its share of the environments, of the replay and
    of every batch, and gradients are averaged."""
    rollout_length: int = 1
    """Vector steps (one step of every environment) between two learning phases."""
    updates_per_rollout: int = 1
    """Gradient updates in each learning phase of the replay learner."""
    num_epochs: int = 2
    """Passes of the rollout learner over each rollout."""
    num_minibatches: int = 1
    """Gradient updates in each of these passes."""
    buffer_size: int = 50_000
    """Capacity of the replay in transitions, over all environments of one seed (rounded up to whole vector steps)."""
    batch_size: int = 128
    """Transitions (with a memory windows, see --unroll) in one gradient update, drawn with replacement."""
    learning_starts: int = 1_000
    """Environment steps taken before the first update."""
    prefill: PrefillName = "random"
    """How these are acted: uniformly at `random`, or by the fresh network's `policy` with its ε."""
    n_step: int = 3
    """Steps of reward in a target before it bootstraps."""
    anneal_horizon: bool = False
    """Whether after each reset n falls to --n-step-final and γ rises from --gamma-start, over --anneal-updates."""
    random_shift: int = 0
    """Most pixels by which every picture of a batch is shifted at random, each way; 0 for no shifts."""
    resets: bool = False
    """Whether all parameters but a share of the torso's become fresh ones after every --reset-period updates."""
    overlap: bool = True
    """Whether the device learns while EnvPool steps; what is acted on is then one vector step of learning older."""
    reward_shaping: str = "none"
    """What the learner gets in place of the reward: none, cartpole-distance, or one registered."""
    last_step_reward: float | None = None
    """What the learner gets as the reward of the last step of an episode; None leaves the environment's."""
    reward_scale: float = 1.0
    """Factor on the rewards that the learner gets."""
    normalize_obs: bool = False
    """Whether arrays of floats enter the network less their running mean, over their running standard deviation."""
    normalize_reward: bool = False
    """Whether rewards are learnt from in units of the running standard deviation of their discounted sum."""
    mask_terminals: bool = True
    """Whether the target of a step that terminates is its reward alone; off bootstraps there too, which is wrong."""
    bootstrap_truncation: bool = True
    """Whether a target bootstraps where a time limit cut the episode; off takes the cut for an end, which is wrong."""
    log_episodes: int = 0
    """Most episodes of one chunk (see --log-every) of which episodes.csv gets a row each; 0 writes no such file."""
    learner: LearnerName = "replay"
    """Where gradients come from: a `replay` of past steps with a target network, the newest `rollout` (PQN), or a
    `dataset` alone, where --total-steps, --log-every and --eval-every count gradient updates."""
    dataset: str | None = None
    """File of recorded steps to learn from, NAME.npz (docs/offline.md): see --learner dataset and --demo-share."""
    demo_share: float = 0.0
    """Share of every batch of the replay learner that is drawn from --dataset, which then holds demonstrations."""
    constraint: str = "none"
    """What keeps values near a dataset's actions: none, cql, cloning, margin (DQfD), or one registered."""
    head: str = "scalar"
    """What the network's outputs mean: scalar, categorical (C51), quantile (QR-DQN), iqn, fqf, bcq, iql, or yours."""
    bcq_threshold: float = 0.3
    """Share of the likeliest action's probability in the data that the bcq head asks of another one."""
    backup: str = "double"
    """What a target bootstraps with: max, double, munchausen, or one registered."""
    replay: str = "uniform"
    """How the replay is drawn from: uniform, prioritized, or one registered."""
    hindsight: Literal["none", "future", "final"] = "none"
    """Whose later steps give new goals to --hindsight-share of a batch: any `future` one's, or the `final` one's."""
    replay_memory: ReplayMemoryName = "device"
    """Whose memory holds the replay of a run on EnvPool: the `host`'s where the device has too little."""
    update_kernel: bool = False
    """Whether an update of a small MLP is one GPU kernel in place of XLA's dozens (elsewhere an interpreter makes it,
    slowly). On an H200 it was the slower way: docs/performance.md."""
    matmul_precision: Literal["default", "high", "highest"] = "default"
    """Of products on a GPU or TPU, in JAX's words: `default` is the device's fastest (TF32), `highest` is float32."""
    network: str = "auto"
    """Torso: mlp, minatar-cnn, nature-cnn, half-cnn (Nature's for frames of 42 by 42), impala-cnn; `auto` takes, for
    each picture, nature-cnn from 36 by 36 on, minatar-cnn for smaller ones, and mlp where there is none."""
    torso_width: int = 1
    """Factor on the number of filters of a CNN's convolutions."""
    memory: str = "none"
    """What a network remembers of an episode by, after its shared layers: none, gru, lstm, lru (a linear recurrence),
    attention (over the newest frames), or one registered."""
    memory_size: int = 64
    """Width of the memory, in units."""
    memory_window: int = 32
    """Newest frames of an episode that attention sees."""
    last_inputs: bool = False
    """Whether the network is also given the last action and the last reward of the episode."""
    burn_in: int = 10
    """Steps at the start of a window of the replay that move a memory alone, before those that are learnt from."""
    unroll: int = 20
    """Steps of a window that are learnt from; with a memory a batch has --batch-size windows."""
    window_period: int = 10
    """Vector steps from the start of one window to that of the next."""
    stored_carry: bool = True
    """Whether a window begins with what the memory carried when it was acted there; off begins with zeros."""
    pool: int = 0
    """Rows and columns to which adaptive max pooling brings a CNN's output; 0 for no pooling."""
    spectral_norm: bool = False
    """Whether impala-cnn's residual blocks divide their convolutions by their largest singular values."""
    dueling: bool = False
    """Whether the network adds a state value and mean-free advantages, each from a stream of its own."""
    branching: bool = False
    """Whether each part of a multi-discrete action has values of its own, in place of those of all combinations."""
    noisy: bool = False
    """Whether the layers after the torso are noisy ones, which explore by themselves: see --epsilon-start."""
    noisy_sigma: float = 0.5
    """Scale of a noisy layer's noise at the start, before it is divided by the root of the layer's inputs."""
    hidden: tuple[int, ...] = (120, 84)
    """Widths of the dense hidden layers, in units."""
    activation: ActivationName = "relu"
    """Activation after each hidden layer."""
    initializer: InitializerName = "lecun_normal"
    """Initialiser of the weight matrices (`normal` has a standard deviation of 0.1); biases start at zero."""
    norm: NormName = "layer"
    """Normalisation before each activation; `batch` keeps running means for acting and for targets."""
    num_atoms: int = 51
    """Atoms of the categorical head."""
    v_min: float = -10.0
    """Lowest atom of the categorical head, in units of return."""
    v_max: float = 10.0
    """Highest atom of the categorical head, in units of return."""
    num_quantiles: int = 32
    """Quantiles of the quantile head, fractions N of iqn's predictions, or fractions that fqf proposes."""
    num_target_quantiles: int = 32
    """Fractions N' of iqn's targets."""
    num_policy_quantiles: int = 32
    """Fractions K that iqn averages to choose an action."""
    num_cosines: int = 64
    """Cosines in which iqn and fqf embed a fraction."""
    rescale_values: bool = False
    """Whether the scalar head's network predicts h(return), h(x) = sign(x)(√(|x| + 1) - 1) + x / 1000, which makes
    large returns small."""
    loss: LossName = "squared"
    """Loss of one TD error; `huber` has its threshold in --huber-delta."""
    reduction: ReductionName = "mean"
    """How per-example losses join: `sum` is `mean` with batch_size times the gradient, so a larger learning rate."""
    optimizer: OptimizerName = "adam"
    """Gradient transformation."""
    average_params: bool = False
    """Whether evaluations play, and policies keep, a moving average of the parameters: see --average-decay."""
    epsilon_schedule: EpsilonScheduleName = "linear"
    """Path of ε from --epsilon-start to --epsilon-final: over --epsilon-fraction of the run, or by --epsilon-decay in
    every environment step (a factor if `multiplicative`, taken off if `decremental`); `constant` has the final one;
    `linear-off` is `linear`, and 0 from --epsilon-off of the run on."""
    explorer: str = "epsilon-greedy"
    """How actions are chosen while training: epsilon-greedy, ez-greedy (repeats what ε draws), boltzmann (softmax),
    bootstrapped (an episode with one member of an --ensemble), or one registered."""
    epsilon_ladder: bool = False
    """Whether the i-th of N environments has ε to the power 1 + α i / (N - 1), see --ladder-exponent."""
    duration_cap: int = 100
    """Most steps for which ez-greedy repeats an action."""
    ensemble: int = 1
    """Members of an ensemble of networks on one torso, each with its own target; their mean is played."""
    prior_scale: float = 0.0
    """Factor on the fixed random network that is added to each member of an ensemble; 0 adds none."""
    learning_rate_schedule: LearningRateScheduleName = "linear"
    """`linear` goes from --learning-rate to --learning-rate-final over the run's updates; `constant` stays."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", as_widths(self.hidden))
        object.__setattr__(self, "env_params", as_pairs(self.env_params))
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, as_type(field.type, field.name, getattr(self, field.name)))
        require(self.v_min < self.v_max, "v_min", self.v_min, f"use a number below v_max, {self.v_max}")
        check_clock(self)
        check_exploration(self)
        {"replay": check_replay, "rollout": check_rollout}.get(self.learner, lambda config: None)(self)
        check_shards(self)
        remedy = f"the prefill alone takes {self.prefill_steps * self.num_envs} environment steps: use more than that"
        require(self.num_iterations > 0, "total_steps", self.total_steps, remedy)

    @property
    def shard_envs(self) -> int:
        """Environments of each shard."""
        return self.num_envs // self.data_parallel

    @property
    def shard_batch(self) -> int:
        """Transitions that each shard draws for one gradient update."""
        return self.batch_size // self.data_parallel

    @property
    def in_one_piece(self) -> "Config":
        """The same settings without shards."""
        return self if self.data_parallel == 1 else self.replace(data_parallel=1)

    @property
    def buffer_rows(self) -> int:
        """Vector steps that the replay holds; each shard has these of its own environments."""
        return -(-self.buffer_size // self.num_envs)

    @property
    def has_windows(self) -> bool:
        """Whether the replay is drawn from in windows, for a memory."""
        return self.learner == "replay" and self.memory != "none"

    @property
    def rows_after(self) -> int:
        """Vector steps that follow the one at which a sample of the replay begins."""
        return self.n_step + (self.burn_in + self.unroll - 1 if self.has_windows else 0)

    @property
    def start_period(self) -> int:
        """Vector steps between two of those at which a sample may begin."""
        return self.window_period if self.has_windows else 1

    @property
    def prefill_steps(self) -> int:
        """Vector steps of the prefill: enough for --learning-starts and for one sample."""
        if self.learner != "replay":
            return 0
        return max(-(-self.learning_starts // self.num_envs), self.rows_after + self.start_period)

    @property
    def updates_per_iteration(self) -> int:
        """Gradient updates of one learning phase."""
        return self.num_epochs * self.num_minibatches if self.learner == "rollout" else self.updates_per_rollout

    @property
    def steps_per_iteration(self) -> int:
        """Environment steps of one iteration (a rollout and its learning phase); updates where nothing is played."""
        return self.updates_per_rollout if self.learner == "dataset" else self.rollout_length * self.num_envs

    @property
    def num_iterations(self) -> int:
        """Iterations after the prefill that reach `total_steps` without passing it by a whole iteration."""
        return -(-(self.total_steps - self.prefill_steps * self.num_envs) // self.steps_per_iteration)

    @property
    def num_updates(self) -> int:
        """Gradient updates of the whole run."""
        return self.num_iterations * self.updates_per_iteration

    def replace(self, **changes: Any) -> "Config":
        """A validated copy with `changes`."""
        return dataclasses.replace(self, **changes)


def check_clock(config: Config) -> None:
    """Raises `SettingError` for more vector steps or updates than a device counts to."""
    most = f"a device counts to {INT32:,}"
    remedy = f"an iteration has {config.steps_per_iteration:,} steps (rollout_length × num_envs), and {most}: use fewer"
    require(config.steps_per_iteration <= INT32, "num_envs", config.num_envs, remedy)
    vector_steps = -(-config.total_steps // config.num_envs) + config.rollout_length
    remedy = f"with num_envs {config.num_envs} it takes {vector_steps:,} vector steps, and {most}: use more num_envs"
    require(vector_steps <= INT32, "total_steps", config.total_steps, remedy)
    remedy = f"it makes {config.num_updates:,} gradient updates, and {most}: use fewer updates, or fewer steps"
    require(config.num_updates <= INT32, "total_steps", config.total_steps, remedy)


def check_exploration(config: Config) -> None:
    """Raises `SettingError` for a ladder of one ε, or a prior that nothing has or that would not stay fixed."""
    remedy = f"it has an ε for each environment, and num_envs is {config.num_envs}: use at least 2 of them"
    require(not config.epsilon_ladder or config.num_envs > 1, "epsilon_ladder", config.epsilon_ladder, remedy)
    prior = config.prior_scale
    remedy = "it belongs to the members of an ensemble: use --ensemble 10, or 0"
    require(prior == 0 or config.ensemble > 1, "prior_scale", prior, remedy)
    fixed = not config.noisy and config.norm != "batch" and config.head != "fqf"
    remedy = "a prior is fixed, which noise, batch norm and fqf's fractions are not: leave them out, or use 0"
    require(prior == 0 or fixed, "prior_scale", prior, remedy)


def check_replay(config: Config) -> None:
    """Raises `SettingError` where a replay could not hold what the run needs of it."""
    size, num_envs, batch_size = config.buffer_size, config.num_envs, config.batch_size
    whole_step = f"the replay must hold a row of every environment: use at least num_envs, {num_envs}"
    require(size >= num_envs, "buffer_size", size, whole_step)
    whole_batch = f"the replay must hold a batch: use at least batch_size, {batch_size}"
    require(size >= batch_size, "buffer_size", size, whole_batch)
    window = config.rows_after + config.rollout_length + config.start_period - 1
    parts = "n_step + rollout_length"
    if config.has_windows:
        parts = "burn_in + unroll + window_period + n_step + rollout_length - 2"
    steps = f"{parts} is {window} vector steps of {num_envs} environments"
    remedy = f"{steps}: use more than {window * num_envs}"
    require(config.buffer_rows > window, "buffer_size", size, remedy)


def check_rollout(config: Config) -> None:
    """Raises `SettingError` where a rollout cannot be cut into the minibatches."""
    steps = config.steps_per_iteration
    remedy = f"a rollout has {steps} steps (rollout_length × num_envs): use a divisor of that"
    require(steps % config.num_minibatches == 0, "num_minibatches", config.num_minibatches, remedy)


def check_shards(config: Config) -> None:
    """Raises `SettingError` where the shards of a run would not be equal."""
    count = config.data_parallel
    shared = {"num_envs": config.num_envs} | ({"batch_size": config.batch_size} if config.learner == "replay" else {})
    for name, value in shared.items():
        lower = value - value % count
        near = f"{lower} or {lower + count}" if lower else f"{count}"
        require(value % count == 0, name, value, f"data_parallel is {count}, so use a multiple of that, such as {near}")
    steps = config.steps_per_iteration // count
    shares = config.learner == "replay" or steps % config.num_minibatches == 0
    remedy = f"each of {count} shards (data_parallel) has {steps} steps of a rollout: use a divisor of that"
    require(shares, "num_minibatches", config.num_minibatches, remedy)
    remedy = "with data_parallel the replay lies beside each shard: use device"
    require(count == 1 or config.replay_memory == "device", "replay_memory", config.replay_memory, remedy)
