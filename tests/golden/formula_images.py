"""Pairs of images by a formula, so that golden values of distances need no stored images."""

import numpy as np


def formula_pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Two images that share their broad colours and differ in their texture.

    With x, y the pixel's column and row and k = 0, 1, 2 the channel (red, green, blue):

        broad     = 0.5 + 0.25 sin(0.11 x + 0.07 y + k)
        image     = broad + 0.2 sin(0.9 x - 0.4 y + 2 k)
        reference = broad + 0.2 cos(0.05 x y + k) (1 - x / width)

    Computed in float64 and rounded to float32 last; both lie within [0.05, 0.95].

    Returns:
        ``(image, reference)``, each (height, width, 3).
    """
    y, x, k = np.mgrid[:height, :width, :3].astype(np.float64)
    broad = 0.5 + 0.25 * np.sin(0.11 * x + 0.07 * y + k)
    image = broad + 0.2 * np.sin(0.9 * x - 0.4 * y + 2 * k)
    reference = broad + 0.2 * np.cos(0.05 * x * y + k) * (1 - x / width)
    return image.astype(np.float32), reference.astype(np.float32)
