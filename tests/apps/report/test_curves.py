"""Drawn curves: where their points are, where they have gaps, and what a name can do."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from jnst.apps.report.curves import SPAN, curves_svg

SVG = "{http://www.w3.org/2000/svg}"
TAB10 = ("#1f77b4", "#ff7f0e")
"""The colours of the first two curves."""


def points(svg: str, colour: str) -> list[np.ndarray]:
    """The pieces of the curve of a colour, ``(n, 2)`` each, in points from the top left."""
    for path in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        if f"stroke: {colour}" in path.get("style", "") and path.get("clip-path"):
            pieces = path.get("d", "").split("M")[1:]
            return [np.array([line.split() for line in re.split("L", piece)], float) for piece in pieces]
    return []


@pytest.mark.parametrize(("low", "ratio"), [(1e-6, 1.1), (0.3, 30.0), (2e4, 4e4)])
def test_points_are_at_equal_steps_and_logarithmic_heights(low: float, ratio: float):
    values = low * ratio ** np.linspace(0, 1, 9) ** 2
    svg = curves_svg({"one": values, "half": values / 2})
    (one,), (half,) = points(svg, TAB10[0]), points(svg, TAB10[1])
    logs = np.log(values)
    np.testing.assert_allclose(np.diff(one[:, 0]), (one[-1, 0] - one[0, 0]) / 8, rtol=1e-3)
    heights = (one[0, 1] - one[:, 1]) / (one[0, 1] - one[-1, 1])
    np.testing.assert_allclose(heights, (logs - logs[0]) / (logs[-1] - logs[0]), atol=2e-3)
    below = (half[0, 1] - one[0, 1]) / (one[0, 1] - one[-1, 1])
    assert below == pytest.approx(np.log(2) / np.log(ratio), rel=1e-2)


def test_values_that_are_not_positive_are_gaps():
    values = [0.0, 3, 2, float("nan"), 4, 5, -1, float("inf"), 6, 7]
    assert [len(piece) for piece in points(curves_svg({"loss": values}), TAB10[0])] == [2, 2, 2]


@pytest.mark.parametrize("values", [[], [0.0, 0.0], [float("nan")], [-1.0]])
def test_curves_without_positive_values_are_empty(values: list[float]):
    assert points(curves_svg({"loss": values}), TAB10[0]) == []


def test_a_single_step_is_a_point():
    markers = ElementTree.fromstring(curves_svg({"loss": [3.0]})).iter(f"{SVG}use")
    assert any(f"fill: {TAB10[0]}" in marker.get("style", "") for marker in markers)


def test_a_start_near_zero_does_not_flatten_the_rest():
    svg = curves_svg({"content": [1e-30, 1e3 / SPAN, 1e3]})
    (curve,) = points(svg, TAB10[0])
    height = float(ElementTree.fromstring(svg).get("viewBox", "").split()[3])
    assert curve[1, 1] - curve[2, 1] > 0.5 * height


def test_long_curves_stay_small_and_keep_their_peaks():
    values = 2 + np.sin(np.arange(30_000) / 50)
    values[[1234, 20_001]] = 50, 0.1
    svg = curves_svg({"loss": values})
    (curve,) = points(svg, TAB10[0])
    assert len(svg) < 300_000
    top, middle, bottom = curve[:, 1].min(), np.median(curve[:, 1]), curve[:, 1].max()
    assert (bottom - top) / (bottom - middle) == pytest.approx(np.log(500) / np.log(20), rel=0.1)


def test_names_are_text_and_curves_differ():
    names = ['<script>"&', "total", "$x$ $", *(f"style/{number}" for number in range(27))]
    svg = curves_svg({name: [1.0, 2.0] for name in names}, axis="<b>$")
    root = ElementTree.fromstring(svg)
    assert not list(root.iter("script")) + list(root.iter(f"{SVG}script"))
    lines = [path.get("style") for path in root.iter(f"{SVG}path") if path.get("clip-path")]
    drawn = {line for line in lines if line and "stroke-opacity" not in line}
    assert len(drawn) == len(names)


def test_equal_curves_are_drawn_equally_whatever_the_user_s_style():
    import matplotlib

    curves = {"total": [3.0, 2.0, 1.0]}
    expected = curves_svg(curves)
    with matplotlib.rc_context({"lines.linewidth": 20, "axes.facecolor": "red"}):
        assert curves_svg(curves) == expected
        assert matplotlib.rcParams["lines.linewidth"] == 20
