"""File names in messages, and files that are replaced atomically."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterable
from contextlib import suppress
from typing import BinaryIO, TypeAlias

from jnst.errors import ArgumentError, ResourceError

PathLike: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.ENOSYS)


def shown(path: PathLike) -> str:
    """Quote a file name for a message: on one line, whatever bytes it contains."""
    return repr(os.fsdecode(path))


def replace_content(
    path: PathLike, data: bytes | Iterable[bytes | memoryview], *, previous: PathLike | None = None
) -> None:
    """Replace a file's content atomically: at every moment the file holds the old or the new content, complete.

    The content is written to an unnamed file in the same folder, flushed to disk, and then linked and renamed, so that
    a process killed while writing leaves nothing behind; killed by ``SIGKILL`` between the link and the renaming, it
    leaves the complete new content as ``.RANDOM.tmp``. Where the system has no unnamed files, the content is written to
    that name from the start, and the file left behind can be incomplete.

    Symbolic links are followed. A new file's permissions follow the umask; an existing file keeps its own.

    Args:
        path: The file to write or replace.
        data: The whole content, in one part or several.
        previous: A name in the same folder under which the old content is kept, if there is any.

    Raises:
        OSError: The file could not be written. The old file is intact, and no temporary file is left.
    """
    target = os.path.realpath(os.fsdecode(path))
    folder = os.path.dirname(target)
    temporary = _temporary_name(folder)
    try:
        _write_new(temporary, [data] if isinstance(data, bytes) else data, like=target)
        if previous is not None and os.path.exists(target):
            _add_name(target, os.path.join(folder, os.path.basename(os.fsdecode(previous))))
        os.replace(temporary, target)
    finally:
        _remove(temporary)
    _flush_folder(folder)


def write_atomically(
    path: PathLike, data: bytes | Iterable[bytes | memoryview], *, previous: PathLike | None = None
) -> None:
    """Call `replace_content`, and turn its `OSError` into an error that says what to do.

    Raises:
        ResourceError: The disk is full. The old file is intact.
        ArgumentError: The file could not be written for another reason. The old file is intact.
    """
    try:
        replace_content(path, data, previous=previous)
    except OSError as error:
        problem = f"{shown(path)} could not be written ({error.strerror or error})"
        if error.errno in _FULL:
            raise ResourceError(f"{problem}: free some space") from error
        raise ArgumentError(f"{problem}: check the folder") from error


def _write_new(path: str, parts: Iterable[bytes | memoryview], *, like: str) -> None:
    """Write a new file with the permissions of ``like``, if that exists, and flush it to disk.

    Where the system can, the file has no name before it is complete.
    """
    unnamed = _open_nameless(os.path.dirname(path))
    with unnamed or open(path, "xb") as file:
        file.writelines(parts)
        file.flush()
        with suppress(FileNotFoundError):
            writable = file.fileno() if os.chmod in os.supports_fd else path
            os.chmod(writable, stat.S_IMODE(os.stat(like).st_mode))
        os.fsync(file.fileno())
        if unnamed:
            # With `src_dir_fd`, which an absolute path makes irrelevant, Python follows the symbolic link in /proc.
            os.link(f"/proc/self/fd/{file.fileno()}", path, src_dir_fd=file.fileno())


def _open_nameless(folder: str) -> BinaryIO | None:
    """Open a file without a name, which the kernel deletes unless it gets one; None where this is not supported."""
    if not hasattr(os, "O_TMPFILE") or not os.path.exists("/proc/self/fd"):
        return None
    try:
        return open(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o666), "wb")
    except OSError as error:
        # What kernels and file systems without support answer. If the folder is at fault, creating the temporary file
        # raises the error again.
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            return None
        raise


def _add_name(target: str, name: str) -> None:
    """Make ``name`` a second name of the file ``target``, atomically; a copy where hard links are not supported."""
    temporary = _temporary_name(os.path.dirname(target))
    try:
        try:
            os.link(target, temporary)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copy2(target, temporary)
        os.replace(temporary, name)
    finally:
        _remove(temporary)


def _temporary_name(folder: str) -> str:
    return os.path.join(folder, f".{secrets.token_hex(8)}.tmp")


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)


def _flush_folder(folder: str) -> None:
    """Flush a folder's entries to disk, where the system can flush folders."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
