"""Feature maps and Gram matrices as images."""

import math

import numpy as np
from PIL import Image as Pillow

from jnst.errors import ArgumentError
from jnst.types import Features, Matrix

GAP, BACKGROUND = 2, 255
LOW, MIDDLE, HIGH = (33, 102, 172), (247, 247, 247), (178, 24, 43)
"""The colours of the most negative value, of zero, and of the most positive value."""


def feature_montage(features: Features | np.ndarray, *, max_maps: int = 16, tile: int = 96) -> Pillow.Image:
    """Show feature maps as grey images in a square table, row by row in the order of the channels.

    Each map is normalised on its own: its smallest value is black, its largest is white. Constant maps are black.

    Args:
        features: ``(h, w, c)``.
        max_maps: How many maps to show, of the channels with the largest standard deviations.
        tile: The longer side of a map in pixels.

    Raises:
        ArgumentError: Another shape, or values that are not finite.
    """
    maps = np.moveaxis(_finite("features", features, 3), -1, 0)
    strongest = np.sort(np.argsort(-maps.std((1, 2)), kind="stable")[:max_maps])
    height, width = maps.shape[1:]
    scale = tile / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    columns = math.ceil(math.sqrt(len(strongest)))
    rows = math.ceil(len(strongest) / columns)
    montage = Pillow.new("L", (columns * (size[0] + GAP) - GAP, rows * (size[1] + GAP) - GAP), BACKGROUND)
    for place, channel in enumerate(strongest):
        at = place % columns * (size[0] + GAP), place // columns * (size[1] + GAP)
        montage.paste(_resized(Pillow.fromarray(_grey(maps[channel])), size), at)
    return montage


def gram_image(gram: Matrix | np.ndarray, *, side: int = 256) -> Pillow.Image:
    """Show a Gram matrix: zeros are white, positive entries red, negative ones blue.

    The intensity is the square root of the entry's magnitude relative to the largest one, so that small entries are
    visible beside the diagonal.

    Args:
        gram: ``(c, c)``.
        side: The side of the image in pixels.

    Raises:
        ArgumentError: Another shape, or values that are not finite.
    """
    values = _finite("gram", gram, 2)
    if values.shape[0] != values.shape[1]:
        raise ArgumentError(f"`gram` has shape {values.shape}: expected (c, c), as jnst.gram_matrix returns it")
    strength = np.sqrt(np.abs(values) / (np.abs(values).max() or 1.0))[..., None]
    ends = np.where((values < 0)[..., None], LOW, HIGH)
    colours = np.asarray(MIDDLE) * (1 - strength) + ends * strength
    return _resized(Pillow.fromarray(np.asarray(colours + 0.5, np.uint8)), (side, side))


def _finite(name: str, values: Features | Matrix | np.ndarray, axes: int) -> np.ndarray:
    array = np.asarray(values, np.float64)
    if array.ndim != axes or 0 in array.shape:
        expected = "(h, w, c)" if axes == 3 else "(c, c)"
        raise ArgumentError(f"`{name}` has shape {array.shape}: expected {expected}; show one image at a time")
    if not np.isfinite(array).all():
        raise ArgumentError(f"`{name}` has values that are NaN or infinite: expected finite numbers; find their cause")
    return array


def _grey(plane: np.ndarray) -> np.ndarray:
    low, high = plane.min(), plane.max()
    return np.asarray((plane - low) * (255 / (high - low) if high > low else 0.0) + 0.5, np.uint8)


def _resized(image: Pillow.Image, size: tuple[int, int]) -> Pillow.Image:
    """Resize, without smoothing when it is enlarged, so that every value stays visible as it is."""
    return image.resize(size, Pillow.Resampling.BOX if size[0] < image.width else Pillow.Resampling.NEAREST)
