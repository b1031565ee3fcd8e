"""Distributions as weighted samples: random directions, quantile functions, and transport along a line.

Everything is found by sorting, so nothing is binned. Orders have no gradient: a loss differentiates the distance
between what was matched, which is the gradient of the distance between the distributions.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jnst.statistics.moments import as_columns, unit_mean
from jnst.types import Array, Features, Guide, RandomKey

MOST_SORTED = 2**24
"""Numbers that are sorted at once; more are sorted in turns."""
TIE = 2.0**-21
"""How near to a jump of a quantile function a rank in [0, 1] is on it: the rounding of sums of weights."""


class WeightedSet(NamedTuple):
    """Vectors and what each counts.

    Attributes:
        values: ``(..., n, c)`` in float32.
        weights: ``(..., n)``, which sum to 1; None: all alike.
    """

    values: Array
    weights: Array | None


class Quantiles(NamedTuple):
    """The quantile function (inverse cumulative distribution) of numbers: steps, each as wide as its weight.

    Attributes:
        values: ``(..., n)`` in increasing order, in float32.
        weights: ``(..., n)``, in the same order, which sum to 1; None: all alike.
    """

    values: Array
    weights: Array | None


def directions(key: RandomKey, channels: int, count: int) -> Array:
    """Draw unit vectors, uniformly distributed on the sphere: ``(count, channels)`` in float32."""
    normal = jax.random.normal(key, (count, channels), jnp.float32)
    return normal / jnp.linalg.norm(normal, axis=-1, keepdims=True)


def project(rows: Array, direction: Array) -> Array:
    """Inner products of rows ``(..., n, c)`` with a direction ``(c,)``: ``(..., n)`` in float32."""
    return jnp.einsum(
        "...nc,c->...n", rows, direction, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )


def weighted_set(features: Features, guide: Guide | None = None) -> WeightedSet:
    """The feature vectors of ``(..., h, w, c)`` as a set, weighted by the guide."""
    columns = as_columns(features).astype(jnp.float32)
    return WeightedSet(columns, None if guide is None else flat_weights(guide) / columns.shape[-2])


def flat_weights(guide: Guide) -> Array:
    """A guide ``(..., h, w)`` as weights of flat positions whose mean is 1: ``(..., h * w)``."""
    weights = unit_mean(guide)
    return weights.reshape(*weights.shape[:-2], -1)


def quantiles(values: Array, weights: Array | None = None) -> Quantiles:
    """Sort numbers ``(..., n)``, with their weights ``(..., n)`` if they have any; leading axes broadcast."""
    values = values.astype(jnp.float32)
    if weights is None:
        return Quantiles(_sorted(values), None)
    values, weights = jnp.broadcast_arrays(values, weights)
    return Quantiles(*lax.sort((values, weights), num_keys=1, is_stable=False))


def mixture_of_sets(parts: Sequence[WeightedSet], weights: Array) -> WeightedSet:
    """The distribution that draws from part i with probability ``weights[i]``; they sum to 1."""
    if len(parts) == 1:
        return parts[0]
    shares = [_share(part.weights, part.values.shape[:-1], weight) for part, weight in zip(parts, weights, strict=True)]
    return WeightedSet(jnp.concatenate([part.values for part in parts], -2), jnp.concatenate(shares, -1))


def mixture_of_quantiles(parts: Sequence[Quantiles], weights: Array) -> Quantiles:
    """As `mixture_of_sets`."""
    if len(parts) == 1:
        return parts[0]
    shares = [_share(part.weights, part.values.shape, weight) for part, weight in zip(parts, weights, strict=True)]
    return quantiles(jnp.concatenate([part.values for part in parts], -1), jnp.concatenate(shares, -1))


def _share(weights: Array | None, shape: tuple[int, ...], share: Array) -> Array:
    return share * jnp.broadcast_to(1 / shape[-1] if weights is None else weights, shape)


def transport(values: Array, target: Quantiles, weights: Array | None = None) -> Array:
    """What every number becomes when its distribution is made the target's, without a number overtaking another.

    A number goes to the target's quantile at its own mid-rank, the middle of the ranks that its weight takes up;
    where that is a jump of the quantile function, to the middle of the jump, as a median does. Between equally many
    numbers without weights this is: the k-th smallest goes to the k-th smallest.

    Args:
        values: ``(..., n)``.
        target: Quantiles ``(..., m)``; leading axes broadcast.
        weights: ``(..., n)``, at least 0, of which only the proportions matter; None: all alike.

    Returns:
        ``(..., n)`` in float32, without gradient. The squared distance between ``values`` and it has the mean W₂² of
        the two distributions where they are equally many, and approximates it elsewhere.

    References:
        Peyré & Cuturi, Computational Optimal Transport, 2019, section 2.6.
    """
    values, (goal, goal_weights), weights = lax.stop_gradient((values.astype(jnp.float32), target, weights))
    order = lax.sort(
        (values, lax.broadcasted_iota(jnp.int32, values.shape, values.ndim - 1)), num_keys=1, is_stable=False
    )[1]
    if weights is None and goal_weights is None and values.shape[-1] == goal.shape[-1]:
        return _put_back(order, goal)
    ends = _cumulative(goal_weights, goal.shape[-1])
    middle, margin = _mid_ranks(None if weights is None else _look_up(weights, order), values.shape[-1])
    below, above = (
        _look_up(goal, jnp.minimum(_search(ends, rank), goal.shape[-1] - 1))
        for rank in (middle - margin, middle + margin)
    )
    return _put_back(order, 0.5 * (below + above))


def _mid_ranks(weights: Array | None, count: int) -> tuple[Array, Array]:
    """The middles of the ranks of sorted numbers, in [0, 1], and how near is on them."""
    if weights is None:
        return (jnp.arange(count) + 0.5) / count, jnp.asarray(min(TIE, 0.25 / count), jnp.float32)
    shares = weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-12)
    return _cumulative(shares, count) - 0.5 * shares, jnp.minimum(TIE, 0.25 * shares)


def _cumulative(weights: Array | None, count: int) -> Array:
    """Where the ranks of sorted numbers end: the last at 1."""
    if weights is None:
        return jnp.arange(1, count + 1) / count
    sums = jnp.cumsum(weights, -1)
    return sums / jnp.maximum(sums[..., -1:], 1e-12)


def _sorted(values: Array) -> Array:
    # Integers in the same order: XLA:CPU sorts these three times as fast.
    bits = lax.bitcast_convert_type(values, jnp.int32)
    flipped = lax.sort(jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits), is_stable=False)
    return lax.bitcast_convert_type(jnp.where(flipped < 0, flipped ^ 0x7FFFFFFF, flipped), jnp.float32)


_search = jnp.vectorize(jnp.searchsorted, signature="(m),(n)->(n)")
_look_up = jnp.vectorize(lambda table, index: table[index], signature="(m),(n)->(n)")
_put_back = jnp.vectorize(
    lambda order, values: jnp.zeros_like(values).at[order].set(values, unique_indices=True), signature="(n),(n)->(n)"
)


def map_rows(function: Callable[[Any], Array], rows: Any, numbers: int) -> Array:
    """Map a function over the first axis of a tree of arrays, so many rows at once as `MOST_SORTED` allows.

    Args:
        function: Takes a row of the tree.
        rows: Arrays ``(count, ...)``.
        numbers: How many the function sorts for one row.

    Returns:
        ``(count, ...)``.
    """
    count, at_once = jax.tree.leaves(rows)[0].shape[0], max(1, MOST_SORTED // numbers)
    return jax.vmap(function)(rows) if at_once >= count else lax.map(function, rows, batch_size=at_once)
