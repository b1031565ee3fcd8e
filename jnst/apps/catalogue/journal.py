"""What became of each job: a journal with one line of JSON per finished image, and the index made from it."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from jnst.apps.catalogue.digest import file_hash, plain
from jnst.apps.catalogue.entries import Entry
from jnst.weights.files import write_atomically

INDEX = "index.json"
JOURNAL = "journal.jsonl"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """The end of a job.

    Attributes:
        file: The name of the image's file.
        digest: Of everything that the image depends on; empty if an input could not be read.
        content: The content image's file.
        styles: The style images' files.
        changes: How the settings differ from the catalogue's.
        seed: For noise and stochastic losses.
        error: Why there is no image, or only the last one before the loss stopped being finite; None if all went well.
        code: The exit status for the error; 0 for none.
        warning: What is odd about the run, although there is an image: see `jnst.Solution.warning`.
        bytes: The length of the image file; 0 if none was written.
        sha256: The hash of its content.
        width: In pixels.
        height: In pixels.
        steps: How many were made.
        losses: The first and the last total; None where it was not finite.
        parts: The weighted parts at the last step.
        seconds: Wall time; jobs that ran together share theirs.
        time: When the job ended, in seconds since 1970.
    """

    file: str
    digest: str
    content: str
    styles: list[str]
    changes: dict[str, Any]
    seed: int
    error: str | None = None
    code: int = 0
    warning: str | None = None
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
    """Appends records to the journal in a folder; a context manager. Written lines never change."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / JOURNAL).open("ab+")
        # A line that was cut off when a process was killed must not swallow the next one.
        if self._file.tell():
            self._file.seek(-1, os.SEEK_END)
            if self._file.read() != b"\n":
                self._file.write(b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, record: Record) -> None:
        """Append a line; it is on the disk when this returns.

        Raises:
            OSError: The disk is full, or gone.
        """
        self._file.write(json.dumps(dataclasses.asdict(record), allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def read_journal(folder: Path) -> dict[str, Record]:
    """The last record of each image file; empty without a journal. Incomplete lines are skipped.

    Raises:
        OSError: The journal cannot be read.
    """
    path = folder / JOURNAL
    return {record.file: record for record in _records(path)} if path.exists() else {}


def _records(path: Path) -> Iterator[Record]:
    for line in path.read_bytes().splitlines():
        try:
            yield Record(**json.loads(line))
        except (ValueError, TypeError):
            continue


def is_done(record: Record | None, digest: str, folder: Path) -> bool:
    """Whether an image of these inputs and settings is there, unchanged since it was recorded."""
    if record is None or record.error is not None or record.digest != digest or not record.bytes:
        return False
    path = folder / record.file
    try:
        return path.stat().st_size == record.bytes and file_hash(path) == record.sha256
    except OSError:
        return False


def make_index(about: Mapping[str, Any], entries: Sequence[Entry], records: Mapping[str, Record]) -> dict[str, Any]:
    """The content of ``index.json``, for programs that read a catalogue's images.

    Args:
        about: Facts about the whole catalogue: settings, network, versions.
        entries: The catalogue, in the order of the index.
        records: The last record of each image file.

    Returns:
        ``about``, ``counts`` (done, failed, missing) and ``jobs``, one object each: ``file`` (None if there is no
        image), ``content``, ``styles``, ``changes``, ``seed``, ``status`` and ``error``; for jobs that ran also
        ``width`` and ``height`` in pixels, ``steps``, ``losses`` (the ``first`` and ``last`` total), ``parts`` at the
        last step, ``seconds`` and the ``sha256`` of the file.
    """
    jobs = [_job(entry, records.get(entry.file)) for entry in entries]
    counts = {status: sum(job["status"] == status for job in jobs) for status in ("done", "failed", "missing")}
    return {**about, "counts": counts, "jobs": jobs}


def _job(entry: Entry, record: Record | None) -> dict[str, Any]:
    job: dict[str, Any] = {
        "file": entry.file if record is not None and record.bytes else None,
        "content": str(entry.content),
        "styles": [str(style) for style in entry.styles],
        "changes": plain(entry.settings),
        "seed": entry.seed,
        "status": "missing" if record is None else "done" if record.error is None else "failed",
        "error": None if record is None else record.error,
    }
    if record is None or (not record.steps and record.error is not None):
        return job
    first, last = record.losses or (None, None)
    return job | {
        "width": record.width,
        "height": record.height,
        "steps": record.steps,
        "losses": {"first": first, "last": last},
        "parts": record.parts,
        "seconds": record.seconds,
        "sha256": record.sha256,
    }


def save_index(folder: Path, index: Mapping[str, Any]) -> None:
    """Write the index atomically.

    Raises:
        ArgumentError: It cannot be written.
    """
    write_atomically(folder / INDEX, (json.dumps(index, indent=1, allow_nan=False) + "\n").encode())


def same_jobs(folder: Path, index: Mapping[str, Any]) -> bool:
    """Whether the index in the folder has the same jobs with the same outcomes."""
    try:
        return json.loads((folder / INDEX).read_bytes())["jobs"] == json.loads(json.dumps(index["jobs"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False
