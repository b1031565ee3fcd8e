"""Files that a training command is to write: refused before the work begins, or named when it is broken off."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from jnst.errors import ArgumentError


def check_outputs(files: Mapping[str, Path | None], *, resume: bool, force: bool) -> None:
    """Fail before training if a file cannot be written, or is there and not to be replaced.

    Args:
        files: The files by their flags; ``--output`` is new also when continuing.
        resume: Whether the other files are continued.
        force: Whether existing files may be replaced.

    Raises:
        ArgumentError: One of them cannot be written, exists, or is named twice.
    """
    given = {flag: path for flag, path in files.items() if path is not None}
    if len({path.absolute() for path in given.values()}) < len(given):
        raise ArgumentError(f"{', '.join(map(str, given.values()))}: two of them are the same file; name one for each")
    for flag, path in given.items():
        continued = resume and flag != "--output"
        _check_writable(flag, path, replace=force or continued, hint=flag == "--checkpoint")


def _check_writable(flag: str, path: Path, *, replace: bool, hint: bool) -> None:
    """Fail before training if a file cannot be written, or is there and not to be replaced."""
    if path.exists() and not path.is_file():
        raise ArgumentError(f"{flag} {path}: is not a regular file: name another")
    if path.exists() and not replace:
        resume = "--resume to continue from it, " if hint else ""
        raise ArgumentError(f"{flag} {path} exists: choose another name, {resume}or --force to write over it")
    try:
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise ArgumentError(f"{flag} {path}: its folder cannot be written to ({error.strerror}): make it first") from error


def stopped_line(checkpoint: Path | None) -> str:
    """What to say of a training that was broken off."""
    if checkpoint is None or not checkpoint.exists():
        return "jnst: stopped before the end: no --checkpoint was kept"
    return f"jnst: stopped before the end: continue from {checkpoint} with --resume"
