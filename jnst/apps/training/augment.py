"""What a network sees of an image: random crops, mirrored and recoloured, in training; the middle in testing."""

import dataclasses
import math

import numpy as np
from PIL import Image

MIDDLE = 224 / 256
"""The part of the shorter side that is tested on."""

TRIES = 10
_LUMA = np.asarray((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How training images are varied.

    Attributes:
        scale: Smallest and largest area of a crop, as a fraction of the image's.
        ratio: Smallest and largest ratio of width to height of a crop.
        flip: Whether half of the crops are mirrored, left to right.
        brightness: Images are multiplied by a factor from 1 - this to 1 + this.
        contrast: Likewise the difference from the mean luma.
        saturation: Likewise the difference of each pixel from its luma.
    """

    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2


def crop_box(
    random: np.random.Generator, height: int, width: int, augmentation: Augmentation
) -> tuple[int, int, int, int]:
    """Draw a crop of random area, ratio and position that lies inside an image.

    The logarithm of the ratio is uniform. If none of ten draws fits, it is the largest crop in the middle that does.

    Returns:
        Left, top, right, bottom, in pixels.

    References:
        Szegedy et al., Going Deeper with Convolutions, CVPR 2015, section 6.
    """
    low, high = augmentation.ratio
    for _ in range(TRIES):
        area = height * width * random.uniform(*augmentation.scale)
        ratio = math.exp(random.uniform(math.log(low), math.log(high)))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            left, top = int(random.integers(width - across + 1)), int(random.integers(height - down + 1))
            return left, top, left + across, top + down
    across = min(width, max(1, round(height * high)))
    down = min(height, max(1, round(width / low)))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def jitter(random: np.random.Generator, pixels: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Vary brightness, contrast and saturation, one after the other, of float32 ``(h, w, 3)`` in [0, 255]."""
    strengths = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    brightness, contrast, saturation = (np.float32(random.uniform(1 - s, 1 + s)) for s in strengths)
    pixels = np.clip(pixels * brightness, 0, 255)
    mean = np.mean(pixels @ _LUMA)
    pixels = np.clip(mean + (pixels - mean) * contrast, 0, 255)
    luma = (pixels @ _LUMA)[..., None]
    return np.clip(luma + (pixels - luma) * saturation, 0, 255)


def random_view(
    random: np.random.Generator, pixels: np.ndarray, size: int, augmentation: Augmentation = Augmentation()
) -> np.ndarray:
    """Cut a random crop, resize it and vary it.

    Args:
        random: Where all chance comes from.
        pixels: uint8 ``(h, w, 3)``, of any size.
        size: The side in pixels of what is returned.
        augmentation: How much chance.

    Returns:
        uint8 ``(size, size, 3)``.
    """
    height, width = pixels.shape[:2]
    view = _resized(pixels, size, crop_box(random, height, width, augmentation))
    if augmentation.flip and random.random() < 0.5:
        view = view[:, ::-1]
    return np.asarray(jitter(random, view.astype(np.float32), augmentation) + 0.5, np.uint8)


def centre_view(pixels: np.ndarray, size: int) -> np.ndarray:
    """Take the middle square, of 224/256 of the shorter side, and resize it.

    It is what resizing the shorter side to 256/224 of ``size`` and cutting out the middle gives.

    Args:
        pixels: uint8 ``(h, w, 3)``, of any size.
        size: The side in pixels of what is returned.

    Returns:
        uint8 ``(size, size, 3)``.
    """
    height, width = pixels.shape[:2]
    half = MIDDLE * min(height, width) / 2
    return _resized(pixels, size, (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half))


def _resized(pixels: np.ndarray, size: int, box: tuple[float, float, float, float]) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=box))
