"""What a run stores for viewers: the newest state, and an image only if someone has asked for one."""

import io
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest
from made_reports import report
from PIL import Image

import jnst.apps.preview.live
from jnst.apps.preview.live import FINISHED, MAX_POINTS, Live


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(jnst.apps.preview.live, "time", clock)
    return clock


def live() -> Live:
    return Live("a title", {"size": 48})


def grey_of(jpeg: bytes | None) -> float:
    assert jpeg is not None
    return float(np.asarray(Image.open(io.BytesIO(jpeg))).mean() / 255)


def test_no_image_is_copied_when_nobody_looks(clock):
    shown, copies = live(), []
    for step in range(1, 50):
        shown.report(report(step, 1000, copies=copies))
        clock.now += 1
    assert copies == []
    assert shown.image() is None


def test_one_image_is_copied_for_each_look(clock):
    shown, copies = live(), []
    shown.report(report(1, 1000, copies=copies))
    for step in (2, 3, 4):
        clock.now += 1
        if step < 4:
            shown.state()
        shown.report(report(step, 1000, copies=copies))
    assert copies == [2, 3]
    assert grey_of(shown.image()) == pytest.approx(3 / 1000, abs=0.01)


@pytest.mark.parametrize(("seconds_ago", "expected"), [(1.0, [10]), (60.0, [])])
def test_recent_viewers_get_the_last_step(clock, seconds_ago: float, expected: list[int]):
    shown, copies = live(), []
    shown.state()
    shown.show(jnp.zeros((4, 4, 3)))
    clock.now += seconds_ago
    shown.report(report(10, 10, copies=copies))
    assert copies == expected


def test_each_image_is_compressed_once_and_the_newest_wins(clock):
    shown = live()
    shown.show(jnp.full((8, 8, 3), 0.1))
    shown.show(jnp.full((8, 8, 3), 0.25))
    first = shown.image()
    assert grey_of(first) == pytest.approx(0.25, abs=0.01)
    assert shown.image() is first
    assert json.loads(shown.state())["image"] == 2


def test_images_that_are_slow_to_compress_come_less_often(clock, monkeypatch):
    def slow(image: Image.Image, max_side: int) -> tuple[bytes, tuple[int, int]]:
        clock.now += 0.2  # 2 % of 10 seconds
        return b"", image.size

    monkeypatch.setattr(jnst.apps.preview.live, "to_jpeg", slow)
    shown, copies = live(), []
    shown.state()
    shown.report(report(1, 1000, copies=copies))
    shown.image()
    for step in range(2, 30):
        clock.now += 1
        shown.state()
        shown.report(report(step, 1000, copies=copies))
    # The next copy is made 10 seconds later. As nobody asks for that image, later copies cost nothing.
    assert copies[:2] == [1, 11]


def test_values_out_of_range_are_clipped_and_large_images_reduced():
    shown = live()
    wide = np.full((20, 3300, 3), 1.7, np.float32)
    wide[:, :1650] = -0.5
    shown.show(jnp.asarray(wide))
    jpeg = shown.image()
    assert jpeg is not None
    with Image.open(io.BytesIO(jpeg)) as image:
        assert max(image.size) == jnst.apps.preview.live.MAX_SIDE
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
    assert state["left"] == 6 * 2.0  # 2 seconds per step, without the compilation


def test_the_state_is_encoded_only_every_so_often_but_the_end_at_once(clock):
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
    assert MAX_POINTS // 2 <= len(steps) <= MAX_POINTS + 1
    assert steps[0] == 1
    assert steps[-1] == 5000
    assert set(np.diff(steps[:-1])) == {16}  # 5000 / 16 is the first below 400


def test_numbers_that_are_not_finite_are_null(clock):
    shown = live()
    shown.report(report(1, 10, (math.inf, math.nan)))
    assert json.loads(shown.state())["points"] == [[1, None, None, 0.0], [2, None, None, 0.0]]


def test_another_run_starts_new_curves(clock):
    shown = live()
    for first in (1, 2, 3):
        shown.report(report(first, 3, seconds=10.0 * first))
    shown.report(report(1, 7, seconds=1.0))
    clock.now += 1
    state = json.loads(shown.state())
    assert [point[0] for point in state["points"]] == [1]
    assert (state["step"], state["num_steps"], state["left"]) == (1, 7, None)
