"""SSIM and MS-SSIM: the structural similarity of two images, at one scale or at several."""

import math

import jax.numpy as jnp

from jnst.errors import ImageError
from jnst.images.check import ImageInput, check_pair
from jnst.types import Array, Image, PerImage

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of the Gaussian window, in pixels."""
C1, C2 = 0.01**2, 0.03**2
"""The constants that stabilise the quotients, for images of range 1."""

_UNSCALED = [math.exp(-0.5 * ((i - WINDOW // 2) / SIGMA) ** 2) for i in range(WINDOW)]
WEIGHTS = tuple(value / sum(_UNSCALED) for value in _UNSCALED)
"""The window along one axis, with sum 1."""

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""The exponents of the five scales of MS-SSIM, from fine to coarse (Wang, Simoncelli & Bovik, section 3.2)."""


def ssim(image: ImageInput, reference: ImageInput) -> PerImage:
    """Structural similarity: the mean of ``(2 μx μy + C1)(2 σxy + C2) / ((μx² + μy² + C1)(σx² + σy² + C2))``.

    Means, variances and the covariance are weighted by a Gaussian window (11×11, σ = 1.5) at each position where the
    whole window lies inside the image. Colour channels are measured separately. The mean is over channels and
    positions. Images are not downscaled first.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1], at least 11×11 pixels.
        reference: The same size; leading axes broadcast. The value is symmetric in both.

    Returns:
        ``(...)`` in float32, in [-1, 1]; 1 for equal images.

    Raises:
        ImageError: Not images in [0, 1], different sizes, or fewer than 11 pixels in height or width.

    References:
        Wang, Bovik, Sheikh & Simoncelli, Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE
        Transactions on Image Processing 2004, equation 13 and section III-C (K1 = 0.01, K2 = 0.03).
    """
    image, reference = check_pair(image, reference, ("image", "reference"))
    _check_size(image, WINDOW, "SSIM")
    luminance, structure = _similarities(image, reference)
    return jnp.mean(luminance * structure, (-3, -2, -1))


def ms_ssim(image: ImageInput, reference: ImageInput) -> PerImage:
    """Multi-scale structural similarity: ``l₅^w₅ Π_s cs_s^w_s`` over five scales, an octave apart.

    ``cs`` is the mean over positions of SSIM's factor of contrast and structure at a scale, and at the coarsest scale,
    which alone has SSIM's factor of luminance, the mean of the whole SSIM. Each scale has the 2×2 means of the one
    before it, without a last odd row or column. Colour channels are measured separately; the value is their mean.
    Factors below 0, of images that are opposites of each other, count as 0.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1], at least 176×176 pixels.
        reference: The same size; leading axes broadcast. The value is symmetric in both.

    Returns:
        ``(...)`` in float32, in [0, 1]; 1 for equal images. Its gradient is finite everywhere, 0 where a factor is 0.

    Raises:
        ImageError: Not images in [0, 1], different sizes, or fewer than 176 pixels in height or width.

    References:
        Wang, Simoncelli & Bovik, Multiscale Structural Similarity for Image Quality Assessment, Asilomar 2003,
        equation 7 and section 3.2.
    """
    x, y = check_pair(image, reference, ("image", "reference"))
    _check_size(x, WINDOW * 2 ** (len(EXPONENTS) - 1), "MS-SSIM")
    product = jnp.float32(1.0)
    for exponent in EXPONENTS[:-1]:
        _, structure = _similarities(x, y)
        product = product * _power(jnp.mean(structure, (-3, -2)), exponent)
        x, y = _halve(x), _halve(y)
    luminance, structure = _similarities(x, y)
    coarsest = _power(jnp.mean(luminance * structure, (-3, -2)), EXPONENTS[-1])
    return jnp.mean(product * coarsest, -1)


def _check_size(image: Image, side: int, name: str) -> None:
    if min(image.shape[-3:-1]) < side:
        raise ImageError(
            f"`image` is {image.shape[-2]}x{image.shape[-3]} pixels, but {name} needs at least {side}x{side}: "
            "enlarge both images"
        )


def _similarities(image: Image, reference: Image) -> tuple[Array, Array]:
    """The factors of SSIM at each position, ``(..., h - 10, w - 10, c)``: luminance, and contrast with structure."""
    # Second moments around mid-grey: around 0 they would lose precision where the variance is small.
    x, y = jnp.broadcast_arrays(image - 0.5, reference - 0.5)
    mean_x, mean_y, square_x, square_y, product = _blur(jnp.stack([x, y, x**2, y**2, x * y]))
    variances = square_x - mean_x**2 + square_y - mean_y**2
    covariance = product - mean_x * mean_y
    mean_x, mean_y = mean_x + 0.5, mean_y + 0.5
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return luminance, (2 * covariance + C2) / (variances + C2)


def _blur(x: Array) -> Array:
    """Weighted means over windows inside the image: ``(..., h, w, c)`` to ``(..., h - 10, w - 10, c)``."""
    # Slices instead of a convolution, which a GPU would compute in TF32.
    for axis in (x.ndim - 3, x.ndim - 2):
        size = x.shape[axis] - WINDOW + 1
        before = (slice(None),) * axis
        x = sum((weight * x[(*before, slice(i, i + size))] for i, weight in enumerate(WEIGHTS)), jnp.float32(0.0))
    return x


def _halve(image: Image) -> Image:
    """The means of 2×2 pixels, without a last odd row or column."""
    height, width = (side // 2 * 2 for side in image.shape[-3:-1])
    rows = image[..., 0:height:2, :width, :] + image[..., 1:height:2, :width, :]
    return 0.25 * (rows[..., 0::2, :] + rows[..., 1::2, :])


def _power(factor: Array, exponent: float) -> Array:
    """``max(factor, 0)^exponent``, with gradient 0 where that is 0 (its derivative is infinite there)."""
    positive = factor > 0
    return jnp.where(positive, jnp.where(positive, factor, 1.0) ** exponent, 0.0)
