"""Ctrl-C and SIGTERM: they end a command within two seconds, whatever it is doing, and leave nothing half done."""

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
"""Seconds that a command has to end by itself, between two steps."""
TRAINING_GRACE = 60.0
"""The same for training, which saves what it has learnt when a step ends; a second signal ends it at once."""
PATIENCE = 10.0
"""Seconds that the last resort has; files that are then not whole stay as they were."""
FLUSHING = 0.3
"""Seconds that lines which were printed have to get to where they go."""
NUMBERS = (signal.SIGINT, signal.SIGTERM)
ENDED, LATE = 0, -1


class Terminated(KeyboardInterrupt):
    """What SIGTERM raises where a Ctrl-C would raise `KeyboardInterrupt`."""


class Interruption:
    """Whether a signal asked the run to end; the number of the first one, 0 for none."""

    signal_number: int = 0


@contextlib.contextmanager
def interruptible(last_resort: Callable[[], None] | None = None, *, grace: float = GRACE) -> Iterator[Interruption]:
    """Let a first Ctrl-C or SIGTERM end the run between two steps.

    If the run has not ended ``grace`` seconds later, since XLA compiles or a step takes long, or at a second signal,
    ``last_resort`` is called in another thread and the program ends there and then, with status 128 + the signal's
    number.

    Args:
        last_resort: Saves what there is, from what the run has handed out before: the arrays of a step that is under
            way are gone.
        grace: More for runs that have nothing of the kind, and lose what they do not save by themselves.
    """
    interruption, leaving, ended = Interruption(), threading.Lock(), False

    def note(number: int, frame: FrameType | None) -> None:
        interruption.signal_number = interruption.signal_number or number

    def give_up(number: int) -> None:
        with leaving:
            if ended:
                return
            _leave_in(PATIENCE, number)
            if last_resort is not None:
                with contextlib.suppress(Exception):
                    last_resort()
            leave(number)

    with _handled(note), _watched(give_up, grace):
        try:
            yield interruption
        finally:
            with leaving:
                ended = True


@contextlib.contextmanager
def promptly() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM raise `KeyboardInterrupt` and `Terminated`, and end the program where nobody hears them.

    A call into compiled code, such as one that decodes an image, does not hear them until it returns.
    """

    def tell(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # Only the main thread is told of signals.
        return
    with _handled(tell), _watched(leave, GRACE):
        yield


def leave(number: int) -> None:
    """End the program at once with status 128 + ``number``, from any thread; what was printed is not lost."""
    _leave_in(FLUSHING, number)  # A reader that has stopped reading keeps nobody here.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            if stream.isatty():
                stream.write("\x1b[?25h\n")  # Progress bars hide the cursor.
            stream.flush()
    os._exit(128 + number)


def _leave_in(seconds: float, number: int) -> None:
    timer = threading.Timer(seconds, os._exit, (128 + number,))
    timer.daemon = True
    timer.start()


@contextlib.contextmanager
def _handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in NUMBERS}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextlib.contextmanager
def _watched(give_up: Callable[[int], None], grace: float) -> Iterator[None]:
    """Call ``give_up`` with a signal's number, in another thread, unless the block ends in time after the signal."""
    reader, writer = os.pipe()  # Not sockets: a command that needs no network opens none.
    os.set_blocking(writer, False)
    thread = threading.Thread(target=_watch, args=(reader, give_up, grace), name="signals", daemon=True)
    # Python's own handlers wait for the main thread to come back from compiled code; this write does not.
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
    """Wait for a signal, and then for a second one, the end of the time, or that of the block."""
    first = _next(reader)
    if first != ENDED and _next(reader, grace) != ENDED:
        give_up(first)


def _next(reader: int, seconds: float = math.inf) -> int:
    """The next signal's number, `ENDED` when the other end of the pipe is closed, or `LATE`."""
    deadline = time.monotonic() + seconds
    while True:
        left = None if seconds == math.inf else max(0.0, deadline - time.monotonic())
        if not select.select([reader], [], [], left)[0]:
            return LATE
        received = os.read(reader, 1)
        if not received:
            return ENDED
        if received[0] in NUMBERS:
            return received[0]
