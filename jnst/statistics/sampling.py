"""Samples of an image's positions, of static size, drawn by weight."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.statistics.moments import unit_mean
from jnst.types import Array, Guide, RandomKey


class Sample(NamedTuple):
    """Flat positions and what each stands for.

    Attributes:
        indices: ``(..., k)``, each position at most once.
        weights: ``(..., k)``, with the same sum as the weights that were drawn from.
    """

    indices: Array
    weights: Array


def position_weights(positions: int, guide: Guide | None = None) -> Array:
    """Weights of flat positions, which sum to 1: ``(..., h * w)`` from a guide ``(..., h, w)``; None: all alike."""
    if guide is None:
        return jnp.full(positions, 1.0 / positions, jnp.float32)
    return unit_mean(guide).reshape(*guide.shape[:-2], positions) / positions


@partial(jax.jit, static_argnames="count")
def draw_positions(key: RandomKey, weights: Array, count: int) -> Sample:
    """Draw ``count`` positions without replacement, or take all if there are not more, by priority sampling.

    The positions with the largest ``wᵢ / uᵢ`` are drawn, with u uniform in (0, 1]; each then weighs ``max(wᵢ, τ)``,
    τ being the largest priority that was not drawn. Sums over the sample estimate sums over all positions without
    bias, and a position of weight 0 never counts. The same u serve every image of a batch.

    Args:
        key: Decides on u, together with the number of positions.
        weights: ``(..., n)``, at least 0.
        count: How many, at most.

    Returns:
        ``min(count, n)`` positions and their weights, scaled to the sum of ``weights``.

    Raises:
        ArgumentError: A count below 1.

    References:
        Duffield, Lund & Thorup, Priority sampling for estimation of arbitrary subset sums, Journal of the ACM 2007.
    """
    if count < 1:
        raise ArgumentError(f"a sample of {count} positions: draw at least 1")
    positions = weights.shape[-1]
    if positions <= count:
        return Sample(jnp.arange(positions), weights)
    priorities, indices = lax.top_k(weights / (1.0 - jax.random.uniform(key, (positions,))), count + 1)
    drawn = jnp.maximum(jnp.take_along_axis(weights, indices[..., :count], -1), priorities[..., count:])
    scale = jnp.sum(weights, -1, keepdims=True) / jnp.maximum(jnp.sum(drawn, -1, keepdims=True), 1e-30)
    return Sample(indices[..., :count], drawn * scale)


@jax.jit
def take_rows(rows: Array, indices: Array) -> Array:
    """Rows ``(..., k, c)`` at ``indices`` ``(..., k)`` of ``(..., n, c)``; leading axes broadcast."""

    def take(matrix: Array, which: Array) -> Array:
        return matrix.at[which].get(mode="promise_in_bounds")

    return jnp.vectorize(take, signature="(n,c),(k)->(k,c)")(rows, indices)
