"""Ctrl-C and SIGTERM end a command within two seconds, whatever it is doing, and leave no incomplete file."""

import contextlib
import math
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

GRACE = 1.0
"""Seconds that a run has to end by itself, between two steps."""
TRAINING_GRACE = 60.0
"""The same for training, which saves its state at the end of a step. A second signal ends it at once."""
LAST_RESORT_SECONDS = 10.0
"""The most time that the last resort takes. Files that are incomplete then stay as they were."""
FLUSH_SECONDS = 0.3
"""The most time for flushing what was printed."""
NUMBERS = (signal.SIGINT, signal.SIGTERM)

_CLOSED, _LATE = 0, -1


class Terminated(KeyboardInterrupt):
    """Raised by SIGTERM where Ctrl-C raises `KeyboardInterrupt`."""


class Interruption:
    """Whether a signal has asked the run to end: the number of the first one, or 0."""

    signal_number: int = 0


@contextlib.contextmanager
def interruptible(last_resort: Callable[[], None] | None = None, *, grace: float = GRACE) -> Iterator[Interruption]:
    """Let a first Ctrl-C or SIGTERM end the run between two steps.

    If the run has not ended after ``grace`` seconds, because a step or its compilation takes long, or at a second
    signal, another thread calls ``last_resort`` and ends the process with status 128 + the signal's number.

    Args:
        last_resort: Saves what the run has handed out before. The arrays of the current step are not available.
        grace: In seconds; longer for runs that would otherwise lose their work.
    """
    interruption, ending, ended = Interruption(), threading.Lock(), False

    def note(number: int, frame: FrameType | None) -> None:
        interruption.signal_number = interruption.signal_number or number

    def give_up(number: int) -> None:
        with ending:
            if ended:
                return
            _exit_after(LAST_RESORT_SECONDS, 128 + number)
            if last_resort is not None:
                with contextlib.suppress(Exception):
                    last_resort()
            leave(number)

    with _handling(note), _watching(give_up, grace):
        try:
            yield interruption
        finally:
            with ending:
                ended = True


@contextlib.contextmanager
def promptly() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise `KeyboardInterrupt` and `Terminated`, or end a process that does not respond.

    Python's handlers run only when compiled code, such as an image decoder, has returned.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # Signals are handled in the main thread only.
        return
    with _handling(interrupt), _watching(leave, GRACE):
        yield


def leave(number: int) -> None:
    """End the process at once with status 128 + ``number``, from any thread."""
    end_process(128 + number)


def end_process(status: int) -> None:
    """End the process at once, without waiting for other threads, and flush what was printed."""
    _exit_after(FLUSH_SECONDS, status)  # A reader that has stopped reading must not delay the end.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            if stream.isatty():
                stream.write("\x1b[?25h\n")  # Progress bars hide the cursor.
            stream.flush()
    os._exit(status)


def _exit_after(seconds: float, status: int) -> None:
    timer = threading.Timer(seconds, os._exit, (status,))
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def _handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in NUMBERS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextlib.contextmanager
def _watching(give_up: Callable[[int], None], grace: float) -> Iterator[None]:
    """Call ``give_up`` with the signal's number, in another thread, unless the block ends in time after a signal."""
    reader, writer = os.pipe()  # Not sockets: a command that needs no network should open none.
    os.set_blocking(writer, False)
    thread = threading.Thread(target=_watch, args=(reader, give_up, grace), name="signals", daemon=True)
    # Handlers wait until the main thread returns from compiled code. This pipe is written to at once.
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        thread.join()
        os.close(reader)


def _watch(reader: int, give_up: Callable[[int], None], grace: float) -> None:
    """Wait for a signal; then for a second one, the end of the grace period, or the end of the block."""
    first = _next_signal(reader)
    if first != _CLOSED and _next_signal(reader, grace) != _CLOSED:
        give_up(first)


def _next_signal(reader: int, seconds: float = math.inf) -> int:
    """Return the next signal's number, `_CLOSED` if the pipe was closed, or `_LATE`."""
    deadline = time.monotonic() + seconds
    while True:
        left = None if seconds == math.inf else max(0.0, deadline - time.monotonic())
        if not select.select([reader], [], [], left)[0]:
            return _LATE
        received = os.read(reader, 1)
        if not received:
            return _CLOSED
        if received[0] in NUMBERS:
            return received[0]
