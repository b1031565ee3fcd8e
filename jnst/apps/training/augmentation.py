"""Random crops and colour changes of training images.

A classifier sees the views of `augment` in training and `centre_crop` in testing. A distilled network sees
`random_crops` with `PhotometricAugmentation`.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

CENTRE_FRACTION = 224 / 256
"""Side of the centre crop as a fraction of the image's shorter side."""

MAX_ATTEMPTS = 10
"""Crops drawn before `crop_box` falls back to the centre."""

_LUMA = np.asarray((0.299, 0.587, 0.114), np.float32)  # ITU-R BT.601


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How a classifier's training images are varied.

    Attributes:
        scale: Smallest and largest area of a crop, as a fraction of the image's area.
        ratio: Smallest and largest ratio of a crop's width to its height.
        flip: Whether half of the crops are mirrored left to right.
        brightness: Pixels are multiplied by a factor between 1 - brightness and 1 + brightness.
        contrast: The same for the difference from the mean luma.
        saturation: The same for the difference of each pixel from its luma.
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
    """Draw a crop of random area, aspect ratio and position.

    The logarithm of the ratio is uniform. If none of ten draws fits into the image, return the largest centre crop
    whose ratio is allowed.

    Returns:
        Left, top, right and bottom in pixels.

    References:
        Szegedy et al., Going Deeper with Convolutions, CVPR 2015, section 6.
    """
    low, high = augmentation.ratio
    for _ in range(MAX_ATTEMPTS):
        area = height * width * random.uniform(*augmentation.scale)
        ratio = math.exp(random.uniform(math.log(low), math.log(high)))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left, top = int(random.integers(width - crop_width + 1)), int(random.integers(height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    crop_width = min(width, max(1, round(height * high)))
    crop_height = min(height, max(1, round(width / low)))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def colour_jitter(random: np.random.Generator, pixels: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Vary brightness, then contrast, then saturation of float32 ``(h, w, 3)`` in [0, 255]."""
    strengths = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    brightness, contrast, saturation = (np.float32(random.uniform(1 - s, 1 + s)) for s in strengths)
    pixels = np.clip(pixels * brightness, 0, 255)
    mean = np.mean(pixels @ _LUMA)
    pixels = np.clip(mean + (pixels - mean) * contrast, 0, 255)
    luma = (pixels @ _LUMA)[..., None]
    return np.clip(luma + (pixels - luma) * saturation, 0, 255)


def augment(
    random: np.random.Generator, pixels: np.ndarray, size: int, augmentation: Augmentation = Augmentation()
) -> np.ndarray:
    """Cut a random crop, resize it, mirror it half of the time and vary its colours.

    Args:
        random: The source of all random numbers.
        pixels: uint8 ``(h, w, 3)`` of any size.
        size: Side of the result in pixels.
        augmentation: How much to vary.

    Returns:
        uint8 ``(size, size, 3)``.
    """
    height, width = pixels.shape[:2]
    crop = _resized(pixels, size, crop_box(random, height, width, augmentation))
    if augmentation.flip and random.random() < 0.5:
        crop = crop[:, ::-1]
    return np.asarray(colour_jitter(random, crop.astype(np.float32), augmentation) + 0.5, np.uint8)


def centre_crop(pixels: np.ndarray, size: int) -> np.ndarray:
    """Cut out the centre square, 224/256 of the shorter side, and resize it.

    The result equals resizing the shorter side to 256/224 of ``size`` and then cutting out the centre.

    Args:
        pixels: uint8 ``(h, w, 3)`` of any size.
        size: Side of the result in pixels.

    Returns:
        uint8 ``(size, size, 3)``.
    """
    height, width = pixels.shape[:2]
    half = CENTRE_FRACTION * min(height, width) / 2
    return _resized(pixels, size, (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half))


def _resized(pixels: np.ndarray, size: int, box: tuple[float, float, float, float]) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=box))


@dataclasses.dataclass(frozen=True)
class PhotometricAugmentation:
    """Random changes of a crop's contrast, brightness and colour, and noise.

    Attributes:
        contrast: Largest contrast factor. The smallest is its inverse.
        brightness: Largest shift, up or down.
        colour: Largest factor of a single channel. The smallest is its inverse.
        noise: Largest standard deviation of Gaussian noise. Half of the crops get none.
    """

    contrast: float = 1.4
    brightness: float = 0.1
    colour: float = 1.15
    noise: float = 0.12

    def __call__(self, random: np.random.Generator, crop: np.ndarray) -> np.ndarray:
        """Change a float crop in [0, 1]."""
        gain = self.contrast ** random.uniform(-1, 1) * self.colour ** random.uniform(-1, 1, 3)
        changed = (crop - 0.5) * gain + 0.5 + random.uniform(-self.brightness, self.brightness)
        if random.random() < 0.5:
            changed = changed + random.uniform(0, self.noise) * random.standard_normal(crop.shape)
        return np.clip(changed, 0.0, 1.0).astype(np.float32)


def random_crop(
    random: np.random.Generator,
    images: Sequence[np.ndarray],
    size: int,
    augmentation: PhotometricAugmentation | None = None,
) -> np.ndarray:
    """Cut a square of random scale and position out of a random image, and mirror it half of the time.

    Args:
        random: The source of all random numbers.
        images: uint8 ``(h, w, 3)`` each.
        size: Side of the result in pixels.
        augmentation: Colour changes and noise; None for none.

    Returns:
        float32 ``(size, size, 3)`` in [0, 1].
    """
    image = images[int(random.integers(len(images)))]
    height, width = image.shape[:2]
    side = int(np.exp(random.uniform(np.log(size), np.log(max(size, min(height, width))))))
    side = min(side, height, width)
    top, left = random.integers(height - side + 1), random.integers(width - side + 1)
    window = Image.fromarray(image[top : top + side, left : left + side])
    crop = np.asarray(window.resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255
    crop = crop[:, ::-1] if random.random() < 0.5 else crop
    return np.ascontiguousarray(crop if augmentation is None else augmentation(random, crop), np.float32)


def random_crops(
    random: np.random.Generator,
    images: Sequence[np.ndarray],
    size: int,
    count: int,
    augmentation: PhotometricAugmentation | None = None,
) -> np.ndarray:
    """Stack ``count`` independent results of `random_crop` to ``(count, size, size, 3)``."""
    return np.stack([random_crop(random, images, size, augmentation) for _ in range(count)])
