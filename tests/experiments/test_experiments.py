"""The experiments at the smallest sizes: tables, contact sheets and reports are complete and consistent."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from golden.random_weights import random_state_dict
from html_pages import Parsed, embedded, read
from PIL import Image as Pillow
from safetensors.numpy import save_file

import jnst
from benchmarks.experiments import procedural_images
from benchmarks.experiments.__main__ import EXPERIMENTS, main
from benchmarks.experiments.experiment import MAX_BYTES, small_jpeg
from benchmarks.experiments.seamless import seam
from jnst.weights.load import EMBEDDED

pytestmark = pytest.mark.usefixtures("unoptimised")

SIZE, STEPS = 32, 3


class Outcome(NamedTuple):
    """The results of an experiment, its report, and what it printed."""

    results: dict[str, Any]
    page: Parsed
    printed: str


def run(
    capsys: pytest.CaptureFixture[str], folder: Path, name: str, *flags: object, size: int = SIZE, steps: int = STEPS
) -> Outcome:
    assert main([name, "--size", str(size), "--steps", str(steps), "-o", str(folder), *map(str, flags)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        f"experiments-{name}.jpg",
        f"experiments-{name}.json",
        "report.html",
    ]
    sheet = folder / f"experiments-{name}.jpg"
    assert sheet.stat().st_size < MAX_BYTES
    with Pillow.open(sheet) as image:
        assert min(image.size) > 150
        assert len(image.getcolors(1 << 24) or ()) > 1000
    results = json.loads((folder / f"experiments-{name}.json").read_text())
    assert (results["experiment"], results["size"], results["steps"]) == (name, size, steps)
    assert results["machine"]["versions"]["jnst"] == jnst.__version__
    page = read(folder / "report.html")
    assert len(embedded(page)) == len(page.images()) >= 1
    assert any(text.startswith(f"python -m benchmarks.experiments {name} ") for text in page.texts)
    return Outcome(results, page, capsys.readouterr().out)


def test_classifier(capsys, tmp_path: Path):
    made = run(capsys, tmp_path, "classifier", "--count", 4, "--epochs", 2, "--crop", 24)
    losses = [epoch["train_loss"] for epoch in made.results["epochs"]]
    assert len(losses) == 2
    assert made.results["figures"]["train loss"] == losses[-1]
    assert made.results["project"] == {"train_loss": 0.90, "test_loss": 0.89, "style": 44892.40, "content": 127.82}
    assert "44892" in made.page.texts
    captions = [text for text in made.page.texts if text in procedural_images.CLASSES]
    assert {text: captions.count(text) for text in captions} == dict.fromkeys(procedural_images.CLASSES, 3)
    assert len(made.page.curves()) == 2 + 3


@pytest.mark.long
def test_classifier_on_a_folder_and_with_given_weights(capsys, tmp_path: Path):
    data = procedural_images.save_classes(tmp_path / "data", 3)
    (data / "art").rename(data / "<art>")
    made = run(capsys, tmp_path / "out", "classifier", "--data", data, "--epochs", 1, "--crop", 16)
    assert "<art>" in made.page.texts
    given = run(capsys, tmp_path / "given", "classifier", "--weights", EMBEDDED)
    assert "without further training" in given.printed
    assert given.results["epochs"] == []
    assert set(given.results["figures"]) == {"first style loss", "last style loss", "last content loss"}


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:.*matches no network jnst knows")
def test_backbones_with_the_published_layouts(capsys, tmp_path: Path):
    files = []
    for name in ("vgg16", "vgg19", "resnet50"):
        files.append(tmp_path / f"{name}.safetensors")
        save_file(random_state_dict(name, seed=1), files[-1])
    flags = ("--weights", *files, "--pairs", 1, 1, "--low", 0, "--only", "vgg16", "resnet50")
    made = run(capsys, tmp_path / "out", "backbones", *flags, steps=1)
    assert "is left out" not in made.printed
    rows = made.results["rows"]
    assert [row["network"] for row in rows] == ["vgg16", "resnet50"]
    assert made.results["judge"] == "vgg16"
    for row in rows:
        assert np.isfinite([row["style_distance"], row["content_distance"], row["seconds"]]).all()
        assert row["lpips"] is None


@pytest.mark.long
def test_backbones_with_shared_weights(capsys, tmp_path: Path, shared: Path):
    size, low = 40, 32
    flags = ("--shared", shared, "--pairs", 1, 1, "--only", "mini", "--low", low)
    made = run(capsys, tmp_path, "backbones", *flags, size=size)
    rows = made.results["rows"]
    assert [row["size"] for row in rows] == [size, low]
    assert [row["style"] for row in rows] == ["starry_night", "starry_night"]
    assert all(0 < row["lpips"] < 1 for row in rows)
    for name in ("vgg16", "vgg19", "resnet50"):
        start = f"{name} with complete weights is left out ("
        (line,) = [line for line in made.printed.splitlines() if line.startswith(start)]
        assert f"jnst weights fetch {name}" in line
    content = jnst.load_image(shared / "images/content/kodim08_houses_street.png", size=size)
    style = jnst.load_image(shared / "images/style/starry_night.jpg", size=size)
    backbone, params = jnst.load_backbone()
    settings = jnst.preset("jnst", pyramid=None, num_steps=STEPS)
    image = jnst.stylize(content, style, params, backbone=backbone, preset=settings).image
    distances = [
        float(jax.jit(distance, static_argnames="backbone")(image, other, params, backbone=backbone))
        for distance, other in ((jnst.style_distance, style), (jnst.content_distance, content))
    ]
    assert [rows[0]["style_distance"], rows[0]["content_distance"]] == pytest.approx(distances)


def test_layer_weights(capsys, tmp_path: Path, small: Path):
    made = run(capsys, tmp_path, "layer-weights", "--weights", small, "--only", "convnet")
    rows = made.results["rows"]
    assert [row["beta"] for row in rows] == [1, 10, 100, 1000, 10000]
    for row in rows:
        assert sum(row["parts"].values()) == pytest.approx(row["last"], rel=1e-5)
        assert row["parts"].keys() == {"content/relu4_1", *(f"style/conv{block}_1" for block in range(1, 5))}
    assert rows[4]["first"] == pytest.approx(1e4 * rows[0]["first"], rel=1e-4)
    table = made.printed.splitlines()[-1].split()
    assert table == ["project,", "VGG19", "0.0001", "1.105e+07", "2.17e+06", "5.0922", "–", "–"]
    assert len(made.page.curves()) == 6


def test_loss_table(capsys, tmp_path: Path, small: Path):
    made = run(capsys, tmp_path, "loss-table", "--weights", small, "--only", "convnet")
    tables = made.results["tables"]
    assert [table["tv_weight"] for table in tables] == [0, 0, 0, 30, 30, 30]
    assert len({table["style"] for table in tables}) == 3
    for table in tables:
        steps, total, style, content, seconds = np.array(table["rows"]).T
        assert steps.tolist() == [1, 1, 2, 3]
        assert (np.diff(seconds) >= 0).all()
        tv = total - style - content
        assert (np.abs(tv) <= 1e-4 * total).all() if table["tv_weight"] == 0 else (tv > 0).all()
    assert all(peak > 100 for *_, peak in made.results["peak_memory"])
    assert made.printed.count("1.224e+06") == 6
    assert len(made.page.curves()) == 6 * 3


def test_layers(capsys, tmp_path: Path, small: Path):
    made = run(capsys, tmp_path, "layers", "--weights", small, "--only", "convnet")
    rows = made.results["rows"]
    by_choice = {row["style_from"]: row["style"] for row in rows}
    assert by_choice == {
        "first block": ["relu1_1"],
        "last block": ["relu4_1"],
        "every other block": ["relu1_1", "relu3_1"],
    }
    assert len(rows) == 3 * 4
    for row in rows:
        expected = row["content_loss"] + row["style_loss"] / row["alpha_over_beta"]
        assert row["last"] == pytest.approx(expected, rel=1e-5)
    assert len(made.page.curves()) == 3 * 4


def test_seamless(capsys, tmp_path: Path):
    made = run(capsys, tmp_path, "seamless", "--count", 2)
    rows = made.results["rows"]
    assert len(rows) == 2 * 2 * 2 * 2  # textures, with and without, directions, measures
    assert {
        label: sum(row["within"] for row in rows if row["label"] == label) for label in ("seamless", "without")
    } == (made.results["within"])


def test_the_seam_of_a_ring_is_like_its_interior():
    """A sine of whole periods has no seam; one of half a period more has a jump."""
    x = np.arange(64) / 64
    whole, half = (np.sin(2 * np.pi * periods * x)[None, :, None] * np.ones((8, 1, 3)) for periods in (3, 3.25))
    for order in (1, 2):
        assert seam(whole, 1, order)[2]
        assert not seam(half, 1, order)[2]


def test_errors_are_one_line(capsys, tmp_path: Path):
    assert main(["layrs"]) == 2
    assert (
        capsys.readouterr().err == "benchmarks.experiments: error: unknown experiment 'layrs': did you mean layers?\n"
    )
    assert main(["layers", "--only", "vgg", "-o", str(tmp_path)]) == 2
    assert "--only vgg: the networks are mini" in capsys.readouterr().err
    assert main(["layers", "--weights", str(tmp_path / "none.pth")]) == 4
    assert "none.pth" in capsys.readouterr().err
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in EXPERIMENTS)


def test_procedural_images_differ_and_are_reproducible():
    seen = {
        (kind, seed): procedural_images.image(kind, seed) for kind in procedural_images.CLASSES for seed in range(3)
    }
    assert len({image.tobytes() for image in seen.values()}) == 12
    assert all(image.shape == (128, 160, 3) and image.std() > 10 for image in seen.values())
    np.testing.assert_array_equal(procedural_images.image("food", 2), seen["food", 2])


def test_a_contact_sheet_of_noise_becomes_small_enough():
    noise = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
    assert len(small_jpeg(Pillow.fromarray(noise))) < MAX_BYTES
