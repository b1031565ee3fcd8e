"""What an image file's header says, without decoding it."""

import os
from pathlib import Path
from typing import BinaryIO

from PIL.ExifTags import Base

from jnst.apps.io.decode import check_area, kind_of, opened
from jnst.apps.io.exif import ON_ITS_SIDE, orientation
from jnst.apps.io.files import open_regular
from jnst.apps.io.load import translating
from jnst.apps.io.tiff import read_directory
from jnst.errors import ImageError
from jnst.weights.files import PathLike, shown

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".gif", ".bmp", ".ppm")
"""Of files that are taken for images where a folder is searched."""


def image_size(path: PathLike) -> tuple[int, int]:
    """Height and width in pixels of the image that `load_image` gives: the first frame's, upright.

    Raises:
        ImageError: the file is missing, unreadable, no image, or its header is damaged or claims too much.
    """
    with open_regular(path) as file, translating(path):
        kind, _ = kind_of(file, path)
        (width, height), turn = _tiff(file, path) if kind == "TIFF" else _other(file, kind, path)
    return (width, height) if turn in ON_ITS_SIDE else (height, width)


def find_images(folder: PathLike) -> tuple[list[Path], list[Path]]:
    """The image files in a folder, told by their suffixes, and its other files; each sorted by name.

    Folders in it, and names that begin with a dot, are passed over.

    Raises:
        ImageError: the folder cannot be read.
    """
    try:
        files = [Path(entry.path) for entry in os.scandir(os.fsdecode(folder)) if entry.is_file()]
    except OSError as error:
        raise ImageError(f"{shown(folder)} cannot be read ({error.strerror}): check its permissions") from error
    files = sorted(file for file in files if not file.name.startswith("."))
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    return images, [file for file in files if file not in set(images)]


def _other(file: BinaryIO, kind: str, path: PathLike) -> tuple[tuple[int, int], int]:
    image = opened(kind, file, path)
    try:
        return image.size, orientation(image.info)
    except ValueError:  # damaged EXIF data counts as none, as in `load_image`
        return image.size, 1


def _tiff(file: BinaryIO, path: PathLike) -> tuple[tuple[int, int], int]:
    page = read_directory(file)
    check_area(path, *page.size)
    return page.size, page.number(Base.Orientation, 1)
