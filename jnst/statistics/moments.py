"""Means of features and of their products."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.types import Array, Features, Guide, Matrix

GRAM_NORMALIZATIONS: dict[str, Callable[[int, int], int]] = {
    "chw": lambda channels, positions: channels * positions,
    "hw": lambda channels, positions: positions,
    "none": lambda channels, positions: 1,
}
"""What a Gram matrix is divided by, as a function of c and h·w."""


def as_columns(features: Array) -> Array:
    """Reshape ``(..., h, w, c)`` to ``(..., h * w, c)``: a row for each position."""
    *batch, height, width, channels = features.shape
    return features.reshape(*batch, height * width, channels)


def product(left: Array, right: Array) -> Matrix:
    """``Lᵀ R`` over the rows: ``(..., n, c)`` and ``(..., n, d)`` to ``(..., c, d)``, in float32."""
    return jnp.einsum(
        "...nc,...nd->...cd", left, right, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32
    )


@jax.custom_jvp
def squared(columns: Array) -> Matrix:
    """``Fᵀ F`` over the rows: ``(..., n, c)`` to ``(..., c, c)``, in float32.

    Its derivative is ``dFᵀ F`` and its transpose: one product in the gradient, where that of `product` takes two.
    """
    return product(columns, columns)


@squared.defjvp
def _squared_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Matrix, Matrix]:
    half = product(tangents[0], primals[0])
    return squared(primals[0]), half + jnp.swapaxes(half, -1, -2)


def unit_mean(guide: Guide) -> Guide:
    """Scale a guide ``(..., h, w)`` so that its weights have the mean 1 (all 0 stays so), in float32."""
    guide = guide.astype(jnp.float32)
    return guide / jnp.maximum(jnp.mean(guide, (-2, -1), keepdims=True), 1e-12)


def gram_matrix(features: Features, normalization: str = "chw", guide: Guide | None = None) -> Matrix:
    """Gram matrix of the channels: ``G = F Fᵀ / n``, with F the ``c x (h w)`` matrix of features.

    Args:
        features: ``(..., h, w, c)``.
        normalization: What n is: ``"chw"`` for c·h·w (Johnson's neural-style and its descendants), ``"hw"`` for h·w
            (Gatys 2017, TensorFlow's tutorials: the value does not grow with the image), ``"none"`` for 1.
        guide: ``(..., h, w)``: how much every position counts, in proportion; None: all alike. The guidance channels T
            of Gatys et al., CVPR 2017, equation 6, are the square roots of such weights.

    Returns:
        ``(..., c, c)`` in float32, symmetric and positive semi-definite, in squared units of the features.

    Raises:
        ArgumentError: An unknown normalization.

    References:
        Gatys, Ecker & Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016, equation 3.
    """
    if normalization not in GRAM_NORMALIZATIONS:
        raise ArgumentError(f"normalization {normalization!r} is unknown: choose one of {', '.join(GRAM_NORMALIZATIONS)}")
    columns = as_columns(features)
    positions, channels = columns.shape[-2:]
    # Half precision stays as it is without a guide: the product accumulates in float32 all the same.
    if guide is None:
        gram = squared(columns)
    else:
        gram = product(columns * unit_mean(guide).reshape(*guide.shape[:-2], positions, 1), columns)
    return gram / GRAM_NORMALIZATIONS[normalization](channels, positions)


def mean_std(features: Features, guide: Guide | None = None) -> tuple[Array, Array]:
    """Mean ``μ`` and population standard deviation ``σ = √(Σ (f - μ)² / n)`` of every channel.

    Args:
        features: ``(..., h, w, c)``.
        guide: As in `gram_matrix`.

    Returns:
        Two arrays ``(..., c)`` in float32, in units of the features. The gradient of σ is 0 where σ is 0.

    References:
        Huang & Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV 2017,
        equations 5 and 6, there with a small constant below the root.
    """
    mean, centred, weighted = _centred(features, guide)
    return mean, safe_sqrt(jnp.mean(weighted * centred, -2))


def mean_covariance(features: Features, guide: Guide | None = None) -> tuple[Array, Matrix]:
    """Mean ``μ`` and population covariance ``Σ (f - μ)(f - μ)ᵀ / n`` of the channels.

    The mean is taken off before the product: the difference of raw moments ``Σ f fᵀ / n - μ μᵀ`` has negative
    eigenvalues in float32, and for an image of one colour nothing but rounding errors.

    Args:
        features: ``(..., h, w, c)``.
        guide: As in `gram_matrix`.

    Returns:
        ``(..., c)`` in units of the features and ``(..., c, c)`` in their squares, both in float32.
    """
    mean, centred, weighted = _centred(features, guide)
    products = squared(centred) if guide is None else product(weighted, centred)
    return mean, products / centred.shape[-2]


def covariance(features: Features, guide: Guide | None = None) -> Matrix:
    """The covariance of `mean_covariance`, ``(..., c, c)``."""
    return mean_covariance(features, guide)[1]


def safe_sqrt(x: Array) -> Array:
    """The square root, with the gradient 0 where ``x`` is 0 (or below, where the root is taken for 0)."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def _centred(features: Features, guide: Guide | None) -> tuple[Array, Array, Array]:
    """The mean ``(..., c)``, and the rows less the mean ``(..., n, c)``, plain and weighted by the guide."""
    columns = as_columns(features).astype(jnp.float32)
    weights = jnp.float32(1.0) if guide is None else as_columns(unit_mean(guide)[..., None])
    mean = jnp.mean(weights * columns, -2)
    centred = columns - mean[..., None, :]
    return mean, centred, weights * centred
