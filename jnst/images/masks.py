"""Masks, which say where in an image a style belongs, and the guides that losses make of them at each layer."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnst.errors import ImageError
from jnst.images.resize import resize_mask
from jnst.types import Array, Guide


def check_masks(masks: Sequence[Array], shape: tuple[int, int], name: str, count: int) -> tuple[Guide, ...]:
    """Return ``masks`` as float32 JAX arrays if there is one for each of ``count`` regions, and each of ``shape``.

    Args:
        masks: Each ``(h, w)``: floats in [0, 1], or booleans.
        shape: Height and width of the image that they belong to.
        name: What to call them in messages.
        count: How many there must be.

    Raises:
        ImageError: Another number or shape, values outside [0, 1], or a mask of zeros.
    """
    if len(masks) != count:
        raise ImageError(f"{len(masks)} `{name}` for {count} styles: give one mask for each style image")
    return tuple(check_mask(mask, shape, f"{name}[{index}]") for index, mask in enumerate(masks))


def check_mask(mask: Array, shape: tuple[int, int], name: str) -> Guide:
    """Return one mask as a float32 JAX array; see `check_masks`."""
    if not hasattr(mask, "shape"):
        raise ImageError(f"`{name}` is a {type(mask).__name__}, expected an array (h, w): pass one")
    if tuple(mask.shape) != tuple(shape):
        raise ImageError(f"`{name}` has shape {tuple(mask.shape)}, its image {tuple(shape)}: resize the mask to it")
    if not isinstance(mask, Tracer):
        values = np.asarray(mask, np.float32)
        if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
            raise ImageError(f"`{name}` has values outside [0, 1]: divide it by its maximum")
        if values.max() == 0:
            raise ImageError(f"`{name}` is 0 everywhere: its region is empty, leave it out")
    return jnp.asarray(mask, jnp.float32)


def guides(mask: Guide, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Guide]:
    """Reduce a mask to the resolution of each layer, averaging.

    Args:
        mask: ``(..., h, w)`` in [0, 1].
        shapes: Height and width of each layer's features.

    Returns:
        ``{layer: (..., h', w')}``: how much every position of the layer belongs to the region.

    References:
        Gatys et al., Controlling Perceptual Factors in Neural Style Transfer, CVPR 2017, section 4.
    """
    return {layer: resize_mask(mask, shape) for layer, shape in shapes.items()}
