"""Gradients of one size for every term, as neural-style's ``-normalize_gradients`` makes them."""

import jax
import jax.numpy as jnp

from jnst.types import Array, Features


@jax.custom_vjp
def unit_gradient(features: Features, weight: Array) -> Features:
    """Return ``features``; their gradient is scaled to the 1-norm ``weight``, image by image.

    Args:
        features: ``(..., h, w, c)``, on the way into a loss that is multiplied by ``weight`` afterwards.
        weight: A scalar, or ``(...)``.

    References:
        Johnson, neural-style (github.com/jcjohnson/neural-style): every loss' gradient is divided by its 1-norm, then
        multiplied by its strength.
    """
    return features


def _forward(features: Features, weight: Array) -> tuple[Features, Array]:
    return features, weight


def _backward(weight: Array, gradient: Features) -> tuple[Features, Array]:
    size = jnp.sum(jnp.abs(gradient.astype(jnp.float32)), (-3, -2, -1), keepdims=True)
    factor = jnp.asarray(weight)[..., None, None, None] / (size + 1e-30)
    return (gradient * factor).astype(gradient.dtype), jnp.zeros_like(weight)


unit_gradient.defvjp(_forward, _backward)
