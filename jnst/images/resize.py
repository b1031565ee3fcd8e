"""Resizing images and masks, with antialiasing."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jnst.errors import ArgumentError
from jnst.solve.compilation import Jit, is_traced
from jnst.types import NO_WRAP, Array, Guide, Image, Wrap

METHODS: dict[str, str] = {"bilinear": "linear", "bicubic": "cubic", "lanczos": "lanczos3"}
"""Resampling filters, and their names in `jax.image.resize`. Downscaling is antialiased, as in Pillow."""

REACH: dict[str, int] = {"bilinear": 1, "bicubic": 2, "lanczos": 3}
"""How far each of them reaches, in pixels of the coarser image."""

SEAMLESS: dict[str, Wrap] = {"both": (True, True), "x": (False, True), "y": (True, False)}
"""The directions in which an image can be seamless: both, from left to right, or from top to bottom."""

SHARP = "bicubic-sharp"
"""PyTorch's bicubic filter, for upscaling: cubic convolution with a = -0.75, which overshoots more at edges than the
-0.5 of ``"bicubic"``."""


def resize(image: Image, shape: tuple[int, int], method: str = "bicubic", wrap: Wrap = NO_WRAP) -> Image:
    """Resample an image to ``shape`` = (h', w') with antialiasing, and clip it to [0, 1].

    Args:
        image: ``(..., h, w, 3)``.
        shape: Height and width in pixels.
        method: A key of `METHODS`, or `SHARP`.
        wrap: Along which axes the image repeats, so that filters reach across its seams.

    Returns:
        ``(..., h', w', 3)``. If the image already has that size, it is returned unchanged.

    Raises:
        ArgumentError: Unknown method.
    """
    if method not in (*METHODS, SHARP):
        raise ArgumentError(f"method {method!r} is unknown: choose one of {', '.join((*METHODS, SHARP))}")
    if tuple(image.shape[-3:-1]) == tuple(shape):
        return image
    elsewhere = is_traced(image) or (isinstance(image, jax.Array) and len(image.devices()) > 1)
    if method in METHODS and image.size and image.dtype == jnp.float32 and not elsewhere:
        return _resize_on_host(image, shape, method, wrap)
    return _resize(image, tuple(shape), method, wrap)


@partial(Jit, static_argnames=("shape", "method", "wrap"))
def _resize(image: Image, shape: tuple[int, int], method: str, wrap: Wrap) -> Image:
    return jnp.clip(resample(image, shape, method, wrap), 0.0, 1.0)


def _resize_on_host(image: Image, shape: tuple[int, int], method: str, wrap: Wrap) -> Image:
    """The same by Pillow: every pair of sizes would be a program to compile."""
    from PIL import Image as Pillow  # late, because `import jnst` needs no Pillow

    kernel = Pillow.Resampling[method.upper()]
    (height, width), (top, left) = image.shape[-3:-1], _margins(image, shape, method, wrap)
    borders = ((0, 0), (top, top), (left, left))
    channels = np.pad(np.moveaxis(np.asarray(image), -1, -3), [(0, 0)] * (image.ndim - 3) + [*borders], mode="wrap")
    box = (left, top, left + width, top + height)
    planes = [
        np.asarray(Pillow.fromarray(plane).resize((shape[1], shape[0]), kernel, box))
        for plane in channels.reshape(-1, *channels.shape[-2:])
    ]
    resized = np.stack(planes).clip(0.0, 1.0).reshape(*channels.shape[:-2], *shape)
    device = image.sharding if getattr(image, "committed", False) else None
    return jax.device_put(np.moveaxis(resized, -3, -1), device)


def _margins(values: Array, shape: tuple[int, int], method: str, wrap: Wrap) -> tuple[int, int]:
    """How many rows and columns beyond each border a filter may reach, where the image wraps."""
    top, left = (
        (REACH[method] * max(1, math.ceil(old / new)) + 1) * wraps
        for old, new, wraps in zip(values.shape[-3:-1], shape, wrap, strict=True)
    )
    return top, left


def resample(values: Array, shape: tuple[int, int], method: str, wrap: Wrap = NO_WRAP) -> Array:
    """`resize` for arbitrary values ``(..., h, w, c)``, without clipping or checks."""
    sizes = values.shape[-3:-1]
    full = (*values.shape[:-3], *shape, values.shape[-1])
    if method != SHARP and not any(wrap):
        return jax.image.resize(values, full, METHODS[method])
    if method != SHARP:
        margins = _margins(values, shape, method, wrap)
        borders = [(margin, margin) for margin in margins]
        values = jnp.pad(values, [(0, 0)] * (values.ndim - 3) + [*borders, (0, 0)], mode="wrap")
        scale = jnp.array([new / old for old, new in zip(sizes, shape, strict=True)], jnp.float32)
        moved = -scale * jnp.array(margins, jnp.float32)
        axes = (values.ndim - 3, values.ndim - 2)
        return jax.image.scale_and_translate(values, full, axes, scale, moved, METHODS[method])
    rows, columns = (_sharp_weights(old, new, wraps) for old, new, wraps in zip(sizes, shape, wrap, strict=True))
    return jnp.einsum("ih,...hwc,jw->...ijc", rows, values, columns, precision=jax.lax.Precision.HIGHEST)


def _sharp_weights(old: int, new: int, wraps: bool) -> np.ndarray:
    """The ``(new, old)`` matrix of cubic convolution with a = -0.75 (Keys 1981), with the border repeated."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights, a = np.zeros((new, old)), -0.75
    for tap in range(-1, 3):
        places = np.floor(centres).astype(int) + tap
        d = np.abs(centres - places)
        near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
        places = places % old if wraps else places.clip(0, old - 1)
        np.add.at(weights, (np.arange(new), places), np.where(d <= 1, near, np.where(d < 2, far, 0)))
    return weights.astype(np.float32)


def resize_mask(mask: Guide, shape: tuple[int, int]) -> Guide:
    """Resample a mask ``(..., h, w)`` in [0, 1] to ``shape`` = (h', w'), with the antialiased bilinear filter."""
    return resize(mask[..., None], shape, "bilinear")[..., 0]


def fit_shape(shape: tuple[int, int], longer_side: float) -> tuple[int, int]:
    """Scale (h, w) so that the longer side becomes ``longer_side``; each side is rounded, and at least 1.

    >>> fit_shape((300, 200), 150)
    (150, 100)
    """
    height, width = (max(1, round(side * longer_side / max(shape))) for side in shape)
    return height, width


def size_of(image: Image) -> tuple[int, int]:
    """Height and width of ``(..., h, w, 3)``."""
    return image.shape[-3], image.shape[-2]


def crop_to_fit(image: Image, shape: tuple[int, int]) -> Image:
    """Crop the largest centred part with the proportions of ``shape`` = (h', w') from an image, and resize it."""
    height, width = size_of(image)
    scale = min(height / shape[0], width / shape[1])
    h, w = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
    top, left = (height - h) // 2, (width - w) // 2
    return resize(image[..., top : top + h, left : left + w, :], shape)


FITS: dict[str, Callable[[Image, tuple[int, int]], Image]] = {"crop": crop_to_fit, "resize": resize}
"""Ways to bring an image to a height and width: crop to its proportions first, or stretch."""


def nearest_multiple(shape: tuple[int, int], stride: int, wrap: Wrap) -> tuple[int, int]:
    """Round the sides that wrap to the nearest multiple of ``stride``, at least one and halves up."""
    height, width = (
        max(1, (2 * side + stride) // (2 * stride)) * stride if wraps else side
        for side, wraps in zip(shape, wrap, strict=True)
    )
    return height, width
