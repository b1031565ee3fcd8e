"""What a picture file's header says, without decoding it."""

import os
import struct
from pathlib import Path
from typing import BinaryIO

from PIL import Image, TiffImagePlugin
from PIL.ExifTags import Base

from jnst.errors import PictureError
from jnst.files import PathLike, shown
from jnst.io.decode import PLUGINS, check_area, kind_of
from jnst.io.files import open_regular
from jnst.io.load import translating

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".ppm")
"""Of files that are taken for pictures where a folder is searched."""

ON_ITS_SIDE = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


def picture_size(path: PathLike) -> tuple[int, int]:
    """Height and width in pixels of the picture that `load_image` gives: the first frame's, upright.

    Raises:
        PictureError: the file is missing, unreadable, no picture, or its header is damaged or claims too much.
    """
    with open_regular(path) as file, translating(path):
        kind, _ = kind_of(file, path)
        width, height, orientation = _tiff(file) if kind == "TIFF" else _other(file, kind)
        check_area(path, width, height)
    return (width, height) if orientation in ON_ITS_SIDE else (height, width)


def find_pictures(folder: PathLike) -> tuple[list[Path], list[Path]]:
    """The picture files in a folder, told by their suffixes, and its other files; each sorted by name.

    Folders in it, and names that begin with a dot, are passed over.

    Raises:
        PictureError: the folder cannot be read.
    """
    try:
        files = [Path(entry.path) for entry in os.scandir(os.fsdecode(folder)) if entry.is_file()]
    except OSError as error:
        raise PictureError(f"{shown(folder)} cannot be read ({error.strerror}): check its permissions") from error
    files = sorted(file for file in files if not file.name.startswith("."))
    pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
    return pictures, [file for file in files if file not in set(pictures)]


def _other(file: BinaryIO, kind: str) -> tuple[int, int, object]:
    image = PLUGINS[kind][1](file)
    width, height = image.size
    if kind == "PNG" and "exif" not in image.info:
        image.info["exif"] = _exif_chunk(file)
    # Not `image.getexif`: of a PNG without EXIF it decodes the pixels, to see whether EXIF follows them.
    try:
        return width, height, Image.Image.getexif(image).get(Base.Orientation, 1)
    except Exception:  # damaged EXIF data counts as none, as in `load_image`
        return width, height, 1


def _exif_chunk(file: BinaryIO) -> bytes | None:
    """The EXIF data of a PNG, wherever it is: Pillow's header does not reach behind the pixels."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name == b"eXIf":
            return file.read(length)
        file.seek(length + 4, os.SEEK_CUR)
    return None


def _tiff(file: BinaryIO) -> tuple[int, int, object]:
    try:
        tags = TiffImagePlugin.TiffImageFile(file).tag_v2
        return tags[Base.ImageWidth], tags[Base.ImageLength], tags.get(Base.Orientation, 1)
    except SyntaxError:  # so Pillow calls a layout of samples that it does not know
        import tifffile

        file.seek(0)
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            return page.imagewidth, page.imagelength, page.tags.valueof(Base.Orientation)
