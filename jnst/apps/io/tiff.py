"""TIFF directories: read as hostile, and copied with only what decoding takes, so that no decoder sees the rest.

Tags, types and layouts are those of TIFF 6.0 (Adobe, 1992) and of its 64-bit variant, BigTIFF.
"""

import io
import math
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO, NamedTuple

from PIL import TiffImagePlugin
from PIL.ExifTags import Base

_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_SIZES = {2: 1, 5: 8, 7: 1, 10: 8, 11: 4, 12: 8} | {kind: struct.calcsize(form) for kind, form in _NUMBERS.items()}
_MOST_VALUES = 2**22
_MOST_ENTRIES = 2**12
_MOST_SAMPLES = 16
_LARGE_TILE = 2**20  # pixels, which the tiles of the smallest image may have
_SUBSAMPLED = 6  # PhotometricInterpretation: YCbCr
_MOST_BYTES = 2**32 - 2**26  # so that pointers of 32 bits reach over them, and over the directory before them

BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR, PREDICTOR = 258, 259, 262, 277, 284, 317
EXTRA_SAMPLES, SAMPLE_FORMAT, COLOUR_PROFILE = 338, 339, 34675
_STRIPS, _ROWS_PER_STRIP, _STRIP_SIZES = 273, 278, 279
TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_SIZES = 322, 323, 324, 325
_FILL_ORDER, _GROUP_3, _GROUP_4, _COLOUR_MAP, _INKS, _JPEG_TABLES = 266, 292, 293, 320, 332, 347
_YCBCR = (529, 530, 531, 532)
_KEPT = (BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR, PREDICTOR, EXTRA_SAMPLES, SAMPLE_FORMAT)
_KEPT += (_FILL_ORDER, _GROUP_3, _GROUP_4, _COLOUR_MAP, _INKS, _JPEG_TABLES, *_YCBCR)
_LISTS = (BITS, EXTRA_SAMPLES, SAMPLE_FORMAT, _COLOUR_MAP, _JPEG_TABLES, *_YCBCR)
"""Of those kept, the tags of more than one value; of others the first counts."""


class Entry(NamedTuple):
    """Of a directory: the type of a tag's values, how many there are, and where they are in the file."""

    kind: int
    number: int
    start: int


class _Values(NamedTuple):
    kind: int
    number: int
    data: bytes


