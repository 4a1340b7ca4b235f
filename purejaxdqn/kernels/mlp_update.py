"""A whole DQN update of an MLP as one GPU kernel, in Pallas through Triton: targets, gradients, Adam, target network.

XLA launches an update of a small network as some fifty kernels of a microsecond each, and each writes its activations
to memory for the next. Here one program makes the update of one lane and keeps everything between batch and parameters
in registers and shared memory; `jax.vmap` over lanes becomes its grid.

Arrays are padded to powers of two, which Triton asks for. A padded weight is read as zero, has a zero gradient and is
never written.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from purejaxdqn.config import Config
from purejaxdqn.kernels.choice import KernelUpdate, padded, rows_at_once
from purejaxdqn.learning.backups import Backup
from purejaxdqn.learning.heads import scalar_loss
from purejaxdqn.learning.optim import learning_rate_at
from purejaxdqn.networks.layers import ACTIVATIONS
from purejaxdqn.types import Counter, Hypers, Learner, Transition

UNLIKELY = -1e30
"""Value of an action that is none, so that no policy takes it; finite, as a share of zero of it has to be zero."""
BLOCK = 1024
"""Parameters that Adam moves at once."""
WARPS = 8
ADAM = (0.9, 0.999)
"""Decays of Adam's moments, optax's defaults."""
LAYER_NORM_EPSILON = 1e-6
"""Flax's default."""
READ = ("adam_epsilon", "max_grad_norm", "huber_delta", "munchausen_alpha", "munchausen_temperature", "munchausen_clip")
"""Hypers that the kernel reads as they are."""


class Layer(NamedTuple):
    """A dense layer's sizes, and where its arrays lie among the parameters' leaves and in the vector of all of them."""

    inputs: int
    outputs: int
    leaves: dict[str, int]
    """Place among the leaves, by name: kernel, bias, and a norm's scale and offset where there is one."""


def layers_of(params: Any) -> list[Layer]:
    """The dense layers of an MLP's parameters in the order of the forward pass."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    places = {tuple(part.key for part in path): place for place, (path, _) in enumerate(leaves)}
    hidden = sorted((name for name in params["params"] if name.startswith("Hidden_")), key=lambda name: int(name[7:]))
    found = []
    for name in [*hidden, "Output"]:
        dense = ("params", name, "Dense_0") if name in hidden else ("params", name)
        norm = ("params", name, "LayerNorm_0")
        paths = {"kernel": (*dense, "kernel"), "bias": (*dense, "bias")}
        paths |= {"scale": (*norm, "scale"), "offset": (*norm, "bias")}
        inputs, outputs = leaves[places[paths["kernel"]]][1].shape
        found.append(Layer(inputs, outputs, {part: places[path] for part, path in paths.items() if path in places}))
    return found


class Layout(NamedTuple):
    """What is fixed when the kernel is compiled."""

    config: Config
    backup: Backup
    layers: tuple[Layer, ...]
    sizes: tuple[int, ...]
    """Elements of each of the parameters' leaves."""
    interpret: bool

    def forward(self, leaves: Sequence[Any], x: Array) -> tuple[Array, list[tuple[Array, Any]]]:
        """Action values [B, padded A] of padded observations [B, F], and what `backward` needs of each layer.

        Values of actions that are none are zero. Weights are read where they are used, in both directions: what is
        kept from one to the other takes registers away from activations.
        """
        kept = []
        for layer in self.layers:
            own = {name: read(leaves[leaf], *shape_of(layer, name)) for name, leaf in layer.leaves.items()}
            norm = {name: own[name] for name in ("scale", "offset") if name in own}
            inputs, z = x, x @ own["kernel"] + own["bias"][None]
            x, pull_back = jax.vjp(partial(self.finish, layer), norm, z)
            kept.append((inputs, pull_back))
        return x, kept

    def finish(self, layer: Layer, norm: dict[str, Array], x: Array) -> Array:
        """A layer's norm and activation, where it has them."""
        x = layer_norm(layer, norm, x) if norm else x
        return x if layer is self.layers[-1] else ACTIVATIONS[self.config.activation](x)

    def backward(self, leaves: Sequence[Any], kept: list[tuple[Array, Any]], x: Array) -> list[dict[str, Array]]:
        """Gradients of each layer's padded arrays, from that of the action values [B, padded A]."""
        grads = []
        for layer, (inputs, pull_back) in zip(reversed(self.layers), reversed(kept), strict=True):
            norm, x = pull_back(x)
            kernel = jax.lax.dot_general(inputs, x, (((0,), (0,)), ((), ())))
            grads.append({"kernel": kernel, "bias": jnp.sum(x, axis=0), **norm})
            if layer is not self.layers[0]:
                weights = read(leaves[layer.leaves["kernel"]], *shape_of(layer, "kernel"))
                x = jax.lax.dot_general(x, weights, (((1,), (1,)), ((), ())))
        return grads[::-1]

    def chosen_among(self, q: Array) -> Array:
        """Action values [B, padded A] for a policy, which takes none of the actions that are none."""
        return jnp.where(jnp.arange(q.shape[1])[None] < self.layers[-1].outputs, q, UNLIKELY)


