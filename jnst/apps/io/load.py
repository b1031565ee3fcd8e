"""Read image files as float32 sRGB in [0, 1]: upright, opaque, at the requested size."""

import io
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jnst.apps.io.colour import Background, alpha_of, to_srgb
from jnst.apps.io.decode import MAX_PIXELS, one_line, read_header
from jnst.errors import ArgumentError, ImageError, JnstError, did_you_mean
from jnst.solve.compilation import on_host
from jnst.weights.files import PathLike, shown

RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
ROUNDINGS = ("round", "floor")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".ppm", ".avif", ".heic", ".heif")
"""The suffixes by which `find_images` recognises images."""

# Not `ImageOps.exif_transpose`: it also rewrites the EXIF data, which fails where these are damaged.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@on_host
def load_image(
    path: PathLike | IO[bytes],
    size: int | None = None,
    *,
    resample: str = "bicubic",
    rounding: str = "round",
    enlarge: bool = True,
    background: Background = (1.0, 1.0, 1.0),
) -> jax.Array:
    """Read an image file as float32 sRGB in [0, 1].

    Supports PNG, JPEG, WebP, TIFF, GIF, BMP, PPM and AVIF, and with the extra ``heif`` HEIC. The format is recognised
    by the content, not by the file's name.

    - EXIF orientation is applied.
    - Colours with an ICC profile other than sRGB are converted to sRGB (perceptual intent, 8 bits), and so are those of
      a PNG that states another gamma without a profile.
    - Transparent pixels are composited over `background`, in sRGB values.
    - Of several frames or pages, the first is read.
    - 16-bit samples are divided by 65535. Float samples in [0, 1] are unchanged; other float samples are scaled so that
      their own range becomes [0, 1].

    Images of 8 bits are resized in 8 bits by Pillow, as most published programs do; deeper images are resized in float.
    A JPEG of more than 50 megapixels is first decoded at a half, a quarter or an eighth of its size, though at no less
    than twice the requested size. This is cheaper and differs slightly from resizing the whole image.

    Args:
        path: The file: its name, or an object with a method ``read`` that returns its bytes.
        size: The longer side of the result in pixels; None keeps the image's own size.
        resample: The filter: "bilinear", "bicubic" or "lanczos". Antialiased when the image is reduced.
        rounding: How the shorter side is rounded, to at least 1: "round" to the nearest integer, or "floor" for
            `int(size / longer * side)` on both sides, as in neural-style-pt.
        enlarge: Whether to enlarge an image that is smaller than `size`; if not, it keeps its size.
        background: The sRGB colour behind transparent pixels, in [0, 1].

    Returns:
        The image, `(h, w, 3)`.

    Raises:
        ImageError: The file does not exist, cannot be read, is not an image in a supported format, is damaged, or has
            more than 175 megapixels (40 for GIF and animated WebP).
        ArgumentError: Another argument is wrong.

    Warns:
        UserWarning: The file has several frames, a colour profile that cannot be used, or damaged EXIF data.
    """
    _check_arguments(size, background)
    choose("resample", resample, RESAMPLING)
    choose("rounding", rounding, ROUNDINGS)
    source, path = _source_of(path)
    with source() as file, _decoding(path):
        header = read_header(file, path)
        own = header.upright_size
        if size is not None and not enlarge and max(own) <= size:
            size = None
        target = resized(*own, size, rounding)
        width, height = resized(*header.size, size, rounding)
        pixels = header.decode(None if size is None else (2 * width, 2 * height))
        planes, notes = to_srgb(pixels, header.profile, header.gamma, background)
        del pixels
        if header.orientation in _UPRIGHT:
            planes = [plane.transpose(_UPRIGHT[header.orientation]) for plane in planes]
        if size is not None:
            planes = [plane.resize(target, RESAMPLING[resample]) for plane in planes]
        image = _to_unit(planes)
    for note in (*header.notes, *notes):
        warnings.warn(f"{shown(path)}: {note}", UserWarning, stacklevel=2)
    return jnp.asarray(image)


