"""TIFF pixels deeper than 8 bits, under every compression that Pillow knows."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jnst.apps.io import tiff
from jnst.apps.io.tiff import Directory
from jnst.errors import ImageError
from jnst.weights.files import PathLike, shown

TIFF_COLOURS = {0: 1, 1: 1, 2: 3}
"""PhotometricInterpretation that is understood (white is zero, black is zero, RGB), and its channels."""

_ALPHA_KINDS = {1: True, 2: False}  # TIFF ExtraSamples that are alpha -> whether colour is premultiplied by it
_DTYPES = {(1, 8): "u1", (1, 16): "u2", (1, 32): "u4", (1, 64): "u8", (3, 16): "f2", (3, 32): "f4", (3, 64): "f8"}
_DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3  # values of the tag Predictor
ROWS = 256
"""At a time, where intermediate arrays are larger than the result."""


@dataclass(frozen=True)
class Samples:
    """Pixels deeper than 8 bits: float32 `(h, w, 1..4)` in [0, 1]: grey or RGB, with alpha last if there are 2 or 4."""

    values: np.ndarray
    premultiplied: bool = False


def tiff_samples(page: Directory, path: PathLike) -> Samples:
    """The pixels of a TIFF of grey or RGB samples, whatever their depth.

    Raises:
        ImageError: Samples of another kind, or NaN.
        ValueError: The directory is damaged.
    """
    photometric, samples = page.number(tiff.PHOTOMETRIC, 0), page.samples
    colours, bits, kinds = TIFF_COLOURS.get(photometric), page.numbers(tiff.BITS), page.numbers(tiff.SAMPLE_FORMAT)
    dtype = _DTYPES.get((kinds[0] if kinds else 1, bits[0] if bits else 1))
    if colours is None or samples < colours or dtype is None or len(set(bits)) > 1 or len(set(kinds)) > 1:
        raise ImageError(
            f"{shown(path)} is a TIFF of {samples} samples of {bits[:4]} bits, format {kinds[:4] or 1}, photometric "
            f"{photometric}: expected grey or RGB of unsigned integers or floats; save it as 8- or 16-bit RGB"
        )
    extra = page.number(tiff.EXTRA_SAMPLES, 0) if samples > colours else 0
    values = _stored(page, np.dtype(page.order + dtype), samples)[..., : colours + (extra in _ALPHA_KINDS)]
    if values.dtype.kind == "f":
        require_finite(values, path)
        colour, alpha = unit_range(values[..., :colours]), np.clip(values[..., colours:], 0, 1)
        values = np.concatenate([colour, alpha], axis=-1, dtype=np.float32, casting="same_kind")
    else:
        values = _of_range(values)
    if photometric == 0:
        values[..., 0] = 1 - values[..., 0]
    return Samples(values, premultiplied=extra in _ALPHA_KINDS and _ALPHA_KINDS[extra])


def _of_range(levels: np.ndarray) -> np.ndarray:
    """Unsigned integers by their largest."""
    values, largest = np.empty(levels.shape, np.float32), np.float64(np.iinfo(levels.dtype).max)
    for row in range(0, len(levels), ROWS):
        values[row : row + ROWS] = levels[row : row + ROWS] / largest
    return values


def _stored(page: Directory, dtype: np.dtype[Any], samples: int) -> np.ndarray:
    """The samples `(h, w, samples)` as the file has them."""
    (width, height), (side, _) = page.size, page.segment_size
    predictor = page.number(tiff.PREDICTOR, 1)
    planes = samples if page.number(tiff.PLANAR, 1) == 2 else 1
    channels, padded = samples // planes, -(-width // side) * side
    parts = []
    for plane in range(planes):
        table = _bytes(page, (padded * channels * dtype.itemsize, height), side * channels * dtype.itemsize, plane)
        if predictor == _FLOAT_DIFFERENCES:
            table = _undo_float_differences(table, side, channels, dtype)
        part = table.view(dtype).reshape(height, padded, channels)
        if predictor == _DIFFERENCES:
            blocks = part.reshape(height, -1, side, channels)
            part = np.cumsum(blocks, axis=2, dtype=dtype).reshape(part.shape)
        parts.append(part[:, :width])
    return parts[0] if planes == 1 else np.concatenate(parts, axis=-1)


def _bytes(page: Directory, size: tuple[int, int], side: int, plane: int) -> np.ndarray:
    """Decompress a plane, as if its bytes were the pixels of a grey image of `size`, in segments `side` wide."""
    changes = {
        256: (size[0],),
        tiff.BITS: (8,),
        tiff.PHOTOMETRIC: (1,),
        tiff.SAMPLES: (1,),
        tiff.PLANAR: (1,),
        tiff.PREDICTOR: (),
        tiff.EXTRA_SAMPLES: (),
        tiff.SAMPLE_FORMAT: (),
    }
    if tiff.TILE_WIDTH in page.entries:
        changes[tiff.TILE_WIDTH] = (side,)
    is_separate = page.number(tiff.PLANAR, 1) == 2
    image = tiff.CopiedTiff(tiff.copied(page, changes, plane if is_separate else None))
    if image.mode != "L" or image.size != size:
        raise ValueError("damaged tags")
    return np.array(image)


def _undo_float_differences(table: np.ndarray, side: int, channels: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Floats' bytes from differences of bytes, the most significant first (Adobe, Photoshop TIFF Technical Note 3)."""
    height, length = len(table), side * channels
    steps = table.reshape(height, -1, dtype.itemsize * side, channels)
    planes = np.cumsum(steps, axis=2, dtype=np.uint8).reshape(height, -1, dtype.itemsize, length)
    largest_first = np.ascontiguousarray(planes.swapaxes(2, 3)).view(dtype.newbyteorder(">"))
    return largest_first.astype(dtype).reshape(height, -1).view(np.uint8)


def require_finite(values: np.ndarray, path: PathLike) -> None:
    """Refuse NaN and infinite samples.

    Raises:
        ImageError: There are some.
    """
    if not np.isfinite(values).all():
        raise ImageError(f"{shown(path)} holds NaN or infinite samples: expected finite floats; mend them first")


def unit_range(values: np.ndarray) -> np.ndarray:
    """Float samples within [0, 1] as they are; others scaled by their range, so that it becomes [0, 1]."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return values.astype(np.float32)
    scaled, span = np.empty(values.shape, np.float32), max(high - low, np.finfo(np.float64).tiny)
    for row in range(0, len(values), ROWS):
        scaled[row : row + ROWS] = (values[row : row + ROWS].astype(np.float64) - low) / span
    return scaled