def layer_norm(layer: Layer, own: dict[str, Array], x: Array) -> Array:
    """Flax's layer norm of [B, padded features], where padded ones count in neither sum and have no gradient."""
    x = jnp.where(jnp.arange(x.shape[1])[None] < layer.outputs, x, 0.0)
    mean = jnp.sum(x, axis=1, keepdims=True) / layer.outputs
    square = jnp.sum(x * x, axis=1, keepdims=True) / layer.outputs
    spread = jax.lax.rsqrt(jnp.maximum(square - mean * mean, 0.0) + LAYER_NORM_EPSILON)
    return (x - mean) * (spread * own["scale"][None]) + own["offset"][None]


def elements(rows: int, columns: int) -> tuple[Array, Array]:
    """Indices into a flat [rows, columns] of its padded elements, and which of these exist; of a vector with rows 0."""
    column = jnp.arange(padded(columns))
    if rows == 0:
        return column, column < columns
    row = jnp.arange(padded(rows))
    return row[:, None] * columns + column[None], (row < rows)[:, None] & (column < columns)[None]


def read(ref: Any, rows: int, columns: int, start: int | Array = 0) -> Array:
    """A padded array, zero where it is padded, out of a flat one from an element on."""
    index, exists = elements(rows, columns)
    return triton.load(ref.at[start + index], mask=exists, other=0.0)


def write(ref: Any, value: Array, index: Array, exists: Array, interpret: bool) -> None:
    """Writes the elements that exist."""
    # The interpreter writes the old value back for one that does not: to nowhere, lest it is another's place.
    triton.store(ref.at[jnp.where(exists, index, ref.shape[0]) if interpret else index], value, mask=exists)


