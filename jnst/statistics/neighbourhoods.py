"""What a position has to do with those around it: averages of blocks, Laplacians, windows."""

import itertools

import jax.numpy as jnp
from jax import lax

from jnst.types import Array, Features


def average_pool(features: Features, size: int, present: Array | None = None) -> Features:
    """Mean of blocks of ``size`` x ``size`` positions; those cut off by the border are means of what they have.

    Args:
        features: ``(..., h, w, c)``.
        size: Side of a block; 1 changes nothing.
        present: Booleans ``(..., h, w)``: which positions there are; None: all. A block without any is 0.

    Returns:
        ``(..., ⌈h / size⌉, ⌈w / size⌉, c)`` in float32.
    """
    features = features.astype(jnp.float32)
    if size == 1 and present is None:
        return features
    counted = jnp.ones(features.shape[-3:-1], jnp.float32) if present is None else present.astype(jnp.float32)
    counted = counted[..., None]
    return _block_sums(features * counted, size) / jnp.maximum(_block_sums(counted, size), 1.0)


def _block_sums(array: Array, size: int) -> Array:
    *batch, height, width, channels = array.shape
    array = jnp.pad(array, [(0, 0)] * len(batch) + [(0, -height % size), (0, -width % size), (0, 0)])
    rows, columns = -(-height // size), -(-width // size)
    return jnp.sum(array.reshape(*batch, rows, size, columns, size, channels), (-4, -2))


def laplacian(features: Features, present: Array | None = None) -> Features:
    """Laplacian by the four neighbours: ``Σ_q (F(q) - F(p))`` over the neighbours q that position p has.

    At the border that is as if the outermost positions were repeated outwards.

    Args:
        features: ``(..., h, w, c)``.
        present: Booleans ``(..., h, w)``: which positions there are, as neighbours too; None: all.

    Returns:
        ``(..., h, w, c)`` in float32, in the features' units; 0 where they are constant, or rise evenly.
    """
    features = features.astype(jnp.float32)
    there = None if present is None else present[..., None]
    return _second_difference(features, there, -3) + _second_difference(features, there, -2)


def _second_difference(features: Array, there: Array | None, axis: int) -> Array:
    steps = jnp.diff(features, axis=axis)
    if there is not None:
        steps = steps * (lax.slice_in_dim(there, 1, None, axis=axis) & lax.slice_in_dim(there, 0, -1, axis=axis))
    before, after = [[(0, 0)] * features.ndim for _ in range(2)]
    before[axis], after[axis] = (1, 0), (0, 1)
    return jnp.pad(steps, after) - jnp.pad(steps, before)


def windows(planes: Array, radius: int) -> list[Array]:
    """All square windows of side 2·radius + 1 that lie within an array, position by position.

    Args:
        planes: ``(..., h, w)``.
        radius: At least 0; the side must not exceed h or w.

    Returns:
        (2·radius + 1)² arrays ``(..., h - 2·radius, w - 2·radius)``: what every window has at its first position, at
        its second, and so on, row by row.
    """
    height, width = (size - 2 * radius for size in planes.shape[-2:])
    offsets = itertools.product(range(2 * radius + 1), repeat=2)
    return [planes[..., y : y + height, x : x + width] for y, x in offsets]
