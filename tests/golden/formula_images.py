"""Pairs of images by a formula, so that golden values of distances need no stored images."""

import numpy as np


def formula_pair(height: int, width: int, phase: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two images that share their broad colours and differ in their texture.

    With x, y the pixel's column and row, k = 0, 1, 2 the channel (red, green, blue) and p the phase:

        broad     = 0.5 + 0.25 sin(0.11 x + 0.07 y + k + p)
        image     = broad + 0.2 sin(0.9 x - 0.4 y + 2 k + p)
        reference = broad + 0.2 cos(0.05 x y + k + p) (1 - x / width)

    Computed in float64 and rounded to float32 last; both lie within [0.05, 0.95].

    Returns:
        ``(image, reference)``, each (height, width, 3).
    """
    y, x, k = np.mgrid[:height, :width, :3].astype(np.float64)
    broad = 0.5 + 0.25 * np.sin(0.11 * x + 0.07 * y + k + phase)
    image = broad + 0.2 * np.sin(0.9 * x - 0.4 * y + 2 * k + phase)
    reference = broad + 0.2 * np.cos(0.05 * x * y + k + phase) * (1 - x / width)
    return image.astype(np.float32), reference.astype(np.float32)


def formula_pairs(count: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """``count`` pairs that differ from each other in phase, and in how far their images are apart.

    Pair i is that of `formula_pair` with phase i, its reference replaced by ``image + (i + 1) / count (reference -
    image)``: from nearly equal images to the formula's.

    Returns:
        ``(images, references)``, each (count, height, width, 3).
    """
    images, references = zip(*(formula_pair(height, width, phase) for phase in range(count)), strict=True)
    images, references = np.stack(images).astype(np.float64), np.stack(references).astype(np.float64)
    share = (np.arange(1, count + 1) / count).reshape(-1, 1, 1, 1)
    return images.astype(np.float32), (images + share * (references - images)).astype(np.float32)
