"""Write images, and check in advance that they can be written."""

import io
import os
import tempfile
from collections.abc import Iterable

import imagecodecs
import jax
import jax.numpy as jnp
import numpy as np
import tifffile
from PIL import Image

from jnst.apps.io.load import choose
from jnst.errors import ArgumentError, ImageError
from jnst.weights.files import PathLike, shown, write_atomically

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
"""Formats by the suffix of the file's name."""

LARGEST_SIDE = {"WEBP": 16383, "JPEG": 65500}
"""The longest side that files of a format can have, in pixels: WebP's limit, and that of libjpeg."""
LARGEST_TIFF = 2**31
"""Bytes of pixels from which tifffile writes TIFF files, as BigTIFF where they exceed 4 GB."""
_ALPHA_FORMATS = ("PNG", "TIFF", "WEBP")
_DEEP_FORMATS = ("PNG", "TIFF")  # which support 16 bits


def save_image(
    path: PathLike,
    image: jax.Array | np.ndarray,
    *,
    alpha: np.ndarray | None = None,
    bit_depth: int = 8,
    quality: int = 95,
    grey: bool = False,
) -> None:
    """Write an sRGB image to a file, in the format that the suffix of its name selects.

    Values are clipped to [0, 1] and rounded to the nearest of the `2**bit_depth` levels, halves up. No metadata is
    written. An existing file is replaced atomically: it stays intact until the new one is complete. A symbolic link is
    kept, and its target is replaced.

    Args:
        path: The file. Ends in .png, .jpg, .jpeg, .webp, .tif or .tiff; upper case is accepted.
        image: `(h, w, 3)`, floats, sRGB in [0, 1].
        alpha: `(h, w)`, how opaque each pixel is, in [0, 1]; None: all of them are. JPEG cannot store it.
        bit_depth: Bits per sample: 8, or 16 for PNG and TIFF.
        quality: Of JPEG and WebP, 1 to 100. Ignored for PNG and TIFF, which are lossless.
        grey: Whether to write one channel only, the first, where the format has such images.

    Raises:
        ImageError: `image` has another shape, is not floating-point, contains NaN or infinite values, or is too large
            for the format.
        ArgumentError: Another argument is wrong, or the file cannot be written.
        ResourceError: The disk is full.
    """
    check_output(path, force=True, bit_depth=bit_depth, quality=quality)
    write_atomically(path, encode_image(path, image, alpha=alpha, bit_depth=bit_depth, quality=quality, grey=grey))


def encode_image(
    path: PathLike,
    image: jax.Array | np.ndarray,
    *,
    alpha: np.ndarray | None = None,
    bit_depth: int = 8,
    quality: int = 95,
    grey: bool = False,
) -> bytes:
    """Return the content of the file that `save_image` would write; the arguments and errors are the same."""
    kind, values = _format_of(path), _checked_values(path, image)
    if grey and alpha is None and kind != "WEBP":
        values = values[..., 0]
    if alpha is not None and kind in _ALPHA_FORMATS:
        values = np.concatenate([values, np.asarray(alpha, np.float32)[..., None]], axis=-1)
    return _encode(path, kind, _levels(values, bit_depth), quality)


def _levels(values: np.ndarray, bit_depth: int) -> np.ndarray:
    """The nearest levels, halves up; row by row, because images may be large."""
    levels = np.empty(values.shape, f"uint{bit_depth}")
    for row, own in zip(levels, values, strict=True):
        row[...] = np.floor(np.clip(own, 0, 1) * np.float32(2**bit_depth - 1) + np.float32(0.5))
    return levels


