"""Four classes of small synthetic images: checks, dots, gradients and stripes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Make = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
"""From a random generator and the rows and columns of the pixels to one channel, ``(h, w)`` in [0, 1]."""


def stripes(random: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A sine wave of random direction, period and phase."""
    angle, period = random.uniform(0, np.pi), random.uniform(6, 10)
    phase = random.uniform(0, 2 * np.pi)
    return 0.5 + 0.5 * np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + phase)


def dots(random: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Light discs on a dark background."""
    plane = np.zeros_like(x)
    for _ in range(8):
        row, column, radius = random.uniform(0, y.max()), random.uniform(0, x.max()), random.uniform(2.5, 4.5)
        plane = np.maximum(plane, (np.hypot(y - row, x - column) < radius).astype(float))
    return plane


def gradients(random: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A linear ramp of random direction."""
    angle = random.uniform(0, 2 * np.pi)
    slope = x * np.cos(angle) + y * np.sin(angle)
    return (slope - slope.min()) / np.ptp(slope)


def checks(random: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Squares of two pixels, randomly light or dark."""
    return random.integers(0, 2, x.shape).astype(float)[(y // 2).astype(int), (x // 2).astype(int)]


CLASSES: dict[str, Make] = {"checks": checks, "dots": dots, "gradients": gradients, "stripes": stripes}


def make_image(kind: str, seed: int) -> np.ndarray:
    """Make an image in two random colours with sides of 24 to 48 pixels: uint8 ``(h, w, 3)``."""
    random = np.random.default_rng((list(CLASSES).index(kind), seed))
    height, width = random.integers(24, 49, 2)
    y, x = np.mgrid[0:height, 0:width].astype(float)
    dark, light = random.uniform(0, 0.4, 3), random.uniform(0.6, 1, 3)
    plane = CLASSES[kind](random, y, x)[..., None]
    return np.round(255 * (dark + (light - dark) * plane)).astype(np.uint8)


def save_classes(folder: Path, count: int = 24) -> Path:
    """Write ``count`` images of each class, alternately PNG and JPEG, to ``folder/CLASS/``; return ``folder``."""
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True)
        for seed in range(count):
            suffix = ".jpg" if seed % 2 else ".png"
            Image.fromarray(make_image(kind, seed)).save(folder / kind / f"{seed:02}{suffix}", quality=92)
    return folder
