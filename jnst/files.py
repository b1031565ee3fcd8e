"""Files: how their names are shown, and how one is replaced without ever being half written."""

import errno
import os
import secrets
import stat
from contextlib import suppress
from typing import TypeAlias

from jnst.errors import JnstError, ResourceError

PathLike: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

_FULL = (errno.ENOSPC, errno.EDQUOT)


def shown(path: PathLike) -> str:
    """A file's name for a message: quoted, and on one line whatever bytes are in it."""
    return repr(os.fsdecode(path))


def replace_content(path: PathLike, data: bytes) -> None:
    """Replace a file's content in one step: at every moment it is the old content or the new, whole.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and the file is then renamed.
    Symbolic links are followed. A new file's permissions follow the umask; an existing file keeps its own.

    Args:
        path: The file to write or replace.
        data: All of its content.

    Raises:
        OSError: It could not be written. The old file is intact, and no temporary file is left.
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
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def write_atomically(path: PathLike, data: bytes) -> None:
    """`replace_content`, with an error that says what to do.

    Raises:
        ResourceError: The disk is full. The old file is intact.
        JnstError: Any other failure to write. The old file is intact.
    """
    try:
        replace_content(path, data)
    except OSError as error:
        kind, remedy = (ResourceError, "free some space") if error.errno in _FULL else (JnstError, "check the folder")
        raise kind(f"{shown(path)} could not be written ({error.strerror or error}): {remedy}") from error
