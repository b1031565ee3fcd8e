"""Medians, ratios and growth of samples, checks of losses, turns, and the share of other processes."""

import numpy as np
import pytest

from benchmarks.machine import CpuTimes, others_share, read_cpu_times
from benchmarks.samples import check_losses, ratios, shown, slope, spread, take_turns


def test_median_and_quartiles() -> None:
    found = spread([5.0, 1.0, 2.0, 4.0, 3.0])
    assert found == {"median": 3.0, "quartiles": [2.0, 4.0], "samples": [5.0, 1.0, 2.0, 4.0, 3.0]}
    assert shown(found, " s", 1) == "3.0 s (2.0 to 4.0)"


def test_ratios_are_taken_pair_by_pair() -> None:
    """In the last round, everything takes ten times as long. The ratio of the medians would be 2 / 4."""
    found = ratios([1.0, 2.0, 30.0], [4.0, 4.0, 40.0])
    assert found["samples"] == [0.25, 0.5, 0.75]
    assert found["median"] == 0.5
    assert ratios([1.0, 30.0, 2.0], [4.0, 40.0, 1.0])["median"] == 0.75
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_growth() -> None:
    pixels = [128**2, 256**2, 512**2]
    assert slope(pixels, [3.0 * each for each in pixels]) == pytest.approx(1.0)
    assert slope(pixels, [each**1.5 for each in pixels]) == pytest.approx(1.5)


def test_losses_that_agree() -> None:
    losses = {"float32": [100.0, 90.0, 80.0], "bfloat16": [102.0, 89.0], "other": [100.05, 91.0, 80.0]}
    check_losses(losses, {"float32": 1e-3, "bfloat16": 3e-2, "other": 1e-3})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ([100.2, 90.0], "loss of step 1"),
        ([100.0, 120.0], "loss of step 2"),
        ([100.0, np.nan], "not all finite"),
        ([np.inf, 90.0], "not all finite"),
        ([], "not all finite"),
    ],
)
def test_losses_that_differ(other: list[float], message: str) -> None:
    with pytest.raises(RuntimeError, match=f"^wrong: .*{message}"):
        check_losses({"right": [100.0, 90.0], "wrong": other}, {"right": 1e-3, "wrong": 1e-3})


def test_functions_take_turns() -> None:
    called: list[str] = []
    ways = {name: lambda name=name: called.append(name) for name in ("a", "b", "c")}
    taken = take_turns(ways, 3)
    assert "".join(called) == "abccbaabc"
    assert {name: len(values) for name, values in taken.items()} == {"a": 3, "b": 3, "c": 3}


def test_the_share_of_other_processes() -> None:
    """In ten seconds, two cores are busy for eight seconds, five of which are ours."""
    before, after = CpuTimes(100.0, 40.0, 3.0), CpuTimes(120.0, 48.0, 8.0)
    assert others_share(before, after) == pytest.approx(3 / 20)
    assert others_share(before, CpuTimes(120.0, 44.0, 8.0)) == 0.0
    assert others_share(None, after) is others_share(before, before) is None
    reading = read_cpu_times()
    assert reading is None or reading.passed >= reading.busy > 0
