"""Local neighbourhoods of positions: block averages, Laplacians and sliding windows."""

import itertools

import jax.numpy as jnp
from jax import lax

from jnst.statistics.moments import check_positions
from jnst.types import NO_WRAP, Array, Features, Wrap, of_rank, sum_dtype


def average_pool(features: Features, size: int, valid: Array | None = None) -> Features:
    """Mean of blocks of ``size`` x ``size`` positions. Blocks cut off by the border average the positions they have.

    Args:
        features: ``(..., h, w, c)``.
        size: Side of a block; 1 changes nothing.
        valid: Booleans ``(..., h, w)``, False for positions to ignore. None for no such positions. A block without
            valid positions is 0.

    Returns:
        ``(..., ⌈h / size⌉, ⌈w / size⌉, c)``.
    """
    features = features.astype(sum_dtype(features))
    if size == 1 and valid is None:
        return features
    counted = jnp.ones(features.shape[-3:-1], features.dtype) if valid is None else valid.astype(features.dtype)
    counted = counted[..., None]
    return _block_sums(features * counted, size) / jnp.maximum(_block_sums(counted, size), 1.0)


def _block_sums(array: Array, size: int) -> Array:
    *batch, height, width, channels = array.shape
    array = jnp.pad(array, [(0, 0)] * len(batch) + [(0, -height % size), (0, -width % size), (0, 0)])
    rows, columns = -(-height // size), -(-width // size)
    return jnp.sum(array.reshape(*batch, rows, size, columns, size, channels), (-4, -2))


def wrap_border(array: Array, widths: tuple[int, int], wrap: Wrap, channels: bool = True) -> Array:
    """Repeat the last rows in front of an image and the first ones behind it, and likewise for columns.

    Args:
        array: ``(..., h, w, c)``.
        widths: How many to add in front, and how many behind.
        wrap: To which axes they are added.
        channels: False for arrays ``(..., h, w)``.
    """
    rows, columns = (widths if wraps else (0, 0) for wraps in wrap)
    padding = [rows, columns, (0, 0)] if channels else [rows, columns]
    return jnp.pad(array, [(0, 0)] * (array.ndim - len(padding)) + padding, mode="wrap")


def differences(array: Array, axis: int, wraps: bool = False) -> Array:
    """Differences of neighbours along an axis: of n - 1 pairs, or of n if the first one also follows the last."""
    return jnp.roll(array, -1, axis) - array if wraps else jnp.diff(array, axis=axis)


def laplacian(features: Features, valid: Array | None = None, wrap: Wrap = NO_WRAP) -> Features:
    """Laplacian over the four neighbours: ``Σ_q (F(q) - F(p))`` for the neighbours q of position p.

    Neighbours beyond the border are left out, which is the same as repeating the border.

    Args:
        features: ``(..., h, w, c)``.
        valid: Booleans ``(..., h, w)``, False for positions to ignore, also as neighbours. None for no such positions.
        wrap: Whether the last row is next to the first, and whether the last column is.

    Returns:
        ``(..., h, w, c)``, in the features' units; 0 where they are constant or linear.

    Raises:
        ArgumentError: Features without positions.
    """
    check_positions(features)
    features = features.astype(sum_dtype(features))
    valid = None if valid is None else valid[..., None]
    return _second_difference(features, valid, -3, wrap[0]) + _second_difference(features, valid, -2, wrap[1])


def _second_difference(features: Array, valid: Array | None, axis: int, wraps: bool) -> Array:
    forward = differences(features, axis, wraps)
    if valid is not None:
        if wraps:
            both = valid & jnp.roll(valid, -1, axis)
        else:
            both = lax.slice_in_dim(valid, 1, None, axis=axis) & lax.slice_in_dim(valid, 0, -1, axis=axis)
        forward = forward * of_rank(both, forward.ndim).astype(forward.dtype)
    if wraps:
        return forward - jnp.roll(forward, 1, axis)
    before, after = [[(0, 0)] * features.ndim for _ in range(2)]
    before[axis], after[axis] = (1, 0), (0, 1)
    return jnp.pad(forward, after) - jnp.pad(forward, before)


def windows(planes: Array, radius: int) -> list[Array]:
    """All square windows of side 2·radius + 1 that lie inside an array, as one array per position in the window.

    Args:
        planes: ``(..., h, w)``.
        radius: At least 0; the side must not exceed h or w.

    Returns:
        (2·radius + 1)² arrays ``(..., h - 2·radius, w - 2·radius)``: the first holds the first entry of each window,
        the second the second, and so on, row by row.
    """
    height, width = (size - 2 * radius for size in planes.shape[-2:])
    offsets = itertools.product(range(2 * radius + 1), repeat=2)
    return [planes[..., y : y + height, x : x + width] for y, x in offsets]
