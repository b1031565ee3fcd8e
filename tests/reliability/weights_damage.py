"""Damage of the kind that disks and networks do, to files of any format."""

import random
import struct
from collections.abc import Callable, Mapping
from functools import cache, lru_cache

import numpy as np
from weights_kinds import KINDS, Files

Content = bytes | bytearray
Damage = Callable[[random.Random, bytearray], Content]

ODD_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
PAYLOAD_SHARE = 0.25
"""How often the damage is in the numbers; otherwise it is in the structure around them."""
LONGEST = 200


def place(rng: random.Random, data: Content) -> int:
    """Choose where to damage a file."""
    between = structure(bytes(data)) if rng.random() > PAYLOAD_SHARE else ()
    if not between:
        return rng.randrange(max(1, len(data)))
    return rng.randrange(*rng.choice(between))


@lru_cache(maxsize=64)
def structure(data: bytes) -> tuple[tuple[int, int], ...]:
    """Return the parts of a file that look like structure: blocks of 64 bytes with text or many zeros."""
    values = np.frombuffer(data[: len(data) // 64 * 64], np.uint8).reshape(-1, 64)
    plain = np.mean((values == 0) | ((values >= 32) & (values < 127)), axis=1) > 0.6
    return tuple((64 * part, 64 * part + 64) for part in np.flatnonzero(plain).tolist())


def flip(rng: random.Random, data: bytearray) -> Content:
    for _ in range(rng.choice((1, 1, 1, 2, 8, 64))):
        data[place(rng, data) % len(data)] ^= 1 << rng.randrange(8)
    return data


def change_bytes(rng: random.Random, data: bytearray) -> Content:
    for _ in range(rng.choice((1, 1, 2, 4))):
        data[place(rng, data)] = rng.randrange(256)
    return data


def write_number(rng: random.Random, data: bytearray) -> Content:
    """Write a length or an offset that is absurd, or only slightly wrong."""
    at, size = place(rng, data), rng.choice((1, 2, 4, 8))
    old = int.from_bytes(data[at : at + size], "little")
    number = rng.choice((*ODD_NUMBERS, old + 1, old - 1, old + 8, old * 2, old // 2, len(data), len(data) - at))
    data[at : at + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")
    return data


def truncate(rng: random.Random, data: bytearray) -> Content:
    return data[: place(rng, data)]


def lose_front(rng: random.Random, data: bytearray) -> Content:
    return data[rng.randrange(1, LONGEST) :]


def append(rng: random.Random, data: bytearray) -> Content:
    return data + rng.choice((b"\0", b"\n", rng.randbytes(rng.randrange(1, LONGEST)), data[-LONGEST:], bytes(data)))


def delete(rng: random.Random, data: bytearray) -> Content:
    at = place(rng, data)
    del data[at : at + rng.randrange(1, LONGEST)]
    return data


def repeat(rng: random.Random, data: bytearray) -> Content:
    at, length = place(rng, data), rng.randrange(1, LONGEST)
    return data[:at] + data[at : at + length] * rng.randrange(2, 5) + data[at + length :]


def move(rng: random.Random, data: bytearray) -> Content:
    """Replace a part of the file by another part, like a lost or doubled block."""
    length = rng.choice((4, 8, 16, 64, 512, 4096))
    source, target = place(rng, data), place(rng, data)
    part = data[source : source + length]
    data[target : target + len(part)] = part
    return data


def blank(rng: random.Random, data: bytearray) -> Content:
    at, length = place(rng, data), rng.choice((2, 8, 64, 512, 4096))
    length = len(data[at : at + length])
    data[at : at + length] = rng.choice((b"\0", b"\xff")) * length
    return data


def splice(rng: random.Random, data: bytearray) -> Content:
    """Join the beginning of one file and the end of another."""
    donor = rng.choice(all_files())
    return data[: place(rng, data)] + donor[place(rng, donor) :]


def write_not_finite(rng: random.Random, data: bytearray) -> Content:
    at = rng.randrange(len(data)) & ~3
    odd = rng.choice((float("nan"), float("inf"), -float("inf")))
    data[at : at + 4] = struct.pack("<f", odd)[: len(data) - at]
    return data


def change_line_ends(rng: random.Random, data: bytearray) -> Content:
    """Change line ends like a transfer in text mode."""
    return data.replace(b"\r\n", b"\n") if rng.random() < 0.5 else data.replace(b"\n", b"\r\n")


DAMAGES: Mapping[str, Damage] = {
    function.__name__: function
    for function in (
        flip, change_bytes, write_number, truncate, lose_front, append, delete, repeat, move, blank, splice,
        write_not_finite, change_line_ends,
    )
}  # fmt: skip


@cache
def all_files() -> tuple[bytes, ...]:
    return tuple(content for kind in KINDS.values() for content in kind.files().values())


def damaged(rng: random.Random, files: Files) -> tuple[str, Files]:
    """Damage one of the files in one way or a few; return what was done, and all files."""
    name = rng.choice(sorted(files))
    content, done = files[name], []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        damage = rng.choice(sorted(DAMAGES))
        content = bytes(DAMAGES[damage](rng, bytearray(content))) if content else content
        done.append(damage)
    return f"{name}: {', '.join(done)}", {**files, name: content}
