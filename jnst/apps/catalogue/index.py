"""``index.json``: what a catalogue consists of and what has become of it, for programs that read its images."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jnst.apps.catalogue.digest import plain
from jnst.apps.catalogue.entries import Entry
from jnst.apps.catalogue.journal import Record
from jnst.weights.files import write_atomically

NAME = "index.json"


def make_index(about: Mapping[str, Any], entries: Sequence[Entry], records: Mapping[str, Record]) -> dict[str, Any]:
    """The index as JSON has it.

    Args:
        about: What holds for all: settings, network, versions.
        entries: The catalogue, in the order of the index.
        records: The last record of every image file.

    Returns:
        ``about``, ``counts`` (done, failed, missing) and ``jobs``, an object each: ``file`` (None where there is no
        image), ``content``, ``styles``, ``changes``, ``seed``, ``status`` and ``error``; of those that ran ``width``
        and ``height`` in pixels, ``steps``, ``losses`` (``first`` and ``last`` total), ``parts`` at the last step,
        ``seconds`` and the ``sha256`` of the file.
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
    """Write the index in one step.

    Raises:
        ArgumentError: It cannot be written.
    """
    write_atomically(folder / NAME, (json.dumps(index, indent=1, allow_nan=False) + "\n").encode())


def same_jobs(folder: Path, index: Mapping[str, Any]) -> bool:
    """Whether the index in the folder has the same jobs with the same ends."""
    try:
        return json.loads((folder / NAME).read_bytes())["jobs"] == json.loads(json.dumps(index["jobs"]))
    except (OSError, ValueError, KeyError, TypeError):
        return False
