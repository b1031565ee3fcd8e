"""Images with known pixels, and functions that write PNG files byte by byte, for tests of reading."""

import struct
import zlib
from pathlib import Path

import numpy as np

from jnst.apps.io import load_image

RNG = np.random.default_rng(7)
RGB = RNG.integers(0, 256, (9, 13, 3)).astype(np.uint8)
ALPHA = RNG.integers(0, 256, (9, 13)).astype(np.uint8)
DEEP = RNG.integers(0, 65536, (9, 13, 4)).astype(np.uint16)
BACKGROUND = (0.2, 0.4, 0.8)  # 51, 102 and 204 in 8 bits
UNIT = DEEP.astype(float) / 65535
FLOATS = RNG.uniform(0, 1, (9, 13, 4)).astype(np.float32)
LUMA = RGB[..., 0]
ORIENTATION, PREMULTIPLIED, UNASSOCIATED = 274, 1, 2  # a TIFF tag, and two values of the tag ExtraSamples


def load(path: Path, size: int | None = None, **options) -> np.ndarray:
    image = load_image(path, size, **options)
    assert image.dtype == np.float32
    return np.asarray(image)


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png16(samples: np.ndarray, colour: int, extra: bytes = b"") -> bytes:
    height, width, _ = samples.shape
    rows = samples.astype(">u2").reshape(height, -1)
    return png(width, height, 16, colour, b"".join(b"\0" + row.tobytes() for row in rows), extra)


def grey(plane: np.ndarray) -> np.ndarray:
    return np.repeat(plane[..., None], 3, axis=-1)


def over(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return colour * alpha[..., None] + np.asarray(BACKGROUND) * (1 - alpha[..., None])
