"""A download's progress on a terminal."""

import contextlib
import sys
import time
from collections.abc import Iterator

from jnst.weights.download import Listener

WIDTH, EVERY = 24, 0.1
"""Of the bar, in characters; seconds between two drawings."""


@contextlib.contextmanager
def progress(expected: float | None) -> Iterator[Listener]:
    """Draw how much has arrived, on one line of standard error that is cleared at the end; nothing without a terminal.

    Args:
        expected: Bytes, about; None: unknown.

    Yields:
        What is to be told how many bytes are here.
    """
    stream = sys.stderr
    if stream is None or not stream.isatty():
        yield lambda count: None
        return
    begun, at_first, drawn = time.monotonic(), -1, 0.0

    def listen(count: int) -> None:
        nonlocal at_first, drawn
        now = time.monotonic()
        if at_first < 0:
            at_first = count
        if now - drawn >= EVERY:
            drawn = now
            # ESC [ K clears what an earlier, longer line left.
            stream.write(f"\r{line(count, expected, (count - at_first) / max(now - begun, 1e-3))}\x1b[K")
            stream.flush()

    try:
        yield listen
    finally:
        if drawn:
            stream.write("\r\x1b[K")
            stream.flush()


def line(count: int, expected: float | None, speed: float) -> str:
    """A bar with numbers.

    Args:
        count: Bytes that are here.
        expected: Bytes that there will be, about; None: unknown.
        speed: Bytes a second.
    """
    rate = f"{speed / 1e6:.1f} MB/s"
    if not expected:
        return f"{count / 1e6:.1f} MB  {rate}"
    share = min(1.0, count / expected)
    full = round(WIDTH * share)
    left = f"  {max(0.0, expected - count) / speed:.0f} s left" if speed > 0 else ""
    return f"[{'#' * full}{'.' * (WIDTH - full)}] {count / 1e6:.1f}/{expected / 1e6:.3g} MB  {rate}{left}"