def load_alpha(path: PathLike, shape: tuple[int, int]) -> np.ndarray | None:
    """Read how opaque the pixels of an image file are.

    Args:
        path: The file.
        shape: Height and width of the result.

    Returns:
        `(h, w)` in [0, 1], upright; None if the image has no transparent pixels.

    Raises:
        ImageError: As in `load_image`.
    """
    height, width = shape
    with open_regular(path) as file, _decoding(path):
        header = read_header(file, path)
        alpha = alpha_of(header.decode((2 * max(shape), 2 * max(shape))))
        if alpha is None:
            return None
        if header.orientation in _UPRIGHT:
            alpha = alpha.transpose(_UPRIGHT[header.orientation])
        resized_alpha = alpha.resize((width, height), RESAMPLING["bilinear"])
    return np.asarray(resized_alpha, np.float32) / np.float32(255)


def image_size(path: PathLike) -> tuple[int, int]:
    """Read the size of an image file from its header, without decoding the pixels.

    Returns:
        Height and width in pixels of the image that `load_image` returns: of the first frame, upright.

    Raises:
        ImageError: The file does not exist, cannot be read, is not an image in a supported format, or its header is
            damaged or claims too many pixels.
    """
    with open_regular(path) as file, _decoding(path):
        width, height = read_header(file, path).upright_size
    return height, width


def is_grey(path: PathLike) -> bool:
    """Whether the pixels of an image file are all grey, by their values.

    Raises:
        ImageError: As in `load_image`.
    """
    pixels = np.asarray(load_image(path))
    return bool((pixels == pixels[..., :1]).all())


def find_images(folder: PathLike) -> tuple[list[Path], list[Path]]:
    """List the image files in a folder, recognised by their suffixes, and its other files.

    Both lists are sorted by name. Subfolders and files whose names begin with a dot are left out.

    Raises:
        ImageError: The folder cannot be read.
    """
    try:
        files = [Path(entry.path) for entry in os.scandir(os.fsdecode(folder)) if entry.is_file()]
    except OSError as error:
        raise ImageError(f"{shown(folder)} cannot be read ({error.strerror}): check its permissions") from error
    files = sorted(file for file in files if not file.name.startswith("."))
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    return images, [file for file in files if file.suffix.lower() not in SUFFIXES]


def resized(width: int, height: int, size: int | None, rounding: str) -> tuple[int, int]:
    """The width and height of an image loaded with a longer side of `size`. See `load_image`.

    Raises:
        ArgumentError: The result would have more pixels than are allowed.
    """
    if size is None:
        return width, height
    longer = max(width, height)
    if rounding == "floor":
        sides = int(size / longer * width), int(size / longer * height)
    else:
        sides = round(size * width / longer), round(size * height / longer)
    result = max(sides[0], 1), max(sides[1], 1)
    if result[0] * result[1] > MAX_PIXELS:
        raise ArgumentError(
            f"`size` is {size}, which makes {result[0]}x{result[1]} pixels: expected at most "
            f"{MAX_PIXELS // 1_000_000} megapixels; use a smaller size"
        )
    return result


def open_regular(path: PathLike) -> BinaryIO:
    """Open a regular file for reading, without ever waiting for a pipe or device.

    Raises:
        ImageError: The file does not exist, is not a regular file, or cannot be read.
    """
    try:
        # Before opening: opening a FIFO waits for a writer, and opening a device may act on it.
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{shown(path)} is a directory: name an image file in it")
        if not stat.S_ISREG(mode):
            raise ImageError(f"{shown(path)} is a pipe, socket or device: name a regular image file")
        # O_NONBLOCK in case the file has been replaced by a FIFO since.
        return open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
    except FileNotFoundError as error:
        raise ImageError(_missing(path)) from error
    except OSError as error:
        raise ImageError(f"{shown(path)} cannot be read ({error.strerror}): check its permissions") from error
    except ImageError:
        raise
    except ValueError as error:  # a NUL character in the name
        raise ImageError(f"{shown(path)} is not a file name ({error}): check the name") from error


