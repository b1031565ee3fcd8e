"""The cache of downloaded weights: one private folder per source, with a lock and a record of hashes."""

import contextlib
import dataclasses
import json
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jnst.errors import WeightsError
from jnst.weights.files import replace_content

OFF = ("", "0", "false", "no", "off")
"""Values that turn a switch in the environment off."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """The folder of one source. Neither the folder nor the files need to exist.

    Attributes:
        name: A key of `jnst.weights.registry.SOURCES` or `HEADS`.
        weights: The file that is used: converted to jnst's own format or, for heads, as published.
    """

    name: str
    weights: Path

    @property
    def folder(self) -> Path:
        """The folder that contains all files of the source."""
        return self.weights.parent

    @property
    def record(self) -> Path:
        """The hashes, as JSON."""
        return self.folder / "record.json"


def offline() -> bool:
    """Whether the environment variable ``JNST_OFFLINE`` disables downloads."""
    return os.environ.get("JNST_OFFLINE", "").strip().lower() not in OFF


def root() -> Path:
    """Return the cache folder: ``JNST_CACHE``, else ``$XDG_CACHE_HOME/jnst``, else ``~/.cache/jnst``.

    Raises:
        WeightsError: None of them is set and there is no home folder.
    """
    own = os.environ.get("JNST_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        if own:
            return Path(own).expanduser().absolute()
        # The XDG specification says to ignore relative paths.
        return (base if base.is_absolute() else Path.home() / ".cache") / "jnst"
    except RuntimeError as error:
        raise WeightsError(f"there is no folder for downloads ({error}): set JNST_CACHE to one") from error


def entry(name: str, suffix: str = ".safetensors") -> Entry:
    """Return the cache entry of a source.

    Args:
        name: A key of `jnst.weights.registry.SOURCES` or `HEADS`.
        suffix: The suffix of the file that is used.
    """
    return Entry(name, root() / "weights" / name.replace("/", "-") / f"weights{suffix}")


def find_weights(entry: Entry) -> Path | None:
    """Return the path of the cached weights, or None if they are not in the cache.

    Raises:
        WeightsError: One of the cache's folders is writable by everybody, or cannot be read.
    """
    try:
        for folder in _folders(entry):
            if os.name == "posix" and folder.stat().st_mode & stat.S_IWOTH:
                raise WeightsError(
                    f"{folder}: this cache folder is writable by everybody, expected mode 0700: delete its content and "
                    "change its mode, or set JNST_CACHE to another folder"
                )
        return entry.weights if entry.weights.is_file() else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise WeightsError(
            f"{entry.folder}: the cache cannot be read ({error.strerror or error}): check its permissions, or set "
            "JNST_CACHE to another folder"
        ) from error


def create(entry: Entry) -> None:
    """Create the folders of an entry with mode 0700.

    Raises:
        OSError: They could not be created.
    """
    folders = _folders(entry)
    folders[0].parent.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        folder.mkdir(mode=0o700, exist_ok=True)


def _folders(entry: Entry) -> tuple[Path, Path, Path]:
    return entry.folder.parent.parent, entry.folder.parent, entry.folder


@contextlib.contextmanager
def locked(entry: Entry) -> Iterator[None]:
    """Let only one thread of one process work on an entry. A process that ends, even if killed, releases its lock.

    Raises:
        OSError: The lock file could not be opened.
    """
    import filelock

    lock = filelock.FileLock(entry.folder / "lock", mode=0o600)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say(f"waiting for another process that downloads {entry.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def temporary_folder(entry: Entry) -> Iterator[Path]:
    """Create the folder ``partial`` for files that are not checked yet, and delete it afterwards.

    A killed process leaves it behind; the next download of the same source deletes it first. Use it under the lock.
    """
    folder = entry.folder / "partial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_record(entry: Entry) -> dict[str, Any]:
    """Return what `write_record` wrote: an empty dictionary if there is no record.

    Raises:
        WeightsError: The record cannot be read.
    """
    try:
        record = json.loads(entry.record.read_text())
        if isinstance(record, dict) and isinstance(record.get("files"), dict):
            return record
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        pass
    raise WeightsError(
        f"{entry.record}: this record of hashes cannot be read: delete its folder to download {entry.name} again"
    )


def write_record(entry: Entry, record: Mapping[str, Any]) -> None:
    """Write the record of an entry: the address, the sha256 of the weights and of each published file.

    Raises:
        OSError: It could not be written.
    """
    replace_content(entry.record, json.dumps(dict(record), indent=1).encode() + b"\n")


def say(line: str) -> None:
    """Write a line about a download to standard error, if there is one."""
    if sys.stderr is not None:
        # A single write keeps the lines of several processes apart.
        sys.stderr.write(f"jnst: {line}\n")
        sys.stderr.flush()
