"""Checkpoint files that are damaged, lost, or could not be written: there is always a complete one."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jnst
from jnst.apps.checkpoint import write_contents

STATE = {"a": np.arange(300, dtype=np.float32), "b": np.asarray(7)}


def save(path: Path, number: int) -> None:
    jnst.save_state(path, STATE, about={"number": number})


def number_of(path: Path) -> int:
    loaded = jnst.load_state(path)
    assert np.array_equal(loaded.leaves["['a']"], STATE["a"])
    return loaded.about["number"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint, number 2, and the one before it, number 1."""
    path = tmp_path / "run.ckpt"
    save(path, 1)
    save(path, 2)
    return path


def test_the_previous_file_is_kept(path: Path) -> None:
    assert number_of(path) == 2
    assert number_of(path.with_name("run.ckpt.previous")) == 1
    save(path, 3)
    assert number_of(path.with_name("run.ckpt.previous")) == 2
    assert sorted(file.name for file in path.parent.iterdir()) == ["run.ckpt", "run.ckpt.previous"]


def test_links_are_followed_and_permissions_kept(path: Path, tmp_path: Path) -> None:
    path.chmod(0o640)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link"
    link.symlink_to(path)
    save(link, 3)
    assert link.is_symlink()
    assert (number_of(path), number_of(tmp_path / "run.ckpt.previous")) == (3, 2)
    assert path.stat().st_mode & 0o777 == 0o640
    path.unlink()
    path.write_bytes(b"")
    with pytest.warns(UserWarning, match="continuing from the one before"):
        assert number_of(link) == 2


@pytest.mark.parametrize("place", [*np.linspace(0, 0.999, 40)])
def test_a_changed_bit_is_noticed_anywhere(place: float, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << int(97 * place) % 8
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"run\.ckpt' cannot be read .*continuing from the one before, '.*previous'"):
        assert number_of(path) == 1


@pytest.mark.parametrize("change", [lambda content: content[: len(content) // 2], lambda content: content + b"\0"])
def test_another_length_is_noticed(change: Callable[[bytes], bytes], path: Path) -> None:
    path.write_bytes(change(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"run\.ckpt' cannot be read"):
        assert number_of(path) == 1


def test_a_missing_file_is_replaced_by_the_previous_one(path: Path) -> None:
    path.unlink()
    with pytest.warns(UserWarning, match=r"there is no such file.*; continuing from the one before"):
        assert number_of(path) == 1


def test_if_both_are_damaged_the_message_names_both(path: Path) -> None:
    for file in (path, path.with_name("run.ckpt.previous")):
        file.write_bytes(file.read_bytes()[:-1])
    message = r"run\.ckpt' cannot be read .*neither can the one before .*previous' cannot be read"
    with pytest.raises(jnst.ArgumentError, match=message) as caught:
        jnst.load_state(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("format_name", "version", "advice"),
    [("jnst-state", "1", "another version of jnst wrote it, start again"), ("other", "2", "choose another file")],
)
def test_another_format_is_refused(path: Path, format_name: str, version: str, advice: str) -> None:
    write_contents(path, {}, {"format": format_name, "version": version})
    message = f"has format {format_name} {version}, expected jnst-state 2: {advice}"
    with pytest.raises(jnst.ArgumentError, match=message):
        jnst.load_state(path)


@pytest.fixture(params=["unnamed files", "temporary files"])
def way_of_writing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "temporary files":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)


@pytest.mark.usefixtures("way_of_writing")
@pytest.mark.parametrize("function", ["fsync", "link", "replace"])
@pytest.mark.parametrize("calls_before", [0, 1])
def test_wherever_writing_fails_the_old_files_are_intact(
    function: str, calls_before: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, works = [], getattr(os, function)

    def fail(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        if len(calls) == calls_before + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return works(*arguments, **options)

    failure = None
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        try:
            save(path, 3)
        except jnst.ResourceError as error:
            failure = error
    if failure is None:
        # There are fewer calls, or it was the one that flushes the folder.
        assert len(calls) <= calls_before or function == "fsync"
        assert number_of(path) == 3
    else:
        assert failure.exit_code == 6
        assert "could not be written (No space left on device): free some space" in str(failure)
        assert number_of(path) == 2
    assert number_of(path.with_name("run.ckpt.previous")) in (1, 2)
    assert sorted(file.name for file in path.parent.iterdir()) == ["run.ckpt", "run.ckpt.previous"]


def test_without_hard_links_the_previous_file_is_a_copy(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    save(path, 3)
    assert (number_of(path), number_of(path.with_name("run.ckpt.previous"))) == (3, 2)
    assert len(list(path.parent.iterdir())) == 2


LIMITED = """
import resource, sys
import numpy as np
import jnst

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    jnst.save_state(sys.argv[1], {"a": np.zeros(100_000)})
except jnst.ResourceError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_file_size_limit_is_like_a_full_disk(path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    finished = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), "100000"], capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 6, finished.stderr
    assert "could not be written (File too large): free some space" in finished.stdout
    assert (number_of(path), number_of(path.with_name("run.ckpt.previous"))) == (2, 1)
    assert len(list(path.parent.iterdir())) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, if this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("may not mount a disk in memory; the test with a file size limit shows the same")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_old_files_intact(small_disk: Path) -> None:
    path = small_disk / "run.ckpt"
    save(path, 1)
    save(path, 2)
    image = small_disk / "out.png"
    jnst.save_image(image, np.zeros((4, 4, 3), np.float32))
    old = image.read_bytes()
    for _ in range(2):
        with pytest.raises(jnst.ResourceError, match="No space left on device"):
            jnst.save_state(path, {"a": np.zeros(20_000)})
        noise = np.random.default_rng(0).random((200, 200, 3), np.float32)
        with pytest.raises(jnst.ResourceError, match="No space left on device"):
            jnst.save_image(image, noise)
    assert (number_of(path), number_of(small_disk / "run.ckpt.previous")) == (2, 1)
    assert image.read_bytes() == old
    assert sorted(file.name for file in small_disk.iterdir()) == ["out.png", "run.ckpt", "run.ckpt.previous"]
    save(path, 3)
    assert number_of(path) == 3
