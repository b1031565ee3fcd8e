"""Normalised gradients, as in neural-style's ``-normalize_gradients``."""

import jax
import jax.numpy as jnp
from jax import lax

from jnst.losses.base import absolute
from jnst.types import Array, Features, sum_dtype

SMALLEST = 1e-30
"""Gradients of a smaller 1-norm become 0."""


@jax.custom_vjp
def unit_gradient(features: Features, weight: Array) -> Features:
    """Return ``features`` unchanged, but scale their gradient to 1-norm ``weight``, image by image.

    A gradient of 0 stays 0. The scaling is not linear in the gradient, so there is no forward mode; reverse mode
    works twice.

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
    size = jnp.sum(absolute(gradient.astype(sum_dtype(gradient))), (-3, -2, -1), keepdims=True)
    positive = size > SMALLEST
    size = jnp.where(positive, size, 1.0)
    # The same as weight / size. The derivative of that would divide by size², which underflows.
    constant = lax.stop_gradient(size)
    factor = jnp.asarray(weight)[..., None, None, None] / constant / (size / constant)
    return jnp.where(positive, gradient * factor, 0.0).astype(gradient.dtype), jnp.zeros_like(weight)


unit_gradient.defvjp(_forward, _backward)
