"""Guards around code that must touch nothing: Python's audit events, inotify, and a limit of memory."""

import codecs
import contextlib
import ctypes
import os
import resource
import struct
import sys
import unicodedata  # noqa: F401 - NumPy imports it if a header is not ASCII
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

IN_MODIFY, IN_OPEN, IN_CREATE, IN_DELETE, IN_MOVED = 0x2, 0x20, 0x100, 0x200, 0xC0
IN_ISDIR, IN_NONBLOCK = 0x40000000, 0o4000
FORBIDDEN = (
    "subprocess.", "os.", "socket.", "shutil.", "ctypes.", "tempfile.", "urllib.", "http.", "ftplib.", "sqlite3.",
    "pickle.", "webbrowser.", "pty.", "exec", "import", "sys.", "code.", "marshal.",
)  # fmt: skip
HARMLESS = {"os.scandir", "os.listdir", "sys._getframe", "sys.excepthook", "sys.unraisablehook", "os.fwalk"}
"""Events that neither change nor open anything."""


class Touched(BaseException):
    """Something that is not allowed was touched."""


_seen: list[str] | None = None
_allowed: set[str] = set()
_notify: int = -1
_folders: dict[int, Path] = {}


def _hook(event: str, arguments: Any) -> None:
    if _seen is None:
        return
    if event == "open":
        path = arguments[0]
        if isinstance(path, int) or os.fspath(path) not in _allowed:
            _seen.append(f"open {path!r}")
    elif event == "import":
        if arguments[0] not in sys.modules:
            _seen.append(f"import {arguments[0]}")
    elif event.startswith(FORBIDDEN) and event not in HARMLESS:
        _seen.append(f"{event} {str(arguments)[:200]}")


def begin(inside: Path, outside: Path) -> None:
    """Watch two folders from now on, and make the second the current folder."""
    global _notify
    # The json module looks these up before it reads.
    for codec in ("utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be"):
        codecs.lookup(codec)
    os.chdir(outside)
    libc = ctypes.CDLL(None, use_errno=True)
    _notify = libc.inotify_init1(IN_NONBLOCK)
    mask = IN_MODIFY | IN_OPEN | IN_CREATE | IN_DELETE | IN_MOVED
    for folder in (inside, outside):
        watch = libc.inotify_add_watch(_notify, os.fsencode(folder), mask)
        if watch < 0:
            raise OSError(ctypes.get_errno(), f"no watch on {folder}")
        _folders[watch] = folder
    sys.addaudithook(_hook)


def limit_memory(extra: int) -> None:
    """Limit the address space of this process to a number of bytes more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextlib.contextmanager
def untouched(folder: Path, names: Collection[str]) -> Iterator[None]:
    """Raise `Touched` if the block does more than read these files in the first watched folder."""
    global _seen
    list(_noted())
    _allowed.clear()
    _allowed.update(str(folder / name) for name in names)
    _seen = []
    try:
        yield
    finally:
        seen, _seen = _seen, None
        seen += [event for event, path in _noted() if str(path) not in _allowed or not event.startswith("opened")]
        if seen:
            raise Touched("; ".join(seen))


def _noted() -> Iterator[tuple[str, Path]]:
    """Yield what inotify saw in the watched folders, which includes what libraries do without Python."""
    while True:
        try:
            data = os.read(_notify, 1 << 16)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            watch, mask, _, length = struct.unpack_from("iIII", data, at)
            name = data[at + 16 : at + 16 + length].rstrip(b"\0")
            at += 16 + length
            if watch not in _folders:
                yield f"notice {mask:#x} lost", Path()
            elif not mask & IN_ISDIR:
                path = _folders[watch] / os.fsdecode(name)
                yield f"{'opened' if mask & IN_OPEN else 'changed'} {path}", path
