"""PNG files: their chunks, whether all pixels are there, and 16-bit pixels at their full depth."""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import PngImagePlugin

from jnst.apps.io.deep import Samples

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples of a pixel
# Of the seven passes of an interlaced image: the first column and row, and the steps to the next (PNG, 8.2).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DESCRIBING = (b"IHDR", b"eXIf", b"tEXt", b"zTXt", b"iTXt")
_AT_A_TIME = 2**18
_MOST_FRAMES = 2**31


class Chunk(NamedTuple):
    """A part of the file: its name, and where its data is."""

    name: bytes
    start: int
    length: int


def chunks(file: BinaryIO) -> Iterator[Chunk]:
    """The chunks of a file, up to the one that ends it or to where it is cut off."""
    start, end, name = 8, file.seek(0, os.SEEK_END), b""
    while start + 8 <= end and name != b"IEND":
        file.seek(start)
        length, name = struct.unpack(">I4s", file.read(8))
        yield Chunk(name, start + 8, length)
        start += length + 12


def described(file: BinaryIO) -> dict[Any, Any]:
    """What Pillow finds beside the pixels of a file, before and behind them: its own header ends where they begin.

    Raises:
        Exception: Whatever Pillow raises on damaged bytes.
    """
    parts = [_SIGNATURE]
    for chunk in chunks(file):
        if chunk.name in _DESCRIBING:
            file.seek(chunk.start)
            parts.append(_chunk(chunk.name, file.read(chunk.length)))
    return PngImagePlugin.PngImageFile(io.BytesIO(b"".join([*parts, _chunk(b"IDAT", b"")]))).info


def require_pixels(file: BinaryIO, head: bytes) -> None:
    """Check that there is data for all rows: Pillow takes those that are missing for black.

    Args:
        file: The open file.
        head: Its first 29 bytes at least.

    Raises:
        ValueError: There is not.
        zlib.error: The data is damaged.
    """
    missing, unpacker = _packed_size(head), zlib.decompressobj()
    for data in _image_data(file):
        while data and missing > 0 and not unpacker.eof:
            missing -= len(unpacker.decompress(data, _AT_A_TIME))
            data = unpacker.unconsumed_tail
    if missing > 0:
        raise ValueError("rows are missing")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _packed_size(head: bytes) -> int:
    """How many bytes all rows have, each with the number of its filter."""
    width, height, depth, colour, _, _, is_interlaced = struct.unpack_from(">IIBBBBB", head, 16)
    bits, total = depth * _CHANNELS[colour], 0
    for column, row, right, down in _PASSES if is_interlaced else ((0, 0, 1, 1),):
        columns, rows = max(0, -(-(width - column) // right)), max(0, -(-(height - row) // down))
        total += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return total


def _image_data(file: BinaryIO) -> Iterator[bytes]:
    for chunk in chunks(file):
        if chunk.name == b"IDAT":
            file.seek(chunk.start)
            left = chunk.length
            while left > 0 and (data := file.read(min(left, _AT_A_TIME))):
                yield data
                left -= len(data)


def without_a_broken_animation(file: BinaryIO) -> BinaryIO:
    """The file; or a copy of its still image, if what it says of an animation is one that Pillow warns of."""
    claims = [chunk for chunk in chunks(file) if chunk.name == b"acTL"]
    counts = []
    for chunk in claims:
        file.seek(chunk.start)
        counts.append(int.from_bytes(file.read(4), "big"))
    if len(claims) <= 1 and all(1 <= count <= _MOST_FRAMES for count in counts):
        file.seek(0)
        return file
    kept = [chunk for chunk in chunks(file) if chunk.name not in (b"acTL", b"fcTL", b"fdAT")]
    file.seek(0)
    parts = [file.read(8)]
    for chunk in kept:
        file.seek(chunk.start - 8)
        parts.append(file.read(chunk.length + 12))
    return io.BytesIO(b"".join(parts))


def deep_samples(file: BinaryIO, image: PngImagePlugin.PngImageFile, colour: int) -> Samples:
    """The pixels of a 16-bit PNG.

    Pillow cuts colour to 8 bits: it is read once for the upper bytes and once for the lower ones, which are the upper
    ones of a little-endian file. Grey with alpha, 4 bytes, is read as if it were RGBA of 8 bits.

    Args:
        file: The open file.
        image: The same, opened by Pillow.
        colour: The colour type in its header.
    """
    key = image.info.get("transparency")
    if colour == 4:
        file.seek(0)
        data = bytearray(file.read())
        data[24:26] = b"\x08\x06"
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        levels = np.asarray(PngImagePlugin.PngImageFile(io.BytesIO(data))).view(">u2")
    elif colour == 0:
        levels = np.asarray(image)[..., None]
    else:
        upper, lower = (_png_bytes(file, f"{image.mode};16{order}") for order in "BL")
        levels = np.left_shift(upper, 8, dtype=np.uint16)
        levels |= lower
        del upper, lower
    values = np.divide(levels, np.float32(65535), dtype=np.float32)
    if key is not None and colour in (0, 2):
        opaque = (levels != np.asarray(key, np.uint16).reshape(-1)).any(-1, keepdims=True)
        values = np.concatenate([values, opaque.astype(np.float32)], axis=-1)
    return Samples(values)


def _png_bytes(file: BinaryIO, raw_mode: str) -> np.ndarray:
    file.seek(0)
    image = PngImagePlugin.PngImageFile(file)
    image.tile = [tile._replace(args=raw_mode) for tile in image.tile]
    return np.asarray(image)