def check_output(
    path: PathLike,
    *,
    inputs: Iterable[PathLike] = (),
    force: bool = False,
    bit_depth: int = 8,
    quality: int = 95,
    side: int | None = None,
) -> None:
    """Raise an error now if `save_image` would not be able to write a file later.

    Args:
        path: The file to be written.
        inputs: Files that are read. The output may not be one of them, links followed, unless `force` is true.
        force: Allow the output to replace an input.
        bit_depth: As in `save_image`.
        quality: As in `save_image`.
        side: The longer side of the image, in pixels; None: not known.

    Raises:
        ArgumentError: The suffix is unknown, `side` is too large, `bit_depth` or `quality` is wrong for the format, the
            folder does not exist or is not writable, or `path` is not a regular file, write-protected, or one of the
            inputs.
    """
    check_encoding(path, bit_depth, quality)
    largest = LARGEST_SIDE.get(_format_of(path))
    if side is not None and largest is not None and side > largest:
        raise ArgumentError(
            f"the output {shown(path)} would have a side of {side} pixels, but {_format_of(path)} has at most "
            f"{largest}: use PNG or TIFF"
        )
    try:
        target = os.path.realpath(os.fsdecode(path))
        fault = _fault_of(target)
        # More reliable than looking at permissions, as the file system may be read-only.
        with tempfile.TemporaryFile(dir=os.path.dirname(target)):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(
            f"the folder of the output {shown(path)} cannot be written to ({reason}): create it, or choose another"
        ) from error
    if fault:
        raise ArgumentError(f"the output {shown(path)} is {fault}: expected a writable file; choose another name")
    same = [other for other in inputs if not force and _is_same(path, other)]
    if same:
        raise ArgumentError(
            f"the output {shown(path)} is also the input {shown(same[0])}: choose another name, or set `force`"
        )


def check_encoding(path: PathLike, bit_depth: int, quality: int) -> None:
    """Check what can be known without looking at the disk.

    Raises:
        ArgumentError: The suffix is unknown, or `bit_depth` or `quality` is wrong for the format.
    """
    if bit_depth not in (8, 16) or (bit_depth == 16 and _format_of(path) not in _DEEP_FORMATS):
        deep = ", ".join(suffix for suffix, name in FORMATS.items() if name in _DEEP_FORMATS)
        raise ArgumentError(f"`bit_depth` is {bit_depth!r} for {shown(path)}: expected 8, or 16 for {deep}")
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
        raise ArgumentError(f"`quality` is {quality!r}: expected a whole number from 1 to 100")
    _format_of(path)


def _fault_of(target: str) -> str:
    """Say why a file cannot be replaced; empty if it can be, or does not exist."""
    if os.path.islink(target):
        return "a link that leads back to itself"
    if not os.path.exists(target):
        return ""
    if not os.path.isfile(target):
        return "a directory" if os.path.isdir(target) else "not a regular file"
    may_write = os.access(target, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    return "" if may_write else "write-protected"


def _is_same(path: PathLike, other: PathLike) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:  # one of them does not exist
        return False


def _format_of(path: PathLike) -> str:
    suffix = os.path.splitext(os.fsdecode(path))[1].lower()
    return FORMATS[choose(f"suffix of {shown(path)}", suffix, FORMATS)]


def _checked_values(path: PathLike, image: jax.Array | np.ndarray) -> np.ndarray:
    shape, dtype = np.shape(image), getattr(image, "dtype", None)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ImageError(f"`image` for {shown(path)} has shape {shape}: expected (h, w, 3); save one image at a time")
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ImageError(f"`image` for {shown(path)} holds {dtype}: expected floats in [0, 1]; divide 0-255 by 255")
    values = np.asarray(image).astype(np.float32, copy=False)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        first = tuple(int(index) for index in bad[0])
        raise ImageError(
            f"`image` for {shown(path)} has {len(bad)} values that are NaN or infinite, the first at {first}: expected "
            "finite floats in [0, 1]; find the computation that produced them"
        )
    return values


def _encode(path: PathLike, kind: str, levels: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    if levels.dtype == np.uint16 and kind == "PNG":
        return bytes(imagecodecs.png_encode(levels))
    if kind == "TIFF" and (levels.dtype == np.uint16 or levels.nbytes > LARGEST_TIFF):
        colours = "rgb" if levels.ndim == 3 else "minisblack"
        extra = ["unassalpha"] if levels.ndim == 3 and levels.shape[-1] == 4 else None
        tifffile.imwrite(buffer, levels, photometric=colours, extrasamples=extra, metadata=None, software=False)
        return buffer.getvalue()
    try:
        Image.fromarray(levels).save(buffer, kind, quality=quality, exact=True)
    except (OSError, ValueError) as error:
        size = f"{levels.shape[1]}x{levels.shape[0]}"
        raise ImageError(f"{shown(path)}: {size} pixels do not fit {kind} ({error}): use PNG or TIFF") from error
    return buffer.getvalue()
