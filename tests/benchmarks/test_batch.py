"""The benchmark of batches, at the smallest sizes. Times are not tested."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from benchmarks import batch
from benchmarks.children import make_catalogue
from benchmarks.processes import run_module

pytestmark = pytest.mark.usefixtures("unoptimised")


def test_images_of_a_batch_differ() -> None:
    contents, styles = batch.make_images(3, 30)
    assert [image.shape for image in contents] == [(20, 30, 3)] * 3
    assert [image.shape for image in styles] == [(24, 30, 3)] * 3
    for images in (contents, styles):
        assert len({np.asarray(image).tobytes() for image in images}) == 3


@pytest.mark.long
def test_rates_of_batches_and_loops() -> None:
    row = batch.measure_rate(2, 24, steps=1, rounds=2)
    assert (row["size"], row["batch"], row["steps"]) == (24, 2, 1)
    rates = {name: rate["samples"] for name, rate in row["images_per_second"].items()}
    assert {name: len(samples) for name, samples in rates.items()} == {"batched": 2, "looped": 2}
    assert min(map(min, rates.values())) > 0
    np.testing.assert_allclose(row["speedup"]["samples"], np.divide(rates["batched"], rates["looped"]))
    assert len(batch.plot({"rates": [row, row | {"batch": 4}]}).axes) == 1


@pytest.mark.parametrize("other", [[1.0, 2.1], [1.0, np.nan]])
def test_different_first_losses_are_an_error(other: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.zeros((2, 4, 4, 3))
    monkeypatch.setattr(batch, "batched", lambda *_: (image, np.array(other)))
    monkeypatch.setattr(batch, "looped", lambda *_: (image, np.array([1.0, 2.0])))
    with pytest.raises(RuntimeError, match="2 images of 8: first losses"):
        batch.measure_rate(2, 8, steps=1, rounds=1)


def in_this_process(module: str, *arguments: str, **_: Any) -> tuple[str, float]:
    assert module == make_catalogue.__name__
    assert make_catalogue.main(arguments) == 0
    return "", 2.0


def test_three_ways_make_the_same_images() -> None:
    made = batch.make_catalogues(None, 24, steps=2, shape=(1, 2, 1), run=in_this_process)
    assert (made["contents"], made["styles"], made["steps"]) == (("content0.png",), ("style0.png", "style1.png"), 2)
    assert list(made["ways"]) == ["grid", "singles", "commands"]
    assert {row["difference"] for row in made["ways"].values()} == {0.0}
    assert made["ways"]["commands"]["seconds"] == 2 * made["ways"]["grid"]["seconds"]
    assert made["ways"]["commands"]["seconds_over_grid"] == 2
    assert made["ways"]["grid"]["compilations"] > 0
    assert len(batch.plot({"grid": made}).axes) == 2


def test_the_difference_between_images(tmp_path: Path) -> None:
    for way, level in (("grid", 10), ("singles", 14)):
        Pillow.new("RGB", (4, 3), (level, level, 10)).save(tmp_path / f"{way}-0-0-0.png")
    assert batch.difference(tmp_path, "singles", "0-0-0.png") == pytest.approx(8 / 3)


def test_a_catalogue_of_shared_images(tmp_path: Path, shared: Path) -> None:
    catalogue = batch.prepare_catalogue(tmp_path, shared / "images", 16, 5, batch.SHAPE)
    assert make_catalogue.read(tmp_path) == catalogue
    assert len({name for *_, name in catalogue.images()}) == len(list(catalogue.images())) == 36
    for name in (*catalogue.contents, *catalogue.styles):
        with Pillow.open(tmp_path / name) as image:
            assert image.size == (16, 12)


def test_commands_run_in_processes_of_their_own(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    output, seconds = run_module(make_catalogue.__name__, str(report), "command", "--version")
    assert output.startswith("jnst ")
    assert seconds > 0
    assert json.loads(report.read_text()) == {"compilations": 0, "compile_seconds": 0}
    with pytest.raises(RuntimeError, match=r"(?s)benchmarks\.nothing a b ended with 1: .*No module named"):
        run_module("benchmarks.nothing", "a", "b")
