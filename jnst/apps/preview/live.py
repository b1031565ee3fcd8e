"""Where a run stands: written by the run, which waits for nobody, and read by those who watch.

The run leaves its newest numbers, and a copy of its image if anyone asked for one since the last: a slot, not a
queue. All else (conversion, compression) is done by the threads of those who ask, once for each image.
"""

import collections
import io
import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow

from jnst.apps.thinning import Thinned
from jnst.solve.run import Report
from jnst.types import Image

POLL = 1.0
"""Seconds after which a page asks again."""
MOST_POINTS = 400
"""Of a curve."""
LEAST_PAUSE, SHARE = 0.5, 0.02
"""At least so many seconds lie between two images, and so many that compression takes this share of one core."""
STATE_PAUSE = 0.5
"""Seconds for which the state is not written down anew."""
PACE = 20
"""The time left is judged by the pace of so many reports."""
MOST_SIDE = 1600
"""Pixels; larger images are reduced for the page."""
QUALITY = 90

UNDER_WAY, FINISHED = "", "finished"
"""What `Live.end` may be told, besides any other words."""

Point = list[float | None]
"""A step, and what it evaluated: the total, and its parts."""


class Taken(NamedTuple):
    """An image that nobody has looked at yet, and its number."""

    number: int
    image: Image


class Written(NamedTuple):
    """The state as bytes: of which version, and until when it will do even if there is a newer one."""

    version: int
    until: float
    data: bytes


class Live:
    """The newest state of a run.

    Args:
        title: What the page is called.
        settings: Names and values to be shown.
        finish: What is done to an image before it is shown.
    """

    def __init__(self, title: str, settings: Mapping[str, object], finish: Callable[[Image], Image]) -> None:
        self._lock, self._writing, self._encoding = threading.Lock(), threading.Lock(), threading.Lock()
        self._about = {"title": title, "settings": [[name, str(value)] for name, value in settings.items()]}
        self._finish = finish
        self._names: list[str] = []
        self._points = Thinned[Point](MOST_POINTS)
        self._newest: Callable[[], Point] | None = None
        self._pace = collections.deque[tuple[int, float]](maxlen=PACE)
        self._num_steps, self._ended = 0, UNDER_WAY
        self._slot: Taken | None = None
        self._jpeg: bytes | None = None
        self._number, self._shape = 0, (0, 0)
        self._asked, self._took, self._next = -math.inf, -math.inf, -math.inf
        self._version, self._state = 0, Written(-1, -math.inf, b"")

    def report(self, report: Report) -> None:
        """Take over what a callback gets; the image only if somebody asked for one."""
        done, now = report.first + len(report.total) - 1, time.monotonic()
        with self._lock:
            self._add_points(report)
            self._pace.append((done, report.seconds))
            self._num_steps = report.num_steps
            self._version += 1
            asked = self._asked > self._took and now >= self._next
            wanted = asked or (done == report.num_steps and self.is_watched())
        if wanted:
            self.show(report.image)

    def show(self, image: Image) -> None:
        """Take over an image ``(h, w, 3)`` that will not change any more."""
        with self._lock:
            self._number += 1
            self._slot, self._shape = Taken(self._number, image), (int(image.shape[0]), int(image.shape[1]))
            self._took = time.monotonic()
            self._version += 1

    def end(self, how: str) -> None:
        """Say that the run is over: `FINISHED`, or in words how it ended."""
        with self._lock:
            self._ended = how
            self._version += 1

    def is_watched(self) -> bool:
        """Whether somebody asked lately."""
        return time.monotonic() - self._asked < 2.5 * POLL

    def is_complete(self) -> bool:
        """Whether all steps were reported."""
        return bool(self._pace) and self._pace[-1][0] == self._num_steps

    def state(self) -> bytes:
        """All numbers, as JSON: the same bytes for all who ask within a while."""
        with self._writing:
            with self._lock:
                self._asked = now = time.monotonic()
                version, ended = self._version, self._ended
                numbers = self._numbers()
            if version != self._state.version and (ended or now >= self._state.until):
                data = json.dumps(numbers, separators=(",", ":"), allow_nan=False).encode()
                self._state = Written(version, now + STATE_PAUSE, data)
            return self._state.data

    def image(self) -> bytes | None:
        """The newest image as JPEG; None before the first."""
        with self._encoding:
            with self._lock:
                self._asked = begun = time.monotonic()
                taken = self._slot
            if taken is not None:
                self._jpeg = _jpeg(self._finish(taken.image))
                with self._lock:
                    self._next = begun + max(LEAST_PAUSE, (time.monotonic() - begun) / SHARE)
                    if self._slot is taken:
                        self._slot = None
            return self._jpeg

    def _add_points(self, report: Report) -> None:
        if not self._pace or report.first <= self._pace[-1][0]:
            self._names, self._points = list(report.parts), Thinned(MOST_POINTS)
            self._pace.clear()
        curves = [report.total, *(report.parts[name] for name in self._names)]
        for index in range(len(report.total)):
            self._points.offer(partial(_point, report.first, index, curves))
        self._newest = partial(_point, report.first, len(report.total) - 1, curves)

    def _numbers(self) -> dict[str, object]:
        points = [*self._points.items]
        newest = self._newest and self._newest()
        if newest and points[-1] != newest:
            points.append(newest)
        done, seconds = self._pace[-1] if self._pace else (0, 0.0)
        return self._about | {
            "step": done,
            "num_steps": self._num_steps,
            "seconds": round(seconds, 1),
            "left": self._left(),
            "ended": self._ended,
            "image": self._number,
            "shape": self._shape,
            "names": ["total", *self._names],
            "points": points,
        }

    def _left(self) -> float | None:
        """Seconds, by the pace of late; None while that is not known."""
        if len(self._pace) < 2:
            return None
        (begun, before), (done, now) = self._pace[0], self._pace[-1]
        return round((self._num_steps - done) * max(0.0, now - before) / (done - begun), 1)


def _point(first: int, index: int, curves: Sequence[np.ndarray]) -> Point:
    return [first + index, *(_number(float(curve[index])) for curve in curves)]


def _number(value: float) -> float | None:
    """Five digits are enough for a curve; JSON has no word for what is not finite."""
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _jpeg(image: Image) -> bytes:
    picture = Pillow.fromarray(np.asarray(np.clip(np.asarray(image), 0, 1) * 255 + 0.5, np.uint8))
    picture.thumbnail((MOST_SIDE, MOST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()
