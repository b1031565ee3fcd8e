"""The contextual loss between two sets of feature vectors."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.losses.position_sets import Positions, check_channels, concatenate, draw, mix, positions, unit_sum
from jnst.statistics.distances import chunk_size, cosine_distances, normalize_rows, split_rows
from jnst.types import Array, Features, Guide, PerImage, RandomKey, sum_dtype

EPSILON = 1e-5
"""Added to the distance to the nearest neighbour, in equation 2."""
LARGEST_CHUNK = 2**21
"""Entries of a chunk of the matrix: 8 MiB in float32, about ten of which are held while the gradient is computed."""


@jax.jit
def contextual_loss(
    x: Array,
    y: Array,
    x_weights: Array | None = None,
    y_weights: Array | None = None,
    bandwidth: float = 0.5,
    y_count: Array | None = None,
) -> PerImage:
    """``-log Σⱼ vⱼ maxᵢ CXᵢⱼ``: how far the target's vectors are from each having its own match in x.

    ``CXᵢⱼ = wᵢⱼ / (m Σₖ vₖ wᵢₖ)`` with ``wᵢⱼ = exp((1 - dᵢⱼ / (minₖ dᵢₖ + ε)) / h)``, where d is the cosine distance
    of the vectors after subtracting y's mean. With equal weights v = 1/m these are the published equations.

    Args:
        x: ``(..., n, c)``, of the image.
        y: ``(..., m, c)``, of the target; leading axes broadcast.
        x_weights: ``(..., n)``. Rows of weight 0 are ignored; otherwise the weights do not change the maximum. None
            uses all rows.
        y_weights: ``(..., m)``, proportional to v. None weights all rows equally.
        bandwidth: h, above 0.
        y_count: ``(...)``, m. It adds log m to the value and does not affect the gradient. None: ``1 / Σ vⱼ²``.

    Returns:
        ``(...)``, dimensionless. It is -log 1 = 0 if each vector of y has its own match in x, and at most about log m.
        For x = y it is 0 only up to the ``wᵢⱼ`` with j ≠ i. It is 0 if all weights are 0.

    Raises:
        ArgumentError: Different numbers of channels.

    References:
        Mechrez, Talmi & Zelnik-Manor, The Contextual Loss for Image Transformation with Non-Aligned Data, ECCV 2018,
        equations 1 to 5.
    """
    check_channels(x, y)
    u, v = unit_sum(x_weights, x), unit_sum(y_weights, y)
    count = _effective_count(v) if y_count is None else y_count
    x, y = x.astype(sum_dtype(x)), y.astype(sum_dtype(y))
    centre = jnp.sum(v[..., None] * y, -2, keepdims=True)
    similarity = jnp.vectorize(_similarity, excluded={4}, signature="(n,c),(m,c),(n),(m)->()")
    value = similarity(normalize_rows(x - centre), normalize_rows(y - centre), u > 0, v, bandwidth)
    compared = value > 0
    return jnp.where(compared, jnp.log(jnp.where(compared, count, 1.0)) - jnp.log(jnp.where(compared, value, 1.0)), 0.0)


def _effective_count(weights: Array) -> Array:
    """The number of rows if the weights are equal: the square of their sum divided by the sum of their squares."""
    return jnp.sum(weights, -1) ** 2 / jnp.maximum(jnp.sum(weights**2, -1), 1e-18)


def _similarity(x: Array, y: Array, x_allowed: Array, y_weights: Array, bandwidth: float) -> Array:
    """``m Σⱼ vⱼ maxᵢ CXᵢⱼ`` of one image, in chunks of rows of x that are recomputed for the gradient."""
    y_weights = y_weights[None]
    allowed = y_weights > 0

    @jax.checkpoint
    def best(chunk: tuple[Array, Array]) -> Array:
        rows, rows_allowed = chunk
        distances = cosine_distances(rows, y)
        least = jnp.min(jnp.where(allowed, distances, jnp.inf), 1, keepdims=True, initial=2.0)
        relative = distances / (least + EPSILON)
        # Subtract the largest exponent, which cancels in CX.
        shift = lax.stop_gradient(least / (least + EPSILON))
        weights = jnp.exp(jnp.where(allowed, (shift - relative) / bandwidth, -jnp.inf))
        total = jnp.sum(y_weights * weights, 1, keepdims=True)
        similarities = weights / jnp.maximum(total, 1e-30)
        return jnp.max(jnp.where(rows_allowed[:, None], similarities, 0.0), 0)

    size = chunk_size(x.shape[0], y.shape[0], LARGEST_CHUNK)
    best_of_all = jnp.max(lax.map(best, (split_rows(x, size), split_rows(x_allowed, size))), 0)
    return jnp.sum(y_weights[0] * best_of_all)


@dataclasses.dataclass(frozen=True)
class Contextual:
    """`contextual_loss` as a feature loss. The target is all positions of the style image.

    The loss is stochastic: for each key it draws at most ``max_positions`` of the image and of each style image. For a
    mixture, m is the mean of the images' numbers of positions.

    Attributes:
        bandwidth: h of `contextual_loss`, above 0.
        max_positions: Maximum number of positions per image.
    """

    joint = False
    bandwidth: float = 0.5
    max_positions: int = 4096

    def fit(self, features: Features, guide: Guide | None = None) -> tuple[Positions, ...]:
        """Return the positions, weighted by the guide."""
        return (positions(features, guide),)

    def blend(self, targets: Sequence[tuple[Positions, ...]], weights: Array) -> tuple[Positions, ...]:
        """The positions of all images together."""
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
            ArgumentError: A number of channels that differs from the target's, a bandwidth not above 0, or
                ``max_positions`` below 1.
        """
        if not self.bandwidth > 0:
            raise ArgumentError(f"bandwidth {self.bandwidth} is invalid: it must be above 0")
        check_channels(features, target[0].rows)
        x = draw(positions(features, guide), self.max_positions, key=key)
        parts = [draw(part, self.max_positions, key=key) for part in target]
        count = sum(jnp.sum(part.weights, -1) * _effective_count(part.weights) for part in parts)
        y = concatenate(parts)
        return contextual_loss(x.rows, y.rows, x.weights, y.weights, self.bandwidth, jnp.asarray(count))