def _source_of(path: PathLike | IO[bytes]) -> tuple[Callable[[], BinaryIO], PathLike]:
    """How to open what `load_image` was given, and its name for messages.

    Raises:
        ArgumentError: It is neither the name of a file nor a binary file.
    """
    if isinstance(path, str | bytes | os.PathLike):
        return partial(open_regular, path), path
    kind = type(path).__name__
    if not hasattr(path, "read"):
        raise ArgumentError(
            f"`path` is a {kind}: expected the name of an image file, or an open file; images that are "
            "in memory need no loading: pass them as arrays (h, w, 3) in [0, 1]"
        )
    content = path.read()
    if not isinstance(content, bytes):
        raise ArgumentError(f"`path` is a {kind} that reads text: open the file with mode 'rb'")
    name = getattr(path, "name", None)
    return partial(io.BytesIO, content), name if isinstance(name, str) else f"<{kind}>"


def _missing(path: PathLike) -> str:
    """What to do about a file that does not exist."""
    name = os.fsdecode(path)
    if re.match(r"[a-z][a-z0-9+.-]+:/", name, re.IGNORECASE):
        address = re.sub(":/+", "://", name, count=1)  # `Path` makes one slash of two
        return f"{address!r} is an address: addresses are not read, download it first"
    parts = [part.strip() for part in name.split(",")]
    if len(parts) > 1 and any(os.path.exists(part) for part in parts):
        return f"{shown(path)} does not exist: separate several files by spaces, not by commas"
    return f"{shown(path)} does not exist: check the name and the folder"


def choose(name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`.

    Raises:
        ArgumentError: It is not. The message lists the choices and suggests similar ones.
    """
    known = list(choices)
    if isinstance(value, str) and value in known:
        return value
    near = did_you_mean(str(value), known, most=2, quote=repr)
    raise ArgumentError(
        f"`{name}` is {value!r}{f' ({near})' if near else ''}: expected one of {', '.join(map(repr, known))}"
    )


def _check_arguments(size: int | None, background: Background) -> None:
    if size is not None and (
        isinstance(size, bool) or not isinstance(size, int | np.integer) or not 1 <= size <= MAX_PIXELS
    ):
        raise ArgumentError(f"`size` is {size!r}: expected the longer side in pixels, from 1 to {MAX_PIXELS}, or None")
    values = np.asarray(background)
    if values.shape != (3,) or values.dtype.kind not in "iuf" or not ((values >= 0) & (values <= 1)).all():
        raise ArgumentError(f"`background` is {background!r}: expected three sRGB values in [0, 1]")


@contextmanager
def _decoding(path: PathLike) -> Iterator[None]:
    """Turn any exception that a decoder raises for damaged data into an `ImageError` that names the file."""
    try:
        yield
    except JnstError:
        raise
    except MemoryError as error:
        raise ImageError(f"{shown(path)} needs more memory than is available: make the image smaller") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{shown(path)} claims too many pixels ({one_line(str(error))}): make it smaller") from error
    except Exception as error:  # decoders raise struct.error, KeyError, SyntaxError and many others
        reason = one_line(f"{type(error).__name__}: {error}")
        raise ImageError(
            f"{shown(path)} cannot be decoded ({reason}): expected an intact image file; save or download it again"
        ) from error


def _to_unit(planes: list[Image.Image]) -> np.ndarray:
    """Float32 `(h, w, 3)` in [0, 1] from the planes of `to_srgb`."""
    if len(planes) == 1:
        pixels = np.array(planes[0], np.float32)
        return np.divide(pixels, np.float32(255), out=pixels)
    pixels = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    return np.clip(pixels, 0, 1, out=pixels)
