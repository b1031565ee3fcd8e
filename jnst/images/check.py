"""What an image must be: shape, dtype and range."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnst.errors import ImageError
from jnst.types import Array, Image


def check_image(image: Array, name: str) -> Image:
    """Return ``image`` as a float32 JAX array if it is one image in [0, 1].

    Args:
        image: ``(h, w, 3)``, float16, bfloat16, float32 or float64 (cast to float32). Inside `jax.jit` only shape and
            dtype are checked.
        name: What to call it in messages.

    Raises:
        ImageError: Another shape, an integer dtype, values outside [0, 1], NaN.
    """
    if not hasattr(image, "shape") or not hasattr(image, "dtype"):
        raise ImageError(f"`{name}` is a {type(image).__name__}, expected an array: load files with jnst.load_image")
    shape = tuple(image.shape)
    if len(shape) != 3 or shape[-1] != 3:
        raise ImageError(f"`{name}` has shape {shape}, expected (h, w, 3): {_shape_advice(shape)}")
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ImageError(
            f"`{name}` has dtype {image.dtype}, expected floats in [0, 1]: divide by 255 or use jnst.load_image"
        )
    if not isinstance(image, Tracer):
        _check_values(np.asarray(image, np.float32), name)
    return jnp.asarray(image, jnp.float32)


def _check_values(image: np.ndarray, name: str) -> None:
    if image.size == 0:
        raise ImageError(f"`{name}` is empty (shape {image.shape}): load an image with jnst.load_image")
    if not np.isfinite(image).all():
        raise ImageError(
            f"`{name}` has {int((~np.isfinite(image)).sum())} values that are NaN or infinite: mend or mask them"
        )
    low, high = float(image.min()), float(image.max())
    if high > 2.0:
        raise ImageError(f"`{name}` looks like 0-255 (max {high:g}): divide by 255 or use jnst.load_image")
    if low < -1e-3 or high > 1.0 + 1e-3:
        raise ImageError(f"`{name}` has values from {low:g} to {high:g}, expected [0, 1]: use jnp.clip(image, 0, 1)")


def _shape_advice(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[0] == 3:
        return "move the channels last, with jnp.moveaxis(image, 0, -1)"
    if len(shape) == 3 and shape[-1] == 4:
        return "composite the alpha channel over a background, as jnst.load_image does"
    if len(shape) == 2:
        return "repeat a grey image three times along a new last axis"
    if len(shape) == 4:
        return "pass one image at a time"
    return "load it with jnst.load_image"
