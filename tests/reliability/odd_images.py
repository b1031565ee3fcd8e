"""Unusual but valid TIFF files with known pixels, made by code: few programs write them."""

import io
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

RNG = np.random.default_rng(31)
HEIGHT, WIDTH = 20, 33
DEEP = RNG.integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
FLOATS = RNG.uniform(0, 1, (HEIGHT, WIDTH, 3)).astype(np.float32)
RGB = (DEEP >> 8).astype(np.uint8)
NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
"""Values of the tag Compression."""

_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}


def tiff(tags: Mapping[int, Any], segments: Sequence[bytes], order: str = "<", big: bool = False) -> bytes:
    """A TIFF with the given tags, and strips or tiles. Numbers above 65535 are stored with 32 bits."""
    pointer, counter, header = ("Q", "Q", 16) if big else ("I", "H", 8)
    is_tiled = 322 in tags
    sizes = tags.get(325 if is_tiled else 279, [len(segment) for segment in segments])
    numbers = {tag: [given] if isinstance(given, int) else list(given) for tag, given in tags.items()}
    starts = [header + sum(len(part) for part in segments[:index]) for index in range(len(segments))]
    sizes = [sizes] if isinstance(sizes, int) else sizes
    numbers |= {324: starts, 325: sizes} if is_tiled else {273: starts, 279: sizes}
    body, table = b"".join(segments), b""
    for tag, given in sorted(numbers.items()):
        kind = 3 if max(given) < 65536 else 4
        data = struct.pack(f"{order}{len(given)}{_TYPES[kind]}", *given)
        if len(data) > struct.calcsize(pointer):
            place = struct.pack(order + pointer, header + len(body))
            body += data
        else:
            place = data.ljust(struct.calcsize(pointer), b"\0")
        table += struct.pack(f"{order}HH{pointer}", tag, kind, len(given)) + place
    name = b"II" if order == "<" else b"MM"
    first = struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0) if big else (42,)), header + len(body))
    return name + first + body + struct.pack(order + counter, len(numbers)) + table + bytes(8)


def layout(bits: int, compression: int, predictor: int = 1, **more: int) -> dict[int, Any]:
    """The tags of an RGB image in one strip; `t278=9` sets tag 278."""
    tags = {256: WIDTH, 257: HEIGHT, 258: [bits] * 3, 259: compression, 262: 2, 277: 3, 278: HEIGHT, 284: 1}
    return tags | ({317: predictor} if predictor > 1 else {}) | {int(tag[1:]): given for tag, given in more.items()}


def packed(data: bytes, compression: int) -> bytes:
    if compression == DEFLATE:
        return zlib.compress(data)
    if compression == PACKBITS:
        runs = (data[start : start + 128] for start in range(0, len(data), 128))
        return b"".join(bytes([len(run) - 1]) + run for run in runs)
    if compression == LZW:
        buffer = io.BytesIO()
        Image.frombytes("L", (len(data), 1), data).save(buffer, "TIFF", compression="tiff_lzw")
        with Image.open(buffer) as image:
            (start,), (size,) = image.tag_v2[273], image.tag_v2[279]  # pyright: ignore[reportAttributeAccessIssue]
        return buffer.getvalue()[start : start + size]
    return data


def differences(samples: np.ndarray) -> np.ndarray:
    """Apply the predictor for integers to rows `(h, w, channels)`."""
    return np.diff(samples, axis=1, prepend=samples.dtype.type(0))


def float_differences(samples: np.ndarray) -> np.ndarray:
    """Apply the predictor for floats to rows: sort bytes by significance, then take differences."""
    height, width, channels = samples.shape
    octets = samples.astype(samples.dtype.newbyteorder(">")).view(np.uint8).reshape(height, width * channels, -1)
    planes = octets.swapaxes(1, 2).reshape(height, -1, channels)
    return np.diff(planes, axis=1, prepend=np.uint8(0))


def tiles(samples: np.ndarray, side: int) -> Iterable[np.ndarray]:
    """Square tiles, row by row, padded by repeating the last pixels."""
    height, width, _ = samples.shape
    more = [(0, -height % side), (0, -width % side), (0, 0)]
    whole = np.pad(samples, more, mode="edge")
    for top in range(0, height, side):
        yield from (whole[top : top + side, left : left + side] for left in range(0, width, side))


def tiled(samples: np.ndarray, encode: Any, bits: int, predictor: int, **more: int) -> bytes:
    """A TIFF of deflated tiles of 16x16 pixels."""
    tags = layout(bits, DEFLATE, predictor, **more) | {322: 16, 323: 16}
    del tags[278]
    return tiff(tags, [zlib.compress(encode(tile).tobytes()) for tile in tiles(samples, 16)])


def tiffs() -> dict[str, tuple[bytes, np.ndarray]]:
    """Files by description, each with its image in [0, 1]."""
    deep, flat = DEEP / 65535, RGB / 255
    made = {
        f"16 bits, compression {kind}": (tiff(layout(16, kind), [packed(DEEP.tobytes(), kind)]), deep)
        for kind in (NONE, LZW, DEFLATE, PACKBITS)
    }
    lzw = packed(differences(DEEP).tobytes(), LZW)
    swapped = packed(differences(DEEP).astype(">u2").tobytes(), DEFLATE)
    halves = [packed(np.ascontiguousarray(DEEP[part]).tobytes(), LZW) for part in (slice(12), slice(12, None))]
    floats = float_differences(FLOATS).tobytes()
    planes = [np.ascontiguousarray(RGB[..., channel]).tobytes() for channel in range(3)]
    grey, half = np.ascontiguousarray(DEEP[..., 0]), FLOATS.astype(np.float16)
    grey_tags = layout(16, NONE, t262=1, t277=1) | {258: 16}
    four = np.dstack([RGB, RGB[..., :1], RGB[..., 1:2]])
    return made | {
        "16 bits, LZW, predictor": (tiff(layout(16, LZW, 2), [lzw]), deep),
        "16 bits, predictor, big-endian": (tiff(layout(16, DEFLATE, 2), [swapped], ">"), deep),
        "16 bits, LZW, strips": (tiff(layout(16, LZW, t278=12), halves), deep),
        "16 bits, tiles, predictor": (tiled(DEEP, differences, 16, 2), deep),
        "float, predictor": (tiff(layout(32, DEFLATE, 3) | {339: [3] * 3}, [packed(floats, DEFLATE)]), FLOATS),
        "float, tiles, predictor": (tiled(FLOATS, float_differences, 32, 3, t339=3), FLOATS),
        "half, LZW": (tiff(layout(16, LZW) | {339: [3] * 3}, [packed(half.tobytes(), LZW)]), half),
        "grey, 16 bits, big-endian": (tiff(grey_tags, [grey.astype(">u2").tobytes()], ">"), grey[..., None] / 65535),
        "8 bits, BigTIFF, big-endian": (tiff(layout(8, NONE), [RGB.tobytes()], ">", big=True), flat),
        "8 bits, planes": (tiff(layout(8, NONE, t284=2), planes), flat),
        "8 bits, five samples": (tiff(layout(8, NONE, t277=5) | {258: [8] * 5, 338: [0, 0]}, [four.tobytes()]), flat),
        "8 bits, sizes of strips too small": (tiff(layout(8, NONE, t279=3), [RGB.tobytes()]), flat),
        "8 bits, sizes of strips too large": (tiff(layout(8, NONE, t279=99999), [RGB.tobytes()]), flat),
        "8 bits, private tags of any size": (tiff(layout(8, NONE) | {65001: 5, 33723: [1] * 9}, [RGB.tobytes()]), flat),
    }
