"""Parts of images for perceptual losses: groups of three channels, and random crops."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnst.errors import ArgumentError, ImageError
from jnst.images.check import as_array
from jnst.types import Array, Image, RandomKey


def rgb_groups(images: Array | np.ndarray) -> Image:
    """Split images of any number of channels into images of three, for networks that take nothing else.

    Channels are grouped in their order; a last group of one or two repeats its last channel. So a grey image becomes
    one image with three equal channels, six channels become two images, and four become those of channels 0, 1, 2 and
    of channel 3 as grey. The mean of a loss over the new axis is then the loss of the whole. Another choice, such as a
    projection to three principal components, is a product with a matrix that keeps values in [0, 1].

    Args:
        images: ``(..., h, w, c)`` in [0, 1].

    Returns:
        ``(..., ⌈c / 3⌉, h, w, 3)``.

    Raises:
        ImageError: Not an array, fewer than three axes, or no channels.

    Examples:
        >>> rgb_groups(jnp.ones((2, 8, 8, 16))).shape
        (2, 6, 8, 8, 3)
    """
    images = as_array(images, "images")
    if images.ndim < 3 or images.shape[-1] == 0:
        raise ImageError(
            f"`images` have shape {tuple(images.shape)}, expected (..., h, w, c) with at least one channel"
        )
    missing = -images.shape[-1] % 3
    padded = jnp.concatenate([jnp.asarray(images)] + [images[..., -1:]] * missing, -1)
    return jnp.moveaxis(padded.reshape(*padded.shape[:-1], padded.shape[-1] // 3, 3), -2, -4)


def random_crops(images: Any, shape: tuple[int, int], count: int, *, key: RandomKey) -> Any:
    """Cut the same random crops out of several arrays of images, such as predictions and their targets.

    The positions are uniform and independent for each crop; all images of a batch share them. The cost of a loss on
    crops is that of their pixels, whatever the size of the images.

    Args:
        images: An array ``(..., h, w, c)``, or a pytree of such arrays of equal height and width, for example
            ``(prediction, target)``. Masks ``(..., h, w)`` need a last axis: ``mask[..., None]``.
        shape: Height and width of a crop.
        count: The number of crops.
        key: Decides the positions.

    Returns:
        The same pytree of arrays ``(count, ..., *shape, c)``.

    Raises:
        ArgumentError: No images, or arrays without channels; images of different sizes; crops larger than the images or
            without pixels; or no crops.

    Examples:
        >>> prediction, target = jnp.zeros((4, 64, 48, 3)), jnp.ones((4, 64, 48, 3))
        >>> crops, others = random_crops((prediction, target), (32, 32), 2, key=jax.random.key(0))
        >>> crops.shape
        (2, 4, 32, 32, 3)
    """
    shapes = [tuple(np.shape(leaf)) for leaf in jax.tree.leaves(images)]
    if not shapes:
        raise ArgumentError("no images to crop: pass an array (..., h, w, c), or several")
    if flat := [shape for shape in shapes if len(shape) < 3]:
        raise ArgumentError(f"images of shape {flat[0]}, expected (..., h, w, c): add an axis, with images[..., None]")
    sizes = {shape[-3:-1] for shape in shapes}
    if len(sizes) != 1:
        raise ArgumentError(f"images of sizes {sorted(sizes)}, expected one size: resize or crop them to it first")
    (height, width), (rows, columns) = next(iter(sizes)), shape
    if not (1 <= rows <= height and 1 <= columns <= width and count >= 1):
        raise ArgumentError(
            f"{count} crops of {columns}x{rows} pixels from images of {width}x{height}: pass at least one crop, not "
            "larger than the images"
        )
    limits = jnp.array([height - rows, width - columns])
    corners = jax.random.randint(key, (count, 2), 0, limits + 1)

    def cut(leaf: Array, corner: Array) -> Array:
        start = (0,) * (leaf.ndim - 3) + (corner[0], corner[1], 0)
        return jax.lax.dynamic_slice(leaf, start, (*leaf.shape[:-3], rows, columns, leaf.shape[-1]))

    return jax.tree.map(lambda leaf: jax.vmap(lambda corner: cut(jnp.asarray(leaf), corner))(corners), images)
