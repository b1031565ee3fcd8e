"""Signals that arrive while the main thread runs compiled code, which does not respond to them."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jnst.apps.cli import interruption
from jnst.apps.cli.interruption import GRACE, interruptible, promptly

STUCK = Path(__file__).parent / "stuck.py"


def interrupted(kind: str, number: int) -> tuple[int, str, str]:
    """Exit status, output and errors of a program that got a signal."""
    with subprocess.Popen(
        [sys.executable, STUCK, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("kind", "number", "output"),
    [
        ("before the run", signal.SIGINT, ""),
        ("saves", signal.SIGINT, "saved\n"),
        ("saves", signal.SIGTERM, "saved\n"),
        ("fails", signal.SIGTERM, ""),
        ("none", signal.SIGINT, ""),
        ("responds", signal.SIGINT, "ended\n"),
    ],
)
def test_a_program_that_does_not_respond_ends_by_its_last_resort(kind: str, number: int, output: str) -> None:
    assert interrupted(kind, number) == (128 + number, output, "")


def note_exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note with which signal the process would end, instead of ending it."""
    left: list[int] = []
    monkeypatch.setattr(interruption, "leave", left.append)
    monkeypatch.setattr(interruption, "_exit_after", lambda seconds, number: None)
    return left


def wait_for(happened: Callable[[], object]) -> None:
    for _ in range(600):
        if happened():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen within half a minute")


def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    left = note_exits(monkeypatch)
    with interruptible(grace=3600) as run:
        signal.raise_signal(signal.SIGTERM)
        assert run.signal_number == signal.SIGTERM
        assert not left
        signal.raise_signal(signal.SIGINT)
        wait_for(lambda: left)
        assert run.signal_number == signal.SIGTERM
    assert left == [signal.SIGTERM]


def test_a_run_that_ends_in_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    left, resorts = note_exits(monkeypatch), []
    before = [signal.getsignal(number) for number in interruption.NUMBERS]
    with interruptible(lambda: resorts.append(1)) as run:
        signal.raise_signal(signal.SIGINT)
    time.sleep(GRACE + 0.3)
    assert (run.signal_number, left, resorts) == (signal.SIGINT, [], [])
    assert [signal.getsignal(number) for number in interruption.NUMBERS] == before
    assert "signals" not in {thread.name for thread in threading.enumerate()}


def test_outside_of_a_run_a_signal_is_an_exception() -> None:
    with pytest.raises(KeyboardInterrupt), promptly():
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(interruption.Terminated), promptly():
        signal.raise_signal(signal.SIGTERM)


def test_commands_in_other_threads_ignore_signals() -> None:
    ran: list[bool] = []

    def work() -> None:
        with promptly():
            ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ran == [True]
