"""Procedural images in the four classes of the first experiment, each made from a seed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

HEIGHT, WIDTH = 128, 160
Make = Callable[[np.random.Generator, np.ndarray, np.ndarray], np.ndarray]
"""Maps a random generator and the rows and columns of pixels in [0, 1] to an image ``(h, w, 3)``, about in [0, 1]."""


def _blend(low: np.ndarray, high: np.ndarray, amount: np.ndarray) -> np.ndarray:
    return low + (high - low) * amount[..., None]


def travel(random: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Mountains, sky and water."""
    image = _blend(np.array((0.35, 0.55, 0.85)), np.array((0.95, 0.85, 0.75)), y + 0 * x)
    for depth in range(3):
        waves = sum(np.sin(x * random.uniform(4, 30) + random.uniform(0, 7)) / (k + 2) for k in range(5))
        ridge = 0.35 + 0.15 * depth + 0.08 * waves
        image[y > ridge] = np.array((0.45, 0.5, 0.6)) * (1 - 0.25 * depth) * random.uniform(0.8, 1.1, 3)
    water = y > random.uniform(0.72, 0.85)
    shine = 0.12 * np.sin(90 * y + 6 * np.sin(9 * x))[water][..., None]
    image[water] = np.array((0.2, 0.4, 0.55)) + shine
    return image


def food(random: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Round shapes in warm colours on a plate."""
    image = np.broadcast_to(random.uniform(0.25, 0.5, 3), (*x.shape, 3)).copy()
    row, column = random.uniform(0.4, 0.6, 2)
    distance = np.hypot(y - row, (x - column) * WIDTH / HEIGHT)
    image[distance < 0.48] = 0.9
    image[np.abs(distance - 0.4) < 0.015] = 0.75
    for _ in range(random.integers(8, 20)):
        angle, reach, radius = random.uniform(0, 7), random.uniform(0, 0.3), random.uniform(0.04, 0.11)
        at = row + reach * np.sin(angle), column + reach * np.cos(angle) * HEIGHT / WIDTH
        inside = np.hypot(y - at[0], (x - at[1]) * WIDTH / HEIGHT) / radius
        colour = np.array((0.9, 0.45, 0.15)) * random.uniform(0.5, 1.1, 3)
        image[inside < 1] = (colour * (1.2 - 0.5 * inside[..., None]))[inside < 1]
    return image


def art(random: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Curved strokes in strong colours."""
    low, high, third = random.uniform(0, 0.5, 3), random.uniform(0.5, 1, 3), random.uniform(0, 1, 3)
    bend = sum(np.sin(random.uniform(3, 9) * x + random.uniform(3, 9) * y + random.uniform(0, 7)) for _ in range(3))
    strokes = np.sin(random.uniform(25, 45) * (x * np.cos(bend) + y * np.sin(bend)))
    return _blend(_blend(low, high, 0.5 + 0.5 * strokes), third, 0.5 + 0.5 * np.sin(2 * bend))


def architecture(random: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Houses with rows of windows."""
    image = _blend(np.array((0.6, 0.75, 0.9)), np.array((0.9, 0.9, 0.95)), y + 0 * x)
    edge = 0.0
    while edge < 1:
        width, top = random.uniform(0.12, 0.3), random.uniform(0.1, 0.5)
        wall, across, down = random.uniform(0.4, 0.85, 3), random.integers(3, 7), random.integers(14, 24)
        house = (x >= edge) & (x < edge + width) & (y > top)
        window = (((x - edge) / width * across) % 1 > 0.45) & (((y - top) * down) % 1 > 0.45)
        image[house] = wall
        image[house & window] = wall * random.uniform(0.2, 0.5)
        edge += width
    return image


CLASSES: dict[str, Make] = {"architecture": architecture, "art": art, "food": food, "travel": travel}


def image(kind: str, seed: int) -> np.ndarray:
    """An image of a class, with a little grain: uint8 ``(HEIGHT, WIDTH, 3)``."""
    random = np.random.default_rng((list(CLASSES).index(kind), seed))
    y, x = np.meshgrid(np.linspace(0, 1, HEIGHT), np.linspace(0, 1, WIDTH), indexing="ij")
    values = CLASSES[kind](random, y, x) + random.normal(0, 0.02, (HEIGHT, WIDTH, 1))
    return np.asarray(np.clip(values, 0, 1) * 255 + 0.5, np.uint8)


def save_classes(folder: Path, count: int) -> Path:
    """Write ``count`` images of each class to ``folder/CLASS/``, and return ``folder``."""
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True)
        for seed in range(count):
            Pillow.fromarray(image(kind, seed)).save(folder / kind / f"{seed:03}.png")
    return folder
