"""Decode image files: PNG with imagecodecs, TIFF with tifffile, HEIC with pillow-heif, other formats with Pillow.

Pillow reduces 16-bit colour to 8 bits, fills missing rows of a PNG with black, and cannot open most floating-point TIFF
files. The other two libraries read all of these and refuse damaged data.
"""

import io
import logging
import math
import os
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import imagecodecs
import numpy as np
import tifffile
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    WebPImagePlugin,
    features,
)
from PIL.ExifTags import Base
from tifffile import COMPRESSION, PHOTOMETRIC

from jnst.errors import ImageError
from jnst.weights.files import PathLike, shown

for _library in ("PIL", "imagecodecs", "tifffile"):  # what they log about damage is in our error messages
    logging.getLogger(_library).addHandler(logging.NullHandler())

MAX_PIXELS = 175_000_000  # below the limits built into Pillow's plugins
MAX_ANIMATED_PIXELS = 40_000_000  # lower, because a few bytes of an animation can claim many pixels
DRAFT_PIXELS = 50_000_000
"""JPEG files with more pixels may be decoded at a fraction of their size."""

SIGNATURES = {
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "JPEG": rb"\xff\xd8\xff",
    "WebP": rb"(?s)RIFF....WEBP",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM",
    "PPM": rb"P[1-6f]\s",
    # A box that names brands, the general ones of HEIC among those of AVIF.
    "AVIF": rb"(?s)....ftyp(....){0,16}?avi[fs]",
    "HEIC": rb"(?s)....ftyp(....){0,16}?(hei[cxms]|hev[cx]|mif1|msf1)",
}
"""The supported formats, and how their files begin (regular expressions)."""


def _open_avif(file: BinaryIO) -> ImageFile.ImageFile:
    if not features.check("avif"):
        raise ImageError("this Pillow cannot decode AVIF: pip install 'pillow>=11.3'")
    from PIL import AvifImagePlugin

    return AvifImagePlugin.AvifImageFile(file)


def _open_heic(file: BinaryIO) -> ImageFile.ImageFile:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise ImageError("HEIC needs another package: pip install 'jnst[heif]', or convert it to JPEG") from None
    return HeifImageFile(file)


