"""Checks of images: shape, dtype and range."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnst.errors import ImageError
from jnst.types import Array, Image

RANGES = (
    (-0.2, 1.2, "has values from {low:g} to {high:g}, expected [0, 1]: use jnp.clip(image, 0, 1)"),
    (-0.51, 0.51, "looks centred at 0 (from {low:g} to {high:g}): add 0.5"),
    (-1.01, 1.01, "looks like [-1, 1] (from {low:g} to {high:g}): use (x + 1) / 2"),
    (-1e-3, 2.0, "has values from {low:g} to {high:g}, expected [0, 1]: use jnp.clip(image, 0, 1)"),
    (
        *(-2.2, 2.7),
        "looks normalised for ImageNet (from {low:g} to {high:g}): undo that, with image * std + mean of its channels, "
        "std (0.229, 0.224, 0.225) and mean (0.485, 0.456, 0.406)",
    ),
    (-1e-3, 256.0, "looks like 0-255 (max {high:g}): divide by 255 or use jnst.load_image"),
    (-1e-3, 65536.0, "looks like 16 bits (max {high:g}): divide by 65535 or use jnst.load_image"),
    (-256.0, 256.0, "looks like 0-255 without a mean (from {low:g} to {high:g}): add the mean, then divide by 255"),
    (-math.inf, math.inf, "has values from {low:g} to {high:g}, expected [0, 1]: scale it to that range"),
)
"""Ranges that images of other programs have, and what to do about each: the first that fits. Filters overshoot."""

ImageInput = Image | np.ndarray
"""Images as arguments: JAX or NumPy arrays of any floating-point dtype, cast to float32."""


def check_image(image: Array, name: str, channels: int = 3) -> Image:
    """Return ``image`` as a float32 JAX array if it is one image in [0, 1].

    Args:
        image: ``(h, w, 3)``, float16, bfloat16, float32 or float64 (cast to float32). Inside `jax.jit` only shape and
            dtype are checked.
        name: The argument's name in error messages.
        channels: How many channels it must have.

    Raises:
        ImageError: Another shape, an integer dtype, values outside [0, 1], or NaN.
    """
    image = as_array(image, name)
    shape = tuple(image.shape)
    if len(shape) != 3 or shape[-1] != channels:
        advice = _shape_advice(shape) if channels == 3 else "give all images equally many maps"
        raise ImageError(f"`{name}` has shape {shape}, expected (h, w, {channels}): {advice}")
    return _check_values(image, name)


def check_images(images: Any, name: str) -> Image:
    """Return ``images`` as a float32 JAX array if they are images in [0, 1] with any leading axes.

    Args:
        images: ``(..., h, w, 3)``, floating-point. Inside `jax.jit` only shape and dtype are checked.
        name: The argument's name in error messages.

    Raises:
        ImageError: Another shape, an integer dtype, values outside [0, 1], or NaN.
    """
    images = as_array(images, name)
    shape = tuple(images.shape)
    if len(shape) <= 3:
        return check_image(images, name)
    if shape[-1] != 3:
        advice = (
            "move the channels last, with jnp.moveaxis(image, -3, -1)"
            if shape[-3] == 3
            else "load RGB images, or use jnst.rgb_groups"
        )
        raise ImageError(f"`{name}` has shape {shape}, expected (..., h, w, 3): {advice}")
    return _check_values(images, name)


def check_pair(images: Any, others: Any, names: tuple[str, str]) -> tuple[Image, Image]:
    """Check two arrays of images that are compared pixel by pixel.

    Args:
        images: ``(..., h, w, 3)``.
        others: ``(..., h, w, 3)``; leading axes broadcast.
        names: The arguments' names in error messages.

    Raises:
        ImageError: As in `check_images`; different sizes; or leading axes that do not broadcast.
    """
    first, second = check_images(images, names[0]), check_images(others, names[1])
    if first.shape[-3:] != second.shape[-3:]:
        raise ImageError(
            f"`{names[0]}` is {_size(first)} pixels, `{names[1]}` {_size(second)}, expected the same size: "
            f"resize `{names[1]}`, for example with jnst.resize"
        )
    try:
        jnp.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        raise ImageError(
            f"`{names[0]}` has leading axes {first.shape[:-3]}, `{names[1]}` {second.shape[:-3]}, which do not "
            "broadcast: pass equally many images of each, or one"
        ) from None
    return first, second


def as_array(image: Any, name: str) -> Any:
    """Return a JAX or NumPy array as it is, and a tensor of another library as a NumPy array.

    Raises:
        ImageError: It is something else.
    """
    if isinstance(image, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
        return image
    kind = type(image).__name__
    if hasattr(image, "getbands") and hasattr(image, "convert"):
        raise ImageError(
            f"`{name}` is a PIL image, expected an array: pass np.asarray({name}.convert('RGB'), np.float32) / 255"
        )
    if not hasattr(image, "shape") or not hasattr(image, "dtype"):
        advice = "pass an array" if isinstance(image, int | float) else "load files with jnst.load_image"
        raise ImageError(f"`{name}` is a {kind}, expected an array: {advice}")
    if hasattr(image, "detach"):  # a PyTorch tensor, which may need a gradient or be elsewhere
        image = image.detach().cpu()
        image = image.float() if str(image.dtype) == "torch.bfloat16" else image
    try:
        return np.asarray(image)
    except Exception as error:
        raise ImageError(f"`{name}` is a {kind}, which NumPy cannot convert ({error}): pass a NumPy array") from None


def _check_values(image: Array, name: str) -> Image:
    if not jnp.issubdtype(image.dtype, jnp.floating):
        raise ImageError(
            f"`{name}` has dtype {image.dtype}, expected floats in [0, 1]: divide by 255 or use jnst.load_image"
        )
    if math.prod(image.shape) == 0:
        raise ImageError(f"`{name}` is empty (shape {tuple(image.shape)}): load an image with jnst.load_image")
    if not isinstance(image, Tracer):
        _check_range(np.asarray(image, np.float32), name)
    return jnp.asarray(image, jnp.float32)


def _check_range(image: np.ndarray, name: str) -> None:
    if not np.isfinite(image).all():
        count = int((~np.isfinite(image)).sum())
        raise ImageError(f"`{name}` has {count} values that are NaN or infinite: replace or mask them")
    low, high = float(image.min()), float(image.max())
    if low < -1e-3 or high > 1.0 + 1e-3:
        fault = next(fault for least, most, fault in RANGES if least <= low and high <= most)
        raise ImageError(f"`{name}` {fault.format(low=low, high=high)}")


def _size(image: Image) -> str:
    return f"{image.shape[-2]}x{image.shape[-3]}"


def _shape_advice(shape: tuple[int, ...]) -> str:
    if len(shape) == 3 and shape[-1] == 4:
        return "composite the alpha channel over a background, as jnst.load_image does"
    if len(shape) == 3 and shape[-1] == 2:
        return "take the grey channel without its alpha and repeat it, with jnp.repeat(image[..., :1], 3, axis=-1)"
    if len(shape) == 3 and shape[-1] == 1:
        return "repeat the grey channel, with jnp.repeat(image, 3, axis=-1)"
    if len(shape) == 3 and shape[0] == 3:
        return "move the channels last, with jnp.moveaxis(image, 0, -1)"
    if len(shape) == 3 and shape[0] == 1:
        return "repeat the grey channel last, with jnp.repeat(image[0][..., None], 3, axis=-1)"
    if len(shape) == 2:
        return "repeat a grey image three times along a new last axis, with jnp.repeat(image[..., None], 3, axis=-1)"
    if len(shape) == 4 and shape[0] == 1:
        return "take the image out of its batch, with image[0]"
    if len(shape) == 4:
        return "pass one image at a time"
    return "pass an image with three channels, or split others with jnst.rgb_groups"
