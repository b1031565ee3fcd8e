"""Two procedural images, so that the demo needs no files: an evening landscape and a sky of swirling brush strokes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jnst.types import Image

ImageArray = np.ndarray
"""``(h, w, 3)`` float32 in [0, 1]."""

SEED = 7


@functools.cache
def demo_images() -> tuple[Image, Image]:
    """The content image, a landscape of 256x384 pixels, and the style image, brush strokes of 320x400 pixels.

    Returns:
        Two images ``(h, w, 3)`` in [0, 1], in float32.
    """
    # The images are cached, so they must be concrete even if the first call is inside a transformation.
    with jax.ensure_compile_time_eval():
        return jnp.asarray(content_image()), jnp.asarray(style_image())


def _smooth_noise(random: np.random.Generator, shape: tuple[int, int], cells: int) -> np.ndarray:
    """Value noise: random values on a grid with ``cells`` columns, interpolated smoothly; in [-1, 1]."""
    height, width = shape
    rows = max(2, round(cells * height / width))
    grid = random.uniform(-1, 1, (rows + 2, cells + 2))
    y, x = np.meshgrid(np.linspace(0, rows, height), np.linspace(0, cells, width), indexing="ij")
    i, j = np.minimum(y.astype(int), rows - 1), np.minimum(x.astype(int), cells - 1)
    v, u = (part * part * (3 - 2 * part) for part in (y - i, x - j))
    upper = grid[i, j] * (1 - u) + grid[i, j + 1] * u
    return upper * (1 - v) + (grid[i + 1, j] * (1 - u) + grid[i + 1, j + 1] * u) * v


def _fractal(random: np.random.Generator, shape: tuple[int, int], cells: int, octaves: int = 4) -> np.ndarray:
    """A sum of value noise in octaves, each with twice the columns and half the amplitude of the one before."""
    return sum((0.5**k * _smooth_noise(random, shape, cells * 2**k) for k in range(octaves)), np.zeros(shape))


def _blend(low: tuple[float, ...], high: tuple[float, ...], amount: np.ndarray) -> np.ndarray:
    return np.asarray(low) * (1 - amount[..., None]) + np.asarray(high) * amount[..., None]


def _ridge(random: np.random.Generator, width: int, base: float, height: float, cells: int) -> np.ndarray:
    """The upper edge of a mountain range in each column, as a fraction of the image's height."""
    profile = _fractal(random, (2, width), cells, 6)[0]
    return base - height * (0.5 + 0.5 * profile)


def content_image(height: int = 256, width: int = 384) -> ImageArray:
    """An evening landscape: the sun, clouds, three mountain ranges reflected in a lake, and firs in front."""
    random = np.random.default_rng(SEED)
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    sun = np.hypot((x - 0.66) * width / height, y - 0.36)
    sky = _blend((0.30, 0.45, 0.72), (0.99, 0.80, 0.55), np.clip(y / 0.62, 0, 1) ** 1.3)
    clouds = np.clip(_fractal(random, (height, width), 5) * 1.4 - 0.1, 0, 1) * np.clip(1.2 - 2 * y, 0, 1)
    image = sky * (1 - 0.7 * clouds[..., None]) + np.asarray((1.0, 0.93, 0.88)) * 0.7 * clouds[..., None]
    image += np.exp(-((sun / 0.22) ** 2))[..., None] * np.asarray((0.35, 0.22, 0.05))
    image = np.where((sun < 0.075)[..., None], (1.0, 0.95, 0.78), image)
    layers = (
        (0.56, 0.30, 4, (0.50, 0.55, 0.70)),
        (0.60, 0.22, 6, (0.33, 0.40, 0.55)),
        (0.64, 0.12, 9, (0.17, 0.28, 0.30)),
    )
    for base, size, cells, colour in layers:
        ridge = _ridge(random, width, base, size, cells)
        texture = _fractal(random, (height, width), 24, 3)
        face = np.clip(np.asarray(colour) * (1 + 0.35 * texture[..., None] + 0.5 * (0.62 - y[..., None])), 0, 1)
        image = np.where((y > ridge[None, :])[..., None], face, image)
    return _firs(random, _lake(random, image, 0.64))


def _lake(random: np.random.Generator, image: np.ndarray, shore: float) -> np.ndarray:
    """Replace everything below ``shore`` by a darker, rippled reflection of what is above it."""
    height, width = image.shape[:2]
    edge = int(shore * height)
    rows = np.arange(edge, height)
    ripple = _smooth_noise(random, (height, width), 40)[rows] * np.linspace(1, 6, len(rows))[:, None]
    source = np.clip(2 * edge - 1 - rows[:, None] * 1.0 + ripple, 0, edge - 1).astype(int)
    mirrored = image[source, np.arange(width)[None, :]]
    image = image.copy()
    image[rows] = mirrored * np.asarray((0.70, 0.80, 0.90)) * 0.9 + np.asarray((0.02, 0.05, 0.08))
    return image


