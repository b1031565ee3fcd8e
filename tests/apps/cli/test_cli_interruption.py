"""Signals that come while the main thread is in compiled code, which hears none."""

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


def interrupted(kind: str, number: int, times: int = 1) -> tuple[int, str, str]:
    """Exit status, output and errors of a program that got a signal, once or more often."""
    with subprocess.Popen(
        [sys.executable, STUCK, kind], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.1)
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("kind", "number", "said"),
    [
        ("loading", signal.SIGINT, ""),
        ("saves", signal.SIGINT, "saved\n"),
        ("saves", signal.SIGTERM, "saved\n"),
        ("fails", signal.SIGTERM, ""),
        ("bare", signal.SIGINT, ""),
        ("heard", signal.SIGINT, "ended\n"),
    ],
)
def test_a_program_ends_by_its_last_resort_where_it_hears_nothing(kind: str, number: int, said: str) -> None:
    assert interrupted(kind, number) == (128 + number, said, "")


def in_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """Note how the program would be left, instead of leaving it."""
    left: list[int] = []
    monkeypatch.setattr(interruption, "leave", left.append)
    monkeypatch.setattr(interruption, "_leave_in", lambda seconds, number: None)
    return lambda: left


def wait_for(happened: Callable[[], object]) -> None:
    for _ in range(600):
        if happened():
            return
        time.sleep(0.05)
    pytest.fail("it did not happen in half a minute")


def test_a_second_signal_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    left = in_threads(monkeypatch)
    with interruptible(grace=3600) as run:
        signal.raise_signal(signal.SIGTERM)
        assert run.signal_number == signal.SIGTERM
        assert not left()
        signal.raise_signal(signal.SIGINT)
        wait_for(left)
        assert run.signal_number == signal.SIGTERM
    assert left() == [signal.SIGTERM]


def test_a_run_that_ends_in_time_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    left, resorts = in_threads(monkeypatch), []
    before = [signal.getsignal(number) for number in interruption.NUMBERS]
    with interruptible(lambda: resorts.append(1)) as run:
        signal.raise_signal(signal.SIGINT)
    time.sleep(GRACE + 0.3)
    assert (run.signal_number, left(), resorts) == (signal.SIGINT, [], [])
    assert [signal.getsignal(number) for number in interruption.NUMBERS] == before
    assert "signals" not in {thread.name for thread in threading.enumerate()}


def test_without_a_run_a_signal_is_an_exception() -> None:
    with pytest.raises(KeyboardInterrupt), promptly():
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(interruption.Terminated), promptly():
        signal.raise_signal(signal.SIGTERM)


def test_other_threads_run_commands_without_signals() -> None:
    ran: list[bool] = []

    def work() -> None:
        with promptly():
            ran.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ran == [True]
