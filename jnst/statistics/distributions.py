"""Distributions as weighted samples: random directions, quantile functions, and one-dimensional transport.

All of it is based on sorting, without histogram bins. Orders and ranks are constant in gradients: losses differentiate
the distances between matched values, which is the gradient of the distance between the distributions.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jnst.statistics.moments import flatten_positions, unit_mean
from jnst.types import Array, Features, Guide, RandomKey, sum_dtype

MOST_SORTED = 2**24
"""Maximum number of values sorted at once. `map_rows` splits larger problems."""
TIE = 2.0**-21
"""Ranks in [0, 1] this close to a jump of a quantile function count as on it: the rounding error of summed weights."""


class WeightedSet(NamedTuple):
    """Vectors with weights.

    Attributes:
        values: ``(..., n, c)``.
        weights: ``(..., n)``, which sum to 1. None for equal weights.
    """

    values: Array
    weights: Array | None


class Quantiles(NamedTuple):
    """The quantile function (inverse cumulative distribution) of numbers: a step for each, as wide as its weight.

    Attributes:
        values: ``(..., n)``, in increasing order.
        weights: ``(..., n)``, in the same order, which sum to 1. None for equal weights.
    """

    values: Array
    weights: Array | None


def directions(key: RandomKey, channels: int, count: int) -> Array:
    """Draw unit vectors, uniformly distributed on the sphere: ``(count, channels)`` in float32."""
    normal = jax.random.normal(key, (count, channels), jnp.float32)
    return normal / jnp.linalg.norm(normal, axis=-1, keepdims=True)


def project(rows: Array, direction: Array) -> Array:
    """Inner products of rows ``(..., n, c)`` with a direction ``(c,)``: ``(..., n)``."""
    return jnp.einsum(
        "...nc,c->...n",
        rows,
        direction,
        precision=lax.Precision.HIGHEST,
        preferred_element_type=sum_dtype(rows, direction),
    )


def weighted_set(features: Features, guide: Guide | None = None) -> WeightedSet:
    """The feature vectors of ``(..., h, w, c)`` as a set, weighted by the guide ``(..., h, w)``."""
    rows = flatten_positions(features)
    weights = None if guide is None else flat_weights(guide) / rows.shape[-2]
    return WeightedSet(rows.astype(sum_dtype(rows)), weights)


def flat_weights(guide: Guide) -> Array:
    """A guide ``(..., h, w)`` as weights of flat positions with mean 1: ``(..., h * w)``."""
    weights = unit_mean(guide)
    return weights.reshape(*weights.shape[:-2], -1)


def quantiles(values: Array, weights: Array | None = None) -> Quantiles:
    """Sort numbers ``(..., n)`` together with their weights ``(..., n)``, if any; leading axes broadcast."""
    values = values.astype(sum_dtype(values))
    if weights is None:
        return Quantiles(_sorted(values), None)
    values, weights = jnp.broadcast_arrays(values, weights)
    return Quantiles(*lax.sort((values, weights), num_keys=1, is_stable=False))


def mix_sets(parts: Sequence[WeightedSet], weights: Array) -> WeightedSet:
    """Mixture distribution that draws from part i with probability ``weights[i]``; the weights sum to 1."""
    if len(parts) == 1:
        return parts[0]
    shares = [_share(part.weights, part.values.shape[:-1], weight) for part, weight in zip(parts, weights, strict=True)]
    return WeightedSet(jnp.concatenate([part.values for part in parts], -2), jnp.concatenate(shares, -1))


def mix_quantiles(parts: Sequence[Quantiles], weights: Array) -> Quantiles:
    """Mixture distribution, as in `mix_sets`."""
    if len(parts) == 1:
        return parts[0]
    shares = [_share(part.weights, part.values.shape, weight) for part, weight in zip(parts, weights, strict=True)]
    return quantiles(jnp.concatenate([part.values for part in parts], -1), jnp.concatenate(shares, -1))


def _share(weights: Array | None, shape: tuple[int, ...], share: Array) -> Array:
    return share * jnp.broadcast_to(1 / shape[-1] if weights is None else weights, shape)


def transport(values: Array, target: Quantiles, weights: Array | None = None) -> Array:
    """Map numbers monotonically so that their distribution becomes the target's.

    Each number maps to the target's quantile at its mid-rank, the middle of the interval of ranks that its weight
    covers. At a jump of the quantile function it maps to the middle of the jump, as a median does. Between equally
    many unweighted numbers, the k-th smallest maps to the k-th smallest.

    Args:
        values: ``(..., n)``.
        target: Quantiles ``(..., m)``; leading axes broadcast.
        weights: ``(..., n)``, at least 0; only the proportions matter. None for equal weights.

    Returns:
        ``(..., n)``, with a gradient by the target's values only. The mean squared difference from ``values`` is the
        W₂² distance of the two distributions if they have equally many unweighted numbers, and approximates it
        otherwise.

    References:
        Peyré & Cuturi, Computational Optimal Transport, 2019, section 2.6.
    """
    goal = target.values
    values, goal_weights, weights = lax.stop_gradient((values.astype(sum_dtype(values)), target.weights, weights))
    positions = lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1)
    order = lax.sort((values, positions), num_keys=1, is_stable=False)[1]
    if weights is None and goal_weights is None and values.shape[-1] == goal.shape[-1]:
        return _scatter(order, goal)
    ends = _cumulative(goal_weights, goal.shape[-1])
    middle, margin = _mid_ranks(None if weights is None else _gather(weights, order), values.shape[-1])
    below, above = (
        _gather(goal, jnp.minimum(_searchsorted(ends, rank), goal.shape[-1] - 1))
        for rank in (middle - margin, middle + margin)
    )
    return _scatter(order, 0.5 * (below + above))


def _mid_ranks(weights: Array | None, count: int) -> tuple[Array, Array]:
    """The mid-ranks of sorted numbers, in [0, 1], and the tolerance within which a jump counts as at the mid-rank."""
    if weights is None:
        ranks = (jnp.arange(count, dtype=jnp.float32) + jnp.float32(0.5)) / count
        return ranks, jnp.asarray(min(TIE, 0.25 / count), jnp.float32)
    shares = weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-12)
    return _cumulative(shares, count) - 0.5 * shares, jnp.minimum(TIE, 0.25 * shares)


def _cumulative(weights: Array | None, count: int) -> Array:
    """Cumulative weights of sorted numbers, scaled so that the last is 1."""
    if weights is None:
        return jnp.arange(1, count + 1, dtype=jnp.float32) / jnp.float32(count)
    sums = jnp.cumsum(weights, -1)
    return sums / jnp.maximum(sums[..., -1:], 1e-12)


@jax.custom_jvp
def _sorted(values: Array) -> Array:
    if values.dtype != jnp.float32:
        return lax.sort(values, is_stable=False)
    # Sort integers that have the same order: XLA:CPU sorts them three times as fast.
    bits = lax.bitcast_convert_type(values, jnp.int32)
    flipped = lax.sort(jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits), is_stable=False)
    return lax.bitcast_convert_type(jnp.where(flipped < 0, flipped ^ 0x7FFFFFFF, flipped), jnp.float32)


@_sorted.defjvp
def _sorted_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # The conversion to integers has no derivative.
    return jax.jvp(lambda values: lax.sort(values, is_stable=False), primals, tangents)


_searchsorted = jnp.vectorize(jnp.searchsorted, signature="(m),(n)->(n)")
_gather = jnp.vectorize(lambda table, index: table[index], signature="(m),(n)->(n)")
_scatter = jnp.vectorize(
    lambda order, values: jnp.zeros_like(values).at[order].set(values, unique_indices=True), signature="(n),(n)->(n)"
)


def map_rows(function: Callable[[Any], Array], rows: Any, numbers: int) -> Array:
    """Map a function over the first axis of a tree of arrays, sorting at most `MOST_SORTED` numbers at once.

    Args:
        function: Applied to each row of the tree.
        rows: Arrays ``(count, ...)``.
        numbers: How many numbers the function sorts per row.

    Returns:
        ``(count, ...)``.
    """
    count, at_once = jax.tree.leaves(rows)[0].shape[0], max(1, MOST_SORTED // numbers)
    return jax.vmap(function)(rows) if at_once >= count else lax.map(function, rows, batch_size=at_once)
