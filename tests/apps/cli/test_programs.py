"""Compiled programs that commands keep: found again, private, limited, and never damaged."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import save_images

import jnst
from jnst.apps.cli import programs

SCRIPT = """
import sys, jax
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event.rpartition("/")[2]))
from jnst.apps.cli import main
from jnst.solve import compilation
compilation.MIN_SECONDS = 0.0
status = main()
print("hits", events.count("cache_hits"), "misses", events.count("cache_misses"), file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture
def command(tmp_path: Path) -> Any:
    """Runs `jnst stylize` in a process of its own, and returns its result and the number of programs found and made."""
    content, style = save_images(tmp_path)
    environment = {name: value for name, value in os.environ.items() if "COMPILATION_CACHE" not in name}
    environment |= {"JNST_CACHE": str(tmp_path / "cache")}

    def run(name: str, *flags: str) -> tuple[subprocess.CompletedProcess[str], int, int]:
        arguments = ["stylize", content, style, "-o", tmp_path / name, "--size", "32", "--no-pyramid", "--steps", "2"]
        finished = subprocess.run(
            [sys.executable, "-c", SCRIPT, *map(str, arguments), *flags],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        hits, misses = finished.stderr.split()[-3::2]
        return finished, int(hits), int(misses)

    return run


def kept(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache" / "programs").glob("*/*") if path.is_file()]


def test_a_second_command_compiles_nothing_and_makes_the_same_image(tmp_path: Path, command: Any) -> None:
    _, hits, _ = command("first.png")
    assert hits == 0
    folder = tmp_path / "cache" / "programs"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(kept(tmp_path)) > 1
    assert list(folder.glob("*/run-*")) == []
    _, hits, misses = command("second.png")
    assert hits > 2
    assert misses == 0
    first, second = (np.asarray(jnst.load_image(tmp_path / name)) for name in ("first.png", "second.png"))
    np.testing.assert_array_equal(first, second)


@pytest.mark.long
def test_damaged_programs_are_made_again_with_one_warning(tmp_path: Path, command: Any) -> None:
    command("first.png")
    for path in kept(tmp_path):
        path.write_bytes(path.read_bytes()[:100])
    finished, hits, _ = command("second.png")
    assert hits == 0
    assert finished.stderr.count("a compiled program could not be kept or read") == 1
    finished, hits, misses = command("third.png")
    assert "could not" not in finished.stderr
    assert hits > 2
    assert misses == 0


def test_programs_can_be_left_alone(tmp_path: Path, command: Any) -> None:
    command("out.png", "--no-program-cache")
    assert not (tmp_path / "cache" / "programs").exists()


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path, command: Any) -> None:
    folder = tmp_path / "cache" / "programs"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    finished, hits, _ = command("out.png")
    assert hits == 0
    assert finished.stderr.count("compiled programs are not kept") == 1
    assert kept(tmp_path) == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JNST_CACHE", str(tmp_path))
    monkeypatch.setattr(programs.jax.config, "update", lambda name, value: None)
    monkeypatch.setattr(programs, "jax_cache", lambda: None)
    monkeypatch.setattr(programs, "MAX_BYTES", 10_000)
    monkeypatch.setattr(programs, "OPTIONS", {})
    return tmp_path / "programs" / programs._machine()


def test_the_least_recently_used_are_evicted(folder: Path) -> None:
    with programs.kept_programs():
        pass
    for number in range(500):
        path = folder / f"jit_step-{number}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (number, number))
    with programs.kept_programs():
        (own,) = folder.glob("run-*")
        assert len(list(own.glob("*-cache"))) == 100
        (own / "jit_new-0-cache").write_bytes(bytes(100))
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert names == {"jit_new-0-cache", *(f"jit_step-{number}-cache" for number in range(400, 500))}


def test_file_systems_without_hard_links(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Path) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    for content in (b"first", b"second"):
        with programs.kept_programs():
            (own,) = folder.glob("run-*")
            found = own / "jit_step-1-cache"
            assert found.exists() == (content == b"second")
            if not found.exists():
                found.write_bytes(content)
    assert (folder / "jit_step-1-cache").read_bytes() == b"first"


def test_a_folder_that_cannot_be_used_is_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: list[tuple[str, object]] = []
    monkeypatch.setattr(programs.jax.config, "update", lambda *change: changes.append(change))
    folder.parent.mkdir()
    folder.touch()
    with programs.kept_programs():
        assert changes == []
    assert capsys.readouterr().err.startswith("jnst: compiled programs are not kept: ")


def test_two_commands_at_once_and_one_that_was_killed(folder: Path) -> None:
    with programs.kept_programs():
        (first,) = folder.glob("run-*")
        with programs.kept_programs():
            (second,) = set(folder.glob("run-*")) - {first}
            for own in (first, second):
                (own / "jit_step-1-cache").write_bytes(b"program")
    killed = folder / "run-1-1"
    killed.mkdir()
    (killed / "jit_half-1-cache").write_bytes(b"hal")
    os.utime(killed, (1, 1))
    with programs.kept_programs():
        assert not killed.exists()
    assert [path.name for path in folder.iterdir() if path.is_file()] == ["jit_step-1-cache"]
