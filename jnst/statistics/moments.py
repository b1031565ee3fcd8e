"""Means of features and of their products."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from jnst.errors import JnstError
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


def unit_mean(guide: Guide) -> Guide:
    """Scale a guide ``(..., h, w)`` so that its weights have the mean 1 (all 0 stays so), in float32."""
    guide = guide.astype(jnp.float32)
    return guide / jnp.maximum(jnp.mean(guide, (-2, -1), keepdims=True), 1e-12)


def gram_matrix(features: Features, normalization: str = "chw", guide: Guide | None = None) -> Matrix:
    """Gram matrix of the channels: ``G = F Fᵀ / n``, with F the ``c x (h w)`` matrix of features.

    Args:
        features: ``(..., h, w, c)``.
        normalization: What n is: ``"chw"`` for c·h·w (Johnson's neural-style and its descendants), ``"hw"`` for h·w
            (Gatys 2017, TensorFlow's tutorials: the value does not grow with the picture), ``"none"`` for 1.
        guide: ``(..., h, w)``: how much every position counts, in proportion; None: all alike. The guidance channels T
            of Gatys et al., CVPR 2017, equation 6, are the square roots of such weights.

    Returns:
        ``(..., c, c)`` in float32, symmetric and positive semi-definite, in squared units of the features.

    Raises:
        JnstError: An unknown normalization.

    References:
        Gatys, Ecker & Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016, equation 3.
    """
    if normalization not in GRAM_NORMALIZATIONS:
        raise JnstError(f"normalization {normalization!r} is unknown: choose one of {', '.join(GRAM_NORMALIZATIONS)}")
    columns = as_columns(features)
    positions, channels = columns.shape[-2:]
    # Half precision stays as it is without a guide: the product accumulates in float32 all the same.
    weighted = columns if guide is None else columns * unit_mean(guide).reshape(*guide.shape[:-2], positions, 1)
    gram = jnp.einsum(
        "...nc,...nd->...cd",
        weighted,
        columns,
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    return gram / GRAM_NORMALIZATIONS[normalization](channels, positions)