@dataclass(frozen=True)
class Directory:
    """The first directory of a TIFF file or of EXIF data; values are read when they are asked for.

    Every method raises `ValueError` where the tag is damaged, which a missing one is not.
    """

    file: BinaryIO
    order: str
    entries: Mapping[int, Entry]
    has_next: bool

    def raw(self, tag: int) -> bytes:
        """A tag's values as they lie in the file; none: no bytes."""
        if tag not in self.entries:
            return b""
        kind, count, start = self.entries[tag]
        if kind not in _SIZES or count > _MOST_VALUES:
            raise ValueError(f"tag {tag} has {count} values of type {kind}")
        self.file.seek(start)
        return _exactly(self.file, count * _SIZES[kind])

    def numbers(self, tag: int) -> tuple[int, ...]:
        """A tag's whole numbers; none if it is missing."""
        data = self.raw(tag)
        if not data:
            return ()
        kind, count, _ = self.entries[tag]
        if kind not in _NUMBERS:
            raise ValueError(f"tag {tag} is of type {kind}, not of whole numbers")
        return struct.unpack(f"{self.order}{count}{_NUMBERS[kind]}", data)

    def number(self, tag: int, default: int) -> int:
        """A tag's first number."""
        return next(iter(self.numbers(tag)), default)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels; 0 where the tag is missing."""
        return self.number(Base.ImageWidth, 0), self.number(Base.ImageLength, 0)

    @property
    def samples(self) -> int:
        """How many a pixel has."""
        count = self.number(SAMPLES, 1)
        if not 1 <= count <= _MOST_SAMPLES:
            raise ValueError(f"{count} samples per pixel")
        return count

    @property
    def segment_size(self) -> tuple[int, int]:
        """Width and height in pixels of the tiles, or of the strips."""
        width, height = self.size
        if TILE_WIDTH in self.entries:
            return self.number(TILE_WIDTH, 0), self.number(_TILE_HEIGHT, 0)
        rows = self.number(_ROWS_PER_STRIP, height)
        return width, min(rows, height) if rows > 0 else height


class CopiedTiff(TiffImagePlugin.TiffImageFile):
    """What `copied` makes, opened by Pillow, but for its check of the size, which warns of legal ones: that is ours."""

    def load_prepare(self) -> None:
        """Make room for the pixels, as for images of other kinds."""
        super(TiffImagePlugin.TiffImageFile, self).load_prepare()


def read_directory(file: BinaryIO) -> Directory:
    """The first directory of a file.

    Raises:
        ValueError: It is none, or is cut off.
    """
    file.seek(0)
    head = file.read(16)
    order, big = {b"II": "<", b"MM": ">"}.get(head[:2], ""), head[2:4] in (b"+\0", b"\0+")
    if not order or not (big or head[2:4] in (b"*\0", b"\0*")):
        raise ValueError("no TIFF header")
    pointer, counter, entry = ("Q", "Q", "HHQ8x") if big else ("I", "H", "HHI4x")
    (start,) = struct.unpack_from(order + pointer, head.ljust(16, b"\0"), 8 if big else 4)
    if start >= 2**63:
        raise ValueError("a directory beyond the end of the file")
    file.seek(start)
    first, size = start + struct.calcsize(counter), struct.calcsize(order + entry)
    (count,) = struct.unpack(order + counter, _exactly(file, struct.calcsize(counter)))
    if count > _MOST_ENTRIES:
        raise ValueError(f"a directory of {count} entries")
    table = _exactly(file, size * count)
    entries: dict[int, Entry] = {}
    for number, (tag, kind, values) in enumerate(struct.iter_unpack(order + entry, table)):
        inline = struct.calcsize(pointer)
        where = first + size * number + size - inline
        if values * _SIZES.get(kind, 1) > inline:
            (where,) = struct.unpack_from(order + pointer, table, size * (number + 1) - inline)
        entries.setdefault(tag, Entry(kind, values, min(where, 2**62)))
    following = file.read(struct.calcsize(pointer))
    return Directory(file, order, entries, any(following))


def copied(page: Directory, changes: Mapping[int, tuple[int, ...]] | None = None, plane: int | None = None) -> BinaryIO:
    """A file of its own for a directory's image: its segments, the tags that say how to decode them, nothing else.

    Args:
        page: The directory.
        changes: Numbers by tag in the place of the directory's; no numbers: leave out the tag.
        plane: Of an image whose samples are stored separately, which one to copy; None: all.

    Raises:
        ValueError: The directory is damaged, or points beyond the end of the file.
    """
    is_tiled = TILE_WIDTH in page.entries
    (width, height), (side, rows) = page.size, page.segment_size
    numbers = {256: (width,), 257: (height,)}
    numbers |= {TILE_WIDTH: (side,), _TILE_HEIGHT: (rows,)} if is_tiled else {_ROWS_PER_STRIP: (rows,)}
    tags = {tag: values for tag in _KEPT if (values := _kept(page, tag)) is not None}
    for tag, given in (numbers | dict(changes or {})).items():
        tags.pop(tag, None)
        if given:
            tags[tag] = _packed(page.order, given)
    segments = _segments(page, is_tiled)
    if is_tiled and side * rows > max(_LARGE_TILE, 2 * width * height):
        raise ValueError(f"tiles of {side}x{rows} pixels")
    if plane is not None:
        share = len(segments) // page.samples
        segments = segments[plane * share : (plane + 1) * share]
    return _written(page, tags, segments, is_tiled)


def _written(page: Directory, tags: dict[int, _Values], segments: list[tuple[int, int]], is_tiled: bool) -> BinaryIO:
    order, pointers, sizes = page.order, *((_TILES, _TILE_SIZES) if is_tiled else (_STRIPS, _STRIP_SIZES))
    tags[sizes] = _packed(order, (size for _, size in segments))
    tags[pointers] = _Values(4, len(segments), bytes(4 * len(segments)))
    entries, outside = 14 + 12 * len(tags), sum(len(values.data) + 1 for values in tags.values())
    starts = accumulate((size for _, size in segments), initial=entries + outside)
    packed = b"".join(struct.pack(order + "I", start) for start, _ in zip(starts, segments, strict=False))
    tags[pointers] = tags[pointers]._replace(data=packed)
    out, table, values = io.BytesIO(), b"", b""
    for tag, (kind, count, data) in sorted(tags.items()):
        inline = data.ljust(4, b"\0")
        if len(data) > 4:
            inline = struct.pack(order + "I", entries + len(values))
            values += data + bytes(len(data) % 2)
        table += struct.pack(order + "HHI", tag, kind, count) + inline
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HIH", 42, 8, len(tags))
    out.write((header + table + bytes(4) + values).ljust(entries + outside, b"\0"))
    for start, size in segments:
        page.file.seek(start)
        out.write(_exactly(page.file, size))
    out.seek(0)
    return out


def _segments(page: Directory, is_tiled: bool) -> list[tuple[int, int]]:
    """Start and size in bytes of each strip or tile."""
    starts, sizes = (page.numbers(tag) for tag in ((_TILES, _TILE_SIZES) if is_tiled else (_STRIPS, _STRIP_SIZES)))
    length = page.file.seek(0, os.SEEK_END)
    if len(starts) == 1 and (not sizes or sizes[0] == 0):  # allowed where nothing follows
        sizes = (max(length - starts[0], 0),)
    (width, height), (side, rows) = page.size, page.segment_size
    if side < 1 or rows < 1:
        raise ValueError(f"segments of {side}x{rows} pixels")
    planes = page.samples if page.number(PLANAR, 1) == 2 else 1
    expected = math.ceil(width / side) * math.ceil(height / rows) * planes
    if len(starts) < expected or len(sizes) < expected:
        raise ValueError(f"{len(starts)} segments with {len(sizes)} sizes, {expected} are needed")
    starts, sizes = starts[:expected], sizes[:expected]
    if page.number(COMPRESSION, 1) == 1 and page.number(PHOTOMETRIC, 0) != _SUBSAMPLED:
        sizes = tuple(_plain_sizes(page, planes, is_tiled))
    if min(starts) < 0 or min(sizes) < 0 or sum(sizes) > min(length, _MOST_BYTES):
        raise ValueError("segments that are larger than the file, or than 4 GB")
    return list(zip(starts, sizes, strict=True))


def _plain_sizes(page: Directory, planes: int, is_tiled: bool) -> Iterator[int]:
    """What uncompressed segments must have in bytes, whatever is said of their sizes."""
    (width, height), (side, rows) = page.size, page.segment_size
    bits = page.numbers(BITS) or (1,)
    depth = bits[0] if planes > 1 else sum(bits) if len(bits) == page.samples else bits[0] * page.samples
    for _ in range(planes):
        for row in range(0, height, rows):
            lines = rows if is_tiled else min(rows, height - row)
            yield from [lines * math.ceil(side * depth / 8)] * math.ceil(width / side)


def _kept(page: Directory, tag: int) -> _Values | None:
    data = page.raw(tag)
    if not data:
        return None
    kind, count, _ = page.entries[tag]
    if tag not in _LISTS:
        return _packed(page.order, page.numbers(tag)[:1])
    is_long = kind in _NUMBERS and _SIZES[kind] == 8
    return _packed(page.order, page.numbers(tag)) if is_long else _Values(kind, count, data)


def _packed(order: str, numbers: Iterable[int]) -> _Values:
    given = [number % 2**32 for number in numbers]
    kind, form = (3, "H") if all(number < 2**16 for number in given) else (4, "I")
    return _Values(kind, len(given), struct.pack(f"{order}{len(given)}{form}", *given))


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise ValueError(f"cut off: {len(data)} of {size} bytes")
    return data
