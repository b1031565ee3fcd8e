"""Style as a set of positions: the contextual loss."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.losses.samples import Positions, check_channels, draw, mix, positions, unit_sum, united
from jnst.statistics.distances import chunk_size, cosine_distances, in_chunks, normalize_rows
from jnst.types import Array, Features, Guide, PerImage, RandomKey

EPSILON = 1e-5
"""Added to the nearest neighbour's distance, in equation 2."""
LARGEST_CHUNK = 2**21
"""Entries of a part of the matrix: 8 MiB, some ten of which are held while its gradient is computed."""


@jax.jit
def contextual_loss(
    x: Array,
    y: Array,
    x_weights: Array | None = None,
    y_weights: Array | None = None,
    bandwidth: float = 0.5,
    y_count: Array | None = None,
) -> PerImage:
    """``-log Σⱼ vⱼ maxᵢ CXᵢⱼ``: how far the target's vectors are from having a vector of their own in x.

    ``CXᵢⱼ = wᵢⱼ / (m Σₖ vₖ wᵢₖ)``, ``wᵢⱼ = exp((1 - dᵢⱼ / (minₖ dᵢₖ + ε)) / h)``, and d is the cosine distance of the
    vectors from y's mean. With the equal weights v = 1/m these are the published equations.

    Args:
        x: ``(..., n, c)`` of the image.
        y: ``(..., m, c)`` of the target; leading axes broadcast.
        x_weights: ``(..., n)``: 0 leaves a row out; other differences do not matter to a maximum. None: all count.
        y_weights: ``(..., m)``, v in proportion. None: all alike.
        bandwidth: h, above 0.
        y_count: ``(...)``, m, which enters the value as log m and the gradient not at all. None: ``1 / Σ vⱼ²``.

    Returns:
        ``(...)`` in float32, without unit; -log 1 = 0 when every vector of y has one of x to itself, and at most about
        log m. For y itself it is 0 only as far as ``wᵢⱼ`` is negligible for all j but i. 0 if all weights are 0.

    Raises:
        ArgumentError: Different numbers of channels.

    References:
        Mechrez, Talmi & Zelnik-Manor, The Contextual Loss for Image Transformation with Non-Aligned Data, ECCV 2018,
        equations 1 to 5.
    """
    check_channels(x, y)
    u, v = unit_sum(x_weights, x), unit_sum(y_weights, y)
    count = _count(v) if y_count is None else y_count
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    centre = jnp.sum(v[..., None] * y, -2, keepdims=True)
    similarity = jnp.vectorize(_similarity, excluded={4}, signature="(n,c),(m,c),(n),(m)->()")
    value = similarity(normalize_rows(x - centre), normalize_rows(y - centre), u > 0, v, bandwidth)
    compared = value > 0
    return jnp.where(compared, jnp.log(jnp.where(compared, count, 1.0)) - jnp.log(jnp.where(compared, value, 1.0)), 0.0)


def _count(weights: Array) -> Array:
    """How many equal weights would be as uneven: the square of the sum over the sum of squares."""
    return jnp.sum(weights, -1) ** 2 / jnp.maximum(jnp.sum(weights**2, -1), 1e-30)


def _similarity(x: Array, y: Array, x_allowed: Array, y_weights: Array, bandwidth: float) -> Array:
    """``m Σⱼ vⱼ maxᵢ CXᵢⱼ`` of one image, in chunks of rows of x, which are computed again for the gradient."""
    allowed = y_weights > 0

    @jax.checkpoint
    def best(chunk: tuple[Array, Array]) -> Array:
        rows, rows_allowed = chunk
        distances = cosine_distances(rows, y)
        least = jnp.min(jnp.where(allowed, distances, jnp.inf), 1, keepdims=True, initial=2.0)
        relative = distances / (least + EPSILON)
        # The largest exponent is taken out: it cancels in CX.
        shift = lax.stop_gradient(least / (least + EPSILON))
        weights = jnp.exp(jnp.where(allowed, (shift - relative) / bandwidth, -jnp.inf))
        total = jnp.sum(y_weights * weights, 1, keepdims=True)
        similarities = weights / jnp.maximum(total, 1e-30)
        return jnp.max(jnp.where(rows_allowed[:, None], similarities, 0.0), 0)

    size = chunk_size(x.shape[0], y.shape[0], LARGEST_CHUNK)
    return jnp.sum(y_weights * jnp.max(lax.map(best, (in_chunks(x, size), in_chunks(x_allowed, size))), 0))


@dataclasses.dataclass(frozen=True)
class Contextual:
    """`contextual_loss` as a feature loss: the target is all positions of the style image.

    Every loss draws at most ``max_positions`` of the image and of each style image, at random, afresh with its
    key. For a mixture m is the mean of its images' numbers of positions.
    """

    joint: ClassVar[bool] = False
    bandwidth: float = 0.5
    max_positions: int = 4096

    def fit(self, features: Features, guide: Guide | None = None) -> tuple[Positions, ...]:
        """Return the positions, and the guide as their weights."""
        return (positions(features, guide),)

    def blend(self, targets: Sequence[tuple[Positions, ...]], weights: Array) -> tuple[Positions, ...]:
        """The images' positions together."""
        return mix(targets, weights)

    def loss(
        self,
        features: Features,
        target: tuple[Positions, ...],
        guide: Guide | None = None,
        key: RandomKey | None = None,
    ) -> PerImage:
        """See `contextual_loss`.

        Raises:
            ArgumentError: Another number of channels than the target's, a bandwidth not above 0, or no positions to draw.
        """
        if not self.bandwidth > 0:
            raise ArgumentError(f"bandwidth {self.bandwidth} is not usable: it must be above 0")
        check_channels(features, target[0].rows)
        x = draw(key, positions(features, guide), self.max_positions)
        parts = [draw(key, part, self.max_positions) for part in target]
        count = sum(jnp.sum(part.weights, -1) * _count(part.weights) for part in parts)
        y = united(parts)
        return contextual_loss(x.rows, y.rows, x.weights, y.weights, self.bandwidth, jnp.asarray(count))
