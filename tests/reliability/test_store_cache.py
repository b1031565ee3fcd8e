"""The folder of the store, and what is said while it is filled."""

import stat
import sys
from pathlib import Path

import pytest
from liar import Liar
from published import FOLDER, NAME, keras_file

from jnst.errors import ResourceError, WeightsError
from jnst.weights import bar, cache, download, store

GOOD = keras_file()


def test_the_cache_is_private(server: Liar, tmp_path: Path) -> None:
    store.fetch(NAME)
    for folder in (tmp_path / "cache", tmp_path / "cache/weights", tmp_path / FOLDER):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (tmp_path / "cache/weights").chmod(0o777)
    for use in (
        lambda: store.fetch(NAME),
        lambda: store.fetch(NAME, force=True),
        lambda: store.cached(NAME),
        lambda: store.verify(),
    ):
        with pytest.raises(WeightsError, match=r"cache/weights: anyone may write .*0700.*JNST_CACHE"):
            use()


def test_a_cache_that_cannot_be_written(server: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("JNST_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match=r"cannot be written \((Not a dir|File ex).*JNST_CACHE.*weights.bin"):
        store.fetch(NAME)
    assert server.asked == []


@pytest.mark.parametrize("module", [download, cache])
def test_a_full_disk(server: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_append" if module is download else "replace_content", full)
    with pytest.raises(ResourceError, match=r"No space left on device.*free some space"):
        store.fetch(NAME)
    assert [file.name for file in (tmp_path / FOLDER).rglob("*")] == ["lock"]


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"JNST_CACHE": "/else/where", "XDG_CACHE_HOME": "/xdg"}, "/else/where"),
        ({"JNST_CACHE": "~/own"}, "/home/someone/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/jnst"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/someone/.cache/jnst"),
        ({}, "/home/someone/.cache/jnst"),
    ],
)
def test_where_the_cache_is(environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JNST_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/someone"} | environment).items():
        monkeypatch.setenv(name, value)
    assert str(cache.root()) == folder


class Terminal:
    """What looks like one."""

    def __init__(self) -> None:
        self.text = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None: ...


def test_a_terminal_shows_a_bar(server: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar, "EVERY", 0.0)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    store.fetch(NAME)
    _, said, *drawn = terminal.text.split("\r")
    assert said.startswith("\x1b[Kjnst: downloading")
    assert "0.2/0.155 MB" in drawn[-2]
    assert drawn[-1] == "\x1b[K"


def test_what_the_bar_says() -> None:
    assert bar.line(20_000_000, 80e6, 4e6) == f"[{'#' * 6}{'.' * 18}] 20.0/80 MB  4.0 MB/s  15 s left"
    assert bar.line(81_000_000, 80e6, 4e6) == f"[{'#' * 24}] 81.0/80 MB  4.0 MB/s  0 s left"
    assert bar.line(1_500_000, None, 0.0) == "1.5 MB  0.0 MB/s"


def test_without_standard_error_all_goes_on(server: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert store.fetch(NAME).exists()
