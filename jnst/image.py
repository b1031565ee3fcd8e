"""Pictures as arrays: checks, sizes, resizing, starting points. No files here (see `jnst.io`)."""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnst.compilation import DeviceJit
from jnst.errors import JnstError, PictureError
from jnst.types import Array, Guide, Image, RandomKey

MEAN_COLOUR = (123.68 / 255, 116.779 / 255, 103.939 / 255)
"""The mean colour of ImageNet's photographs (RGB), which VGG networks take as zero."""

METHODS: dict[str, str] = {"bilinear": "linear", "bicubic": "cubic", "lanczos": "lanczos3"}
"""Resampling filters, and their names in `jax.image.resize`. Reduction is antialiased, as in Pillow."""

SHARP = "bicubic-sharp"
"""PyTorch's bicubic filter, for enlarging: Keys' with -0.75 in place of -0.5, which overshoots more at edges."""


def check_picture(image: Array, name: str) -> Image:
    """Return ``image`` as a float32 JAX array if it is one picture in [0, 1].

    Args:
        image: ``(h, w, 3)``, float16, bfloat16, float32 or float64 (cast to float32). Inside `jax.jit` only shape and
            dtype are checked.
        name: What to call it in messages.

    Raises:
        PictureError: Another shape, an integer dtype, values outside [0, 1], NaN.
    """
    if not hasattr(image, "shape") or not hasattr(image, "dtype"):
        raise PictureError(f"`{name}` is a {type(image).__name__}, expected an array: load files with jnst.load_image")
    shape = tuple(image.shape)
    if len(shape) != 3 or shape[-1] != 3:
        raise PictureError(f"`{name}` has shape {shape}, expected (h, w, 3): {_shape_advice(shape)}")
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise PictureError(
            f"`{name}` has dtype {image.dtype}, expected floats in [0, 1]: divide by 255 or use jnst.load_image"
        )
    if not isinstance(image, Tracer):
        _check_values(np.asarray(image, np.float32), name)
    return jnp.asarray(image, jnp.float32)


def _check_values(image: np.ndarray, name: str) -> None:
    if image.size == 0:
        raise PictureError(f"`{name}` is empty (shape {image.shape}): load a picture with jnst.load_image")
    if not np.isfinite(image).all():
        raise PictureError(
            f"`{name}` has {int((~np.isfinite(image)).sum())} values that are NaN or infinite: mend or mask them"
        )
    low, high = float(image.min()), float(image.max())
    if high > 2.0:
        raise PictureError(f"`{name}` looks like 0-255 (max {high:g}): divide by 255 or use jnst.load_image")
    if low < -1e-3 or high > 1.0 + 1e-3:
        raise PictureError(f"`{name}` has values from {low:g} to {high:g}, expected [0, 1]: use jnp.clip(image, 0, 1)")


