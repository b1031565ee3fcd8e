"""From an address to a file on the disk, in as many requests as it takes."""

import contextlib
import dataclasses
import json
import random
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from jnst.weights.cache import say
from jnst.weights.opener import Refused, Transport
from jnst.weights.transport import Interrupted, Misfit, Reply, request

Listener = Callable[[int], None]
"""Is told how many bytes of a piece are here, whenever that changes."""

PROGRESS = 1 << 20
"""A try that brought this many bytes counts as none that failed."""


class NoRanges(Refused):
    """The server sends whole files only."""


class Changed(Refused):
    """The file is not the one of which other parts are here."""


@dataclasses.dataclass(frozen=True)
class Piece:
    """What to download: a file, or consecutive bytes of one.

    Attributes:
        address: Where the file is.
        most: Bytes; what is larger is refused while it is read.
        first: The position of the first byte.
        size: How many bytes, fewer where the file ends before; None: all of the file, and ``first`` is 0.
        of: The version of which other parts are here; None: any.
        stated: The file's sha256, which a server that states another may not have; None: unknown.
    """

    address: str
    most: int
    first: int = 0
    size: int | None = None
    of: "Version | None" = None
    stated: str | None = None


@dataclasses.dataclass(frozen=True)
class Version:
    """What is known of a file on a server.

    Attributes:
        address: Where it is.
        validator: An ETag or date; None: parts of it cannot be put together.
        total: Its length in bytes; None: unknown.
    """

    address: str
    validator: str | None
    total: int | None


def download(piece: Piece, path: Path, transport: Transport, listen: Listener) -> Version:
    """Download into a file, going on behind what an earlier call left there.

    Beside the file lies ``NAME.state`` while it is incomplete or just complete; what cannot be gone on with is deleted.

    Args:
        piece: What.
        path: The file to write.
        transport: How patiently.
        listen: Told how many bytes are here.

    Returns:
        The version of the file.

    Raises:
        Refused: It cannot be had, or is larger than allowed.
        Interrupted: Too many tries in a row failed.
        OSError: The disk is full, or the folder cannot be written.
    """
    failures = 0
    while True:
        before = _size(path)
        try:
            return _attempt(piece, path, transport, listen)
        except Interrupted as error:
            failures = 1 if _size(path) - before >= PROGRESS else failures + 1
            if failures >= transport.tries:
                raise
            if error.wait is not None and error.wait > transport.longest_pause:
                raise Refused(f"{error}, and asks to wait {error.wait:.0f} s: try again then") from error
            # Half at random, so that many who failed together do not come back together.
            usual = transport.pause * 2 ** (failures - 1) * random.uniform(0.5, 1.0)
            say(f"{error}: trying again")
            time.sleep(usual if error.wait is None else error.wait)


def _attempt(piece: Piece, path: Path, transport: Transport, listen: Listener) -> Version:
    known = _resumable(piece, path)
    have = _size(path)
    listen(have)
    if known is not None and have == _wanted(piece, known.total):
        return known
    try:
        with request(piece.address, transport, _headers(piece, known, have)) as reply:
            version, begin = _accept(piece, reply, known, have)
            if not begin:
                # First this: bytes of another version must never stand beside what is known of this one.
                forget(path)
            _state(path).write_text(json.dumps(dataclasses.asdict(version)))
            have = _append(piece, path, begin, reply.chunks(transport), listen)
    except Misfit:
        forget(path)
        raise
    except Interrupted:
        _resumable(piece, path)
        raise
    except (Refused, OSError):
        forget(path)
        raise
    wanted = _wanted(piece, version.total)
    if wanted is not None and have < wanted:
        _resumable(piece, path)
        raise Interrupted(f"the connection ended after {have} of {wanted} bytes")
    return version


def _append(piece: Piece, path: Path, have: int, chunks: Iterable[bytes], listen: Listener) -> int:
    most = piece.most if piece.size is None else piece.size
    with path.open("ab" if have else "wb") as file:
        for data in chunks:
            have += len(data)
            if have > most:
                raise Refused(f"the server sends more than {most} bytes")
            file.write(data)
            listen(have)
    return have


def _headers(piece: Piece, known: Version | None, have: int) -> dict[str, str]:
    if not have and piece.size is None:
        return {}
    last = "" if piece.size is None else piece.first + piece.size - 1
    headers = {"Range": f"bytes={piece.first + have}-{last}"}
    version = known or piece.of
    if version is not None and version.validator is not None:
        headers["If-Range"] = version.validator
    return headers


def _accept(piece: Piece, reply: Reply, known: Version | None, have: int) -> tuple[Version, int]:
    """Which version the answer is of, and where in the file on the disk its body belongs."""
    if piece.stated and reply.linked and re.fullmatch(r"[0-9a-f]{64}", reply.linked) and reply.linked != piece.stated:
        raise Refused(f"the server states sha256 {reply.linked}")
    if reply.status == 200:
        if piece.size is not None:
            raise NoRanges("the server sends no parts of files") if piece.of is None else _changed()
        version, begin = Version(piece.address, reply.validator, reply.length), 0
    else:
        first, total = _content_range(piece, reply, have)
        version, begin = Version(piece.address, reply.validator, total), first - piece.first
    if version.total is not None and version.total > piece.most and piece.size is None:
        raise Refused(f"the server announces {version.total} bytes, expected at most {piece.most}")
    if begin and version != known:
        raise Misfit("the file changed on the server between two parts")
    if piece.of is not None and version != piece.of:
        raise _changed()
    return version, begin


def _changed() -> Changed:
    return Changed("the file changed on the server between two parts")


def _content_range(piece: Piece, reply: Reply, have: int) -> tuple[int, int]:
    """First byte and length of the whole file, from an answer that holds just what was asked for."""
    stated = reply.headers.get("content-range", "")
    match = re.fullmatch(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15})", stated.strip(), re.ASCII)
    if match is not None:
        first, last, total = map(int, match.groups())
        end = total if piece.size is None else min(total, piece.first + piece.size)
        if (first, last + 1) == (piece.first + have, end) and reply.length in (None, end - first):
            return first, total
    raise Misfit(f"the server answered with another part ({stated[:60]!r}) than was asked for")


def _resumable(piece: Piece, path: Path) -> Version | None:
    """The version of which the file holds a beginning; else None, and nothing is left of it."""
    try:
        version = Version(**json.loads(_state(path).read_text()))
        wanted = _wanted(piece, version.total)
        sound = (
            version.address == piece.address
            and isinstance(version.validator, str)
            and isinstance(wanted, int)
            and _size(path) <= wanted
            and piece.of in (None, version)
        )
    except (OSError, ValueError, TypeError):
        sound, version = False, None
    if not sound:
        forget(path)
        return None
    return version


def _wanted(piece: Piece, total: int | None) -> int | None:
    """How many bytes the file on the disk is to have; None: unknown."""
    if total is None or piece.size is None:
        return total
    return min(piece.size, max(0, total - piece.first))


def _state(path: Path) -> Path:
    return path.with_name(f"{path.name}.state")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def forget(path: Path) -> None:
    """Delete a download, and what is known of it."""
    for file in (path, _state(path)):
        with contextlib.suppress(FileNotFoundError):
            file.unlink()
