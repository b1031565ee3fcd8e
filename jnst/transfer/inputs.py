"""The images that a run is given, the sizes at which it looks at them, and where it starts."""

from collections.abc import Callable
from typing import NamedTuple

from jnst.errors import ArgumentError
from jnst.images import fit_shape, noise, resize, size_of
from jnst.types import Array, Guide, Image, RandomKey


class Inputs(NamedTuple):
    """What a run is given: see `jnst.transfer.stylize`."""

    content: Image | None
    styles: tuple[Image, ...] = ()
    style_weights: Array | None = None
    masks: tuple[Guide, ...] | None = None
    style_masks: tuple[Guide | None, ...] | None = None


INITS: dict[str, Callable[[RandomKey, Inputs, tuple[int, int], float], Image]] = {
    "content": lambda key, images, shape, std: _needed("content", images.content),
    "style": lambda key, images, shape, std: resize(_needed("style", *images.styles[:1]), shape),
    "noise": lambda key, images, shape, std: noise(key, shape, std),
}
"""Starting images: functions of key, images (at the size of the start), that size, and the standard deviation."""


def _needed(name: str, image: Image | None = None) -> Image:
    if image is None:
        others = ", ".join(other for other in INITS if other != name)
        raise ArgumentError(f"init {name!r} without a {name} image: start from another of {others}, or pass an image")
    return image


def resize_images(
    images: Inputs, shape: tuple[int, int], style_sides: tuple[float, ...], smallest_side: int, method: str
) -> Inputs:
    """Bring the content image to ``shape`` and every style to its longer side.

    Args:
        images: At full resolution; masks stay as they are, since guides are made from them at any size.
        shape: Height and width.
        style_sides: In pixels; a style whose shorter side would fall below ``smallest_side`` is made that large.
        smallest_side: What the network needs.
        method: A key of `jnst.images.METHODS`.
    """
    content = None if images.content is None else resize(images.content, shape, method)
    styles = tuple(
        resize(style, fit_shape(size_of(style), max(side, _least(style, smallest_side))), method)
        for style, side in zip(images.styles, style_sides, strict=True)
    )
    return images._replace(content=content, styles=styles)


def _least(style: Image, smallest_side: int) -> float:
    """The longer side at which the shorter one is ``smallest_side``, or the image's own if it is smaller."""
    height, width = size_of(style)
    return max(height, width) * min(1.0, smallest_side / min(height, width))
