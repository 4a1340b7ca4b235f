"""The update as one GPU kernel, for the configurations that it knows."""

import itertools
import math
from collections.abc import Callable

import jax
from jax import Array

from purejaxdqn.config import Config, EnvSpec, require
from purejaxdqn.learning.backups import Backup
from purejaxdqn.networks.torsos import find_torso
from purejaxdqn.observations.leaves import list_leaves
from purejaxdqn.types import Hypers, Learner, Transition

KernelUpdate = Callable[[Learner, Transition, Array, Hypers], tuple[Learner, Array, Array]]
"""(learner, batch, importance weights [B], hypers) -> learner with its target network, priorities [B] and metrics [4]:
loss, Q(s, a), |TD error|, norm of the gradient."""

LEAST = 16
"""Rows and columns that a tensor core's product has at least."""
ROWS = 32
"""Examples that are learnt from at once, at most: activations of more would not fit into a program's registers."""
LARGEST = 128 * 128
"""Elements of the largest array that a program may hold."""
CAPABILITY = 8.0
"""Compute capability from which tensor cores multiply float32, and a program has 99 KB of shared memory."""


def padded(size: int) -> int:
    """The next power of two, at least `LEAST`."""
    return max(LEAST, 1 << (size - 1).bit_length())


def rows_at_once(batch_size: int) -> int:
    """The largest power of two up to `ROWS` that divides a batch."""
    return math.gcd(batch_size, ROWS)


def largest_array(config: Config, spec: EnvSpec) -> int:
    """Elements of the largest array of an update: a layer's padded kernel, or what some of the examples activate."""
    inputs = sum(leaf.features for leaf in list_leaves(spec))
    widths = [padded(width) for width in (inputs, *config.hidden, spec.num_actions)]
    products = [a * b for a, b in itertools.pairwise(widths)]
    return max(*products, rows_at_once(config.batch_size) * max(widths))


def why_not(config: Config, spec: EnvSpec) -> str | None:
    """What keeps a configuration's updates from being one kernel each; None where nothing does.

    Args:
      config: the run's.
      spec: of its environment.
    """
    met = {
        "the learner is not replay": config.learner == "replay",
        "a dataset is learnt from": config.dataset is None,
        "the network is no MLP": find_torso(config, spec).make is None,
        "observations are no vectors of numbers": (spec.num_obs_values, spec.obs_scale, spec.obs_dtype)
        == (None, None, "float32"),
        f"the head is {config.head}": config.head == "scalar",
        "values are rescaled": not config.rescale_values,
        f"the backup is {config.backup}": config.backup in ("max", "double", "munchausen"),
        f"the optimiser is {config.optimizer}": config.optimizer == "adam",
        f"the norm is {config.norm}": config.norm in ("none", "layer"),
        "the network has two streams": not config.dueling,
        "layers are noisy": not config.noisy,
        "parts of an action have values of their own": not config.branching,
        "actions are masked": not spec.masked,
        "there is an ensemble": config.ensemble == 1,
        "the network has a memory": config.memory == "none",
        "parameters are averaged": not config.average_params,
        "observations or rewards are normalised": not (config.normalize_obs or config.normalize_reward),
        "the run is in shards": config.data_parallel == 1,
        f"products are of {config.matmul_precision} precision": config.matmul_precision == "default",
        "layers have spectral norm": not config.spectral_norm,
        f"a batch of {config.batch_size} is no multiple of {LEAST}": config.batch_size % LEAST == 0,
        f"hidden layers of {config.hidden} are too wide": largest_array(config, spec) <= LARGEST,
    }
    return next((reason for reason, holds in met.items() if not holds), None)


def weak_gpu() -> str | None:
    """The compute capability of this machine's GPU where that is too low; None where it is not, or there is no GPU."""
    capability = getattr(jax.local_devices()[0], "compute_capability", None)
    known = capability is None or (capability.replace(".", "").isdigit() and float(capability) >= CAPABILITY)
    return None if known else capability


def find_kernel(config: Config, spec: EnvSpec, backup: Backup) -> tuple[KernelUpdate, KernelUpdate] | None:
    """The update as a kernel, in a CUDA program and in others (interpreted); None where it is not asked for.

    Args:
      config: with `update_kernel`.
      spec: of the environment.
      backup: how targets bootstrap.

    Raises:
      SettingError: if it is asked for, and does not know the configuration or this machine's GPU.
    """
    if not config.update_kernel:
        return None
    reason, weak = why_not(config, spec), weak_gpu()
    require(reason is None, "update_kernel", True, f"there is no kernel for this run, as {reason}: leave it out")
    remedy = f"the kernel needs compute capability {CAPABILITY}, and this GPU has {weak}: leave it out"
    require(weak is None, "update_kernel", True, remedy)
    # Pallas takes a while to import, and most processes have no use for it.
    from purejaxdqn.kernels.mlp_update import make_update

    return make_update(config, backup), make_update(config, backup, interpret=True)
