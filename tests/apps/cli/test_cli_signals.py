"""The process of a command: interruption, termination, standard streams."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_runs import HEIGHT, SHALLOW, SLIM, WIDTH, save_images

import jnst


@pytest.fixture(scope="module")
def script() -> str:
    found = shutil.which("jnst", path=Path(sys.executable).parent)
    assert found is not None, "the command is not installed beside this Python"
    return found


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Without the variable that flushes standard output at every line, which few users set."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_with_its_image_saved(script, environment, shared, tmp_path, number, status):
    content, style = save_images(tmp_path)
    flags = ("--weights", shared / SLIM, *SHALLOW, "--size", str(WIDTH), "--steps", "4000", "--log", "run.jsonl")
    with subprocess.Popen(
        [script, "stylize", content, style, "-o", "out.png", *flags],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        steps = (line for line in process.stderr if line.startswith("step "))
        assert next(steps).startswith("step 1/4000")
        next(steps)
        process.send_signal(number)
        out, rest = process.communicate(timeout=60)
    assert process.returncode == status
    assert "Traceback" not in rest
    assert jnst.load_image(tmp_path / "out.png").shape == (HEIGHT, WIDTH, 3)
    done = len((tmp_path / "run.jsonl").read_text().splitlines())
    assert 200 <= done < 4000
    # If the machine is so busy that a step takes a second, the last resort saves the image, and prints nothing.
    assert f"{done} steps" in (out or f"{done} steps")


@pytest.mark.parametrize("arguments", [("presets",), ("--help",), ("--version",)])
def test_a_reader_that_has_gone_causes_no_error(script, environment, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        finished = subprocess.run(
            [script, *arguments], stdout=writer, stderr=subprocess.PIPE, text=True, env=environment, timeout=60
        )
    finally:
        os.close(writer)
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [("stylize", "--help"), ("presets",), ("stylize", "x")])
def test_terminals_without_utf_8_are_supported(script, environment, arguments):
    ascii_only = environment | {"PYTHONIOENCODING": "ascii:strict"}
    finished = subprocess.run([script, *arguments], capture_output=True, text=True, env=ascii_only, timeout=60)
    assert "Traceback" not in finished.stderr
    assert finished.returncode == (2 if arguments == ("stylize", "x") else 0)


def test_importing_the_library_installs_no_signal_handler():
    asked = "import signal, jnst; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    finished = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=60)
    assert finished.stdout == "True\n", finished.stderr


def test_closed_streams_do_no_harm(script, environment, tmp_path):
    """What is written to them goes neither to another stream nor into the image."""
    content, style = save_images(tmp_path)

    def run(closed: str, *words: str) -> "subprocess.CompletedProcess[str]":
        command = ["sh", "-c", f'exec "$0" "$@" {closed}', script, "stylize", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)

    made = run("<&- >&- 2>&-", content.name, style.name, "-o", "out.png", "--size", "32", "--steps", "1")
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    assert max(jnst.load_image(tmp_path / "out.png").shape) == 32
    failed = run("2>&-", "nothing.png", style.name, "-o", "other.png")
    assert (failed.returncode, failed.stdout) == (3, "")


def test_interruption_before_the_run_is_quiet(monkeypatch, capsys):
    def interrupt(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("jnst.apps.cli.listing.Presets.run", interrupt)
    from jnst.apps.cli import main

    assert main(["presets"]) == 130
    assert capsys.readouterr() == ("", "")
