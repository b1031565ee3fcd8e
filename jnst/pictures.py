"""The pictures that a run is given, the sizes at which it looks at them, and where it starts."""

from collections.abc import Callable
from typing import NamedTuple

from jnst.errors import JnstError
from jnst.image import fit_shape, noise, resize
from jnst.types import Array, Guide, Image, RandomKey


class Pictures(NamedTuple):
    """What a run is given: see `jnst.stylize`."""

    content: Image | None
    styles: tuple[Image, ...] = ()
    style_weights: Array | None = None
    masks: tuple[Guide, ...] | None = None
    style_masks: tuple[Guide | None, ...] | None = None


INITS: dict[str, Callable[[RandomKey, Pictures, tuple[int, int], float], Image]] = {
    "content": lambda key, pictures, shape, std: _needed("content", pictures.content),
    "style": lambda key, pictures, shape, std: resize(_needed("style", *pictures.styles[:1]), shape),
    "noise": lambda key, pictures, shape, std: noise(key, shape, std),
}
"""Starting pictures: functions of key, pictures (at the size of the start), that size, and the standard deviation."""


def _cropped(image: Image, shape: tuple[int, int]) -> Image:
    """The largest middle part of a picture that has the proportions of ``shape``, resized to it."""
    height, width = size_of(image)
    scale = min(height / shape[0], width / shape[1])
    h, w = max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))
    top, left = (height - h) // 2, (width - w) // 2
    return resize(image[top : top + h, left : left + w], shape)


FITS: dict[str, Callable[[Image, tuple[int, int]], Image]] = {"crop": _cropped, "resize": resize}
"""How a picture is brought to a height and width: cut to its proportions first, or stretched."""


def _needed(name: str, picture: Image | None = None) -> Image:
    if picture is None:
        others = ", ".join(other for other in INITS if other != name)
        raise JnstError(f"init {name!r} without a {name} picture: start from another of {others}, or pass a picture")
    return picture


def resize_pictures(
    pictures: Pictures, shape: tuple[int, int], style_sides: tuple[float, ...], smallest_side: int, method: str
) -> Pictures:
    """Bring the content picture to ``shape`` and every style to its longer side.

    Args:
        pictures: At full resolution; masks stay as they are, since guides are made from them at any size.
        shape: Height and width.
        style_sides: In pixels; a style whose shorter side would fall below ``smallest_side`` is made that large.
        smallest_side: What the network needs.
        method: A key of `jnst.image.METHODS`.
    """
    content = None if pictures.content is None else resize(pictures.content, shape, method)
    styles = tuple(
        resize(style, fit_shape(size_of(style), max(side, _least(style, smallest_side))), method)
        for style, side in zip(pictures.styles, style_sides, strict=True)
    )
    return pictures._replace(content=content, styles=styles)


def _least(style: Image, smallest_side: int) -> float:
    """The longer side at which the shorter one is ``smallest_side``, or the picture's own if it is smaller."""
    height, width = size_of(style)
    return max(height, width) * min(1.0, smallest_side / min(height, width))


def size_of(image: Image) -> tuple[int, int]:
    """Height and width."""
    return image.shape[0], image.shape[1]
