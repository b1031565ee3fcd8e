"""Weighted samples of an image's positions, of static size."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.statistics.moments import unit_mean
from jnst.types import Array, Guide, RandomKey


class Sample(NamedTuple):
    """Flat positions and their weights.

    Attributes:
        indices: ``(..., k)``, each position at most once.
        weights: ``(..., k)``, with the same sum as the weights that the sample was drawn by.
    """

    indices: Array
    weights: Array


def position_weights(positions: int, guide: Guide | None = None) -> Array:
    """Weights of flat positions that sum to 1, ``(..., h * w)``, from a guide ``(..., h, w)``; equal if it is None."""
    if guide is None:
        return jnp.full(positions, 1.0 / positions, jnp.float32)
    return unit_mean(guide).reshape(*guide.shape[:-2], positions) / positions


@partial(jax.jit, static_argnames="count")
def draw_positions(weights: Array, count: int, *, key: RandomKey) -> Sample:
    """Draw ``count`` positions without replacement by priority sampling, or take all if there are not more.

    The positions with the largest ``wᵢ / uᵢ`` are drawn, with u uniform in (0, 1]. Each gets the weight
    ``max(wᵢ, τ)``, where τ is the largest priority that was not drawn. Sums over the sample are unbiased estimates of
    sums over all positions, and positions of weight 0 never count. All images of a batch share the same u.

    Args:
        weights: ``(..., n)``, at least 0.
        count: Maximum size of the sample.
        key: Together with the number of positions, determines u.

    Returns:
        ``min(count, n)`` positions and their weights, scaled to the sum of ``weights``.

    Raises:
        ArgumentError: A count below 1.

    References:
        Duffield, Lund & Thorup, Priority sampling for estimation of arbitrary subset sums, Journal of the ACM 2007.
    """
    if count < 1:
        raise ArgumentError(f"cannot draw a sample of {count} positions: draw at least 1")
    positions = weights.shape[-1]
    if positions <= count:
        return Sample(jnp.arange(positions), weights)
    u = 1.0 - jax.random.uniform(key, (positions,), jnp.float32)
    priorities, indices = lax.top_k(weights / u, count + 1)
    drawn = jnp.maximum(jnp.take_along_axis(weights, indices[..., :count], -1), priorities[..., count:])
    scale = jnp.sum(weights, -1, keepdims=True) / jnp.maximum(jnp.sum(drawn, -1, keepdims=True), 1e-18)
    return Sample(indices[..., :count], drawn * scale)


@jax.jit
def take_rows(rows: Array, indices: Array) -> Array:
    """Rows ``(..., k, c)`` of ``(..., n, c)`` at ``indices`` ``(..., k)``; leading axes broadcast."""

    def take(matrix: Array, which: Array) -> Array:
        return matrix.at[which].get(mode="promise_in_bounds")

    return jnp.vectorize(take, signature="(n,c),(k)->(k,c)")(rows, indices)
