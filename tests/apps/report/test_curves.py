"""Curves: where their points are, against the numbers; what is a gap; what is kept of many steps."""

import importlib.util
import itertools
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import hypothesis
import hypothesis.strategies as some
import numpy as np
import pytest
from PIL import Image as Pillow

from jnst.apps.report import check_curves, curves_svg, save_curves
from jnst.apps.report.axes import log_marks, mark_text, marks
from jnst.apps.report.curves import MOST_POINTS, SPAN, styles
from jnst.errors import JnstError

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def paths(svg: str) -> dict[str, str]:
    """The curves' path data by their titles."""
    found = [path for path in drawn(svg).iter(f"{SVG}path") if path.get("class") == "curve"]
    return {path.findtext(f"{SVG}title", ""): path.get("d", "") for path in found}


def points(data: str) -> np.ndarray:
    return np.array([[float(number) for number in pair.split()] for pair in re.split("[ML]", data)[1:]])


def read_off(svg: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a curve, read off by the marks on the axes as one would with a ruler."""
    texts = list(drawn(svg).iter(f"{SVG}text"))
    across = [(float(t.get("x", "")), float(t.text or "")) for t in texts if t.get("class") == "step"]
    up = [(float(t.get("y", "")), math.log(float(t.text or ""))) for t in texts if t.get("class") == "value"]
    x, y = points(paths(svg)[name]).T
    (x0, step0), (x1, step1) = across[0], across[-1]
    (y0, log0), (y1, log1) = up[0], up[-1]
    steps = step0 + (x - x0) * (step1 - step0) / (x1 - x0)
    return steps, np.exp(log0 + (y - y0) * (log1 - log0) / (y1 - y0))


@pytest.mark.parametrize("low", [1e-6, 0.3, 2e4])
@pytest.mark.parametrize("reach", [1.1, 30.0, 4e4])
@pytest.mark.parametrize("count", [2, 3, 57])
def test_points_are_where_the_numbers_say(low: float, reach: float, count: int):
    values = low * reach ** np.random.default_rng(count).uniform(0, 1, count)
    values[:2] = low, low * reach
    svg = curves_svg({"total": values, "half": values / 2}, first=11)
    for name, expected in (("total", values), ("half", values / 2)):
        steps, read = read_off(svg, name)
        np.testing.assert_allclose(steps, np.arange(11, 11 + count), atol=0.02 * count)
        np.testing.assert_allclose(np.log(read), np.log(expected), atol=1e-4 + 2e-3 * math.log(2 * reach))


def test_what_is_not_positive_is_a_gap():
    values = [0.0, 3, 2, float("nan"), 4, 5, -1, float("inf"), 6, 7]
    data = paths(curves_svg({"loss": values}))["loss"]
    assert [len(points("M" + piece)) for piece in data.split("M")[1:]] == [2, 2, 2]
    assert re.sub(r"[^ML]", "", data) == "MLMLML"


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [float("nan")]])
def test_nothing_to_draw_is_said(values: list[float]):
    assert "no positive values" in curves_svg({"loss": values})


def test_a_start_near_zero_does_not_flatten_the_rest():
    svg = curves_svg({"total": [1e3, 1e2], "content": [1e-30, 10.0]})
    _, read = read_off(svg, "content")
    assert read[1] == pytest.approx(10, rel=0.01)
    assert read[0] == pytest.approx(1e3 / SPAN, rel=0.8)
    assert points(paths(svg)["content"])[:, 1].max() <= 320 - 46


def test_of_many_steps_no_peak_is_lost():
    values = 2 + np.sin(np.arange(30_000) / 50)
    values[[1234, 20_001]] = 50, 0.1
    steps, read = read_off(curves_svg({"loss": values}), "loss")
    assert len(steps) <= 2 * MOST_POINTS + 2
    assert read.max() == pytest.approx(50, rel=0.01)
    assert read.min() == pytest.approx(0.1, rel=0.01)
    assert steps[[0, -1]] == pytest.approx([1, 30_000], abs=50)
    assert (np.diff(steps) > 0).all()


def test_names_are_escaped_and_curves_differ():
    names = ['<script>"&', "total", *(f"style/{number}" for number in range(28))]
    svg = curves_svg({name: [1.0, 2.0] for name in names}, axis="<b>")
    assert list(paths(svg)) == names
    assert not list(drawn(svg).iter("script"))
    assert len(set(styles(names).values())) == len(names)


@hypothesis.given(some.floats(-1e6, 1e6), some.floats(1e-3, 1e6), some.integers(2, 12))
def test_marks_are_round_even_and_few(low: float, length: float, most: int):
    found = marks(low, low + length, most)
    assert len(found) <= most + 1
    assert all(low - 1e-6 * length <= mark <= low + length * (1 + 1e-6) for mark in found)
    gaps = np.diff(found)
    np.testing.assert_allclose(gaps, gaps[:1].repeat(len(gaps)), rtol=1e-6, atol=1e-9)


@hypothesis.given(some.floats(1e-12, 1e12), some.floats(1.02, 1e9))
def test_log_marks_lie_in_the_range(low: float, factor: float):
    found = log_marks(low, low * factor)
    assert 1 <= len(found) <= 9
    assert all(low * (1 - 1e-6) <= mark <= low * factor * (1 + 1e-6) for mark in found)
    assert all(after > before for before, after in itertools.pairwise(found))


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1500, "1500"), (0.02, "0.02"), (2e6, "2e6"), (1e-7, "1e-7"), (1.5e-5, "1.5e-5")]
)
def test_marks_are_written_shortly(value: float, text: str):
    assert mark_text(value) == text


def test_files_of_curves(tmp_path: Path):
    curves = {"total": np.array([3.0, 2, 1]), "tv": np.array([0.0, 0.1, 0.2]), "none": np.zeros(3)}
    save_curves(tmp_path / "a.png", curves)
    with Pillow.open(tmp_path / "a.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or ()}
        assert image.width == 2 * image.height
    assert {(0, 0, 0), tuple(bytes.fromhex(styles(list(curves))["tv"].colour[1:]))} <= colours
    save_curves(tmp_path / "a.svg", curves)
    assert list(paths((tmp_path / "a.svg").read_text())) == list(curves)
    save_curves(tmp_path / "a.pdf", curves)
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_a_missing_matplotlib_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JnstError, match=r"^curves '.*a\.png' need matplotlib.*pip install jnst\[plots\].*\.svg file$"):
        save_curves(tmp_path / "a.png", {"total": [1.0]})
    save_curves(tmp_path / "a.svg", {"total": [1.0]})
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]


def test_an_unknown_suffix_is_refused():
    with pytest.raises(JnstError, match=r"^curves 'a\.bmp': expected a name that ends in \.png, \.pdf, \.svg; rename"):
        check_curves("a.bmp")
