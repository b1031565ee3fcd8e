"""The benchmarks of style statistics and of the embedded network, on two rows and one pair of images."""

import argparse
from pathlib import Path

import numpy as np
import pytest

from benchmarks import embedded, losses

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.mark.long
def test_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {name: losses.STATISTICS[name] for name in ("gram", "mean-std")}
    monkeypatch.setattr(losses, "STATISTICS", rows)
    options = argparse.Namespace(
        shared=None, weights=None, output=tmp_path, only="figures", sizes=[32], large=32, rounds=2
    )
    found = losses.measure(options)
    assert found["step_over_gram"].keys() == {"32"}
    samples = {name: each["samples"] for name, each in found["step_over_gram"]["32"].items()}
    assert {name: len(each) for name, each in samples.items()} == {"gram": 2, "mean-std": 2}
    assert min(found["temporary_bytes"].values()) > 4 * 32 * 21 * 3
    assert len(losses.plot(found).axes) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_a_step_without_a_gradient_is_an_error(value: float) -> None:
    with pytest.raises(RuntimeError, match=r"^histogram: "):
        losses.check_finite("histogram", lambda: (np.full(3, value), {}))


def test_a_plot_without_figures() -> None:
    (axis,) = losses.plot({"losses": {"gram": [4.0, 1.0]}}).axes
    assert [bar.get_width() for bar in axis.patches] == [0.25]


def test_the_frame_and_the_interior() -> None:
    image = np.zeros((64, 80, 1), np.float32)
    image[16:-16, 16:-16] = 1.0
    frame, interior = embedded.split_frame(image, 80)
    assert (frame.max(), interior.min(), interior.shape) == (0.0, 1.0, (1, 32 * 48, 1))
    frame, interior = embedded.split_frame(image[::4, ::4], 80)
    assert (frame.max(), interior.min(), interior.shape) == (0.0, 1.0, (1, 8 * 12, 1))


@pytest.mark.long
def test_the_embedded_network(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "CONTENTS", embedded.CONTENTS[:1])
    monkeypatch.setattr(embedded, "STYLES", embedded.STYLES[:1])
    found = embedded.measure(
        argparse.Namespace(shared=shared, weights=None, output=tmp_path, sizes=[64], steps=1, rounds=1)
    )
    assert [(row["content"], row["style"]) for row in found["pairs"]] == [(embedded.CONTENTS[0], embedded.STYLES[0])]
    assert found["gap_closed"]["mean"] == found["gap_closed"]["worst"] == found["pairs"][0]["gap_closed"]
    assert found["border"]["mini"]["style"] == list(found["pairs"][0]["border"]["mini"]["style"])
    assert len(found["step_ratio"]["samples"]) == 1
    assert len(embedded.plot(found).axes) == 1
    assert (tmp_path / "embedded.jpg").read_bytes().startswith(b"\xff\xd8")
    with pytest.raises(SystemExit, match="--shared"):
        embedded.measure(argparse.Namespace(shared=None))
