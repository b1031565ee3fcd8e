"""`jnst grid`: the images, the index and the messages of whole catalogues."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runs import run
from grid_runs import NAMES, QUICK, grid, images, index_of, made
from PIL import Image
from small_images import save

import jnst
from jnst.solve import Solution
from jnst.transfer.batches import Batch

pytestmark = pytest.mark.usefixtures("unoptimised")

USAGE, IMAGE, NUMBERS = 2, 3, 5


def test_every_content_in_every_style(whole: Path):
    assert list(images(whole)) == NAMES
    assert len(set(images(whole).values())) == 6
    assert made(whole) == NAMES
    index = index_of(whole)
    assert index["counts"] == {"done": 6, "failed": 0, "missing": 0}
    assert [job["file"] for job in index["jobs"]] == NAMES
    assert index["settings"]["num_steps"] == [2]
    assert index["backbone"]["name"] == "mini"
    assert index["programs"] == 1
    for job in index["jobs"]:
        assert (job["height"], job["width"], job["steps"]) == (18, 24, 2)
        assert job["losses"]["last"] < job["losses"]["first"]
        assert sum(job["parts"].values()) == pytest.approx(job["losses"]["last"], rel=1e-5)
    assert (whole / "out" / "sheet.jpg").exists()


OTHER_SETTINGS = ("--no-pyramid", "--style-scale", "1.5", "--init", "noise", "--seed", "5", "--keep-color", "match")


@pytest.mark.parametrize("flags", [(), OTHER_SETTINGS])
def test_images_equal_those_of_single_runs(capsys, whole: Path, tmp_path: Path, flags: tuple[str, ...]):
    content, style = whole / "contents" / "a.png", whole / "styles" / "y.png"
    alone = run(capsys, "stylize", content, style, "-o", tmp_path / "alone.png", *QUICK, *flags)
    assert alone.status == 0
    many = run(capsys, "grid", "--contents", content, "--styles", style, "-o", tmp_path / "many", *QUICK, *flags)
    assert many.status == 0
    data = (tmp_path / "many" / "a__y.png").read_bytes()
    assert data == (tmp_path / "alone.png").read_bytes()
    assert (data == images(whole)["a__y.png"]) == (flags == ())


def test_a_sweep_makes_an_image_for_each_value(capsys, whole: Path, again: Path):
    contents, styles = again / "contents" / "a.png", again / "styles" / "y.png"
    flags = ("--contents", contents, "--styles", styles, "-o", again / "swept", *QUICK, "--no-sheet")
    sweeps = ("--sweep", "style_weight=100,1", "--sweep", "seed=0,7")
    finished = run(capsys, "grid", *flags, *sweeps, "--format", "webp", "--quality", "100")
    assert finished.status == 0
    names = {f"a__y__style_weight={weight}__seed={seed}.webp" for weight in (100, 1) for seed in (0, 7)}
    assert {path.name for path in (again / "swept").glob("*.webp")} == names
    assert not list((again / "swept").glob("sheet*"))
    assert index_of(again, "swept")["programs"] == 1
    losses = {job["changes"]["style_weight"]: job["losses"] for job in index_of(again, "swept")["jobs"]}
    plain = next(job for job in index_of(whole)["jobs"] if job["file"] == "a__y.png")
    assert losses[100.0] == plain["losses"]
    assert losses[1.0]["first"] == pytest.approx(plain["losses"]["first"] / 100, rel=1e-4)
    assert "4 done" in run(capsys, "grid", *flags, *sweeps, "--format", "webp", "--quality", "90").out[-1]


def test_a_manifest_makes_an_image_for_each_line(capsys, whole: Path, again: Path):
    lines = [
        {"content": "contents/a.png", "style": "styles/x.png", "output": "one"},
        {"content": "contents/none.png", "style": "styles/x.png"},
        {"content": "contents/b.png", "style": ["styles/x.png", "styles/y.png"], "seed": 3},
    ]
    manifest = again / "jobs.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    finished = run(capsys, "grid", "--manifest", manifest, "-o", again / "listed", *QUICK)
    assert finished.status == IMAGE
    assert "2 done, 1 failed" in finished.out[-1]
    assert (again / "listed" / "one.png").read_bytes() == images(whole)["a__x.png"]
    mixture = again / "listed" / "b__x+y__seed=3.png"
    alone = run(
        capsys,
        "stylize",
        again / "contents/b.png",
        again / "styles/x.png",
        again / "styles/y.png",
        *QUICK,
        "-o",
        again / "mixture.png",
        "--seed",
        "3",
    )
    assert alone.status == 0
    assert mixture.read_bytes() == (again / "mixture.png").read_bytes()


@pytest.mark.parametrize(("fit", "shapes"), [("keep", 2), ("crop", 1), ("resize", 1)])
def test_contents_of_different_shapes(capsys, tmp_path: Path, again: Path, fit: str, shapes: int):
    save(again / "contents" / "b.png", 1, width=48, height=48)
    (again / "contents" / "c.png").unlink()
    shutil.rmtree(again / "out")
    finished = grid(capsys, again, "--fit", fit, "--no-sheet")
    assert finished.status == 0
    sizes = {jnst.load_image(again / "out" / name).shape[:2] for name in images(again)}
    assert sizes == ({(18, 24), (24, 24)} if fit == "keep" else {(18, 24)})
    assert index_of(again)["programs"] == shapes
    if fit == "crop":  # equal to what was cropped beforehand, but for the border, where filters see beyond it
        before = jnst.load_image(again / "out" / "b__x.png")
        with Image.open(again / "contents" / "b.png") as image:
            image.crop((0, 6, 48, 42)).save(again / "contents" / "b.png")
        assert "2 done, 2 skipped" in grid(capsys, again, "--no-sheet", "--fit", "crop").out[-1]
        after = jnst.load_image(again / "out" / "b__x.png")
        assert np.abs(before - after).mean() < 0.01


def test_a_loss_that_explodes_is_reported_and_changes_no_other_image(capsys, tmp_path: Path, again: Path):
    flags = ("--contents", again / "contents" / "a.png", "--styles", again / "styles", *QUICK, "--no-clamp")
    rates = ("--sweep", "learning_rate=1,1e30")
    finished = run(capsys, "grid", *flags, *rates, "--steps", "3", "-o", tmp_path / "bad", "--init", "style")
    assert finished.status == NUMBERS
    assert "2 done, 2 failed" in finished.out[-1]
    for job in index_of(tmp_path, "bad")["jobs"]:
        explodes = job["changes"]["learning_rate"] == 1e30
        assert job["status"] == ("failed" if explodes else "done")
        assert ("stopped being finite" in (job["error"] or "")) == explodes
    sound = run(
        capsys, "grid", *flags, "--sweep", "learning_rate=1", "--steps", "3", "-o", tmp_path / "good", "--init", "style"
    )
    assert sound.status == 0
    for name in ("a__x__learning_rate=1.png", "a__y__learning_rate=1.png"):
        assert (tmp_path / "bad" / name).read_bytes() == (tmp_path / "good" / name).read_bytes()


def test_files_that_are_not_images_are_skipped_with_a_message(capsys, again: Path):
    (again / "contents" / "notes.txt").write_text("x")
    finished = grid(capsys, again)
    assert finished.status == 0
    assert [line for line in finished.err if "skipped" in line and "notes.txt" in line]


def test_progress_is_one_line_per_image(capsys, again: Path):
    shutil.rmtree(again / "out")
    finished = grid(capsys, again)
    lines = [line for line in finished.err if line[0].isdigit()]
    assert [line.split()[:2] for line in lines] == [[f"{n}/6", name] for n, name in enumerate(NAMES, start=1)]
    assert all("left" in line for line in lines[:-1])
    assert "left" not in lines[-1]
    assert jnst.load_image(again / "out" / "sheet.jpg").shape[-1] == 3


def test_a_loss_that_is_never_finite_leaves_no_image(capsys, monkeypatch, tmp_path: Path, again: Path):
    def explode(jobs, params, **arguments):
        for number, job in enumerate(jobs):
            nan = np.array([[np.nan]])
            image = job.inputs.content[None]
            yield Batch((number,), Solution(image, nan, {"style/relu1_1": nan}, np.array([1]), np.array([False])))

    monkeypatch.setattr("jnst.apps.catalogue.work.solve_jobs", explode)
    finished = run(
        capsys, "grid", "--contents", again / "contents", "--styles", again / "styles", "-o", tmp_path / "bad"
    )
    assert finished.status == NUMBERS
    assert not list((tmp_path / "bad").glob("*.png"))
    for job in index_of(tmp_path, "bad")["jobs"]:
        assert (job["file"], job["status"], job["losses"]["first"]) == (None, "failed", None)
