"""Measure what viewers of the preview page cost a run: no page, a page without viewers, and ten viewers, in turns.

    python tests/apps/preview/viewers.py [--size 256] [--rounds 9] [--seconds 5] [--viewers 10]

This is not a test: it takes rounds * 3 * seconds on an otherwise idle machine. The viewers are a separate process that
sends the same requests as the page, each for the state once a second, and for the image when there is a new one. The
output is the median and the quartiles of the ratios within each round.
"""

import argparse
import contextlib
import re
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import jnst
from jnst.apps.preview import Preview, serve
from jnst.transfer import Report

CONDITIONS = ("no page", "no viewers", "viewers")
SETTLE = 5
"""Steps before the first round, for compilation and what follows it."""
GET = "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n"


def main(args: Sequence[str] | None = None) -> None:
    """Measure, or play the viewers in the process that `measure` starts."""
    parser = argparse.ArgumentParser(description="Measure what viewers of the preview page cost a run.")
    for name, default in (("size", 256), ("rounds", 9), ("viewers", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seconds", type=float, default=5.0, help="per condition and round")
    parser.add_argument("--watch", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(args)
    if given.watch is not None:
        watch(given.watch, given.viewers)
    else:
        measure(given.size, given.rounds, given.seconds, given.viewers)


def measure(size: int, rounds: int, seconds: float, viewers: int) -> None:
    """Make one run, in which the conditions take turns."""
    content, style = (jnst.resize(image, (size, size)) for image in jnst.demo_images())
    with serve() as preview:
        command = [sys.executable, __file__, "--watch", preview.address.rstrip("/").rpartition(":")[2]]
        crowd = subprocess.Popen([*command, "--viewers", str(viewers)], stdin=subprocess.PIPE, text=True, bufsize=1)
        assert crowd.stdin is not None
        turns = Turns(preview, crowd.stdin.write, rounds, seconds)
        settings = jnst.preset("jnst", pyramid=None, num_steps=10**6)
        jnst.stylize(content, style, preset=settings, callback=turns)
        crowd.stdin.close()
        crowd.wait(20)
    for condition in CONDITIONS:
        print(f"{condition:13} {1000 * statistics.median(turns.seconds_per_step[condition]):8.2f} ms per step")
    plain = turns.seconds_per_step[CONDITIONS[0]]
    for condition in CONDITIONS[1:]:
        ratios = [value / base for value, base in zip(turns.seconds_per_step[condition], plain, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{condition} over {CONDITIONS[0]}: {middle:.4f} ({low:.4f} to {high:.4f})")


class Turns:
    """A callback that passes reports to the preview in some conditions, and tells the viewers when to look.

    Attributes:
        seconds_per_step: One value for each round, by condition.
    """

    def __init__(self, preview: Preview, tell: Callable[[str], object], rounds: int, seconds: float) -> None:
        self.seconds_per_step: dict[str, list[float]] = {condition: [] for condition in CONDITIONS}
        self._preview, self._tell, self._left, self._seconds = preview, tell, rounds * len(CONDITIONS), seconds
        self._begun, self._steps = 0.0, -SETTLE

    def __call__(self, report: Report) -> bool:
        """Handle a report; return True when all rounds are done."""
        condition = CONDITIONS[-self._left % len(CONDITIONS)]
        if condition != CONDITIONS[0]:
            self._preview(report)
        now = time.perf_counter()
        self._steps += 1
        if self._steps == 0:
            self._begun = now
            self._tell("look\n" if condition == CONDITIONS[-1] else "away\n")
        elif self._steps > 0 and now - self._begun >= self._seconds:
            self.seconds_per_step[condition].append((now - self._begun) / self._steps)
            self._left -= 1
            self._tell("away\n")
            self._steps = -2  # let the requests that are under way finish
        return self._left == 0


def watch(port: int, viewers: int) -> None:
    """Play that many viewers, whenever standard input says so."""
    crowd = [Viewer(port) for _ in range(viewers)]
    looking = False

    while True:
        if select.select([sys.stdin], [], [], 1 / viewers if looking else None)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            looking = line == "look\n"
        if looking:
            crowd.append(crowd.pop(0))
            crowd[-1].look()


class Viewer:
    """One open page."""

    def __init__(self, port: int) -> None:
        self._port, self._connection, self._shown = port, None, b"0"

    def look(self) -> None:
        """Request the state, and the image if it is new."""
        found = re.search(rb'"image":(\d+)', self._get("/state"))
        assert found is not None
        if found[1] != self._shown:
            self._shown = found[1]
            assert self._get("/image").startswith(b"\xff\xd8")

    def _get(self, path: str) -> bytes:
        """Use the open connection, or a new one if the server has closed it."""
        head = b""
        while not head:
            if self._connection is None:
                self._connection = socket.create_connection(("127.0.0.1", self._port), timeout=20)
            with contextlib.suppress(ConnectionError):
                self._connection.sendall(GET.format(path).encode())
                while b"\r\n\r\n" not in head and (data := self._connection.recv(1 << 20)):
                    head += data
            if not head:
                self._connection = None
        assert self._connection is not None
        head, _, body = head.partition(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length is not None
        while len(body) < int(length[1]):
            body += self._connection.recv(1 << 20)
        return body


if __name__ == "__main__":
    main()
