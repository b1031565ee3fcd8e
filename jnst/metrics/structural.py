"""SSIM: the structural similarity of two images."""

import math

import jax.numpy as jnp

from jnst.errors import ImageError
from jnst.images.check import ImageInput, check_pair
from jnst.types import Array, PerImage

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation of the Gaussian window, in pixels."""
C1, C2 = 0.01**2, 0.03**2
"""The constants that stabilise the quotients, for images of range 1."""

_UNSCALED = [math.exp(-0.5 * ((i - WINDOW // 2) / SIGMA) ** 2) for i in range(WINDOW)]
WEIGHTS = tuple(value / sum(_UNSCALED) for value in _UNSCALED)
"""The window along one axis, with sum 1."""


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
    if min(image.shape[-3:-1]) < WINDOW:
        raise ImageError(
            f"`image` is {image.shape[-2]}x{image.shape[-3]} pixels, but SSIM needs at least {WINDOW}x{WINDOW}: "
            "enlarge both images"
        )
    # Second moments around mid-grey: around 0 they would lose precision where the variance is small.
    x, y = jnp.broadcast_arrays(image - 0.5, reference - 0.5)
    mean_x, mean_y, square_x, square_y, product = _blur(jnp.stack([x, y, x**2, y**2, x * y]))
    variances = square_x - mean_x**2 + square_y - mean_y**2
    covariance = product - mean_x * mean_y
    mean_x, mean_y = mean_x + 0.5, mean_y + 0.5
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return jnp.mean(luminance * (2 * covariance + C2) / (variances + C2), (-3, -2, -1))


def _blur(x: Array) -> Array:
    """Weighted means over windows inside the image: ``(..., h, w, c)`` to ``(..., h - 10, w - 10, c)``."""
    # Slices instead of a convolution, which a GPU would compute in TF32.
    for axis in (x.ndim - 3, x.ndim - 2):
        size = x.shape[axis] - WINDOW + 1
        before = (slice(None),) * axis
        x = sum((weight * x[(*before, slice(i, i + size))] for i, weight in enumerate(WEIGHTS)), jnp.float32(0.0))
    return x
