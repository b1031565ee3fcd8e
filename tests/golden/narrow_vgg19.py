"""A VGG19 with an eighth of the filters and random weights: the whole architecture, small enough for every test run.

Every layer depends on its name alone: its numbers are the raw stream of `PCG64([SEED, crc32(name)])`, which NumPy
promises to keep from version to version.
"""

import math
import zlib

import numpy as np

SEED = 19
WIDTHS = ((8,) * 2, (16,) * 2, (32,) * 4, (64,) * 4, (64,) * 4)
DEPTHS = tuple(len(block) for block in WIDTHS)

Convolutions = dict[str, tuple[np.ndarray, np.ndarray]]


def narrow_vgg19() -> Convolutions:
    """Draws conv1_1 to conv5_4: He-uniform kernels, within ±√(6 / fan_in), and biases in ±0.2.

    Returns:
        {layer: (kernel, bias)}, kernels (3, 3, in, out), float32.
    """
    convolutions: Convolutions = {}
    channels = 3
    for block, widths in enumerate(WIDTHS, 1):
        for index, width in enumerate(widths, 1):
            name = f"conv{block}_{index}"
            kernel = math.sqrt(6 / (9 * channels)) * uniform(name, 9 * channels * width)
            bias = 0.2 * uniform(f"{name}/bias", width)
            convolutions[name] = (kernel.reshape(3, 3, channels, width).astype(np.float32), bias.astype(np.float32))
            channels = width
    return convolutions


def uniform(name: str, count: int) -> np.ndarray:
    """Numbers in [-1, 1), float64 (count,)."""
    raw = np.asarray(np.random.PCG64([SEED, zlib.crc32(name.encode())]).random_raw(count))
    return (raw >> np.uint64(11)) * 2.0**-52 - 1
