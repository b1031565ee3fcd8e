"""Where downloaded weights are kept: a folder a source, private to the user, with a lock and a record each."""

import contextlib
import dataclasses
import json
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jnst.errors import WeightsError
from jnst.weights.files import replace_content

OFF = ("", "0", "false", "no", "off")
"""What a switch in the environment says when it is off."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a source's files are.

    Attributes:
        name: A key of `jnst.weights.registry.SOURCES` or `HEADS`.
        folder: All of them are in here.
        weights: What is used: converted to jnst's own format, or as published where there is nothing to convert.
    """

    name: str
    folder: Path
    weights: Path

    @property
    def record(self) -> Path:
        """Hashes, as JSON."""
        return self.folder / "record.json"

    @property
    def partial(self) -> Path:
        """The folder of what is not checked yet."""
        return self.folder / "partial"


def offline() -> bool:
    """Whether the environment forbids the network (``JNST_OFFLINE``)."""
    return os.environ.get("JNST_OFFLINE", "").strip().lower() not in OFF


def root() -> Path:
    """The cache: ``JNST_CACHE``, else ``jnst`` in ``XDG_CACHE_HOME``, else ``~/.cache/jnst``.

    Raises:
        WeightsError: There is no home folder.
    """
    if own := os.environ.get("JNST_CACHE"):
        return Path(own).expanduser().absolute()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # The XDG specification has relative paths ignored.
        return (base if base.is_absolute() else Path.home() / ".cache") / "jnst"
    except RuntimeError as error:
        raise WeightsError(f"no folder for downloads ({error}): name one in JNST_CACHE") from error


def place(name: str, suffix: str = ".safetensors") -> Place:
    """Where a source's files are, whether they are there or not.

    Args:
        name: A key of `jnst.weights.registry.SOURCES` or `HEADS`.
        suffix: Of the file that is used.
    """
    folder = root() / "weights" / name.replace("/", "-")
    return Place(name, folder, folder / f"weights{suffix}")


def has_weights(place: Place) -> bool:
    """Whether the file that is used is there.

    Raises:
        WeightsError: Anyone may write into one of the cache's folders, or we may not look into it.
    """
    try:
        for folder in _folders(place):
            if os.name == "posix" and folder.stat().st_mode & stat.S_IWOTH:
                raise WeightsError(
                    f"{folder}: anyone may write into this cache, expected mode 0700: delete what is in it, chmod it, "
                    "or name another folder in JNST_CACHE"
                )
        return place.weights.is_file()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise WeightsError(
            f"{place.folder}: the cache cannot be looked into ({error.strerror or error}): check its permissions, or "
            "name another folder in JNST_CACHE"
        ) from error


def prepare(place: Place) -> None:
    """Make the folders, with mode 0700.

    Raises:
        OSError: They cannot be made.
    """
    folders = _folders(place)
    folders[0].parent.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        folder.mkdir(mode=0o700, exist_ok=True)


def _folders(place: Place) -> tuple[Path, ...]:
    return place.folder.parent.parent, place.folder.parent, place.folder


@contextlib.contextmanager
def locked(place: Place) -> Iterator[None]:
    """Be the only process at work on a source. The lock of a process that ended, however it did, is free.

    Raises:
        OSError: The lock file cannot be opened.
    """
    import filelock

    # The kernel's lock on an open file: it goes when its holder does.
    lock = filelock.FileLock(place.folder / "lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"waiting for another process that downloads {place.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def read_record(place: Place) -> dict[str, Any]:
    """What was written by `write_record`; empty if nothing was.

    Raises:
        WeightsError: It is not readable.
    """
    try:
        record = json.loads(place.record.read_text())
        if isinstance(record, dict) and isinstance(record.get("files"), dict):
            return record
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        pass
    raise WeightsError(
        f"{place.record}: not readable as a record of hashes: delete the folder to get {place.name} again"
    )


def write_record(place: Place, record: Mapping[str, Any]) -> None:
    """Keep what is known of the downloaded files: hashes by name, and the address.

    Raises:
        OSError: It cannot be written.
    """
    replace_content(place.record, json.dumps(dict(record), indent=1).encode() + b"\n")


def say(line: str) -> None:
    """Write a line about a download to standard error, if there is one; on a terminal, over a bar that stands there."""
    if sys.stderr is not None:
        over = "\r\x1b[K" if sys.stderr.isatty() else ""
        # One write, so that the lines of several processes stay whole.
        sys.stderr.write(f"{over}jnst: {line}\n")
        sys.stderr.flush()
