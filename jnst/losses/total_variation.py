"""Smoothness of the image itself: differences between neighbouring pixels."""

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.losses.base import absolute
from jnst.statistics import differences, wrap_border
from jnst.types import NO_WRAP, Array, Image, PerImage, Wrap, sum_dtype


def _differences(image: Image, wrap: Wrap) -> tuple[Array, Array]:
    """Differences between vertical and between horizontal neighbours."""
    return differences(image, -3, wrap[0]), differences(image, -2, wrap[1])


def _absolute(image: Image, power: float, wrap: Wrap) -> list[Array]:
    return [absolute(difference) for difference in _differences(image, wrap)]


def _squares(image: Image, power: float, wrap: Wrap) -> list[Array]:
    return [jnp.square(difference) for difference in _differences(image, wrap)]


def _nine_point(image: Image, power: float, wrap: Wrap) -> list[Array]:
    rows, columns = ((0, 0) if wraps else (1, 1) for wraps in wrap)
    image = jnp.pad(image, [(0, 0)] * (image.ndim - 3) + [rows, columns, (0, 0)], mode="edge")
    image = wrap_border(image, (1, 1), wrap)
    pixels = image[..., 1:-1, 1:-1, :]
    straight = [image[..., 2:, 1:-1, :] - pixels, image[..., 1:-1, 2:, :] - pixels]
    diagonal = [
        image[..., 1:, 1:, :] - image[..., :-1, :-1, :],
        image[..., 1:, :-1, :] - image[..., :-1, 1:, :],
    ]
    # Of an image that repeats, the squares before the first pixel are those after the last one.
    down, right = (int(wraps) for wraps in wrap)
    diagonal = [step[..., down:, right:, :] for step in diagonal]
    return [2 * jnp.square(step) / 3 for step in straight] + [jnp.square(step) / 6 for step in diagonal]


def _isotropic(image: Image, power: float, wrap: Wrap) -> list[Array]:
    vertical, horizontal = _differences(image, wrap)
    rows, columns = vertical.shape[-3], horizontal.shape[-2]
    squares = jnp.square(vertical[..., :columns, :]) + jnp.square(horizontal[..., :rows, :, :])
    # Where both differences are 0, powers below 1 have no gradient. Take the subgradient 0.
    positive = squares > 0
    return [jnp.where(positive, jnp.where(positive, squares, 1.0) ** power, 0.0)]


NORMS: dict[str, Callable[[Image, float, Wrap], list[Array]]] = {
    "l1": _absolute,
    "l2": _squares,
    "nine_point": _nine_point,
    "isotropic": _isotropic,
}
"""The arrays of terms to reduce: see `total_variation`."""

REDUCTIONS: dict[str, Callable[[Array], Array]] = {
    "sum": lambda terms: jnp.sum(terms, (-3, -2, -1)),
    # An image one pixel wide has no horizontal differences. Their mean is 0, not 0/0.
    "mean": lambda terms: jnp.sum(terms, (-3, -2, -1)) / max(1, math.prod(terms.shape[-3:])),
    "half_sum": lambda terms: 0.5 * jnp.sum(terms, (-3, -2, -1)),
}


def total_variation(
    image: Image,
    norm: str = "l1",
    reduction: str = "sum",
    value_range: float = 1.0,
    power: float = 1.25,
    wrap: Wrap = NO_WRAP,
) -> PerImage:
    """Differences between neighbouring pixels, such as ``Σ|dy| + Σ|dx|``, over all channels.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1].
        norm: With dy and dx from a pixel to the one below and to the right:

            * ``"l1"``: ``Σ|dy| + Σ|dx|``, anisotropic total variation.
            * ``"l2"``: ``Σ dy² + Σ dx²``.
            * ``"nine_point"``: ``2 (Σ dy²/3 + Σ dx²/3 + (Σ d↘² + Σ d↙²)/12)`` over the image with its border
              repeated by one pixel (crowson): dy and dx from each of the h·w pixels, and both diagonals d of each of
              the (h + 1)·(w + 1) squares of four pixels.
            * ``"isotropic"``: ``Σ (dy² + dx²)^power`` over the (h - 1)·(w - 1) pixels that have both neighbours.
        reduction: ``"sum"``; ``"mean"``, in which each Σ is the mean over its terms, so that the value does not
            grow with the image; or ``"half_sum"``, half the sum.
        value_range: The range of pixel values in which differences are measured: 255.0 gives the value of programs
            that optimise 0-255 images.
        power: For ``"isotropic"``, above 0: 1.25 in Keras' example, ½ in Rudin, Osher & Fatemi; 1 with
            ``"half_sum"`` has the gradient of neural-style.
        wrap: Whether the last row is next to the first, and whether the last column is.

    Returns:
        ``(...)``; 0 for an image of one colour.

    Raises:
        ArgumentError: Unknown norm or reduction, or a power that is not above 0.

    References:
        Rudin, Osher & Fatemi, Nonlinear Total Variation Based Noise Removal Algorithms, Physica D 1992; for powers:
        Mahendran & Vedaldi, Understanding Deep Image Representations by Inverting Them, CVPR 2015; in style transfer:
        Johnson, Alahi & Fei-Fei, Perceptual Losses for Real-Time Style Transfer and Super-Resolution, ECCV 2016.

    >>> float(total_variation(jnp.zeros((3, 3, 3)).at[1, 1].set(1.0)))
    12.0
    """
    if norm not in NORMS:
        raise ArgumentError(f"norm {norm!r} is unknown: choose one of {', '.join(NORMS)}")
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"reduction {reduction!r} is unknown: choose one of {', '.join(REDUCTIONS)}")
    if not power > 0:
        raise ArgumentError(f"power {power} is invalid: it must be above 0")
    terms = NORMS[norm](image.astype(sum_dtype(image)) * value_range, power, wrap)
    return sum(map(REDUCTIONS[reduction], terms), jnp.float32(0.0))


@dataclasses.dataclass(frozen=True)
class TotalVariation:
    """`total_variation` as a regularizer.

    Attributes:
        norm: See `total_variation`.
        reduction: See `total_variation`.
        value_range: See `total_variation`.
        power: See `total_variation`.
        counted: If False, the value is 0 but the gradient remains. neural-style adds the gradient to the image's
            and leaves the term out of the loss that it prints and passes to L-BFGS.
        wrap: See `total_variation`.
    """

    norm: str = "l1"
    reduction: str = "sum"
    value_range: float = 1.0
    power: float = 1.25
    counted: bool = True
    wrap: Wrap = NO_WRAP

    def loss(self, image: Image) -> PerImage:
        """See `total_variation`."""
        value = total_variation(image, self.norm, self.reduction, self.value_range, self.power, self.wrap)
        return value if self.counted else value - lax.stop_gradient(value)
