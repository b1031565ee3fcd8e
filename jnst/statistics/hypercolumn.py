"""Hypercolumns: the features of several layers at the same position, concatenated."""

from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp

from jnst.statistics.moments import check_positions, flatten_positions, unit_mean
from jnst.statistics.sampling import take_rows
from jnst.types import NO_WRAP, Array, Features, Guide, Wrap, of_rank, sum_dtype


def finest_grid(layers: Sequence[Features]) -> tuple[int, int]:
    """Height and width of the layer with the most positions.

    Raises:
        ArgumentError: A layer without positions.
    """
    for layer in layers:
        check_positions(layer)
    height, width = max((layer.shape[-3:-1] for layer in layers), key=lambda shape: shape[0] * shape[1])
    return height, width


@partial(jax.jit, static_argnames="wrap")
def hypercolumns(layers: Sequence[Features], indices: Array, wrap: Wrap = NO_WRAP) -> Array:
    """Sample each layer bilinearly at positions of the finest layer, and concatenate the channels.

    Row y of a finest layer with h rows corresponds to row ``(y + 1/2) h'/h - 1/2`` of a layer with h' rows, and
    likewise for columns. Beyond the outermost centres the border is repeated, or the image
    goes on at its other side if it wraps.

    Args:
        layers: ``(..., h', w', c)`` each, of any sizes.
        indices: ``(..., k)``, flat positions of the finest layer.
        wrap: Whether the first row follows the last, and whether the first column does.

    Returns:
        ``(..., k, sum of c)``, with the channels in the order of the layers.

    Raises:
        ArgumentError: A layer without positions.

    References:
        Hariharan et al., Hypercolumns for object segmentation and fine-grained localization, CVPR 2015.
    """
    grid = finest_grid(layers)
    return jnp.concatenate([_sample(layer, indices, grid, wrap) for layer in layers], -1)


def _sample(layer: Features, indices: Array, grid: tuple[int, int], wrap: Wrap) -> Array:
    rows, (height, width) = flatten_positions(layer), layer.shape[-3:-1]
    rows = rows.astype(sum_dtype(rows))
    if (height, width) == grid:
        return take_rows(rows, indices)
    tops, bottoms, down = _neighbours(indices // grid[1], grid[0], height, wrap[0])
    lefts, rights, across = _neighbours(indices % grid[1], grid[1], width, wrap[1])
    down, across = down[..., None], across[..., None]

    def line(y: Array) -> Array:
        left, right = (take_rows(rows, y * width + x) for x in (lefts, rights))
        return (1.0 - across) * left + across * right

    return (1.0 - down) * line(tops) + down * line(bottoms)


def _neighbours(positions: Array, fine: int, coarse: int, wraps: bool = False) -> tuple[Array, Array, Array]:
    """The two coarse positions around each fine one, and how far it lies from the first towards the second."""
    centres = (positions.astype(jnp.float32) + 0.5) * (coarse / fine) - 0.5
    if wraps:
        before = jnp.floor(centres)
        first = before.astype(jnp.int32)
        return first % coarse, (first + 1) % coarse, centres - before
    centres = jnp.clip(centres, 0.0, coarse - 1.0)
    first = jnp.floor(centres).astype(jnp.int32)
    return first, jnp.minimum(first + 1, coarse - 1), centres - first.astype(jnp.float32)


@jax.jit
def hypercolumn_weights(layers: Sequence[Features], guides: Sequence[Guide] | None = None) -> Array:
    """Weights of the positions of the finest layer, from one guide per layer.

    The weight of a hypercolumn is the minimum over the guides, each scaled to mean 1 and sampled like its layer. It
    is 0 if the interpolation would read any position whose guide is 0.

    Args:
        layers: ``(..., h', w', c)`` each.
        guides: ``(..., h', w')`` each. None weights all positions equally.

    Returns:
        ``(..., h * w)``, or ``(h * w,)`` without guides. The weights sum to 1, unless all are 0.

    Raises:
        ArgumentError: A layer without positions.
    """
    height, width = finest_grid(layers)
    if guides is None:
        return jnp.full(height * width, 1.0 / (height * width), jnp.float32)

    def refine(guide: Guide) -> Array:
        excluded = _refine((guide <= 0).astype(jnp.float32), (height, width)) > 0
        return jnp.where(excluded, 0.0, _refine(unit_mean(guide), (height, width)))

    weights = reduce(jnp.minimum, map(refine, map(jnp.asarray, guides)))
    weights = weights.reshape(*weights.shape[:-2], height * width)
    return weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-12)


def _refine(guide: Guide, grid: tuple[int, int]) -> Array:
    """Sample ``(..., h', w')`` bilinearly at each position of the grid."""
    tops, bottoms, down = _neighbours(jnp.arange(grid[0]), grid[0], guide.shape[-2])
    lefts, rights, across = _neighbours(jnp.arange(grid[1]), grid[1], guide.shape[-1])
    down = of_rank(down[:, None], guide.ndim)
    lines = (1.0 - down) * guide[..., tops, :] + down * guide[..., bottoms, :]
    across = of_rank(across, lines.ndim)
    return (1.0 - across) * lines[..., lefts] + across * lines[..., rights]
