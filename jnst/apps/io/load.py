"""Read an image as jnst wants it: float32 sRGB in [0, 1], upright, opaque, of the size asked for."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jnst.apps.io.colour import Background, flatten, srgb_transform
from jnst.apps.io.decode import MAX_PIXELS, Decoded, decode
from jnst.apps.io.deep import ROWS, Samples
from jnst.apps.io.exif import ON_ITS_SIDE
from jnst.apps.io.files import choose, one_line, open_regular
from jnst.errors import ArgumentError, ImageError, JnstError
from jnst.weights.files import PathLike, shown

RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
ROUNDINGS = ("round", "floor")
_DRAFT_FACTOR = 2  # a JPEG is decoded at no less than this times the wanted size

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def load_image(
    path: PathLike,
    size: int | None = None,
    *,
    resample: str = "bicubic",
    rounding: str = "round",
    enlarge: bool = True,
    background: Background = (1.0, 1.0, 1.0),
) -> jax.Array:
    """Read an image file as float32 sRGB in [0, 1], `(h, w, 3)`.

    PNG, JPEG, WebP, TIFF, GIF, BMP and PPM are told apart by content, not by name. EXIF orientation is applied, ICC
    profiles other than sRGB are converted to it (perceptual intent, through 8 bits), transparency is composited over
    `background` in sRGB values, and of several frames or pages the first is taken. 16-bit samples are scaled by their
    range; float samples are taken as they are if they lie in [0, 1], and scaled so that their own range becomes [0, 1]
    if not.

    Images of 8 bits are resized by Pillow in 8 bits, as published programs do; deeper ones in float. A JPEG of more
    than 50 megapixels is first decoded at a half, a quarter or an eighth, at least twice the wanted size, which is
    cheaper and differs slightly from resizing all of it.

    Args:
        path: the file; any name the system allows.
        size: the longer side in pixels, larger or smaller than the image's own; None keeps the image's size.
        resample: "bilinear", "bicubic" or "lanczos": Pillow's filters, which widen when they reduce.
        rounding: of the shorter side: "round" to the nearest, or "floor": both sides `int(size / longer * side)`, as
            neural-style-pt does. Never below 1.
        enlarge: whether an image smaller than `size` is enlarged to it; if not, it keeps its size.
        background: sRGB in [0, 1] behind transparent pixels.

    Raises:
        ImageError: the file is missing, unreadable, not an image, damaged, or above 175 megapixels (40 for GIF and
            what is animated).
        ArgumentError: another argument is wrong.

    Warns:
        UserWarning: several frames, an unusable colour profile, or broken EXIF data.
    """
    _check_arguments(size, background)
    choose("resample", resample, RESAMPLING)
    choose("rounding", rounding, ROUNDINGS)

    def least(width: int, height: int) -> tuple[int, int]:
        wanted = resized(width, height, size, rounding)
        return _DRAFT_FACTOR * wanted[0], _DRAFT_FACTOR * wanted[1]

    with open_regular(path) as file, translating(path):
        decoded = decode(file, path, None if size is None else least)
        planes, notes = _to_planes(decoded, background)
        own = _upright_size(decoded)
        if size is not None and not enlarge and max(own) <= size:
            size = None
        target = resized(*own, size, rounding)
        planes = [_upright(plane, decoded.orientation) for plane in planes]
        if size is not None:
            planes = [plane.resize(target, RESAMPLING[resample]) for plane in planes]
        pixels = _to_unit(planes)
    for note in [*decoded.notes, *notes]:
        warnings.warn(f"{shown(path)}: {note}", UserWarning, stacklevel=2)
    return jnp.asarray(pixels)


def _check_arguments(size: int | None, background: Background) -> None:
    if size is not None and (
        isinstance(size, bool) or not isinstance(size, int | np.integer) or not 1 <= size <= MAX_PIXELS
    ):
        raise ArgumentError(f"`size` is {size!r}: expected the longer side in pixels, from 1 to {MAX_PIXELS}, or None")
    values = np.asarray(background)
    if values.shape != (3,) or values.dtype.kind not in "iuf" or not ((values >= 0) & (values <= 1)).all():
        raise ArgumentError(f"`background` is {background!r}: expected three sRGB values in [0, 1]")


@contextmanager
def translating(path: PathLike) -> Iterator[None]:
    """Turn whatever a decoder raises on damaged bytes into an `ImageError` that names the file."""
    try:
        yield
    except JnstError:
        raise
    except MemoryError as error:
        raise ImageError(f"{shown(path)} needs more memory than there is: make the image smaller") from error
    except Exception as error:  # on damaged bytes decoders raise struct.error, KeyError, SyntaxError and what not
        reason = one_line(f"{type(error).__name__}: {error}")
        raise ImageError(
            f"{shown(path)} cannot be decoded ({reason}): expected a whole image file; save or download it again"
        ) from error


def resized(width: int, height: int, size: int | None, rounding: str) -> tuple[int, int]:
    """(width, height) of an image that is read with a longer side of `size`, which `load_image` explains.

    Raises:
        ArgumentError: more pixels than any image may have.
    """
    if size is None:
        return width, height
    longer = max(width, height)
    if rounding == "floor":
        sides = int(size / longer * width), int(size / longer * height)
    else:
        sides = round(size * width / longer), round(size * height / longer)
    wanted = max(sides[0], 1), max(sides[1], 1)
    if wanted[0] * wanted[1] > MAX_PIXELS:
        raise ArgumentError(
            f"`size` is {size}, which makes {wanted[0]}x{wanted[1]} pixels: expected at most "
            f"{MAX_PIXELS // 1_000_000} megapixels; use a smaller size"
        )
    return wanted


def _upright_size(decoded: Decoded) -> tuple[int, int]:
    width, height = decoded.full_size
    return (height, width) if decoded.orientation in ON_ITS_SIDE else (width, height)


def _upright(plane: Image.Image, orientation: int) -> Image.Image:
    method = _UPRIGHT.get(orientation)
    return plane if method is None else plane.transpose(method)


def _to_planes(decoded: Decoded, background: Background) -> tuple[list[Image.Image], list[str]]:
    """One RGB image of 8 bits, or three float ones (mode F); and warnings."""
    pixels = decoded.pixels
    if isinstance(pixels, Image.Image):
        image, notes = flatten(pixels, decoded.profile, background)
        return [image], notes
    transform, notes = srgb_transform(decoded.profile, "L" if pixels.values.shape[-1] <= 2 else "RGB")
    if transform is None:
        return [Image.fromarray(plane) for plane in _composite(pixels, background)], notes
    image, notes = flatten(_to_8_bits(pixels), decoded.profile, background)  # Pillow's LittleCMS has 8 bits only
    return [image], notes


def _to_8_bits(samples: Samples) -> Image.Image:
    levels = np.empty_like(samples.values, np.uint8)
    for row in range(0, len(levels), ROWS):
        values = samples.values[row : row + ROWS]
        if samples.premultiplied:
            channels = values.shape[-1] - 1
            colour, alpha = values[..., :channels], values[..., channels:]
            colour = np.divide(colour, alpha, out=np.zeros_like(colour), where=alpha > 0)
            values = np.concatenate([colour, alpha], axis=-1)
        levels[row : row + ROWS] = np.floor(np.clip(values, 0, 1) * 255 + 0.5)
    return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)


def _composite(samples: Samples, background: Background) -> list[np.ndarray]:
    """Float RGB planes `(h, w)` of samples over a background."""
    values = samples.values
    channels = values.shape[-1]
    planes = [values[..., index if channels >= 3 else 0] for index in range(3)]
    if channels in (2, 4):
        alpha = values[..., -1]
        cover = np.float32(1) if samples.premultiplied else alpha
        planes = [plane * cover + (1 - alpha) * np.float32(b) for plane, b in zip(planes, background, strict=True)]
    return [np.ascontiguousarray(plane, np.float32) for plane in planes]


def _to_unit(planes: list[Image.Image]) -> np.ndarray:
    if len(planes) == 1:
        pixels = np.array(planes[0], np.float32)
        return np.divide(pixels, np.float32(255), out=pixels)
    pixels = np.stack([np.asarray(plane) for plane in planes], axis=-1)
    return np.clip(pixels, 0, 1, out=pixels)
