"""The newest state of a run: written by the run, which never waits, and read by the threads that serve viewers.

The run stores its newest numbers, and a copy of its image only if a viewer has asked for one since the last copy. The
viewers' threads do everything else (conversion, compression), once for each image.
"""

import collections
import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow

from jnst.apps.pixels import to_jpeg, to_levels
from jnst.apps.thinning import Thinned
from jnst.transfer import Report
from jnst.types import Image

POLL = 1.0
"""Seconds between two requests of a page."""
MAX_POINTS = 400
"""The number of points of a curve, at most."""
MIN_PAUSE, SHARE = 0.5, 0.02
"""Images are at least this many seconds apart, and so far that compressing them takes this share of one core."""
STATE_PAUSE = 0.5
"""Seconds for which all viewers get the same state."""
PACE_REPORTS = 20
"""The time left is estimated from the pace of this many reports."""
MAX_SIDE = 1600
"""The longer side of images in pixels; larger ones are reduced."""

RUNNING, FINISHED = "", "finished"
"""How a run ended; any other text says what else happened."""

Point = list[float | None]
"""The number of a step, the total, and its parts."""


class NewImage(NamedTuple):
    """An image that is not compressed yet, and its number."""

    number: int
    image: Image


class Encoded(NamedTuple):
    """The state as JSON: its version, and until when it may be served although there is a newer one."""

    version: int
    until: float
    data: bytes


class Live:
    """The newest state of a run.

    Args:
        title: The page's title.
        settings: Names and values to show.
    """

    def __init__(self, title: str, settings: Mapping[str, object]) -> None:
        self._lock, self._state_lock, self._image_lock = threading.Lock(), threading.Lock(), threading.Lock()
        self._about = {"title": title, "settings": [[name, str(value)] for name, value in settings.items()]}
        self._names: list[str] = []
        self._points = Thinned[Point](MAX_POINTS)
        self._newest: Callable[[], Point] | None = None
        self._pace = collections.deque[tuple[int, float]](maxlen=PACE_REPORTS)
        self._num_steps, self._waiting, self._ended = 0, "", RUNNING
        self._new_image: NewImage | None = None
        self._jpeg: bytes | None = None
        self._number, self._shape = 0, (0, 0)
        self._last_request, self._last_copy, self._next_copy = -math.inf, -math.inf, -math.inf
        self._version, self._state = 0, Encoded(-1, -math.inf, b"")

    def report(self, report: Report) -> None:
        """Store the numbers of a report; the image too, if a viewer has asked for one."""
        now = time.monotonic()
        with self._lock:
            self._add_points(report)
            self._pace.append((report.last, report.seconds))
            self._num_steps, self._waiting = report.num_steps, ""
            self._version += 1
            due = self._last_request > self._last_copy and now >= self._next_copy
            wanted = due or (report.last == report.num_steps and self.is_watched())
        if wanted:
            self.show(report.image)

    def wait(self, reason: str) -> None:
        """Store what the run waits for, until the next report."""
        with self._lock:
            self._waiting = reason
            self._version += 1

    def show(self, image: Image) -> None:
        """Store an image ``(h, w, 3)`` that will not change any more."""
        with self._lock:
            self._number += 1
            self._new_image = NewImage(self._number, image)
            self._shape = int(image.shape[0]), int(image.shape[1])
            self._last_copy = time.monotonic()
            self._version += 1

    def end(self, how: str) -> None:
        """Store how the run ended: `FINISHED`, or any other text."""
        with self._lock:
            self._ended = how
            self._version += 1

    def is_watched(self) -> bool:
        """Whether there was a request recently."""
        return time.monotonic() - self._last_request < 2.5 * POLL

    def is_complete(self) -> bool:
        """Whether all steps were reported."""
        return bool(self._pace) and self._pace[-1][0] == self._num_steps

    def state(self) -> bytes:
        """All numbers as JSON; the same bytes for all requests within `STATE_PAUSE`."""
        with self._state_lock:
            with self._lock:
                self._last_request = now = time.monotonic()
                version, ended = self._version, self._ended
                numbers = self._numbers()
            if version != self._state.version and (ended or now >= self._state.until):
                data = json.dumps(numbers, separators=(",", ":"), allow_nan=False).encode()
                self._state = Encoded(version, now + STATE_PAUSE, data)
            return self._state.data

    def image(self) -> bytes | None:
        """The newest image as JPEG; None before the first one."""
        with self._image_lock:
            with self._lock:
                self._last_request = begun = time.monotonic()
                new = self._new_image
            if new is not None:
                self._jpeg, _ = to_jpeg(Pillow.fromarray(to_levels(new.image)), max_side=MAX_SIDE)
                with self._lock:
                    self._next_copy = begun + max(MIN_PAUSE, (time.monotonic() - begun) / SHARE)
                    if self._new_image is new:
                        self._new_image = None
            return self._jpeg

    def _add_points(self, report: Report) -> None:
        if not self._pace or report.first <= self._pace[-1][0]:  # the first report, or another run
            self._names, self._points = list(report.parts), Thinned(MAX_POINTS)
            self._pace.clear()
        curves = [report.losses, *(report.parts[name] for name in self._names)]
        for index in range(len(report.losses)):
            self._points.offer(partial(_point, report.first, index, curves))
        self._newest = partial(_point, report.first, len(report.losses) - 1, curves)

    def _numbers(self) -> dict[str, object]:
        points = [*self._points.items]
        newest = self._newest and self._newest()
        if newest and points[-1] != newest:
            points.append(newest)
        step, seconds = self._pace[-1] if self._pace else (0, 0.0)
        return self._about | {
            "step": step,
            "num_steps": self._num_steps,
            "seconds": round(seconds, 1),
            "left": self._seconds_left(),
            "waiting": self._waiting,
            "ended": self._ended,
            "image": self._number,
            "shape": self._shape,
            "names": ["total", *self._names],
            "points": points,
        }

    def _seconds_left(self) -> float | None:
        """The time left at the pace of the last reports; None if that is not known yet."""
        if len(self._pace) < 2:
            return None
        (first, begun), (last, now) = self._pace[0], self._pace[-1]
        return round((self._num_steps - last) * max(0.0, now - begun) / (last - first), 1)


def _point(first: int, index: int, curves: Sequence[np.ndarray]) -> Point:
    return [first + index, *(_number(float(curve[index])) for curve in curves)]


def _number(value: float) -> float | None:
    """Five digits are enough for a curve. JSON has no NaN or infinity."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
