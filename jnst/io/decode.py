"""Picture files of every accepted kind, decoded: 8-bit ones by Pillow, deeper ones at their full depth."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

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

from jnst.errors import PictureError
from jnst.files import PathLike, shown
from jnst.io.files import describe_content

MAX_PIXELS = 175_000_000  # below the hard limits inside Pillow's own plugins
DRAFT_PIXELS = 50_000_000

# Pillow's plugins are opened directly, after a look at the signature: `Image.open` warns of pictures above its global
# `MAX_IMAGE_PIXELS`, and neither that nor the warning filters (not thread-safe) are a library's to change.
PLUGINS: dict[str, tuple[bytes, Callable[..., ImageFile.ImageFile]]] = {
    "PNG": (rb"\x89PNG\r\n\x1a\n", PngImagePlugin.PngImageFile),
    "JPEG": (rb"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    "WebP": (rb"(?s)RIFF....WEBP", WebPImagePlugin.WebPImageFile),
    "TIFF": (rb"II[*+]\0|MM\0[*+]", TiffImagePlugin.TiffImageFile),
    "GIF": (rb"GIF8[79]a", GifImagePlugin.GifImageFile),
    "BMP": (rb"BM", BmpImagePlugin.BmpImageFile),
    "PPM": (rb"P[1-6f]\s", PpmImagePlugin.PpmImageFile),
}
_TIFF_COLOURS = {0: 1, 1: 1, 2: 3}  # PhotometricInterpretation: white is zero, black is zero, RGB -> channels
_ALPHA_KINDS = {1: True, 2: False}  # TIFF ExtraSamples that are alpha -> whether colour is premultiplied by it
_MODES_16_BIT = ("I;16", "I;16B", "I;16L", "I")


@dataclass(frozen=True)
class Samples:
    """Pixels deeper than 8 bits: float32 `(h, w, 1..4)` in [0, 1]: grey or RGB, with alpha last if there are 2 or 4."""

    values: np.ndarray
    premultiplied: bool = False


@dataclass(frozen=True)
class Decoded:
    """A decoded picture as it lies in the file: not yet turned upright, composited or converted.

    `full_size` is (width, height) in pixels of the whole picture, larger than `pixels` where a JPEG was decoded at a
    fraction. `orientation` is the EXIF value, 1 to 8; `notes` are warnings for the user.
    """

    pixels: Image.Image | Samples
    full_size: tuple[int, int]
    orientation: object
    profile: bytes | None
    notes: list[str]


def decode(file: BinaryIO, path: PathLike, least: Callable[[int, int], tuple[int, int]] | None) -> Decoded:
    """Decode the first frame of an open picture file.

    Args:
        file: at its beginning.
        path: its name, for messages.
        least: gives for the picture's (width, height) the smallest size to decode at; None: in full. Only a JPEG of
            more than `DRAFT_PIXELS` is decoded smaller, by a power of two.

    Raises:
        PictureError: not one of the accepted kinds, or more than `MAX_PIXELS`.
        Exception: whatever a decoder raises on damaged bytes; `load_image` translates it.
    """
    kind, head = kind_of(file, path)
    if kind == "TIFF":
        return _decode_tiff(file, path)
    image = PLUGINS[kind][1](file)
    check_area(path, *image.size)
    if kind == "PNG" and head[24] == 16 and (image.mode not in _MODES_16_BIT or "transparency" in image.info):
        return _decode_png16(file, image)
    return _decode_pillow(image, path, least if kind == "JPEG" else None)


def kind_of(file: BinaryIO, path: PathLike) -> tuple[str, bytes]:
    """Which of `PLUGINS` reads an open file, by its content, and the file's first bytes; it is at its beginning again.

    Raises:
        PictureError: none of them.
    """
    head = file.read(1024)
    file.seek(0)
    kind = next((kind for kind, (signature, _) in PLUGINS.items() if re.match(signature, head)), None)
    if kind is None:
        raise PictureError(
            f"{shown(path)}: its content is {describe_content(head)}, not a picture of a kind that is read "
            f"({', '.join(PLUGINS)}): convert it to one of these"
        )
    return kind, head


def check_area(path: PathLike, width: int, height: int) -> None:
    """Refuse a header's size before anything is decoded.

    Raises:
        PictureError: no pixels, or more than `MAX_PIXELS`.
    """
    if width < 1 or height < 1:
        raise PictureError(f"{shown(path)} claims {width}x{height} pixels: expected at least 1x1; save it again")
    if width * height > MAX_PIXELS:
        limit = f"{MAX_PIXELS // 1_000_000} megapixels"
        raise PictureError(f"{shown(path)} claims {width}x{height} pixels: expected at most {limit}; make it smaller")


def _decode_pillow(
    image: ImageFile.ImageFile, path: PathLike, least: Callable[[int, int], tuple[int, int]] | None = None
) -> Decoded:
    notes = ["it has several frames or pages: the first is taken"] if getattr(image, "is_animated", False) else []
    profile = image.info.get("icc_profile")
    full_size = image.size
    if least is not None and full_size[0] * full_size[1] > DRAFT_PIXELS:
        image.draft(None, least(*full_size))
    drafted = image.size != full_size
    image.load()  # a TIFF turns itself upright here, so its size and orientation count only from now on
    pixels: Image.Image | Samples = image
    if image.mode in _MODES_16_BIT:
        pixels = Samples(np.asarray(image, np.float32)[..., None] / 65535)
    elif image.mode == "F":
        floats = np.asarray(image)[..., None]
        _require_finite(floats, path)
        pixels = Samples(_unit_range(floats))
    orientation = _orientation(image, notes)
    return Decoded(pixels, full_size if drafted else image.size, orientation, profile, notes)


def _orientation(image: Image.Image, notes: list[str]) -> object:
    try:
        return image.getexif().get(Base.Orientation, 1)
    except Exception as error:  # the EXIF reader meets damaged bytes like the plugins do; the pixels are still good
        notes.append(f"its EXIF data is broken ({type(error).__name__}): taken as upright")
        return 1


def _decode_png16(file: BinaryIO, image: ImageFile.ImageFile) -> Decoded:
    """16-bit colour or alpha, which Pillow would cut to 8 bits. pypng is pure Python: some seconds a megapixel."""
    import png

    profile, notes = image.info.get("icc_profile"), []
    orientation = _orientation(image, notes)
    file.seek(0)
    width, height, rows, info = png.Reader(file=file).asDirect()
    values = np.stack([np.asarray(row, np.uint16) for row in rows]).reshape(height, width, info["planes"])
    samples = Samples(values.astype(np.float32) / (2 ** info["bitdepth"] - 1))
    return Decoded(samples, (width, height), orientation, profile, notes)


def _decode_tiff(file: BinaryIO, path: PathLike) -> Decoded:
    try:
        image = TiffImagePlugin.TiffImageFile(file)
    except SyntaxError:  # so Pillow calls a layout of samples that it does not know
        image = None
    if image is not None:
        check_area(path, *image.size)
        shallow = max(image.tag_v2.get(258, (1,))) <= 8  # BitsPerSample
        if shallow or image.tag_v2.get(262) not in _TIFF_COLOURS:  # PhotometricInterpretation
            return _decode_pillow(image, path)
    return _decode_deep_tiff(file, path, image)


def _decode_deep_tiff(file: BinaryIO, path: PathLike, image: ImageFile.ImageFile | None) -> Decoded:
    import tifffile

    file.seek(0)
    with tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        check_area(path, page.imagewidth, page.imagelength)
        check_area(path, max(page.tilewidth, 1), max(page.tilelength, 1))
        try:
            samples = _tiff_samples(page, path)
        except ValueError as error:
            # Without imagecodecs tifffile lacks some compressions, LZW among them. Pillow has them, colour at 8 bits.
            known = page.bitspersample == 16 and page.photometric != 0
            if image is None or not known or "imagecodecs" not in str(error):
                raise
            return _decode_pillow(image, path)
        notes = ["it has several frames or pages: the first is taken"] if len(tiff.pages) > 1 else []
        tags = {code: page.tags.valueof(code) for code in (Base.Orientation, 34675)}
    full_size = (page.imagewidth, page.imagelength)
    return Decoded(samples, full_size, tags[Base.Orientation], tags[34675], notes)


def _tiff_samples(page: Any, path: PathLike) -> Samples:
    colours = _TIFF_COLOURS.get(page.photometric)
    if colours is None or page.axes not in ("YX", "YXS", "SYX") or page.dtype is None or page.dtype.kind not in "uf":
        raise PictureError(
            f"{shown(path)} is a TIFF of {page.dtype} samples, axes {page.axes}, photometric {page.photometric}: "
            "expected grey or RGB of unsigned integers or floats; save it as 8- or 16-bit RGB"
        )
    values = page.asarray()
    values = values[..., None] if page.axes == "YX" else np.moveaxis(values, 0, -1) if page.axes == "SYX" else values
    extra = page.extrasamples[0] if page.extrasamples else None
    values = values[..., : colours + (extra in _ALPHA_KINDS)]
    if page.dtype.kind == "f":
        _require_finite(values, path)
        colour, alpha = _unit_range(values[..., :colours]), np.clip(values[..., colours:], 0, 1)
        values = np.concatenate([colour, alpha], axis=-1, dtype=np.float32, casting="same_kind")
    else:
        values = (values / np.float64(2**page.bitspersample - 1)).astype(np.float32)
    if page.photometric == 0:
        values[..., 0] = 1 - values[..., 0]
    return Samples(values, premultiplied=extra in _ALPHA_KINDS and _ALPHA_KINDS[extra])


def _require_finite(values: np.ndarray, path: PathLike) -> None:
    if not np.isfinite(values).all():
        raise PictureError(f"{shown(path)} holds NaN or infinite samples: expected finite floats; mend them first")


def _unit_range(values: np.ndarray) -> np.ndarray:
    """Float samples within [0, 1] as they are; others scaled by their range, so that it becomes [0, 1]."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return values.astype(np.float32)
    return ((values.astype(np.float64) - low) / max(high - low, np.finfo(np.float64).tiny)).astype(np.float32)