def update_kernel(layout: Layout, *refs: Any) -> None:
    """The body: one lane's update, on flat arrays; see `make_update` for what they are."""
    n = len(layout.sizes)
    params, target, data, new_params, new_target, out = (
        refs[start:end] for start, end in itertools.pairwise((0, n, 2 * n, 2 * n + 9, 3 * n + 9, 4 * n + 9, len(refs)))
    )
    first, second, obs_tm1, action, reward, discount, obs_t, weight, numbers = data
    new_first, new_second, priority, sums, gradient = out
    # Hypers as they are outside, so that backups and losses are the very functions that other updates call.
    h = Hypers(**{name: numbers[i] for i, name in enumerate(READ)})
    size, features = action.shape[0], layout.layers[0].inputs
    rows = rows_at_once(size)

    def part(i: Array, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        of_part = pl.ds(i * rows, rows)
        examples = Transition(
            obs_tm1=read(obs_tm1, rows, features, i * rows * features),
            a_tm1=action[of_part],
            r_t=reward[of_part],
            discount_t=discount[of_part],
            obs_t=read(obs_t, rows, features, i * rows * features),
        )
        more, priority[of_part], terms = learn_from(layout, size, params, target, examples, weight[of_part], h)
        return jax.tree.map(jnp.add, carry, (more, terms))

    # A part of the batch at a time: activations of all of it would not fit into the registers.
    zeros = [
        {name: jnp.zeros([padded(side) for side in shape_of(layer, name) if side]) for name in layer.leaves}
        for layer in layout.layers
    ]
    nothing = zeros, (jnp.float32(0.0),) * 3
    grads, totals = jax.lax.fori_loop(0, size // rows, part, nothing)
    norm = jnp.sqrt(sum(jnp.sum(grad * grad) for own in grads for grad in own.values()))
    for i, total in enumerate((*totals, norm)):
        sums[i] = total
    starts = [sum(layout.sizes[:i]) for i in range(n)]
    for layer, own in zip(layout.layers, grads, strict=True):
        for name, leaf in layer.leaves.items():
            index, exists = elements(*shape_of(layer, name))
            write(gradient, own[name], starts[leaf] + index, exists, layout.interpret)
    if not layout.interpret:
        triton.debug_barrier()

    learning_rate, first_scale, second_scale, tau = (numbers[len(READ) + i] for i in range(4))
    clip = jnp.where(norm < h.max_grad_norm, 1.0, h.max_grad_norm / norm)
    for leaf, start in enumerate(starts):

        def step(i: Array, carry: Array, leaf: int = leaf, start: int = start) -> Array:
            here = i * BLOCK + jnp.arange(BLOCK)
            exists = here < layout.sizes[leaf]
            load = partial(triton.load, mask=exists, other=0.0)
            store = partial(write, exists=exists, interpret=layout.interpret)
            g = clip * load(gradient.at[start + here])
            m = ADAM[0] * load(first.at[start + here]) + (1.0 - ADAM[0]) * g
            v = ADAM[1] * load(second.at[start + here]) + (1.0 - ADAM[1]) * g * g
            moved = load(params[leaf].at[here]) - learning_rate * (m * first_scale) / (
                jnp.sqrt(v * second_scale) + h.adam_epsilon
            )
            store(new_target[leaf], tau * moved + (1.0 - tau) * load(target[leaf].at[here]), here)
            store(new_first, m, start + here)
            store(new_second, v, start + here)
            store(new_params[leaf], moved, here)
            return carry

        jax.lax.fori_loop(0, pl.cdiv(layout.sizes[leaf], BLOCK), step, jnp.int32(0))


def learn_from(
    layout: Layout,
    size: int,
    params: Sequence[Any],
    target: Sequence[Any],
    examples: Transition,
    weight: Array,
    h: Hypers,
) -> tuple[Any, Array, tuple[Array, Array, Array]]:
    """Gradients of some of a batch of `size`, their |TD error|, and terms of the loss, mean Q and mean |TD error|."""
    config, a_tm1, r_t = layout.config, examples.a_tm1, examples.r_t
    q_t, _ = layout.forward(target, examples.obs_t)
    q_select = layout.chosen_among(layout.forward(params, examples.obs_t)[0] if layout.backup.selects_online else q_t)
    chosen_by = jax.vmap(layout.backup.policy, in_axes=(0, None))
    policy, penalty = chosen_by(q_select, h)
    value_t = jnp.sum(policy * (q_t if penalty is None else q_t - penalty), axis=1)
    taken = jnp.arange(q_t.shape[1])[None] == a_tm1[:, None]
    if penalty is not None:
        # The bonus of `backups.munchausen`, by a mask in place of an index, which Triton does not know.
        q_tm1 = layout.chosen_among(layout.forward(target, examples.obs_tm1)[0])
        log_taken = jnp.sum(jnp.where(taken, jnp.asarray(chosen_by(q_tm1, h)[1]), 0.0), axis=1)
        r_t = r_t + h.munchausen_alpha * jnp.clip(log_taken, h.munchausen_clip, 0.0)
    y = r_t + examples.discount_t * value_t
    q, kept = layout.forward(params, examples.obs_tm1)
    q_taken = jnp.sum(jnp.where(taken, q, 0.0), axis=1)
    error, share = y - q_taken, weight / (size if config.reduction == "mean" else 1)
    slope = jnp.clip(error, -h.huber_delta, h.huber_delta) if config.loss == "huber" else error
    grads = layout.backward(params, kept, jnp.where(taken, -(share * slope)[:, None], 0.0))
    terms = share * scalar_loss(error, h, config.loss), q_taken / size, jnp.abs(error) / size
    loss, q_mean, error_mean = (jnp.sum(term) for term in terms)
    return grads, jnp.abs(error), (loss, q_mean, error_mean)


def shape_of(layer: Layer, name: str) -> tuple[int, int]:
    """(rows, columns) of one of a layer's arrays; 0 rows for a vector."""
    return (layer.inputs if name == "kernel" else 0), layer.outputs


def make_update(config: Config, backup: Backup, interpret: bool = False) -> KernelUpdate:
    """One update of the learner by the kernel, target network included, for what `choice.why_not` lets through.

    Args:
      config: activation, norm, loss and its reduction.
      backup: how targets bootstrap.
      interpret: whether to run it as plain operations, on any platform: slow, for tests.
    """

    def update(learner: Learner, batch: Transition, weight: Array, h: Hypers) -> tuple[Learner, Array, Array]:
        leaves, tree = jax.tree.flatten(learner.params)
        old = jax.tree.leaves(learner.target_params)
        sizes = tuple(leaf.size for leaf in leaves)
        layout = Layout(config, backup, tuple(layers_of(learner.params)), sizes, interpret)
        moments = [optax.tree.get(learner.opt_state, name) for name in ("mu", "nu")]
        learning_rate = jnp.asarray(learning_rate_at(config, h, learner.updates.count))
        made = learner.updates.count + 1
        scales = [1.0 / (1.0 - decay ** made.astype(jnp.float32)) for decay in ADAM]
        tau = jnp.where(made % h.target_period == 0, h.tau, 0.0)
        numbers = jnp.stack([*(getattr(h, name) for name in READ), learning_rate, *scales, tau])
        flat = [leaf.reshape(-1) for leaf in (*leaves, *old, *moments)]
        data = [batch.obs_tm1, batch.a_tm1, batch.r_t, batch.discount_t, batch.obs_t, weight]
        shapes = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in flat]
        # Priorities, metrics, and the gradient on its way from the parts of the batch to Adam.
        shapes += [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (batch.r_t.shape, (4,), moments[0].shape)]
        out = pl.pallas_call(
            partial(update_kernel, layout),
            out_shape=shapes,
            input_output_aliases={i: i for i in range(len(flat))},
            interpret=interpret,
            compiler_params=triton.CompilerParams(num_warps=WARPS, num_stages=1),
            name="mlp_update",
        )(*flat, *(array.reshape(-1) for array in data), numbers)
        *new, first, second, priority, sums, _ = out
        n = len(leaves)
        params, target = (
            jax.tree.unflatten(tree, [leaf.reshape(like.shape) for leaf, like in zip(part, leaves, strict=True)])
            for part in (new[:n], new[n:])
        )
        opt_state = optax.tree.set(learner.opt_state, mu=first, nu=second, count=made)
        return Learner(params, target, opt_state, Counter(made), learner.average), priority, sums

    return update
