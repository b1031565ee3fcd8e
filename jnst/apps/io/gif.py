"""GIF files: how large the first image is, before anything is decoded."""

import struct
from typing import BinaryIO


def extent(file: BinaryIO) -> tuple[int, int]:
    """Width and height of the screen, made larger so that the first image fits into it, as Pillow does.

    Raises:
        ValueError: The file is cut off, or has no image.
    """
    file.seek(6)
    width, height, flags = struct.unpack("<HHB2x", file.read(7).ljust(7, b"\0"))
    file.seek(13 + _colours(flags))
    while kind := file.read(1):
        if kind == b",":
            left, top, columns, rows = struct.unpack("<4H", file.read(8).ljust(8, b"\0"))
            return max(width, left + columns), max(height, top + rows)
        if kind == b"!":
            file.read(1)
            while length := file.read(1)[:1].strip(b"\0"):
                file.read(length[0])
    raise ValueError("no image in it")


def _colours(flags: int) -> int:
    """How many bytes the table of colours has that these flags announce."""
    return 3 << (flags % 8 + 1) if flags & 128 else 0
