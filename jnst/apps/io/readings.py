"""At what size a run with given settings reads its images."""

from collections.abc import Callable
from typing import NamedTuple

from jnst.apps.io.load import load_image, resized
from jnst.apps.io.peek import image_size
from jnst.presets import MEASURES, Preset
from jnst.types import Image
from jnst.weights.files import PathLike

DETAIL = 4
"""Where every size of a pyramid is made from the image itself, so many times the largest is kept of it at most."""


class Reading(NamedTuple):
    """How an image file is read: arguments of `load_image`."""

    size: int
    resample: str
    rounding: str = "round"
    enlarge: bool = True


def result_size(settings: Preset) -> int | None:
    """The longer side that results are to have; None: that of the content image as read.

    With a pyramid each size is made from the original, as published programs do it, and not from the largest size.
    """
    return settings.size if settings.pyramid is not None and settings.measure == "side" else None


def reading(
    path: PathLike,
    settings: Preset,
    scale: float = 1.0,
    own: Callable[[PathLike], tuple[int, int]] = image_size,
) -> Reading:
    """How a run reads an image.

    Args:
        path: The file.
        settings: The run's.
        scale: 1 for a content, ``settings.style_scale`` for a style.
        own: Gives the file's height and width.

    Raises:
        ImageError: Its size is asked for and cannot be read.
    """
    if result_size(settings) is not None:
        return Reading(round(DETAIL * settings.size * scale), settings.resample, enlarge=False)
    side = settings.size * scale
    if settings.measure != "side":
        side *= MEASURES[settings.measure](*own(path))
    return Reading(round(side), settings.resample, settings.rounding)


def read(path: PathLike, how: Reading) -> Image:
    """The image; raises as `load_image`."""
    return load_image(path, how.size, resample=how.resample, rounding=how.rounding, enlarge=how.enlarge)


def read_shape(own: tuple[int, int], how: Reading) -> tuple[int, int]:
    """Height and width of what `read` gives for a file of height and width ``own``."""
    if not how.enlarge and max(own) <= how.size:
        return own
    width, height = resized(own[1], own[0], how.size, how.rounding)
    return height, width
