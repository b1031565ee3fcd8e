"""Colour spaces, as conversions of arrays from and to sRGB.

sRGB values are in [0, 1]. Values ``(..., 3)`` of a colour space are one of luminance and two of chroma. Nothing is
clipped, so that colours outside sRGB survive.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jnst.types import Array, of_rank

_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_LINEAR_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
# Relative to the white point D65, the sum of the three primaries.
_LINEAR_TO_RELATIVE_XYZ = _LINEAR_TO_XYZ / _LINEAR_TO_XYZ.sum(1, keepdims=True)
_FROM_XYZ_ROOTS = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])
_LINEAR_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_FROM_LMS_ROOTS = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_LAB_KNEE = 6 / 29
_LAB_LIGHTNESS_OFFSET = 16.0
_STEEPEST_ROOT = 1e-4
"""Lower bound of the squared cube root in the derivative of a cube root: at black the derivative is 3333, not
infinite."""


def _times(matrix: np.ndarray, values: Array) -> Array:
    return jnp.einsum("ij,...j->...i", jnp.asarray(matrix, jnp.float32), values, precision=lax.Precision.HIGHEST)


def linear_from_srgb(values: Array) -> Array:
    """Linear light of sRGB values (IEC 61966-2-1). The linear segment continues below 0."""
    curved = ((jnp.maximum(values, 0.04045) + 0.055) / 1.055) ** 2.4
    return jnp.where(values > 0.04045, curved, values / 12.92)


def srgb_from_linear(values: Array) -> Array:
    """The inverse of `linear_from_srgb`."""
    curved = 1.055 * jnp.maximum(values, 0.0031308) ** (1 / 2.4) - 0.055
    return jnp.where(values > 0.0031308, curved, 12.92 * values)


def yiq_from_rgb(image: Array) -> Array:
    """YIQ of NTSC (1953), from gamma-encoded sRGB values: Y in [0, 1], I within ±0.6, Q within ±0.53."""
    return _times(_RGB_TO_YIQ, image.astype(jnp.float32))


def rgb_from_yiq(values: Array) -> Array:
    """The inverse of `yiq_from_rgb`."""
    return _times(np.linalg.inv(_RGB_TO_YIQ), values.astype(jnp.float32))


def lab_from_rgb(image: Array) -> Array:
    """CIE 1976 L*a*b* with the white point D65: L* in [0, 100], a* and b* within about ±110."""
    xyz = _times(_LINEAR_TO_RELATIVE_XYZ, linear_from_srgb(image.astype(jnp.float32)))
    curved = jnp.cbrt(jnp.maximum(xyz, _LAB_KNEE**3))
    roots = jnp.where(xyz > _LAB_KNEE**3, curved, xyz / (3 * _LAB_KNEE**2) + 4 / 29)
    return _times(_FROM_XYZ_ROOTS, roots) - of_rank(
        jnp.asarray([_LAB_LIGHTNESS_OFFSET, 0.0, 0.0], jnp.float32), image.ndim
    )


def rgb_from_lab(values: Array) -> Array:
    """The inverse of `lab_from_rgb`."""
    offset = of_rank(jnp.asarray([_LAB_LIGHTNESS_OFFSET, 0.0, 0.0], jnp.float32), values.ndim)
    roots = _times(np.linalg.inv(_FROM_XYZ_ROOTS), values.astype(jnp.float32) + offset)
    xyz = jnp.where(roots > _LAB_KNEE, roots**3, 3 * _LAB_KNEE**2 * (roots - 4 / 29))
    return srgb_from_linear(_times(np.linalg.inv(_LINEAR_TO_RELATIVE_XYZ), xyz))


def oklab_from_rgb(image: Array) -> Array:
    """Oklab (Ottosson 2020, with the matrices of 2021): L in [0, 1], a and b within about ±0.35."""
    lms = _times(_LINEAR_TO_LMS, linear_from_srgb(image.astype(jnp.float32)))
    return _times(_FROM_LMS_ROOTS, _cube_root(lms))


def rgb_from_oklab(values: Array) -> Array:
    """The inverse of `oklab_from_rgb`."""
    lms = _times(np.linalg.inv(_FROM_LMS_ROOTS), values.astype(jnp.float32)) ** 3
    return srgb_from_linear(_times(np.linalg.inv(_LINEAR_TO_LMS), lms))


@jax.custom_jvp
def _cube_root(values: Array) -> Array:
    return jnp.cbrt(values)


@_cube_root.defjvp
def _cube_root_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    root = _cube_root(primals[0])
    return root, tangents[0] / (3 * jnp.maximum(root**2, _STEEPEST_ROOT))


class ColourSpace(NamedTuple):
    """A colour space with luminance and chroma.

    Attributes:
        from_rgb: Converts from sRGB in [0, 1].
        to_rgb: The inverse of ``from_rgb``.
        additive: Whether a change of luminance alone adds the same amount to red, green and blue.
    """

    from_rgb: Callable[[Array], Array]
    to_rgb: Callable[[Array], Array]
    additive: bool = False


COLOUR_SPACES: dict[str, ColourSpace] = {
    "yiq": ColourSpace(yiq_from_rgb, rgb_from_yiq, additive=True),
    "lab": ColourSpace(lab_from_rgb, rgb_from_lab),
    "oklab": ColourSpace(oklab_from_rgb, rgb_from_oklab),
}
"""The colour spaces by name."""
