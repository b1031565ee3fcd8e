"""Files: how their names are shown, and how one is replaced without ever being half written."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeAlias

from jnst.errors import ResourceError

PathLike: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.ENOSYS)


def shown(path: PathLike) -> str:
    """A file's name for a message: quoted, and on one line whatever bytes are in it."""
    return repr(os.fsdecode(path))


def replace_content(
    path: PathLike, data: bytes | Iterable[bytes | memoryview], *, previous: PathLike | None = None
) -> None:
    """Replace a file's content in one step: at every moment it is the old content or the new, whole.

    The bytes go to a file in the same folder that has no name yet (or a temporary one, where the system knows no
    nameless files), are flushed to the disk, and the file then takes the name. So nothing is left behind when the
    program is killed meanwhile. Symbolic links are followed. A new file's permissions follow the umask; an existing
    file keeps its own.

    Args:
        path: The file to write or replace.
        data: All of its content, in one part or several.
        previous: In the same folder, a further name that the old content gets, if there is any.

    Raises:
        OSError: It could not be written. The old file is intact, and no temporary file is left.
    """
    target = os.path.realpath(os.fsdecode(path))
    folder = os.path.dirname(target)
    with _new_file(folder, [data] if isinstance(data, bytes) else data) as temporary:
        with suppress(FileNotFoundError):
            os.chmod(temporary, stat.S_IMODE(os.stat(target).st_mode))
        if previous is not None and os.path.exists(target):
            _name_too(target, os.path.join(folder, os.path.basename(os.fsdecode(previous))))
        os.replace(temporary, target)
    sync_folder(folder)


@contextmanager
def _new_file(folder: str, parts: Iterable[bytes | memoryview]) -> Iterator[str]:
    """Write a file to the disk and give it a temporary name, which is gone afterwards."""
    temporary = _temporary(folder)
    try:
        descriptor = _open_nameless(folder)
        nameless = descriptor is not None
        if descriptor is None:
            descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o666)
        with open(descriptor, "wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
            if nameless:
                _link_descriptor(file.fileno(), folder, temporary)
        yield temporary
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def _temporary(folder: str) -> str:
    return os.path.join(folder, f".{secrets.token_hex(8)}.tmp")


def _open_nameless(folder: str) -> int | None:
    """A file without a name, which is gone if nobody names it; None where there is no such thing."""
    if not hasattr(os, "O_TMPFILE") or not os.path.exists("/proc/self/fd"):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666)
    except OSError as error:
        # Kernels and file systems without it say one of these; the last two may be the folder's own fault as well, and
        # are then said again when the temporary file is made.
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            return None
        raise


def _link_descriptor(descriptor: int, folder: str, name: str) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        # Given a folder's descriptor, Python calls linkat, which follows the link that /proc shows.
        os.link(f"/proc/self/fd/{descriptor}", os.path.basename(name), src_dir_fd=opened, dst_dir_fd=opened)
    finally:
        os.close(opened)


def _name_too(target: str, name: str) -> None:
    """Let ``name`` be the file ``target`` too, in one step; where files have one name only, a copy of it."""
    temporary = _temporary(os.path.dirname(target))
    try:
        try:
            os.link(target, temporary)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copy2(target, temporary)
        os.replace(temporary, name)
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def sync_folder(folder: str) -> None:
    """Have what happened to a folder's names on the disk; where folders cannot be flushed, do nothing."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_atomically(
    path: PathLike, data: bytes | Iterable[bytes | memoryview], *, previous: PathLike | None = None
) -> None:
    """`replace_content`, with an error that says what to do.

    Raises:
        ResourceError: The disk is full. The old file is intact.
        ArgumentError: Any other failure to write. The old file is intact.
    """
    try:
        replace_content(path, data, previous=previous)
    except OSError as error:
        kind, remedy = (ResourceError, "free some space") if error.errno in _FULL else (ArgumentError, "check the folder")
        raise kind(f"{shown(path)} could not be written ({error.strerror or error}): {remedy}") from error
