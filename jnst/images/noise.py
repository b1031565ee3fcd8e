"""Noise: white as an initial image, and smooth as the faintest image that still has features."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np

from jnst.solve.compilation import Jit
from jnst.types import Image, RandomKey

MEAN_COLOUR = (123.68 / 255, 116.779 / 255, 103.939 / 255)
"""The mean colour (RGB) of ImageNet's photographs, which VGG networks subtract."""

FAINT = 0.06
"""The standard deviation of `faint_image`: a third of what is usual for photographs."""


def noise(key: RandomKey, shape: tuple[int, int], std: float, power: float = 0.0, channels: int = 3) -> Image:
    """Gaussian noise around `MEAN_COLOUR`, clipped to [0, 1]: ``(h, w, channels)``. It repeats without a seam.

    Args:
        key: A random key.
        shape: Height and width.
        std: The standard deviation.
        power: Amplitudes fall with the frequency f as ``f ** -power``: 0 for white noise, 1 as in photographs.
        channels: A multiple of 3.
    """
    return _noise(key, tuple(shape), std, power, channels)


@partial(Jit, static_argnames=("shape", "power", "channels"))
def _noise(key: RandomKey, shape: tuple[int, int], std: float, power: float, channels: int) -> Image:
    values = jax.random.normal(key, (*shape, channels), jnp.float32)
    if power:
        spectrum = jnp.fft.rfft2(values, axes=(0, 1))
        factor = jnp.asarray(_amplitudes(shape, power)[..., None], spectrum.dtype)
        values = jnp.fft.irfft2(spectrum * factor, shape, axes=(0, 1))
        values = values / jnp.maximum(jnp.std(values), 1e-6)
    image = jnp.asarray(MEAN_COLOUR * (channels // 3), jnp.float32)[None, None] + std * values
    return jnp.clip(image, 0.0, 1.0)


def _amplitudes(shape: tuple[int, int], power: float) -> np.ndarray:
    """``f ** -power`` for every frequency of `jax.numpy.fft.rfft2`, in cycles per pixel; 0 for the mean."""
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1]))
    frequency[0, 0] = np.inf
    return frequency**-power


@cache
def faint_image(side: int) -> np.ndarray:
    """An image of about the least contrast that photographs have: ``(side, side, 3)``, always the same.

    Smooth noise about `MEAN_COLOUR` with a standard deviation of `FAINT`, mostly grey, whose amplitudes fall with the
    frequency f as 1 / f.

    References:
        Field, Relations between the statistics of natural images and the response properties of cortical cells,
        JOSA A 4 (1987): the spectra of photographs.
    """
    random = np.random.default_rng(0)
    white = random.standard_normal((side, side, 1)) + 0.5 * random.standard_normal((side, side, 3))
    factor = _amplitudes((side, side), 1.0)[..., None]
    smooth = np.fft.irfft2(np.fft.rfft2(white, axes=(0, 1)) * factor, (side, side), axes=(0, 1))
    return (np.asarray(MEAN_COLOUR) + FAINT * smooth / smooth.std()).clip(0.0, 1.0).astype(np.float32)
