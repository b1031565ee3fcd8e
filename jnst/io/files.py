"""Files themselves: what may be opened, and how one is replaced without ever being half written."""

import difflib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import BinaryIO, TypeAlias

from jnst.errors import JnstError, PictureError, ResourceError

PathLike: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_FOREIGN = {
    "an EPS or PostScript document": rb"%!PS|\xc5\xd0\xd3\xc6",
    "a PDF document": rb"%PDF",
    "an HTML page": rb"\s*(?i:<!doctype\s+html|<html)",
    "an SVG drawing or other XML": rb"\s*<(\?xml|svg)",
    "an AVIF or HEIC picture": rb"(?s:....)ftyp(avif|avis|heic|heix|mif1)",
    "a JPEG XL picture": rb"\xff\x0a|\x00\x00\x00\x0cJXL ",
    "a Photoshop document": rb"8BPS",
}
_FULL = (errno.ENOSPC, errno.EDQUOT)


def shown(path: PathLike) -> str:
    """A file's name for a message: quoted, and on one line whatever bytes are in it."""
    return repr(os.fsdecode(path))


def choose(name: str, value: object, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`.

    Raises:
        JnstError: it is not; the message lists the choices and the near matches.
    """
    known = list(choices)
    if isinstance(value, str) and value in known:
        return value
    near = difflib.get_close_matches(str(value), known, n=2)
    hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
    raise JnstError(f"`{name}` is {value!r}{hint}: expected one of {', '.join(map(repr, known))}")


def describe_content(head: bytes) -> str:
    """Say in words what a file that is no known picture seems to be, from its first bytes."""
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
        PictureError: missing, not a regular file, or not readable.
    """
    try:
        # Before opening: to open a FIFO waits for its writer, and to open a device may act on it.
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise PictureError(f"{shown(path)} is a directory: name a picture file in it")
        if not stat.S_ISREG(mode):
            raise PictureError(f"{shown(path)} is a pipe, socket or device: name a regular picture file")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise PictureError(f"{shown(path)} does not exist: check the name and the folder") from error
    except OSError as error:
        raise PictureError(f"{shown(path)} cannot be read ({error.strerror}): check its permissions") from error
    except PictureError:
        raise
    except ValueError as error:  # a NUL character in the name
        raise PictureError(f"{shown(path)} is not a file name ({error}): check the name") from error


def write_atomically(path: PathLike, data: bytes) -> None:
    """Replace a file's content in one step: at every moment it is the old content or the new, whole.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and the file is then renamed.
    Symbolic links are followed. A new file's permissions follow the umask; an existing file keeps its own.

    Args:
        path: the file to write or replace.
        data: all of its content.

    Raises:
        ResourceError: the disk is full. The old file is intact.
        JnstError: any other failure to write. The old file is intact.
    """
    target = os.path.realpath(os.fsdecode(path))
    temporary = os.path.join(os.path.dirname(target), f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        os.replace(temporary, target)
    except OSError as error:
        kind, remedy = (ResourceError, "free some space") if error.errno in _FULL else (JnstError, "check the folder")
        raise kind(f"{shown(path)} could not be written ({error.strerror or error}): {remedy}") from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)
