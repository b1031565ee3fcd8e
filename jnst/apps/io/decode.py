"""Image files of every accepted kind, decoded: 8-bit ones by Pillow, deeper ones at their full depth."""

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ExifTags import Base

from jnst.apps.io.deep import TIFF_COLOURS, Samples, require_finite, tiff_samples, unit_range
from jnst.apps.io.exif import orientation
from jnst.apps.io.files import describe_content, one_line
from jnst.apps.io.gif import extent
from jnst.apps.io.png import deep_samples, described, require_pixels, without_a_broken_animation
from jnst.apps.io.tiff import BITS, COLOUR_PROFILE, PHOTOMETRIC, CopiedTiff, copied, read_directory
from jnst.errors import ImageError
from jnst.weights.files import PathLike, shown

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs of damage is in our errors

MAX_PIXELS = 175_000_000  # below the hard limits inside Pillow's own plugins
MAX_ANIMATED_PIXELS = 40_000_000  # of GIF, too: a few bytes may claim many, and Pillow itself warns of larger GIFs
DRAFT_PIXELS = 50_000_000


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """Without the plugin's own look at EXIF data for the resolution, in which it warns of damage."""

    def getexif(self) -> Image.Exif:
        return Image.Exif()


# Pillow's plugins are opened directly, after a look at the signature: `Image.open` warns of images above its global
# `MAX_IMAGE_PIXELS`, and neither that nor the warning filters (not thread-safe) are a library's to change.
PLUGINS: dict[str, tuple[bytes, Callable[..., ImageFile.ImageFile]]] = {
    "PNG": (rb"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    "JPEG": (rb"\xff\xd8\xff", _Jpeg),
    "WebP": (rb"(?s)RIFF....WEBP", WebPImagePlugin.WebPImageFile),
    "TIFF": (rb"II[*+]\0|MM\0[*+]", TiffImagePlugin.TiffImageFile),
    "GIF": (rb"GIF8[79]a", GifImagePlugin.GifImageFile),
    "BMP": (rb"BM", BmpImagePlugin.BmpImageFile),
    "PPM": (rb"P[1-6f]\s", PpmImagePlugin.PpmImageFile),
}
_SEVERAL = "it has several frames or pages: the first is taken"
_MODES_16_BIT = ("I;16", "I;16B", "I;16L", "I")


@dataclass(frozen=True)
class Decoded:
    """A decoded image as it lies in the file: not yet turned upright, composited or converted.

    `full_size` is (width, height) in pixels of the whole image, larger than `pixels` where a JPEG was decoded at a
    fraction. `orientation` is the EXIF value, 1 to 8; `notes` are warnings for the user.
    """

    pixels: Image.Image | Samples
    full_size: tuple[int, int]
    orientation: int
    profile: bytes | None
    notes: list[str]


def decode(file: BinaryIO, path: PathLike, least: Callable[[int, int], tuple[int, int]] | None) -> Decoded:
    """Decode the first frame of an open image file.

    Args:
        file: at its beginning.
        path: its name, for messages.
        least: gives for the image's (width, height) the smallest size to decode at; None: in full. Only a JPEG of
            more than `DRAFT_PIXELS` is decoded smaller, by a power of two.

    Raises:
        ImageError: not one of the accepted kinds, or more than `MAX_PIXELS`.
        Exception: whatever a decoder raises on damaged bytes; `load_image` translates it.
    """
    kind, head = kind_of(file, path)
    if kind == "TIFF":
        return _decode_tiff(file, path)
    image = opened(kind, file, path)
    if kind == "PNG":
        require_pixels(file, head)
    decoded = _decode_pillow(image, path, least if kind == "JPEG" else None)
    if isinstance(image, PngImagePlugin.PngImageFile) and head[24] == 16:
        return replace(decoded, pixels=deep_samples(file, image, head[25]))
    return decoded


def opened(kind: str, file: BinaryIO, path: PathLike) -> ImageFile.ImageFile:
    """An image's header, read by Pillow; no TIFF's.

    Raises:
        ImageError: more pixels than may be.
        Exception: whatever a plugin raises on damaged bytes.
    """
    if kind == "PNG":
        file = without_a_broken_animation(file)
    if kind == "GIF":
        check_area(path, *extent(file), MAX_ANIMATED_PIXELS)
        file.seek(0)
    image = PLUGINS[kind][1](file)
    check_area(path, *image.size, MAX_ANIMATED_PIXELS if getattr(image, "is_animated", False) else MAX_PIXELS)
    if kind == "PNG":
        image.info.update(described(file))
    return image


def kind_of(file: BinaryIO, path: PathLike) -> tuple[str, bytes]:
    """Which of `PLUGINS` reads an open file, by its content, and the file's first bytes; it is at its beginning again.

    Raises:
        ImageError: none of them.
    """
    head = file.read(1024)
    file.seek(0)
    kind = next((kind for kind, (signature, _) in PLUGINS.items() if re.match(signature, head)), None)
    if kind is None:
        raise ImageError(
            f"{shown(path)}: its content is {describe_content(head)}, not an image of a kind that is read "
            f"({', '.join(PLUGINS)}): convert it to one of these"
        )
    return kind, head


def check_area(path: PathLike, width: int, height: int, most: int = MAX_PIXELS) -> None:
    """Refuse a header's size before anything is decoded.

    Raises:
        ImageError: no pixels, or more than `most`.
    """
    if width < 1 or height < 1:
        raise ImageError(f"{shown(path)} claims {width}x{height} pixels: expected at least 1x1; save it again")
    if width * height > most:
        limit = f"{most // 1_000_000} megapixels"
        raise ImageError(f"{shown(path)} claims {width}x{height} pixels: expected at most {limit}; make it smaller")


def _decode_pillow(
    image: ImageFile.ImageFile, path: PathLike, least: Callable[[int, int], tuple[int, int]] | None = None
) -> Decoded:
    notes = [_SEVERAL] if getattr(image, "is_animated", False) else []
    profile = image.info.get("icc_profile")
    full_size = image.size
    if least is not None and full_size[0] * full_size[1] > DRAFT_PIXELS:
        image.draft(None, least(*full_size))
    image.load()
    pixels: Image.Image | Samples = image
    if image.mode in _MODES_16_BIT:
        pixels = Samples(np.asarray(image, np.float32)[..., None] / 65535)
    elif image.mode == "F":
        floats = np.asarray(image)[..., None]
        require_finite(floats, path)
        pixels = Samples(unit_range(floats))
    try:
        upright = orientation(image.info)
    except ValueError as error:  # the pixels are still good
        notes.append(f"its EXIF data is broken ({one_line(str(error))}): taken as upright")
        upright = 1
    return Decoded(pixels, full_size, upright, profile, notes)


def _decode_tiff(file: BinaryIO, path: PathLike) -> Decoded:
    page = read_directory(file)
    check_area(path, *page.size)
    check_area(path, *page.segment_size)
    bits, notes = page.numbers(BITS), [_SEVERAL] if page.has_next else []
    decoded = None
    if max(bits, default=1) <= 8 or page.number(PHOTOMETRIC, 0) not in TIFF_COLOURS:
        with suppress(SyntaxError):  # so Pillow calls a layout of samples that it does not know
            decoded = _decode_pillow(CopiedTiff(copied(page)), path)
    pixels = tiff_samples(page, path) if decoded is None else decoded.pixels
    return Decoded(pixels, page.size, page.number(Base.Orientation, 1), page.raw(COLOUR_PROFILE) or None, notes)