def _shape_advice(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[0] == 3:
        return "move the channels last, with jnp.moveaxis(image, 0, -1)"
    if len(shape) == 3 and shape[-1] == 4:
        return "composite the alpha channel over a background, as jnst.load_image does"
    if len(shape) == 2:
        return "repeat a grey picture three times along a new last axis"
    if len(shape) == 4:
        return "pass one picture at a time"
    return "load it with jnst.load_image"


def resize(image: Image, shape: tuple[int, int], method: str = "bicubic") -> Image:
    """Resample a picture to ``shape`` = (h', w'), antialiased, and clip it to [0, 1].

    Args:
        image: ``(..., h, w, 3)``.
        shape: Height and width in pixels.
        method: A key of `METHODS`, or `SHARP`.

    Returns:
        ``(..., h', w', 3)``; the picture itself if it has that size already.

    Raises:
        JnstError: An unknown method.
    """
    if method not in (*METHODS, SHARP):
        raise JnstError(f"method {method!r} is unknown: choose one of {', '.join((*METHODS, SHARP))}")
    if tuple(image.shape[-3:-1]) == tuple(shape):
        return image
    return _resample(image, tuple(shape), method)


@partial(DeviceJit, static_argnames=("shape", "method"))
def _resample(image: Image, shape: tuple[int, int], method: str) -> Image:
    return jnp.clip(resample(image, shape, method), 0.0, 1.0)


def resample(values: Array, shape: tuple[int, int], method: str) -> Array:
    """`resize` for any values ``(..., h, w, c)``: nothing is clipped or checked."""
    if method != SHARP:
        return jax.image.resize(values, (*values.shape[:-3], *shape, values.shape[-1]), METHODS[method])
    rows, columns = (_sharp_weights(old, new) for old, new in zip(values.shape[-3:-1], shape, strict=True))
    return jnp.einsum("ih,...hwc,jw->...ijc", rows, values, columns, precision=jax.lax.Precision.HIGHEST)


def _sharp_weights(old: int, new: int) -> np.ndarray:
    """The ``(new, old)`` matrix of cubic convolution with a = -0.75 (Keys 1981); the border is repeated."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights, a = np.zeros((new, old)), -0.75
    for tap in range(-1, 3):
        places = np.floor(centres).astype(int) + tap
        d = np.abs(centres - places)
        near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
        np.add.at(weights, (np.arange(new), places.clip(0, old - 1)), np.where(d <= 1, near, np.where(d < 2, far, 0)))
    return weights.astype(np.float32)


def resize_mask(mask: Guide, shape: tuple[int, int]) -> Guide:
    """Resample a mask ``(..., h, w)`` in [0, 1] to ``shape`` = (h', w'), antialiased, with the bilinear filter."""
    return resize(mask[..., None], shape, "bilinear")[..., 0]


def fit_shape(shape: tuple[int, int], longer_side: float) -> tuple[int, int]:
    """Scale (h, w) so that its longer side becomes ``longer_side``; each side rounded, at least 1."""
    scale = longer_side / max(shape)
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


@dataclasses.dataclass(frozen=True)
class Pyramid:
    """The sizes of a coarse-to-fine run: each ``factor`` times the one before, ending at the full size.

    Attributes:
        factor: Between neighbouring sizes; 2 for octaves.
        min_size: No size has a longer side below this.
        levels: How many sizes at the most; None for as many as ``min_size`` allows.

    Raises:
        JnstError: A factor that is not above 1, or sizes or levels below 1.

    References:
        Gatys et al., Controlling Perceptual Factors in Neural Style Transfer, CVPR 2017, section 6.
    """

    factor: float = math.sqrt(2.0)
    min_size: int = 128
    levels: int | None = None

    def __post_init__(self) -> None:
        if not (1.0 < self.factor < math.inf and self.min_size >= 1 and (self.levels is None or self.levels >= 1)):
            raise JnstError(
                f"pyramid with factor {self.factor}, min_size {self.min_size}, levels {self.levels}: "
                "expected a factor above 1, and at least 1 for the others"
            )

    def shapes(self, shape: tuple[int, int], proportions: tuple[int, int] | None = None) -> tuple[tuple[int, int], ...]:
        """Return (h, w) of every size from the coarsest to ``shape`` itself, each once.

        Args:
            shape: The full size.
            proportions: Height and width of the picture that it was rounded from; None: ``shape``'s.
        """
        longer = max(shape)
        shapes = [tuple(shape)]
        while self.levels is None or len(shapes) < self.levels:
            side = round(longer / self.factor ** len(shapes))
            if side < self.min_size:
                break
            shapes.append(fit_shape(proportions or shape, side))
        return tuple(reversed(dict.fromkeys(shapes)))  # pyright: ignore[reportReturnType]


def noise(key: RandomKey, shape: tuple[int, int], std: float) -> Image:
    """Gaussian noise about `MEAN_COLOUR` with standard deviation ``std``, clipped to [0, 1]: ``(h, w, 3)``."""
    return _noise(key, tuple(shape), std)


@partial(DeviceJit, static_argnames="shape")
def _noise(key: RandomKey, shape: tuple[int, int], std: float) -> Image:
    picture = jnp.asarray(MEAN_COLOUR) + std * jax.random.normal(key, (*shape, 3), jnp.float32)
    return jnp.clip(picture, 0.0, 1.0)
