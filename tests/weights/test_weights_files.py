"""Atomic replacement of files: the old or the new content, whatever happens."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jnst.weights import files
from jnst.weights.files import replace_content, shown, write_atomically

WRITE_SLOWLY = """
import sys, time
from jnst.weights.files import replace_content

def parts():
    yield b"new"
    print("writing", flush=True)
    time.sleep(60)

replace_content(sys.argv[1], parts())
"""


@pytest.fixture(params=["unnamed files", "named files"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to write a file."""
    if request.param == "named files":
        monkeypatch.setattr(files, "_open_nameless", lambda folder: None)


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs files without a name")
def test_a_killed_process_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with subprocess.Popen([sys.executable, "-c", WRITE_SLOWLY, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("way")
def test_the_old_content_is_kept_under_another_name(tmp_path: Path) -> None:
    path, previous = tmp_path / "file", tmp_path / "file.previous"
    replace_content(path, b"1", previous=previous)
    assert not previous.exists()
    write_atomically(path, [b"2", memoryview(b"2")], previous=previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"22", b"1")
    replace_content(path, b"3", previous=previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"3", b"22")
    assert sorted(tmp_path.iterdir()) == [path, previous]


@pytest.mark.usefixtures("way")
def test_an_error_in_the_data_leaves_the_old_file(tmp_path: Path) -> None:
    def parts():
        yield b"new"
        raise KeyError("no more")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyError):
        replace_content(path, parts())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_names_are_shown_on_one_line() -> None:
    assert shown(b"a\n\xff") == r"'a\n\udcff'"
