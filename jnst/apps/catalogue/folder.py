"""The folder that a catalogue is written to."""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from jnst.apps.catalogue.entries import Entry
from jnst.errors import ArgumentError
from jnst.weights.files import shown


def make_folder(folder: Path) -> None:
    """Make the folder if it is not there, and try whether files can be made in it.

    Raises:
        ArgumentError: It cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # surer than permission bits: file systems may be read-only
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"--output {shown(folder)} cannot be written to ({reason}): name another folder") from None


def check_inputs(entries: Iterable[Entry], folder: Path) -> None:
    """Refuse a folder in which an image would be written over an input.

    Raises:
        ArgumentError: It is one; the file is named.
    """
    entries = list(entries)
    inputs = {path.resolve() for entry in entries for path in (entry.content, *entry.styles)}
    for entry in entries:
        if (folder / entry.file).resolve() in inputs:
            raise ArgumentError(f"{shown(folder / entry.file)} would be written over an input: name another --output")
