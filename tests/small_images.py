"""Small image files for tests of catalogues."""

from pathlib import Path

import numpy as np
from PIL import Image


def save(path: Path, seed: int, width: int = 24, height: int = 18) -> Path:
    """Save a smooth random image, different for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path
