"""Masks, which assign regions of an image to styles, and the guides made from them for each layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnst.errors import ImageError
from jnst.images.resize import resize_mask
from jnst.types import Array, Guide

GuideInput = Guide | np.ndarray
"""Masks as arguments: JAX or NumPy arrays."""


def check_masks(masks: Sequence[Array], shape: tuple[int, int], name: str, count: int) -> tuple[Guide, ...]:
    """Return ``masks`` as float32 JAX arrays if there are ``count`` of them, each valid for an image of ``shape``.

    Args:
        masks: ``(h, w)`` each: floats in [0, 1], or booleans.
        shape: Height and width of the image.
        name: The argument's name in error messages.
        count: The expected number of masks, one per style image.

    Raises:
        ImageError: Another number of masks, another shape, values outside [0, 1], or a mask of zeros.
    """
    if len(masks) != count:
        raise ImageError(f"{len(masks)} `{name}` for {count} styles: give one mask for each style image")
    return tuple(check_mask(mask, shape, f"{name}[{index}]") for index, mask in enumerate(masks))


def check_mask(mask: Array, shape: tuple[int, int], name: str) -> Guide:
    """Return ``mask`` as a float32 JAX array if it is valid for an image of ``shape``.

    Args:
        mask: ``(h, w)``: floats in [0, 1], or booleans. Inside `jax.jit` only the shape is checked.
        shape: Height and width of the image.
        name: The argument's name in error messages.

    Raises:
        ImageError: Another shape, values outside [0, 1], or a mask of zeros.
    """
    if not hasattr(mask, "shape"):
        raise ImageError(f"`{name}` is a {type(mask).__name__}, expected an array of shape (h, w)")
    if tuple(mask.shape) != tuple(shape):
        raise ImageError(f"`{name}` has shape {tuple(mask.shape)}, but its image {tuple(shape)}: resize the mask")
    return _check_values(mask, name, "leave out styles without a region")


def check_weights(mask: Any, shape: tuple[int, ...], name: str) -> Guide:
    """Return ``mask`` as a float32 JAX array if it gives each pixel of images a weight.

    Args:
        mask: ``(..., h, w)``: floats in [0, 1], or booleans. Inside `jax.jit` only the shape is checked.
        shape: ``(..., h, w)``, the shape of the images without channels; leading axes broadcast.
        name: The argument's name in error messages.

    Raises:
        ImageError: Another shape, values outside [0, 1], or a mask of zeros.
    """
    if not hasattr(mask, "shape"):
        raise ImageError(f"`{name}` is a {type(mask).__name__}, expected an array of shape (..., h, w)")
    try:
        np.broadcast_shapes(mask.shape[:-2], shape[:-2])
        fits = tuple(mask.shape[-2:]) == tuple(shape[-2:])
    except ValueError:
        fits = False
    if not fits:
        raise ImageError(
            f"`{name}` has shape {tuple(mask.shape)}, but its images {tuple(shape)}: resize it, and pass "
            "one for all images or one for each"
        )
    return _check_values(mask, name, "leave out images without a region")


def _check_values(mask: Array, name: str, advice: str) -> Guide:
    if not isinstance(mask, Tracer):
        values = np.asarray(mask, np.float32)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ImageError(f"`{name}` has values outside [0, 1]: divide it by its maximum")
        if not values.max((-2, -1)).all():
            raise ImageError(f"`{name}` is 0 everywhere: {advice}")
    return jnp.asarray(mask, jnp.float32)


def guides(mask: Guide, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Guide]:
    """Resample a mask to the resolution of each layer, by averaging.

    Args:
        mask: ``(..., h, w)`` in [0, 1].
        shapes: Height and width of each layer's features.

    Returns:
        ``{layer: (..., h', w')}``: how much each position of the layer belongs to the region, in [0, 1].

    References:
        Gatys, Ecker, Bethge, Hertzmann & Shechtman, Controlling Perceptual Factors in Neural Style Transfer, CVPR 2017,
        section 4.
    """
    return {layer: resize_mask(mask, shape) for layer, shape in shapes.items()}
