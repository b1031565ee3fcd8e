"""Write an image, and check beforehand that it can be written."""

import io
import os
import tempfile
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jnst.apps.io.files import choose
from jnst.errors import ArgumentError, ImageError
from jnst.weights.files import PathLike, shown, write_atomically

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}


def save_image(path: PathLike, image: jax.Array | np.ndarray, *, bit_depth: int = 8, quality: int = 95) -> None:
    """Write an sRGB image; the format follows the name's suffix.

    Values are clipped to [0, 1] and rounded to the nearest step, halves up. No metadata is written. The file is
    replaced in one step (see `write_atomically`).

    Args:
        path: ends in .png, .jpg, .jpeg, .webp, .tif or .tiff.
        image: `(h, w, 3)` floats, sRGB in [0, 1].
        bit_depth: 8, or for PNG and TIFF 16.
        quality: of JPEG and WebP, 1 to 100; the others are lossless and ignore it.

    Raises:
        ImageError: `image` is not of that shape, not of floats, not finite, or too large for the format.
        ArgumentError: another argument is wrong, or the file cannot be written; an old file stays intact.
        ResourceError: the disk is full; an old file stays intact.
    """
    check_output(path, force=True, bit_depth=bit_depth, quality=quality)
    kind = _format_of(path)
    values = _checked_values(path, image)
    levels = np.floor(np.clip(values, 0, 1) * np.float32(2**bit_depth - 1) + np.float32(0.5))
    if bit_depth == 16:
        data = _DEEP_ENCODERS[kind](levels.astype(np.uint16))
    else:
        data = _encode(path, kind, levels.astype(np.uint8), quality)
    write_atomically(path, data)


def check_output(
    path: PathLike, *, inputs: Iterable[PathLike] = (), force: bool = False, bit_depth: int = 8, quality: int = 95
) -> None:
    """Fail before computing if an image could not be saved under this name.

    Of a symbolic link the target is written and replaced, and the link stays.

    Args:
        path: where `save_image` is to write.
        inputs: files that are read; the output may be one of them only with `force`.
        force: allow the output to replace an input.
        bit_depth: as in `save_image`.
        quality: as in `save_image`.

    Raises:
        ArgumentError: unknown suffix, a depth or quality that it does not have, folder missing or not writable, `path` not
            a regular file, write-protected, or one of the inputs.
    """
    _check_encoding(path, bit_depth, quality)
    try:
        target = os.path.realpath(os.fsdecode(path))
        fault = _fault_of(target)
        with tempfile.TemporaryFile(dir=os.path.dirname(target)):  # surer than permissions: disks may be read-only
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(
            f"the folder of the output {shown(path)} cannot be written to ({reason}): make it or name another"
        ) from error
    if fault:
        raise ArgumentError(f"the output {shown(path)} is {fault}: expected a file that may be written; name another")
    same = [other for other in inputs if not force and _is_same(path, other)]
    if same:
        raise ArgumentError(f"the output {shown(path)} is also the input {shown(same[0])}: name another file, or force it")


def _check_encoding(path: PathLike, bit_depth: int, quality: int) -> None:
    if bit_depth not in (8, 16) or (bit_depth == 16 and _format_of(path) not in _DEEP_ENCODERS):
        deep = ", ".join(suffix for suffix, name in FORMATS.items() if name in _DEEP_ENCODERS)
        raise ArgumentError(f"`bit_depth` is {bit_depth!r} for {shown(path)}: expected 8, or 16 for {deep}")
    if isinstance(quality, bool) or not isinstance(quality, int) or not 1 <= quality <= 100:
        raise ArgumentError(f"`quality` is {quality!r}: expected a whole number from 1 to 100")
    _format_of(path)


def _fault_of(target: str) -> str:
    """Why nothing can take the place of what is there, links followed; nothing if something can."""
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
    values = np.asarray(image).astype(np.float32)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        first = tuple(int(index) for index in bad[0])
        raise ImageError(
            f"`image` for {shown(path)} has {len(bad)} values that are NaN or infinite, the first at {first}: "
            "expected finite floats in [0, 1]; look for the step that made them"
        )
    return values


def _encode(path: PathLike, kind: str, levels: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    try:
        Image.fromarray(levels).save(buffer, kind, quality=quality)
    except (OSError, ValueError) as error:
        size = f"{levels.shape[1]}x{levels.shape[0]}"
        raise ImageError(f"{shown(path)}: {size} pixels do not fit {kind} ({error}): use PNG or TIFF") from error
    return buffer.getvalue()


def _encode_png16(levels: np.ndarray) -> bytes:
    import png

    buffer = io.BytesIO()
    png.from_array(levels.reshape(len(levels), -1), "RGB;16").write(buffer)
    return buffer.getvalue()


def _encode_tiff16(levels: np.ndarray) -> bytes:
    import tifffile

    buffer = io.BytesIO()
    tifffile.imwrite(buffer, levels, photometric="rgb", metadata=None, software=False)
    return buffer.getvalue()


_DEEP_ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {"PNG": _encode_png16, "TIFF": _encode_tiff16}