# Pillow's plugins are called directly: `Image.open` warns about images above a global limit that is below `MAX_PIXELS`.
_PLUGINS: dict[str, Callable[[BinaryIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "AVIF": _open_avif,
    "HEIC": _open_heic,
}

_OTHER_CONTENT = {
    "an EPS or PostScript document": rb"%!PS|\xc5\xd0\xd3\xc6",
    "a PDF document": rb"%PDF",
    "an HTML page": rb"\s*(?i:<!doctype\s+html|<html)",
    "an SVG drawing or other XML": rb"\s*<(\?xml|svg)",
    "a JPEG XL image": rb"\xff\x0a|\x00\x00\x00\x0cJXL ",
    "a Photoshop document": rb"8BPS",
}

_PNG_METADATA = (b"iCCP", b"sRGB", b"gAMA", b"eXIf", b"tEXt", b"zTXt", b"iTXt")

_ANY_DEPTH = ("bool", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
_TIFF_MODES: dict[int, tuple[str, tuple[str, ...]]] = {
    PHOTOMETRIC.MINISWHITE: ("L", _ANY_DEPTH),
    PHOTOMETRIC.MINISBLACK: ("L", _ANY_DEPTH),
    PHOTOMETRIC.RGB: ("RGB", _ANY_DEPTH),
    PHOTOMETRIC.PALETTE: ("P", ("bool", "uint8")),
    PHOTOMETRIC.SEPARATED: ("CMYK", ("uint8", "uint16")),
    PHOTOMETRIC.YCBCR: ("YCbCr", ("uint8",)),
    PHOTOMETRIC.CIELAB: ("LAB", ("uint8",)),
}
"""The supported colour spaces of TIFF files: Pillow's modes for them, and the types of samples."""

# Compressions whose decoders write no more than the segment's size, whatever the compressed data claims.
_TIFF_COMPRESSIONS = (
    COMPRESSION.NONE,
    COMPRESSION.CCITTRLE,
    COMPRESSION.CCITT_T4,
    COMPRESSION.CCITT_T6,
    COMPRESSION.LZW,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.DEFLATE,
    COMPRESSION.PACKBITS,
    COMPRESSION.LZMA,
    COMPRESSION.ZSTD,
)
_MAX_TIFF_SAMPLES = 16
_PREMULTIPLIED, _UNASSOCIATED = 1, 2  # values of ExtraSamples that denote transparency

_SEVERAL = "it has several frames or pages: only the first is read"
_MESSAGE_LENGTH = 120
_ROWS = 256  # processed at a time where an intermediate array would be larger than the result


@dataclass(frozen=True)
class Samples:
    """Pixels with more than 8 bits per sample.

    Attributes:
        values: float32 `(h, w, c)` in [0, 1]. Grey for `c` of 1 or 2, RGB for 3 or 4; transparency last if `c` is even.
        premultiplied: Whether the colour is multiplied by its alpha.
    """

    values: np.ndarray
    premultiplied: bool = False


Pixels = Image.Image | Samples
"""The first frame as stored: not rotated, composited or converted to sRGB. An `Image` has 8 bits per sample."""


@dataclass(frozen=True)
class StoredImage:
    """The header of an image file, checked, and a function that decodes the pixels.

    Attributes:
        size: Stored width and height in pixels.
        orientation: The EXIF orientation, 1 to 8.
        profile: The embedded ICC profile, or None.
        notes: Warnings for the user.
        decode: Decodes the pixels. A large JPEG may be reduced, but not below the given width and height; None decodes
            at full size. Raises whatever the decoder raises for damaged data.
        gamma: The exponent that turned light into samples, if the file states it and no profile; None: as in sRGB.
    """

    size: tuple[int, int]
    orientation: int
    profile: bytes | None
    notes: tuple[str, ...]
    decode: Callable[[tuple[int, int] | None], Pixels]
    gamma: float | None = None

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height in pixels once the orientation is applied."""
        width, height = self.size
        return (height, width) if self.orientation >= 5 else (width, height)


def read_header(file: BinaryIO, path: PathLike) -> StoredImage:
    """Read the header of an image file. The file must stay open until the pixels are decoded.

    Args:
        file: The open file, at its beginning.
        path: Its name, for error messages.

    Raises:
        ImageError: The format is not supported, or the header claims no pixels or too many.
        Exception: Whatever a decoder raises for damaged data.
    """
    head = file.read(1024)
    file.seek(0)
    kind = next((kind for kind, signature in SIGNATURES.items() if re.match(signature, head)), None)
    if kind is None:
        raise ImageError(
            f"{shown(path)} contains {_describe(head)}, expected an image in one of the formats "
            f"{', '.join(SIGNATURES)}: convert it to one of these"
        )
    if kind == "PNG":
        return _png_header(file, path)
    if kind == "TIFF":
        return _tiff_header(file, path)
    return _pillow_header(file, path, kind)


def one_line(text: str) -> str:
    """Make foreign text fit into an error message: printable, one line, of limited length."""
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return text if len(text) <= _MESSAGE_LENGTH else text[:_MESSAGE_LENGTH] + "..."


def _describe(head: bytes) -> str:
    """Describe the content of a file of an unsupported format, given its first bytes."""
    if not head:
        return "no data"
    for name, signature in _OTHER_CONTENT.items():
        if re.match(signature, head):
            return name
    if all(byte >= 0x20 or byte in b"\t\n\f\r" for byte in head):
        return "text"
    return f"data of an unknown format ({head[:4].hex(' ')} ...)"


def _check_size(path: PathLike, width: int, height: int, limit: int = MAX_PIXELS) -> None:
    if width < 1 or height < 1:
        raise ImageError(f"{shown(path)} claims {width}x{height} pixels: expected at least 1x1; save it again")
    if width * height > limit:
        raise ImageError(
            f"{shown(path)} claims {width}x{height} pixels: expected at most {limit // 1_000_000} megapixels; "
            "make it smaller"
        )


def _orientation(image: Image.Image) -> tuple[int, list[str]]:
    """The EXIF orientation of an image opened by Pillow, and warnings."""
    try:
        # Not `image.getexif()`, which decodes the pixels of a PNG.
        found = Image.Image.getexif(image).get(Base.Orientation, 1)
    except Exception as error:  # the pixels are still good
        return 1, [f"its EXIF data is damaged ({one_line(str(error))}), so it is not rotated"]
    return (found if found in range(1, 9) else 1), []


def _png_header(file: BinaryIO, path: PathLike) -> StoredImage:
    """Read the header of a PNG and its metadata.

    Metadata may follow the pixels, and ImageMagick writes EXIF data there. Pillow reads these only after decoding the
    pixels, so it is given a copy of the file without them.
    """
    parts, frames = [file.read(33)], 1  # the signature and the header with the size, which come first
    while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
        length, name = struct.unpack(">I4s", head)
        length += 4  # the checksum
        if name in _PNG_METADATA:
            parts.append(head + file.read(length))
        else:
            if name == b"acTL":
                frames = int.from_bytes(file.read(4), "big")
                length -= 4
            file.seek(length, os.SEEK_CUR)
    empty = struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT"))
    header = PngImagePlugin.PngImageFile(io.BytesIO(b"".join([*parts, empty])))
    _check_size(path, *header.size)
    orientation, notes = _orientation(header)
    notes += [_SEVERAL] if frames > 1 else []
    profile, stated = header.info.get("icc_profile"), header.info.get("gamma")
    gamma = None if profile or "srgb" in header.info or not stated else float(stated)
    return StoredImage(header.size, orientation, profile, tuple(notes), lambda _: _decode_png(file), gamma)


def _decode_png(file: BinaryIO) -> Pixels:
    file.seek(0)
    levels = imagecodecs.png_decode(file.read())
    if levels.dtype == np.uint8:
        return Image.fromarray(levels)
    return Samples(_scaled(levels.reshape(*levels.shape[:2], -1), 0, 65535))


def _tiff_header(file: BinaryIO, path: PathLike) -> StoredImage:
    tiff = tifffile.TiffFile(file)
    page = tiff.pages.first
    file.seek(page.offset)
    (tags,) = struct.unpack(tiff.tiff.tagnoformat, file.read(tiff.tiff.tagnosize))
    if len(page.tags) != tags:  # tifffile skips damaged tags, and would decode without them
        raise ValueError("damaged tags")
    size = (page.imagewidth, page.imagelength)
    _check_size(path, *size)
    if page.is_tiled:
        _check_size(path, page.tilewidth, page.tilelength)
    orientation, profile = page.tags.valueof(Base.Orientation), page.tags.valueof(Base.InterColorProfile)
    return StoredImage(
        size,
        orientation if orientation in range(1, 9) else 1,
        profile if isinstance(profile, bytes) else None,
        (_SEVERAL,) if len(tiff.pages) > 1 else (),
        lambda _: _decode_tiff(page, file, path),
    )


def _decode_tiff(page: tifffile.TiffPage, file: BinaryIO, path: PathLike) -> Pixels:
    if page.compression == COMPRESSION.JPEG and page.samplesperpixel <= _MAX_TIFF_SAMPLES:
        # By libtiff, which checks that the size inside the JPEG data is that of the TIFF.
        file.seek(0)
        return Image.fromarray(imagecodecs.tiff_decode(file.read()))
    mode, bits, is_inverted = _tiff_mode(page, path), page.bitspersample, page.photometric == PHOTOMETRIC.MINISWHITE
    channels = Image.getmodebands(mode)
    values = _tiff_samples(page)
    if mode == "P":
        colours = np.asarray(page.colormap)[:, values[..., 0].astype(np.uint8)]
        return Image.fromarray(np.moveaxis(_to_8_bits(colours, 16), 0, -1))
    if mode in ("CMYK", "YCbCr", "LAB"):
        levels = _to_8_bits(values[..., :channels], bits)
        return Image.frombytes(mode, levels.shape[1::-1], levels.tobytes())
    alpha = page.extrasamples[0] if page.extrasamples and values.shape[-1] > channels else None
    values = values[..., : channels + (alpha in (_PREMULTIPLIED, _UNASSOCIATED))]
    if bits in (1, 2, 4, 8) and alpha != _PREMULTIPLIED:
        levels = _to_8_bits(values, bits)
        if is_inverted:
            levels[..., 0] = 255 - levels[..., 0]
        return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)
    if values.dtype.kind == "f":
        _check_finite(values, path)
        parts = _unit_range(values[..., :channels]), np.clip(values[..., channels:], 0, 1)
        values = np.concatenate(parts, axis=-1, dtype=np.float32)
    else:
        values = _scaled(values, 0, 2**bits - 1)
    if is_inverted:
        values[..., 0] = 1 - values[..., 0]
    return Samples(values, premultiplied=alpha == _PREMULTIPLIED)


def _tiff_mode(page: tifffile.TiffPage, path: PathLike) -> str:
    """Pillow's mode for the colour space of a TIFF.

    Raises:
        ImageError: The samples or the compression are not supported.
    """
    mode, types = _TIFF_MODES.get(page.photometric, ("", ()))
    count, is_flat = page.samplesperpixel, page.imagedepth == 1
    if str(page.dtype) not in types or not is_flat or not Image.getmodebands(mode) <= count <= _MAX_TIFF_SAMPLES:
        kind = f"sample format {page.sampleformat}, photometric interpretation {page.photometric}"
        found = one_line(f"{count} samples of {page.bitspersample} bits, {kind}")
        raise ImageError(
            f"{shown(path)} is a TIFF with {found}: expected grey or RGB samples that are unsigned integers or floats; "
            "save it as 8- or 16-bit RGB"
        )
    if page.compression not in _TIFF_COMPRESSIONS:
        compression = one_line(str(page.compression))
        raise ImageError(f"{shown(path)} is a TIFF with compression {compression}: save it without compression")
    return mode


def _tiff_samples(page: tifffile.TiffPage) -> np.ndarray:
    """The samples `(h, w, c)` as stored."""
    segments = math.prod(page.chunked)
    if len(page.databytecounts) < segments or not all(page.databytecounts) or not all(page.dataoffsets):
        raise ValueError("strips or tiles are missing")  # tifffile would fill them with zeros
    stored = page.asarray(squeeze=False, maxworkers=1)  # (planes, depth, h, w, samples)
    return np.moveaxis(stored[:, 0], 0, -2).reshape(page.imagelength, page.imagewidth, -1)


def _to_8_bits(levels: np.ndarray, bits: int) -> np.ndarray:
    if bits > 8:
        return (levels >> (bits - 8)).astype(np.uint8)
    return levels if bits == 8 else levels.astype(np.uint8) * np.uint8(255 // (2**bits - 1))


def _pillow_header(file: BinaryIO, path: PathLike, kind: str) -> StoredImage:
    try:
        image = _PLUGINS[kind](file)
    except ImageError as error:
        raise ImageError(f"{shown(path)}: {error}") from None
    is_animated = getattr(image, "is_animated", False)
    _check_size(path, *image.size, MAX_ANIMATED_PIXELS if is_animated or kind == "GIF" else MAX_PIXELS)
    orientation, notes = _orientation(image)
    notes += [_SEVERAL] if is_animated else []
    profile = image.info.get("icc_profile")
    return StoredImage(
        image.size, orientation, profile, tuple(notes), lambda smallest: _decode_pillow(image, path, smallest)
    )


def _decode_pillow(image: ImageFile.ImageFile, path: PathLike, smallest: tuple[int, int] | None) -> Pixels:
    if smallest is not None and math.prod(image.size) > DRAFT_PIXELS:
        image.draft(None, smallest)  # does nothing except for JPEG
    image.load()
    if image.mode.startswith("I"):  # of 16 bits, whatever the mode
        return Samples(_scaled(np.asarray(image)[..., None], 0, 65535))
    if image.mode == "F":
        values = np.asarray(image)[..., None]
        _check_finite(values, path)
        return Samples(_unit_range(values))
    return image


def _check_finite(values: np.ndarray, path: PathLike) -> None:
    if not np.isfinite(values).all():
        raise ImageError(f"{shown(path)} contains NaN or infinite samples: expected finite floats; replace them")


def _unit_range(values: np.ndarray) -> np.ndarray:
    """Floats in [0, 1] unchanged, other floats scaled so that their own range becomes [0, 1]."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1:
        return values.astype(np.float32)
    return _scaled(values, low, max(high - low, np.finfo(np.float64).tiny))


def _scaled(values: np.ndarray, low: float, span: float) -> np.ndarray:
    """`(values - low) / span`, computed in float64 and returned as float32."""
    scaled = np.empty(values.shape, np.float32)
    for row in range(0, len(values), _ROWS):
        scaled[row : row + _ROWS] = (values[row : row + _ROWS].astype(np.float64) - low) / span
    return scaled
