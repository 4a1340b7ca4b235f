"""Random shifts of the pictures in a batch, drawn anew for every update (Kostrikov et al. 2020, DrQ)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from purejaxdqn.config import EnvSpec, require
from purejaxdqn.machine.shapes import assert_array
from purejaxdqn.observations.leaves import Leaf, leaves_of, list_leaves
from purejaxdqn.replay.interface import Replay
from purejaxdqn.types import Hypers, Transition

SHIFTS = 0x5317F7
"""Folded into the key of a sample, so that what is drawn from the replay does not change with the shifts."""


def shift_pictures(pictures: Array, offsets: Array, pixels: int) -> Array:
    """Pictures padded by repeating their edges, and cropped to their own size again.

    Args:
      pictures: [B, H, W, C], of any dtype.
      offsets: int32 [B, 2], row and column of the padded picture where the crop begins, each in [0, 2 · pixels].
      pixels: width P of the padding; with an offset of P a picture stays as it is.
    """
    assert_array("pictures", pictures, (None, None, None, None))
    assert_array("offsets", offsets, (pictures.shape[0], 2), int)

    def shifted(picture: Array, offset: Array) -> Array:
        # A row beyond the edge is the row at the edge, so nothing has to be padded.
        rows, columns = (
            jnp.clip(jnp.arange(size) + start - pixels, 0, size - 1)
            for size, start in zip(picture.shape[:2], offset, strict=True)
        )
        return picture[rows][:, columns]

    return jax.vmap(shifted)(pictures, offsets)


def with_random_shifts(replay: Replay, pixels: int, spec: EnvSpec) -> Replay:
    """A replay whose batches are shifted by up to `pixels`; a stack of frames moves as one, obs_tm1 and obs_t apart.

    Of a tree all pictures [height, width, channels] move together, and nothing else.

    Raises:
      SettingError: where observations are no pictures.
    """
    leaves = leaves_of(spec)
    is_picture = any(leaf.is_picture for leaf in list_leaves(spec))
    remedy = f"{spec.env_id} gives observations of shape {spec.obs_shape}, which are no pictures: use 0"
    require(is_picture, "random_shift", pixels, remedy)

    def shift(obs: Any, offset: Array) -> Any:
        def shifted(leaf: Leaf, x: Array) -> Array:
            return shift_pictures(x, offset, pixels) if leaf.is_picture else x

        return jax.tree.map(shifted, leaves, obs)

    def sample(memory: Any, key: Array, h: Hypers) -> tuple[Transition, Any, Array]:
        batch, index, weight = replay.sample(memory, key, h)
        shape = (2, *weight.shape, 2)
        offsets = jax.random.randint(jax.random.fold_in(key, SHIFTS), shape, 0, 2 * pixels + 1)
        shifted = batch.replace(  # type: ignore[attr-defined]
            obs_tm1=shift(batch.obs_tm1, offsets[0]),
            obs_t=shift(batch.obs_t, offsets[1]),
        )
        return shifted, index, weight

    return replay._replace(sample=sample)
