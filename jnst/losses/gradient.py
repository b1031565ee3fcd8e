"""Normalised gradients, as in neural-style's ``-normalize_gradients``."""

import jax
import jax.numpy as jnp

from jnst.types import Array, Features, sum_dtype

SMALLEST = 1e-30
"""Gradients of a smaller 1-norm become 0."""


@jax.custom_vjp
def unit_gradient(features: Features, weight: Array) -> Features:
    """Return ``features`` unchanged, but scale their gradient to 1-norm ``weight``, image by image.

    A gradient of 0 stays 0. The scaled gradient is not linear in the gradient, so forward mode is not available.
    Reverse mode can be applied twice.

    Args:
        features: ``(..., h, w, c)``, the input of a loss that is multiplied by ``weight`` afterwards.
        weight: A scalar, or ``(...)``.

    References:
        Johnson, neural-style (github.com/jcjohnson/neural-style): the gradient of each loss is divided by its 1-norm
        and multiplied by the loss' strength.
    """
    return features


def _forward(features: Features, weight: Array) -> tuple[Features, Array]:
    return features, weight


def _backward(weight: Array, gradient: Features) -> tuple[Features, Array]:
    scaled = _scale(gradient, jnp.asarray(weight)[..., None, None, None])
    return scaled.astype(gradient.dtype), jnp.zeros_like(weight)


unit_gradient.defvjp(_forward, _backward)


@jax.custom_jvp
def _scale(gradient: Features, weight: Array) -> Features:
    size = _one_norm(gradient)
    return gradient * jnp.where(size > SMALLEST, weight / jnp.maximum(size, SMALLEST), 0.0)


@_scale.defjvp
def _scale_jvp(primals: tuple[Features, Array], tangents: tuple[Features, Array]) -> tuple[Features, Features]:
    """Without the square of the 1-norm, which would underflow."""
    (gradient, weight), (gradient_tangent, weight_tangent) = primals, tangents
    size, scaled = _one_norm(gradient), _scale(gradient, weight)
    inverse = jnp.where(size > SMALLEST, 1.0 / jnp.maximum(size, SMALLEST), 0.0)
    size_tangent = jnp.sum(jnp.sign(gradient) * gradient_tangent, (-3, -2, -1), keepdims=True, dtype=size.dtype)
    direct = (weight * gradient_tangent + weight_tangent * gradient) * inverse
    return scaled, direct - scaled * (inverse * size_tangent)


def _one_norm(gradient: Features) -> Array:
    return jnp.sum(jnp.abs(gradient.astype(sum_dtype(gradient))), (-3, -2, -1), keepdims=True)
