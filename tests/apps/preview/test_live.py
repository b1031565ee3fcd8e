"""What a run leaves for those who watch: the newest state, and an image only if somebody asked."""

import io
import json
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from made_reports import report
from PIL import Image

import jnst.apps.preview.live
from jnst.apps.preview.live import FINISHED, MOST_POINTS, Live
from jnst.solve.run import Report
from jnst.types import Image as ImageArray


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Counted(Report):
    """A report that counts how often its image was copied."""

    copies: list[int]

    @property
    def image(self) -> ImageArray:
        self.copies.append(self.first)
        return super().image


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(jnst.apps.preview.live, "time", clock)
    return clock


@pytest.fixture
def copies(monkeypatch) -> list[int]:
    copies: list[int] = []
    monkeypatch.setattr(Counted, "copies", copies, raising=False)
    return copies


def live(finish: Callable[[ImageArray], ImageArray] = lambda image: image) -> Live:
    return Live("a title", {"size": 48}, finish)


def tell(shown: Live, first: int, num_steps: int = 1000, **rest) -> None:
    shown.report(Counted(*report(first, num_steps, **rest)))


def grey_of(jpeg: bytes | None) -> float:
    assert jpeg is not None
    return float(np.asarray(Image.open(io.BytesIO(jpeg))).mean() / 255)


def test_no_image_is_copied_when_nobody_looks(clock, copies):
    shown = live()
    for step in range(1, 50):
        tell(shown, step)
        clock.now += 1
    assert copies == []
    assert shown.image() is None


def test_one_image_is_copied_for_each_look(clock, copies):
    shown = live()
    tell(shown, 1)
    for step in (2, 3, 4):
        clock.now += 1
        if step < 4:
            shown.state()
        tell(shown, step)
    assert copies == [2, 3]
    assert grey_of(shown.image()) == pytest.approx(3 / 1000, abs=0.01)


def test_the_last_step_is_shown_to_those_who_looked_lately(clock, copies):
    for ago, expected in ((1.0, [10]), (60.0, [])):
        copies.clear()
        shown = live()
        shown.state()
        shown.show(jnp.zeros((4, 4, 3)))
        clock.now += ago
        tell(shown, 10, 10)
        assert copies == expected


def test_each_image_is_compressed_once_and_the_newest_wins(clock, copies):
    finished: list[int] = []

    def finish(image: ImageArray) -> ImageArray:
        finished.append(1)
        return 1 - image

    shown = live(finish)
    shown.show(jnp.full((8, 8, 3), 0.1))
    shown.show(jnp.full((8, 8, 3), 0.25))
    first = shown.image()
    assert grey_of(first) == pytest.approx(0.75, abs=0.01)
    assert shown.image() is first
    assert len(finished) == 1
    assert json.loads(shown.state())["image"] == 2


def test_images_that_are_slow_to_compress_come_less_often(clock, copies):
    def finish(image: ImageArray) -> ImageArray:
        clock.now += 0.2  # at 2 %: once in 10 seconds
        return image

    shown = live(finish)
    shown.state()
    tell(shown, 1)
    shown.image()
    for step in range(2, 30):
        clock.now += 1
        shown.state()
        tell(shown, step)
    # The next is taken 10 seconds after; without another look at the image itself, those after it are free.
    assert copies[:2] == [1, 11]


def test_values_out_of_range_are_clipped_and_large_images_reduced():
    shown = live()
    picture = np.full((20, 3300, 3), 1.7, np.float32)
    picture[:, :1650] = -0.5
    shown.show(jnp.asarray(picture))
    jpeg = shown.image()
    assert jpeg is not None
    with Image.open(io.BytesIO(jpeg)) as image:
        assert max(image.size) == jnst.apps.preview.live.MOST_SIDE
        assert image.getpixel((10, 2)) == (0, 0, 0)
        assert image.getpixel((1500, 2)) == (255, 255, 255)
    assert json.loads(shown.state())["shape"] == [20, 3300]


def test_the_state_holds_the_run(clock):
    shown = live()
    before = json.loads(shown.state())
    assert (before["step"], before["points"], before["left"], before["ended"]) == (0, [], None, "")
    clock.now += 1
    shown.report(report(1, 10, (8.0, 4.0), seconds=20.0))
    shown.report(report(3, 10, (2.0, 1.0), seconds=24.0))
    state = json.loads(shown.state())
    assert state["title"] == "a title"
    assert state["settings"] == [["size", "48"]]
    assert state["names"] == ["total", "content/relu2_1", "tv"]
    assert state["points"] == [[1, 8.0, 2.0, 0.0], [2, 4.0, 1.0, 0.0], [3, 2.0, 0.5, 0.0], [4, 1.0, 0.25, 0.0]]
    assert (state["step"], state["num_steps"], state["seconds"]) == (4, 10, 24.0)
    assert state["left"] == 6 * 2.0  # 2 seconds a step, compilation left out


def test_the_state_is_written_down_at_most_so_often_but_the_end_at_once(clock):
    shown = live()
    shown.report(report(1, 10))
    first = shown.state()
    shown.report(report(2, 10))
    assert shown.state() is first
    clock.now += jnst.apps.preview.live.STATE_PAUSE
    assert json.loads(shown.state())["step"] == 2
    shown.report(report(3, 10))
    shown.end(FINISHED)
    state = json.loads(shown.state())
    assert (state["step"], state["ended"]) == (3, "finished")


def test_long_curves_are_thinned_and_end_with_the_newest_step(clock):
    shown = live()
    for first in range(1, 5001, 5):
        shown.report(report(first, 5000, np.arange(first, first + 5)))
    steps = [point[0] for point in json.loads(shown.state())["points"]]
    assert MOST_POINTS // 2 <= len(steps) <= MOST_POINTS + 1
    assert steps[0] == 1
    assert steps[-1] == 5000
    assert set(np.diff(steps[:-1])) == {16}  # 5000 / 16 is the first below 400


def test_numbers_that_are_not_finite_are_null(clock):
    shown = live()
    shown.report(report(1, 10, (math.inf, math.nan)))
    assert json.loads(shown.state())["points"] == [[1, None, None, 0.0], [2, None, None, 0.0]]


def test_another_run_begins_anew(clock):
    shown = live()
    for first in (1, 2, 3):
        shown.report(report(first, 3, seconds=10.0 * first))
    shown.report(report(1, 7, seconds=1.0))
    clock.now += 1
    state = json.loads(shown.state())
    assert [point[0] for point in state["points"]] == [1]
    assert (state["step"], state["num_steps"], state["left"]) == (1, 7, None)
