"""Smoothness of the image itself: its squared Laplacian."""

import dataclasses

import jax.numpy as jnp

from jnst.statistics import laplacian
from jnst.types import NO_WRAP, Image, PerImage, Wrap


def laplacian_energy(image: Image, wrap: Wrap = NO_WRAP) -> PerImage:
    """Mean squared Laplacian: ``mean (Σ_q (x(q) - x(p)))²`` over pixels p and channels, for the four neighbours q of p.

    Unlike `total_variation` it does not penalise slopes, only bends and isolated pixels.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1].
        wrap: See `jnst.statistics.laplacian`.

    Returns:
        ``(...)``; 0 for an image of one colour.

    References:
        The thin plate energy, with the discrete Laplacian of `jnst.statistics.laplacian`.
    """
    return jnp.mean(jnp.square(laplacian(image, wrap=wrap)), (-3, -2, -1))


@dataclasses.dataclass(frozen=True)
class Laplacian:
    """`laplacian_energy` as a regularizer.

    Attributes:
        wrap: See `jnst.statistics.laplacian`.
    """

    wrap: Wrap = NO_WRAP

    def loss(self, image: Image) -> PerImage:
        """See `laplacian_energy`."""
        return laplacian_energy(image, self.wrap)
