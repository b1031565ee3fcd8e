"""Hypercolumns: the features of several layers at the same positions, side by side."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jnst.statistics.moments import as_columns, unit_mean
from jnst.statistics.sampling import take_rows
from jnst.types import Array, Features, Guide


def finest_grid(layers: Sequence[Features]) -> tuple[int, int]:
    """Height and width of the layer with the most positions."""
    height, width = max((layer.shape[-3:-1] for layer in layers), key=lambda shape: shape[0] * shape[1])
    return height, width


@jax.jit
def hypercolumns(layers: Sequence[Features], indices: Array) -> Array:
    """Sample every layer bilinearly at positions of the finest one, and lay the channels side by side.

    A layer of h' rows has its row ``(y + 1/2) h'/h - 1/2`` where the finest, of h rows, has its row y (likewise
    columns); beyond the outermost centres its border is repeated.

    Args:
        layers: ``(..., h', w', c)`` each, of any sizes.
        indices: ``(..., k)``, flat positions of the finest layer.

    Returns:
        ``(..., k, sum of c)`` in float32, in the order of the layers.

    References:
        Hariharan et al., Hypercolumns for object segmentation and fine-grained localization, CVPR 2015.
    """
    grid = finest_grid(layers)
    return jnp.concatenate([_sampled(layer, indices, grid) for layer in layers], -1)


def _sampled(layer: Features, indices: Array, grid: tuple[int, int]) -> Array:
    columns, (height, width) = as_columns(layer).astype(jnp.float32), layer.shape[-3:-1]
    if (height, width) == grid:
        return take_rows(columns, indices)
    tops, bottoms, down = _neighbours(indices // grid[1], grid[0], height)
    lefts, rights, across = _neighbours(indices % grid[1], grid[1], width)
    down, across = down[..., None], across[..., None]

    def line(rows: Array) -> Array:
        left, right = (take_rows(columns, rows * width + side) for side in (lefts, rights))
        return (1.0 - across) * left + across * right

    return (1.0 - down) * line(tops) + down * line(bottoms)


def _neighbours(positions: Array, fine: int, coarse: int) -> tuple[Array, Array, Array]:
    """The two coarse positions around each fine one, and how far it is from the first to the second."""
    centres = jnp.clip((positions + 0.5) * (coarse / fine) - 0.5, 0.0, coarse - 1.0)
    first = jnp.floor(centres).astype(jnp.int32)
    return first, jnp.minimum(first + 1, coarse - 1), centres - first


@jax.jit
def hypercolumn_weights(layers: Sequence[Features], guides: Sequence[Guide] | None = None) -> Array:
    """Weights of the positions of the finest layer, from a guide for each layer.

    A hypercolumn counts by the least of its layers' guides, each scaled to the mean 1 and sampled as its layer is;
    not at all where it would touch a position whose guide is 0.

    Args:
        layers: ``(..., h', w', c)`` each.
        guides: ``(..., h', w')`` each; None: all positions count alike.

    Returns:
        ``(..., h * w)``, or ``(h * w,)`` without guides, summing to 1 (all 0 if nothing counts).
    """
    height, width = finest_grid(layers)
    if guides is None:
        return jnp.full(height * width, 1.0 / (height * width), jnp.float32)
    weights = jnp.asarray(jnp.inf)
    for guide in map(jnp.asarray, guides):
        untouched = _refined((guide <= 0).astype(jnp.float32), (height, width)) == 0
        weights = jnp.minimum(weights, jnp.where(untouched, _refined(unit_mean(guide), (height, width)), 0.0))
    weights = weights.reshape(*weights.shape[:-2], height * width)
    return weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-12)


def _refined(guide: Guide, grid: tuple[int, int]) -> Array:
    """Sample ``(..., h', w')`` bilinearly at every position of the grid."""
    tops, bottoms, down = _neighbours(jnp.arange(grid[0]), grid[0], guide.shape[-2])
    lefts, rights, across = _neighbours(jnp.arange(grid[1]), grid[1], guide.shape[-1])
    lines = (1.0 - down[:, None]) * guide[..., tops, :] + down[:, None] * guide[..., bottoms, :]
    return (1.0 - across) * lines[..., lefts] + across * lines[..., rights]
