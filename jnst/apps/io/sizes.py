"""How a run loads its images: the size and the other arguments of `load_image` that a preset asks for."""

from collections.abc import Callable
from typing import NamedTuple

from jnst.apps.io.load import image_size, load_image, resized
from jnst.presets import MEASURES, Preset, preset
from jnst.types import Image
from jnst.weights.files import PathLike

DETAIL = 4
"""Where every size of a pyramid is made from the original, this is loaded at one to two times ``DETAIL`` times the
largest size, if it is larger than that."""


class LoadOptions(NamedTuple):
    """Arguments of `load_image`."""

    size: int
    resample: str
    rounding: str = "round"
    enlarge: bool = True
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)


def result_size(settings: Preset) -> int | None:
    """The longer side of the result in pixels; None means that the result is as large as the loaded content image.

    With a pyramid every size is made from the original image, as in published programs, and not from the largest size.
    """
    by_pyramid = settings.schedule.pyramid is not None and settings.loading.measure == "side"
    return settings.loading.size if by_pyramid else None


def as_loaded(settings: Preset) -> tuple[Preset, int | None]:
    """The settings and the ``size`` to pass to `jnst.stylize` with images that were loaded by `load_options`."""
    size = result_size(settings)
    # Without a size, styles were loaded at their scale already.
    return (preset(settings, style_scale=1.0) if size is None else settings), size


def load_options(
    path: PathLike,
    settings: Preset,
    scale: float = 1.0,
    size_of: Callable[[PathLike], tuple[int, int]] = image_size,
) -> LoadOptions:
    """Choose how a run loads an image.

    Args:
        path: The file.
        settings: The settings of the run.
        scale: 1 for a content image, `Schedule.style_scale` for a style image.
        size_of: Returns the height and width of a file.

    Raises:
        ImageError: The size of the file is needed and cannot be read.
    """
    loading, resample = settings.loading, settings.schedule.resample
    if result_size(settings) is not None:
        side = _proportional_side(size_of(path), round(DETAIL * loading.size * scale))
        return LoadOptions(side, resample, enlarge=False, background=loading.background)
    side = loading.size * scale
    if loading.measure != "side":
        side *= MEASURES[loading.measure](*size_of(path))
    return LoadOptions(round(side), resample, loading.rounding, background=loading.background)


def _proportional_side(shape: tuple[int, int], least: int) -> int:
    """The longer side, from ``least`` to twice that, at which the shorter one needs the least rounding.

    The sizes of a pyramid are then what they would be if they were rounded from ``shape`` itself.
    """
    longer, shorter = max(shape), min(shape)
    remainders = {side: side * shorter % longer for side in range(least, min(2 * least, longer) + 1)}
    return min(remainders, key=lambda side: min(remainders[side], longer - remainders[side]), default=least)


def load_with(path: PathLike, options: LoadOptions) -> Image:
    """Load an image. Raises the errors of `load_image`."""
    return load_image(path, **options._asdict())


def loaded_shape(own: tuple[int, int], options: LoadOptions) -> tuple[int, int]:
    """The height and width of the image that `load_with` returns for a file of height and width `own`."""
    if not options.enlarge and max(own) <= options.size:
        return own
    width, height = resized(own[1], own[0], options.size, options.rounding)
    return height, width
