"""Gram matrices, means, standard deviations and covariances of the channels."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.types import Array, Features, Guide, Matrix, sum_dtype

LEAST_MEAN = 1e-12
"""Guides of a smaller mean are not scaled to mean 1, but divided by this."""

GRAM_NORMALIZATIONS: dict[str, Callable[[int, Any], Any]] = {
    "chw": lambda channels, positions: channels * positions,
    "hw": lambda channels, positions: positions,
    "none": lambda channels, positions: 1,
}
"""The divisor of a Gram matrix, as a function of c and h·w."""


def flatten_positions(features: Array) -> Array:
    """Reshape ``(..., h, w, c)`` to ``(..., h * w, c)``, one row per position.

    Raises:
        ArgumentError: The features have no positions.
    """
    check_positions(features)
    *batch, height, width, channels = features.shape
    return features.reshape(*batch, height * width, channels)


def check_positions(features: Array) -> None:
    """Raise an `ArgumentError` if ``(..., h, w, c)`` has no positions, whose mean would be NaN."""
    if 0 in features.shape[-3:-1]:
        raise ArgumentError(
            f"features of shape {tuple(features.shape)} have no positions: use a larger image or an earlier layer"
        )


def channel_products(left: Array, right: Array, dtype: Any = None) -> Matrix:
    """``Lᵀ R``, summed over the rows: ``(..., n, c)`` and ``(..., n, d)`` to ``(..., c, d)``.

    Float32 values are multiplied in full float32 on every device. Where one side is bfloat16, the other may be rounded
    almost as coarsely, and JAX chooses: it uses tensor cores. Sums are float32, as is the result without ``dtype``.
    """
    is_half = jnp.bfloat16 in (left.dtype, right.dtype)
    return jnp.einsum(
        "...nc,...nd->...cd",
        left,
        right,
        precision=None if is_half else lax.Precision.HIGHEST,
        preferred_element_type=sum_dtype(left, right) if dtype is None else dtype,
    )


@jax.custom_jvp
def self_product(rows: Array) -> Matrix:
    """``Fᵀ F``, summed over the rows: ``(..., n, c)`` to ``(..., c, c)``.

    The derivative is ``dFᵀ F`` plus its transpose, which takes one product in the gradient. That of
    `channel_products` takes two.
    """
    return channel_products(rows, rows)


@self_product.defjvp
def _self_product_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Matrix, Matrix]:
    # The gradient by bfloat16 features is rounded to bfloat16 anyway: then all factors of its product may be.
    dtype = jnp.bfloat16 if primals[0].dtype == jnp.bfloat16 else None
    half = channel_products(tangents[0], primals[0], dtype).astype(sum_dtype(primals[0]))
    return self_product(primals[0]), half + jnp.swapaxes(half, -1, -2)


def unit_mean(guide: Guide) -> Guide:
    """Scale a guide ``(..., h, w)`` so that its weights have mean 1. A guide of zeros stays zero."""
    guide = guide.astype(sum_dtype(guide))
    return guide / jnp.maximum(jnp.mean(guide, (-2, -1), keepdims=True), LEAST_MEAN)


def gram_matrix(features: Features, normalization: str = "chw", guide: Guide | None = None) -> Matrix:
    """Gram matrix of the channels: ``G = F Fᵀ / n``, where F is the ``c x (h w)`` matrix of features.

    Args:
        features: ``(..., h, w, c)``.
        normalization: The divisor n. ``"chw"`` for c·h·w (Johnson's neural-style and its descendants), ``"hw"`` for
            h·w (Gatys 2017, TensorFlow's tutorials: the value does not grow with the image), ``"none"`` for 1.
        guide: ``(..., h, w)``, the relative weight of each position. None weights all positions equally. The guidance
            channels T of Gatys et al., CVPR 2017, equation 6, are the square roots of such weights.

    Returns:
        ``(..., c, c)``, symmetric and positive semi-definite, in squared units of the features.

    Raises:
        ArgumentError: Unknown normalization, or features without positions.

    References:
        Gatys, Ecker & Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016, equation 3.

    >>> gram_matrix(jnp.ones((4, 5, 2)), "none").tolist()
    [[20.0, 20.0], [20.0, 20.0]]
    """
    rows = flatten_positions(features)
    positions, channels = rows.shape[-2:]
    divisor = gram_divisor(normalization, channels, positions)
    # Without a guide, half-precision features are not converted: the product accumulates in float32 anyway.
    if guide is None:
        gram = self_product(rows)
    else:
        gram = channel_products(rows * unit_mean(guide).reshape(*guide.shape[:-2], positions, 1), rows)
    return gram / divisor


class GramSums(NamedTuple):
    """Sums over positions from which a Gram matrix follows.

    Attributes:
        weight: ``Σ g``, the sum of the guide; None without one.
        products: ``Σ g f fᵀ``, ``(..., c, c)``.
    """

    weight: Array | None
    products: Matrix


def gram_sums(features: Features, guide: Guide | None = None) -> GramSums:
    """The sums that `gram_from_sums` takes."""
    rows = flatten_positions(features)
    if guide is None:
        return GramSums(None, self_product(rows))
    weights = flatten_positions(guide[..., None])
    return GramSums(jnp.sum(guide, (-2, -1)), channel_products(rows * weights, rows))


def gram_from_sums(sums: GramSums, normalization: str, positions: Array) -> Matrix:
    """`gram_matrix` of an image of so many positions, from the merged `gram_sums` of its parts."""
    divisor = gram_divisor(normalization, sums.products.shape[-1], positions)
    return sums.products / (divisor if sums.weight is None else divisor * mean_weight(sums.weight, positions))


class Scatter(NamedTuple):
    """Weight, mean and scatter matrix of an image or a part of one.

    Attributes:
        weight: ``Σ g``, ``()``: the number of positions, or the sum of the guide.
        mean: ``μ = Σ g f / Σ g``, ``(c,)``.
        products: ``Σ g (f - μ)(f - μ)ᵀ``, ``(c, c)``, or its diagonal ``(c,)``.
    """

    weight: Array
    mean: Array
    products: Array

    def merged(self, other: "Scatter") -> "Scatter":
        """The scatter of two parts together.

        References:
            Chan, Golub & LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979.
        """
        weight = self.weight + other.weight
        share = other.weight / _or_one(weight)
        apart = other.mean - self.mean
        square = apart[:, None] * apart[None] if self.products.ndim > apart.ndim else apart**2
        products = self.products + other.products + self.weight * share * square
        return Scatter(weight, self.mean + share * apart, products)


def scatter(
    features: Features,
    inside: Guide,
    guide: Guide | None = None,
    whole: Scatter | None = None,
    *,
    diagonal: bool = False,
) -> Scatter:
    """The scatter of a part of an image.

    Args:
        features: ``(h, w, c)``, 0 at positions that do not count.
        inside: ``(h, w)``: 1, or 0 for positions that do not count.
        guide: ``(h, w)``: the weight of each position, 0 for those that do not count.
        whole: That of the whole image; then only the gradient of the result means anything. Centred on the whole
            image's mean, it adds up over all parts to the gradient of ``whole``.
        diagonal: Whether only variances are needed.
    """
    rows = flatten_positions(features)
    rows = rows.astype(sum_dtype(rows))
    weights = flatten_positions((inside if guide is None else guide)[..., None])
    weight = jnp.sum(weights)
    mean = jnp.sum(weights * rows, -2) / _or_one(weight if whole is None else whole.weight)
    centred = rows - (mean if whole is None else whole.mean)[None]
    weighted = weights * centred
    if diagonal:
        products = jnp.sum(weighted * centred, -2)
    else:
        products = self_product(weighted) if guide is None else channel_products(weighted, centred)
    return Scatter(weight, mean, products)


def _or_one(weight: Array) -> Array:
    """The weight; 1 for no weight at all."""
    return weight + (weight == 0).astype(weight.dtype)


def moments_from_scatter(whole: Scatter, positions: Array) -> tuple[Array, Array]:
    """Mean and covariance (or the variances) of an image of so many positions.

    Like `mean_covariance`, but the mean is that of the guide even if its weights are below `LEAST_MEAN`.
    """
    return whole.mean, whole.products / (positions * mean_weight(whole.weight, positions))


def merge(one: Any, other: Any) -> Any:
    """Sums over the positions of two parts together: pytrees of arrays, which are added, and of `Scatter`."""

    def merged(left: Any, right: Any) -> Any:
        return left.merged(right) if isinstance(left, Scatter) else left + right

    return jax.tree.map(merged, one, other, is_leaf=lambda leaf: isinstance(leaf, Scatter))


def mean_weight(weight: Array, positions: Array) -> Array:
    """The mean of a guide, as `unit_mean` bounds it."""
    return jnp.maximum(weight / positions, LEAST_MEAN)


def gram_divisor(normalization: str, channels: int, positions: Any) -> Any:
    """The divisor of `gram_matrix`.

    Raises:
        ArgumentError: Unknown normalization.
    """
    if normalization not in GRAM_NORMALIZATIONS:
        choices = ", ".join(GRAM_NORMALIZATIONS)
        raise ArgumentError(f"normalization {normalization!r} is unknown: choose one of {choices}")
    return GRAM_NORMALIZATIONS[normalization](channels, positions)


def mean_std(features: Features, guide: Guide | None = None) -> tuple[Array, Array]:
    """Mean ``μ`` and population standard deviation ``σ = √(Σ (f - μ)² / n)`` of each channel.

    Args:
        features: ``(..., h, w, c)``.
        guide: As in `gram_matrix`.

    Returns:
        Two arrays ``(..., c)``, in units of the features. Where σ is 0, its gradient is 0.

    Raises:
        ArgumentError: Features without positions.

    References:
        Huang & Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV 2017,
        equations 5 and 6, which add a small constant below the square root.
    """
    mean, centred, weighted = _centred(features, guide)
    return mean, safe_sqrt(jnp.mean(weighted * centred, -2))


def mean_covariance(features: Features, guide: Guide | None = None) -> tuple[Array, Matrix]:
    """Mean ``μ`` and population covariance ``Σ (f - μ)(f - μ)ᵀ / n`` of the channels.

    The mean is subtracted before the product. The difference of raw moments, ``Σ f fᵀ / n - μ μᵀ``, would have
    negative eigenvalues in float32, and would consist of rounding errors for an image of one colour.

    Args:
        features: ``(..., h, w, c)``.
        guide: As in `gram_matrix`.

    Returns:
        ``(..., c)`` in units of the features and ``(..., c, c)`` in squared units.

    Raises:
        ArgumentError: Features without positions.
    """
    mean, centred, weighted = _centred(features, guide)
    products = self_product(centred) if guide is None else channel_products(weighted, centred)
    return mean, products / centred.shape[-2]


def covariance(features: Features, guide: Guide | None = None) -> Matrix:
    """Covariance of the channels, ``(..., c, c)``: see `mean_covariance`."""
    return mean_covariance(features, guide)[1]


def safe_sqrt(x: Array) -> Array:
    """Square root with gradient 0 at ``x = 0``. Negative values give 0, with gradient 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _centred(features: Features, guide: Guide | None) -> tuple[Array, Array, Array]:
    """The mean ``(..., c)``, the rows minus the mean ``(..., n, c)``, and the same weighted by the guide."""
    rows = flatten_positions(features)
    rows = rows.astype(sum_dtype(rows))
    weights = jnp.float32(1.0) if guide is None else flatten_positions(unit_mean(guide)[..., None])
    mean = jnp.mean(weights * rows, -2)
    centred = rows - mean[..., None, :]
    return mean, centred, weights * centred
