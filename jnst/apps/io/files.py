"""What may be opened, what a file that is no image seems to be, and names that must be one of several."""

import os
import re
import stat
from collections.abc import Iterable
from typing import BinaryIO

from jnst.errors import ArgumentError, ImageError, did_you_mean
from jnst.weights.files import PathLike, shown

_FOREIGN = {
    "an EPS or PostScript document": rb"%!PS|\xc5\xd0\xd3\xc6",
    "a PDF document": rb"%PDF",
    "an HTML page": rb"\s*(?i:<!doctype\s+html|<html)",
    "an SVG drawing or other XML": rb"\s*<(\?xml|svg)",
    "an AVIF or HEIC image": rb"(?s:....)ftyp(avif|avis|heic|heix|mif1)",
    "a JPEG XL image": rb"\xff\x0a|\x00\x00\x00\x0cJXL ",
    "a Photoshop document": rb"8BPS",
}


_LONGEST = 120


def one_line(words: str) -> str:
    """Foreign words for a message of ours: printable, on one line, and not too many."""
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    return words if len(words) <= _LONGEST else words[:_LONGEST] + "..."


def choose(name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`.

    Raises:
        ArgumentError: it is not; the message lists the choices and the near matches.
    """
    known = list(choices)
    if isinstance(value, str) and value in known:
        return value
    near = did_you_mean(str(value), known, most=2, quote=repr)
    raise ArgumentError(
        f"`{name}` is {value!r}{f' ({near})' if near else ''}: expected one of {', '.join(map(repr, known))}"
    )


def describe_content(head: bytes) -> str:
    """Say in words what a file that is no known image seems to be, from its first bytes."""
    if not head:
        return "empty"
    for kind, signature in _FOREIGN.items():
        if re.match(signature, head):
            return kind
    if all(byte >= 0x20 or byte in b"\t\n\f\r" for byte in head):
        return "text"
    return f"bytes of no known kind ({head[:4].hex(' ')} ...)"


def open_regular(path: PathLike) -> BinaryIO:
    """Open a regular file for reading; never wait on a pipe or a device.

    Raises:
        ImageError: missing, not a regular file, or not readable.
    """
    try:
        # Before opening: to open a FIFO waits for its writer, and to open a device may act on it.
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise ImageError(f"{shown(path)} is a directory: name an image file in it")
        if not stat.S_ISREG(mode):
            raise ImageError(f"{shown(path)} is a pipe, socket or device: name a regular image file")
        # Without waiting, should there be a pipe by now; where it matters not, reading is the same.
        return open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))
    except FileNotFoundError as error:
        raise ImageError(f"{shown(path)} does not exist: check the name and the folder") from error
    except OSError as error:
        raise ImageError(f"{shown(path)} cannot be read ({error.strerror}): check its permissions") from error
    except ImageError:
        raise
    except ValueError as error:  # a NUL character in the name
        raise ImageError(f"{shown(path)} is not a file name ({error}): check the name") from error
