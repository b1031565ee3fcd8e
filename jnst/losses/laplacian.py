"""Smoothness of the image itself: its second derivatives."""

import dataclasses

import jax.numpy as jnp

from jnst.statistics import laplacian
from jnst.types import Image, PerImage


def laplacian_energy(image: Image) -> PerImage:
    """Mean squared Laplacian: ``mean (Σ_q (x(q) - x(p)))²`` over pixels p and channels, q the four neighbours of p.

    Unlike `total_variation` it lets slopes be: only what bends or stands out is smoothed.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1].

    Returns:
        ``(...)`` in float32; 0 for an image of one colour.

    References:
        The thin plate energy; the discrete Laplacian of `jnst.statistics.laplacian`.
    """
    return jnp.mean(jnp.square(laplacian(image)), (-3, -2, -1))


@dataclasses.dataclass(frozen=True)
class Laplacian:
    """`laplacian_energy` as a regularizer."""

    def loss(self, image: Image) -> PerImage:
        """See `laplacian_energy`."""
        return laplacian_energy(image)
