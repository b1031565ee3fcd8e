"""What has become of each job: one line of JSON for every image, written when it is done and never changed."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from jnst.apps.catalogue.digest import file_hash


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """The end of a job.

    Attributes:
        file: The name of the image's file.
        digest: Of all that it depends on; empty if an input could not be read.
        content: The content's file.
        styles: The styles' files.
        changes: What differs from the catalogue's settings.
        seed: For noise and losses that draw at random.
        error: Why there is no image, or only the last one before the loss stopped being finite; None if all is well.
        code: The exit status that belongs to the error; 0 for none.
        bytes: The image file's length; 0 if none was written.
        sha256: Of its content.
        width: In pixels.
        height: In pixels.
        steps: How many were made.
        losses: The first and the last total; None where it was not finite.
        parts: The weighted parts at the last step.
        seconds: Wall time; jobs that ran together share theirs.
        time: When it ended, in seconds since 1970.
    """

    file: str
    digest: str
    content: str
    styles: list[str]
    changes: dict[str, Any]
    seed: int
    error: str | None = None
    code: int = 0
    bytes: int = 0
    sha256: str = ""
    width: int = 0
    height: int = 0
    steps: int = 0
    losses: list[float | None] = dataclasses.field(default_factory=list)
    parts: dict[str, float | None] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    time: float = 0.0


class Journal:
    """The journal of one process; use it in a ``with`` statement."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._path = folder / f"journal-{rank}.jsonl"
        self._file = self._path.open("ab+")
        # A line that broke off, when a program was killed, must not swallow the next one.
        if self._file.tell() and not self._path.read_bytes().endswith(b"\n"):
            self._file.write(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, record: Record) -> None:
        """Append a line; when this returns it is on the disk.

        Raises:
            OSError: The disk is full, or gone.
        """
        self._file.write(json.dumps(dataclasses.asdict(record), allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_journals(folder: Path) -> dict[str, Record]:
    """The last record of every image file, from the journals of all processes; lines that broke off are passed over.

    Raises:
        OSError: A journal cannot be read.
    """
    records = [record for path in sorted(folder.glob("journal*.jsonl")) for record in _records(path)]
    return {record.file: record for record in sorted(records, key=lambda record: record.time)}


def _records(path: Path) -> Iterator[Record]:
    for line in path.read_bytes().splitlines():
        try:
            yield Record(**json.loads(line))
        except (ValueError, TypeError):
            continue


def is_done(file: str, digest: str, records: Mapping[str, Record], folder: Path) -> bool:
    """Whether an image is there, as the last record of it says, and of the same inputs and settings."""
    record = records.get(file)
    if record is None or record.error is not None or record.digest != digest or not record.bytes:
        return False
    path = folder / file
    try:
        return path.stat().st_size == record.bytes and file_hash(path) == record.sha256
    except OSError:
        return False
