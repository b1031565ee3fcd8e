"""Statistics of features, as pure functions over any leading axes, accumulated in float32."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from jnst.errors import JnstError
from jnst.types import Array, Features, Matrix

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


def gram_matrix(features: Features, normalization: str = "chw") -> Matrix:
    """Gram matrix of the channels: ``G = F Fᵀ / n``, with F the ``c x (h w)`` matrix of features.

    Args:
        features: ``(..., h, w, c)``.
        normalization: What n is: ``"chw"`` for c·h·w (Johnson's neural-style and its descendants), ``"hw"`` for h·w
            (Gatys 2017, TensorFlow's tutorials: the value does not grow with the picture), ``"none"`` for 1.

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
    gram = jnp.einsum(
        "...nc,...nd->...cd",
        columns,
        columns,
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    return gram / GRAM_NORMALIZATIONS[normalization](channels, positions)
