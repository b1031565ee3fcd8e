"""Random crops of a folder of images, for training without labels."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from jnst.apps.io import load_image
from jnst.errors import ImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


def load_folder(folder: Path) -> list[np.ndarray]:
    """Read every image below ``folder``, in order of name, as uint8 ``(h, w, 3)``.

    Raises:
        ImageError: No folder, no image in it, or one that cannot be read.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ImageError(f"{folder}: found no images ({', '.join(SUFFIXES)}): name a folder that has some")
    return [np.asarray(np.asarray(load_image(path)) * 255 + 0.5, np.uint8) for path in paths]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far a crop is changed; each change is drawn anew for each crop.

    Attributes:
        contrast: Largest factor of contrast; its inverse is the smallest.
        brightness: Largest shift.
        colour: Largest factor of one channel; its inverse is the smallest.
        noise: Largest standard deviation of Gaussian noise; half of the crops get none.
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
    random: np.random.Generator, images: Sequence[np.ndarray], size: int, augmentation: Augmentation | None = None
) -> np.ndarray:
    """Cut a square out of a random image, at a random scale, perhaps mirrored: ``(size, size, 3)`` in [0, 1]."""
    image = images[int(random.integers(len(images)))]
    height, width = image.shape[:2]
    side = int(np.exp(random.uniform(np.log(size), np.log(max(size, min(height, width))))))
    side = min(side, height, width)
    top, left = random.integers(height - side + 1), random.integers(width - side + 1)
    window = Pillow.fromarray(image[top : top + side, left : left + side])
    crop = np.asarray(window.resize((size, size), Pillow.Resampling.BICUBIC), np.float32) / 255
    crop = crop[:, ::-1] if random.random() < 0.5 else crop
    return np.ascontiguousarray(crop if augmentation is None else augmentation(random, crop), np.float32)


def random_crops(
    random: np.random.Generator,
    images: Sequence[np.ndarray],
    size: int,
    count: int,
    augmentation: Augmentation | None = None,
) -> np.ndarray:
    """``count`` independent `random_crop`s: ``(count, size, size, 3)``."""
    return np.stack([random_crop(random, images, size, augmentation) for _ in range(count)])
