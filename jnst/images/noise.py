"""Noise as an initial image."""

from functools import partial

import jax
import jax.numpy as jnp

from jnst.solve.compilation import Jit
from jnst.types import Image, RandomKey

MEAN_COLOUR = (123.68 / 255, 116.779 / 255, 103.939 / 255)
"""The mean colour (RGB) of ImageNet's photographs, which VGG networks subtract."""


def noise(key: RandomKey, shape: tuple[int, int], std: float) -> Image:
    """Gaussian noise around `MEAN_COLOUR` with standard deviation ``std``, clipped to [0, 1]: ``(h, w, 3)``."""
    return _noise(key, tuple(shape), std)


@partial(Jit, static_argnames="shape")
def _noise(key: RandomKey, shape: tuple[int, int], std: float) -> Image:
    image = jnp.asarray(MEAN_COLOUR, jnp.float32) + std * jax.random.normal(key, (*shape, 3), jnp.float32)
    return jnp.clip(image, 0.0, 1.0)
