"""Ways to damage an image file: blindly, and with knowledge of its chunks, segments, blocks or directories."""

import random
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ODD_NUMBERS = (*range(9), 12, 13, 16, 24, 32, 43, 64, 127, 128, 255, 256, 257, 4095, 12000, 32767, 32768)
LARGE_NUMBERS = (60000, 65534, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1)


class Field(NamedTuple):
    """A number in a file: its offset and `struct` format."""

    start: int
    format: str


class Layout(NamedTuple):
    """The numbers that control a decoder, and the (start, end) of each part of the file."""

    fields: list[Field]
    parts: list[tuple[int, int]]


def png_layout(data: bytes) -> Layout:
    fields, parts, start = [Field(16, ">I"), Field(20, ">I"), *(Field(at, ">B") for at in range(24, 29))], [], 8
    while start + 12 <= len(data):
        end = start + 12 + struct.unpack_from(">I", data, start)[0]
        parts.append((start, end))
        fields += [Field(start, ">I"), Field(start + 4, ">I")]
        if data[start + 4 : start + 8] in (b"acTL", b"fcTL", b"tRNS"):
            fields += [Field(at, ">I") for at in range(start + 8, end - 7, 4)]
        start = end
    return Layout(fields, parts)


def jpeg_layout(data: bytes) -> Layout:
    fields, parts, start = list[Field](), list[tuple[int, int]](), 2
    while start + 4 <= len(data) and data[start] == 0xFF:
        marker, length = data[start + 1], struct.unpack_from(">H", data, start + 2)[0]
        end = start + 2 + length
        fields += [Field(start + 1, ">B"), Field(start + 2, ">H")]
        if marker in (0xC0, 0xC2):
            fields += [Field(start + 4, ">B"), Field(start + 5, ">H"), Field(start + 7, ">H")]
        if marker in (0xC0, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD):
            fields += [Field(at, ">B") for at in range(start + 4, min(end, start + 30))]
        if marker == 0xDA:
            end = max(data.find(b"\xff\xd9", end), end)
        parts.append((start, end))
        start = end
    return Layout(fields, parts)


def webp_layout(data: bytes) -> Layout:
    fields, parts, start = [Field(4, "<I")], [], 12
    while start + 8 <= len(data):
        kind, length = data[start : start + 4], struct.unpack_from("<I", data, start + 4)[0]
        end = start + 8 + length + length % 2
        fields += [Field(start + 4, "<I"), *(Field(start + at, "<B") for at in range(4))]
        if kind in (b"VP8X", b"VP8 ", b"VP8L", b"ANIM", b"ANMF", b"ALPH"):
            fields += [Field(at, "<B") for at in range(start + 8, min(end, start + 24))]
            fields += [Field(at, "<H") for at in range(start + 8, min(end - 1, start + 24))]
        parts.append((start, end))
        start = end
    return Layout(fields, parts)


def gif_layout(data: bytes) -> Layout:
    fields, parts = [Field(6, "<H"), Field(8, "<H"), Field(10, "<B"), Field(11, "<B")], list[tuple[int, int]]()
    start = 13 + (3 * 2 ** (data[10] % 8 + 1) if data[10] & 128 else 0)
    while start < len(data) and data[start] in b"!,":
        at = start + 2
        if data[start] == 0x2C:
            fields += [Field(start + offset, "<H") for offset in (1, 3, 5, 7)] + [Field(start + 9, "<B")]
            at = start + 10 + (3 * 2 ** (data[start + 9] % 8 + 1) if data[start + 9] & 128 else 0)
            fields.append(Field(at, "<B"))  # the minimum code size
            at += 1
        while at < len(data) and data[at]:
            fields.append(Field(at, "<B"))
            at += data[at] + 1
        parts.append((start, at + 1))
        start = at + 1
    return Layout(fields, parts)