def _firs(random: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Draw dark firs along the lower left, each a jagged triangle."""
    height, width = image.shape[:2]
    y, x = np.meshgrid(np.arange(height) / height, np.arange(width) / height, indexing="ij")
    for _ in range(16):
        foot, size = random.uniform(-0.05, 0.42), random.uniform(0.22, 0.55)
        size *= 1.15 - foot * 1.6
        top = 1.03 - size
        depth = np.clip((y - top) / size, 0, 1)
        reach = 0.16 * size * depth * (0.65 + 0.35 * ((depth * 9) % 1.0))
        inside = (np.abs(x - foot) < reach) & (y > top)
        shade = random.uniform(0.6, 1.3) * (0.8 + 0.5 * ((x - foot) > 0))
        image = np.where(inside[..., None], np.asarray((0.06, 0.14, 0.13)) * shade[..., None], image)
    return np.clip(image, 0, 1).astype(np.float32)


def style_image(height: int = 320, width: int = 400) -> ImageArray:
    """A night sky of swirling brush strokes in blue and gold."""
    random = np.random.default_rng(SEED + 1)
    y, x = np.meshgrid(np.linspace(0, height / width, height), np.linspace(0, 1, width), indexing="ij")
    angle = 1.2 * _smooth_noise(random, (height, width), 3)
    flow_x, flow_y = np.cos(angle), np.sin(angle)
    glow = np.zeros((height, width))
    for _ in range(9):
        cx, cy = random.uniform(0.05, 0.95), random.uniform(0.05, 0.75)
        radius, turn = random.uniform(0.05, 0.14), random.choice((-1, 1))
        dx, dy = x - cx, y - cy
        distance = np.hypot(dx, dy) + 1e-6
        strength = 5.0 * np.exp(-((distance / radius) ** 2))
        flow_x, flow_y = flow_x - turn * strength * dy / distance, flow_y + turn * strength * dx / distance
        rings = 0.75 + 0.25 * np.cos(distance / radius * 14)
        glow = np.maximum(glow, np.exp(-((distance / (0.75 * radius)) ** 2)) * rings)
    bands = 0.5 + 0.5 * np.sin(9 * y + 4 * _fractal(random, (height, width), 3, 3))
    colour = _blend((0.04, 0.08, 0.30), (0.25, 0.50, 0.75), bands)
    pale = np.clip(_fractal(random, (height, width), 4, 3) - 0.15, 0, 1)[..., None]
    colour = colour * (1 - pale) + np.asarray((0.62, 0.80, 0.82)) * pale
    colour = colour * (1 - glow[..., None]) + np.asarray((0.98, 0.82, 0.25)) * glow[..., None]
    return _strokes(random, colour, flow_x, flow_y)


def _strokes(random: np.random.Generator, colour: np.ndarray, flow_x: np.ndarray, flow_y: np.ndarray) -> ImageArray:
    """Smear coloured grain along a flow like brush strokes (line integral convolution, Cabral & Leedom 1993)."""
    height, width = colour.shape[:2]
    tone, hue = random.uniform(-1, 1, (2, -(-height // 2), -(-width // 2), 3))
    coarse = 0.5 * tone[..., :1] + 0.12 * hue
    grain = np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)[:height, :width]
    tinted = colour + grain
    speed = np.hypot(flow_x, flow_y) + 1e-6
    step_x, step_y = flow_x / speed, flow_y / speed
    total, count = np.zeros_like(colour), 0
    for sign in (1, -1):
        py, px = np.meshgrid(np.arange(height, dtype=float), np.arange(width, dtype=float), indexing="ij")
        for _ in range(11):
            i, j = np.clip(np.rint(py), 0, height - 1).astype(int), np.clip(np.rint(px), 0, width - 1).astype(int)
            total, count = total + tinted[i, j], count + 1
            py, px = py + sign * step_y[i, j], px + sign * step_x[i, j]
    smeared = total / count
    slope = np.gradient(smeared.mean(-1), axis=0) - np.gradient(smeared.mean(-1), axis=1)
    relief = 1.6 * (smeared - colour) + 2.0 * slope[..., None]
    return np.clip(colour + relief, 0, 1).astype(np.float32)