def tiff_layout(data: bytes) -> Layout:
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    offset, number, size = ("Q", "Q", 20) if big else ("I", "H", 12)
    at = 8 if big else 4
    fields, parts, directory = [Field(at, order + offset)], list[tuple[int, int]](), 0
    directory = struct.unpack_from(order + offset, data, at)[0]
    while directory and len(parts) < 99:
        fields.append(Field(directory, order + number))
        entries = struct.unpack_from(order + number, data, directory)[0]
        first = directory + struct.calcsize(number)
        for start in range(first, first + size * entries, size):
            # The tag, its type, the number of values, and the value or its offset. Short values are twice as likely.
            fields += [Field(start, order + "H"), Field(start + 2, order + "H"), Field(start + 4, order + offset)]
            fields += [Field(start + size // 2 + 2, order + offset), Field(start + size // 2 + 2, order + "H")]
            parts.append((start, start + size))
        directory = struct.unpack_from(order + offset, data, first + size * entries)[0]
    return Layout(fields, parts)


def bare_layout(data: bytes) -> Layout:
    """The layout of BMP and PPM files: a header of numbers or text."""
    form = "<I" if data[:2] == b"BM" else ">B"
    return Layout([Field(at, form) for at in range(0, 50, 4 if form == "<I" else 1)], [(0, 20), (20, 54)])


LAYOUTS: Mapping[str, Callable[[bytes], Layout]] = {
    "PNG": png_layout,
    "JPEG": jpeg_layout,
    "WebP": webp_layout,
    "TIFF": tiff_layout,
    "GIF": gif_layout,
    "other": bare_layout,
}


def odd_number(rng: random.Random, now: int) -> int:
    """A replacement for a number: a similar, small, large or random one."""
    near = (now + rng.choice((-2, -1, 1, 2)), now * 2, now // 2, now ^ (1 << rng.randrange(16)), now * 60)
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(near)
    return rng.choice(ODD_NUMBERS) if kind < 0.8 else rng.choice((*LARGE_NUMBERS, rng.randrange(2**32)))


def change_fields(rng: random.Random, data: bytes, layout: Layout) -> bytes:
    changed = bytearray(data)
    for field in rng.choices(layout.fields, k=rng.choice((1, 1, 1, 2, 3))):
        size = struct.calcsize(field.format)
        if field.start + size <= len(changed):
            now = struct.unpack_from(field.format, changed, field.start)[0]
            struct.pack_into(field.format, changed, field.start, odd_number(rng, now) % 256**size)
    return bytes(changed)


def change_parts(rng: random.Random, data: bytes, layout: Layout) -> bytes:
    """Remove, repeat, copy, zero or truncate a part."""
    start, end = rng.choice(layout.parts)
    part, middle = data[start:end], rng.randrange(start, end + 1)
    kind = rng.randrange(5)
    if kind == 0:
        return data[:start] + data[end:]
    if kind == 1:
        return data[:end] + part * rng.choice((1, 1, 2, 50)) + data[end:]
    if kind == 2:
        elsewhere = rng.choice(layout.parts)[0]
        return data[:elsewhere] + part + data[elsewhere:]
    if kind == 3:
        return data[:middle] + bytes(end - middle) + data[end:]
    return data[:middle] + data[end:]


def flip(rng: random.Random, data: bytes) -> bytes:
    """Replace some bytes, in headers more often than in pixels."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 12, 40))):
        spread = rng.choice((32, 200, len(changed)))
        changed[rng.randrange(min(spread, len(changed)))] = rng.choice((0, 1, 255, rng.randrange(256)))
    return bytes(changed)


def truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def splice(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Join the beginning of one file and a part of another."""
    other, at = rng.choice(others), rng.randrange(len(data))
    begin = rng.randrange(len(other))
    stretch = other[begin : begin + rng.choice((1, 8, 64, 500, len(other)))]
    return data[:at] + stretch + rng.choice((b"", data[at:], data[at + len(stretch) :]))


def blank(rng: random.Random, data: bytes) -> bytes:
    """Set a range of bytes to all zeros or all ones."""
    start = rng.randrange(len(data))
    length = min(rng.choice((1, 4, 16, 100, 1000)), len(data) - start)
    return data[:start] + rng.choice((b"\0", b"\xff")) * length + data[start + length :]


def insert(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 3, 4, 12, 100))) + data[at:]


def repeat(rng: random.Random, data: bytes) -> bytes:
    start = rng.randrange(len(data))
    stretch = data[start : start + rng.choice((1, 4, 12, 100))]
    return data[:start] + stretch * rng.choice((2, 3, 200)) + data[start + len(stretch) :]


BLIND = (flip, flip, truncate, blank, insert, repeat)


def change_packed(rng: random.Random, data: bytes) -> bytes:
    """Damage the compressed data of a PNG: rows with their filters, profiles, text. The checksums are correct."""
    chunks = []
    for start, end in png_layout(data).parts:
        kind, body = data[start + 4 : start + 8], data[start + 8 : end - 4]
        skip = {b"IDAT": 0, b"iCCP": body.find(b"\0") + 2, b"zTXt": body.find(b"\0") + 2, b"fdAT": 4}.get(kind)
        if skip is not None:
            packed = zlib.decompress(body[skip:])
            body = body[:skip] + zlib.compress(rng.choice(BLIND)(rng, packed) if packed else b"")
        chunks.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
    return SIGNATURE + b"".join(chunks)


def repair(kind: str, data: bytes) -> bytes:
    """Correct the checksums and the total length, so that the damage is not noticed at once."""
    if kind == "WebP" and len(data) >= 8:
        return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    if kind != "PNG":
        return data
    fixed, start = bytearray(data), 8
    while start + 12 <= len(fixed):
        length = struct.unpack_from(">I", fixed, start)[0]
        if start + 12 + length > len(fixed):
            break
        checksum = zlib.crc32(fixed[start + 4 : start + 8 + length])
        struct.pack_into(">I", fixed, start + 8 + length, checksum)
        start += 12 + length
    return bytes(fixed)


def mutant(rng: random.Random, name: str, files: Mapping[str, bytes]) -> bytes:
    """A damaged version of a file. Files are named "kind/name"."""
    kind, data = name.partition("/")[0], files[name]
    layout = LAYOUTS[kind](data)
    chance = rng.random()
    if chance < 0.35:
        data = change_fields(rng, data, layout)
    elif chance < 0.5:
        data = change_parts(rng, data, layout)
    elif chance < 0.6 and kind == "PNG":
        data = change_packed(rng, data)
    elif chance < 0.7:
        same = [other for key, other in files.items() if key.startswith(kind)]
        data = splice(rng, data, same if rng.random() < 0.8 else list(files.values()))
    if chance >= 0.7 or rng.random() < 0.2:
        data = rng.choice(BLIND)(rng, data or b"\0")
    return repair(kind, data) if rng.random() < 0.8 else data
