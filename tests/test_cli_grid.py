"""`jnst grid`: whole catalogues, what is done again and what is not, and what goes wrong in the middle."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import Finished, run
from PIL import Image

import jnst
from jnst.catalogue.journal import Journal, Record
from jnst.cli import main

pytestmark = pytest.mark.usefixtures("unoptimised")

QUICK = ("--size", "24", "--steps", "2", "--optimizer", "adam")
QUICK += ("--content-layers", "relu1_1", "--style-layers", "relu1_1,relu2_1")
"""For all alike, so that programs are compiled once."""
USAGE, PICTURE, NUMBERS = 2, 3, 5
NAMES = [f"{content}__{style}.png" for content in "abc" for style in "xy"]


def save(path: Path, seed: int, width: int = 24, height: int = 18) -> None:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three contents, two styles, and in "out" what becomes of them."""
    folder = tmp_path_factory.mktemp("whole")
    for seed, name in enumerate("abc"):
        save(folder / "contents" / f"{name}.png", seed)
    for seed, name in enumerate("xy"):
        save(folder / "styles" / f"{name}.png", 10 + seed)
    flags = ("--contents", folder / "contents", "--styles", folder / "styles", "-o", folder / "out", *QUICK)
    assert main(["grid", *map(str, flags)]) == 0
    return folder


@pytest.fixture
def again(whole: Path, tmp_path: Path) -> Path:
    """A copy of it to change."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


def grid(capsys: pytest.CaptureFixture[str], folder: Path, *flags: object) -> Finished:
    """Run it on a folder with the fixture's layout."""
    inputs = ("--contents", folder / "contents", "--styles", folder / "styles")
    return run(capsys, "grid", *inputs, "-o", folder / "out", *QUICK, *flags)


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "out").glob("*.png"))}


def made(folder: Path) -> list[str]:
    """The files that were made, one run after the other; "broken" for a line that is no record."""
    path = folder / "out" / "journal-0.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["file"] if line.endswith("}") else "broken" for line in lines]


def index_of(folder: Path, name: str = "out") -> dict[str, Any]:
    return json.loads((folder / name / "index.json").read_text())


def test_every_content_in_every_style(whole: Path):
    assert list(pictures(whole)) == NAMES
    assert len(set(pictures(whole).values())) == 6
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


def test_pictures_are_those_of_single_runs(capsys, whole: Path, tmp_path: Path):
    for name in ("a__x.png", "c__y.png"):
        content, style = (
            whole / kind / f"{part}.png"
            for kind, part in zip(("contents", "styles"), name.removesuffix(".png").split("__"), strict=True)
        )
        finished = run(capsys, "stylize", content, style, "-o", tmp_path / name, *QUICK)
        assert finished.status == 0
        assert (tmp_path / name).read_bytes() == pictures(whole)[name]


def test_nothing_is_done_twice(capsys, again: Path):
    moved = grid(capsys, again)
    assert "0 done, 6 skipped" in moved.out[-1]
    assert {Path(job["content"]).parent for job in index_of(again)["jobs"]} == {again / "contents"}
    before = {path: path.stat().st_mtime_ns for path in (again / "out").iterdir()}
    finished = grid(capsys, again)
    assert finished.status == 0
    assert "0 done, 6 skipped" in finished.out[-1]
    assert "written" not in finished.out[-1]
    assert {path: path.stat().st_mtime_ns for path in (again / "out").iterdir()} == before
    forced = grid(capsys, again, "--force")
    assert "6 done" in forced.out[-1]
    assert made(again) == NAMES * 2


def lose_last_line(folder: Path) -> None:
    journal = folder / "out" / "journal-0.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])


def lose_middle(folder: Path) -> None:
    journal = folder / "out" / "journal-0.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], lines[2][:50] + b"\n", *lines[3:]]))


def alter(folder: Path) -> None:
    path = folder / "out" / "b__x.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        (lose_last_line, ["c__y.png"]),
        (lose_middle, ["b__x.png"]),
        (lambda folder: (folder / "out" / "a__y.png").unlink(), ["a__y.png"]),
        (alter, ["b__x.png"]),
        (lambda folder: (folder / "out" / "journal-0.jsonl").unlink(), NAMES),
    ],
)
def test_what_is_missing_is_done_and_nothing_else(capsys, whole: Path, again: Path, damage, missing: list[str]):
    damage(again)
    before = made(again)
    finished = grid(capsys, again)
    assert finished.status == 0
    assert f"{len(missing)} done" in finished.out[-1]
    assert pictures(again) == pictures(whole)
    assert made(again)[len(before) :] == missing
    assert "0 done, 6 skipped" in grid(capsys, again).out[-1]


def test_what_has_changed_is_done_again(capsys, whole: Path, again: Path):
    save(again / "contents" / "b.png", 77)
    assert "2 done, 4 skipped" in grid(capsys, again).out[-1]
    changed = {name for name, data in pictures(again).items() if data != pictures(whole)[name]}
    assert changed == {"b__x.png", "b__y.png"}
    save(again / "styles" / "x.png", 78)
    assert "3 done, 3 skipped" in grid(capsys, again).out[-1]
    assert "6 done" in grid(capsys, again, "--style-weight", "3").out[-1]
    assert "6 done" in grid(capsys, again).out[-1]
    assert "0 done, 6 skipped" in grid(capsys, again).out[-1]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_catalogue_goes_on_where_it_stopped(capsys, monkeypatch, whole, again, number, status):
    shutil.rmtree(again / "out")
    write = Journal.write

    def write_and_interrupt(journal: Journal, record: Record) -> None:
        write(journal, record)
        if len(made(again)) == 2:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", write_and_interrupt)
        finished = grid(capsys, again)
    assert finished.status == status
    assert made(again) == NAMES[:2]
    assert list(pictures(again)) == NAMES[:2]
    assert index_of(again)["counts"] == {"done": 2, "failed": 0, "missing": 4}
    assert not (again / "out" / "sheet.jpg").exists()
    assert grid(capsys, again).status == 0
    assert made(again) == NAMES
    assert pictures(again) == pictures(whole)
    assert index_of(again)["counts"]["done"] == 6
    assert (again / "out" / "sheet.jpg").exists()


def test_a_second_interruption_leaves_whole_files(capsys, monkeypatch, whole, again):
    shutil.rmtree(again / "out")

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", interrupt)
        assert grid(capsys, again).status == 130
    assert made(again) == []
    assert grid(capsys, again).status == 0
    assert pictures(again) == pictures(whole)
    assert not list((again / "out").glob(".*"))


DAMAGES = {
    "no picture": lambda path: path.write_text("no picture"),
    "half": lambda path: path.write_bytes(path.read_bytes()[:150]),
    "too small": lambda path: Image.new("RGB", (200, 1)).save(path),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_corrupt_picture_is_reported_and_the_rest_is_done(capsys, whole: Path, again: Path, damage: str):
    shutil.rmtree(again / "out")
    DAMAGES[damage](again / "contents" / "b.png")
    finished = grid(capsys, again, "--style-layers", "relu1_1,relu2_1")
    assert finished.status == PICTURE
    assert "4 done, 2 failed" in finished.out[-1]
    failures = [line for line in finished.err if "failed: " in line]
    assert len(failures) == 2
    expected = {name: data for name, data in pictures(whole).items() if not name.startswith("b")}
    assert pictures(again) == expected
    jobs = {job["content"][-5:]: job for job in index_of(again)["jobs"]}
    assert (jobs["b.png"]["status"], jobs["a.png"]["status"]) == ("failed", "done")
    assert jobs["b.png"]["error"] in failures[-1]
    assert "4 skipped" in grid(capsys, again).out[-1]
    shutil.copy(whole / "contents" / "b.png", again / "contents" / "b.png")
    mended = grid(capsys, again)
    assert (mended.status, mended.out[-1].partition(", ")[0][-6:]) == (0, "2 done")
    assert pictures(again) == pictures(whole)


def test_a_loss_that_explodes_is_reported_and_nothing_else_changes(capsys, tmp_path: Path, again: Path):
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


def test_a_sweep_goes_through_its_values(capsys, whole: Path, again: Path):
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


def test_a_manifest_makes_what_its_lines_say(capsys, whole: Path, again: Path):
    lines = [
        {"content": "contents/a.png", "style": "styles/x.png", "output": "one"},
        {"content": "contents/none.png", "style": "styles/x.png"},
        {"content": "contents/b.png", "style": ["styles/x.png", "styles/y.png"], "seed": 3},
    ]
    manifest = again / "jobs.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    finished = run(capsys, "grid", "--manifest", manifest, "-o", again / "listed", *QUICK)
    assert finished.status == PICTURE
    assert "2 done, 1 failed" in finished.out[-1]
    assert (again / "listed" / "one.png").read_bytes() == pictures(whole)["a__x.png"]
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
def test_contents_of_other_shapes(capsys, tmp_path: Path, again: Path, fit: str, shapes: int):
    save(again / "contents" / "b.png", 1, width=48, height=48)
    (again / "contents" / "c.png").unlink()
    shutil.rmtree(again / "out")
    finished = grid(capsys, again, "--fit", fit, "--no-sheet")
    assert finished.status == 0
    sizes = {jnst.load_image(again / "out" / name).shape[:2] for name in pictures(again)}
    assert sizes == ({(18, 24), (24, 24)} if fit == "keep" else {(18, 24)})
    assert index_of(again)["programs"] == shapes
    if fit == "crop":  # equal to what was cropped beforehand, but for the border, where filters see beyond it
        before = jnst.load_image(again / "out" / "b__x.png")
        with Image.open(again / "contents" / "b.png") as picture:
            picture.crop((0, 6, 48, 42)).save(again / "contents" / "b.png")
        assert "2 done, 2 skipped" in grid(capsys, again, "--no-sheet", "--fit", "crop").out[-1]
        after = jnst.load_image(again / "out" / "b__x.png")
        assert np.abs(before - after).mean() < 0.01


def test_files_that_are_no_pictures_are_left_out_with_a_line(capsys, again: Path):
    (again / "contents" / "notes.txt").write_text("x")
    finished = grid(capsys, again)
    assert finished.status == 0
    assert [line for line in finished.err if "left out" in line and "notes.txt" in line]


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (("--contents", "{}/empty"), PICTURE, ("--contents", "empty", "holds no pictures")),
        (("--styles", "{}/none"), PICTURE, ("--styles", "none", "does not exist")),
        (("-o", "{}/contents/a.png"), USAGE, ("--output", "a.png", "cannot be written")),
        (("-o", "{}/contents/a.png/new"), USAGE, ("--output", "new", "cannot be written")),
        (("-o", "{}/contents"), USAGE, ("--contents", "name another")),
        (("--sweep", "style_wieght=1"), USAGE, ("style_wieght", "did you mean", "style_weight")),
        (("--sweep", "style_weight=1,much"), USAGE, ("style_weight=1,much", "'much'", "a number")),
        (("--sweep", "style_weight=1,-1"), USAGE, ("style_weight=-1", "style weight")),
        (("--sweep", "style_layers=relu9_9"), USAGE, ("relu9_9",)),
        (("--style-statistic", "gram", "--sweep", "style_statistic=remd"), USAGE, ("leave that out",)),
        (("--style-weight", "-1"), USAGE, ("style weight", "-1")),
        (("--manifest", "{}/jobs.jsonl"), USAGE, ("--manifest", "--contents", "give one")),
        (("--lanes", "0"), USAGE, ("--lanes 0", "at least 1")),
        (("--quality", "0"), USAGE, ("--quality 0", "1 to 100")),
        (("--fit", "corp"), USAGE, ("corp", "crop")),
        (("--format", "gif"), USAGE, ("gif", "png")),
        (("--process-id", "1"), USAGE, ("--process-id", "--distributed")),
        (("--seed", "-1"), USAGE, ("--seed -1",)),
    ],
)
def test_wrong_use_is_one_line_and_makes_nothing(capsys, again: Path, flags, status: int, words):
    (again / "empty").mkdir()
    shutil.rmtree(again / "out")
    before = sorted(again.rglob("*"))
    finished = grid(capsys, again, *(flag.format(again) for flag in flags))
    assert finished.status == status
    assert finished.out == []
    message = finished.only_error()
    assert all(word in message for word in words), message
    assert sorted(again.rglob("*")) == before


@pytest.mark.parametrize("flags", [(), ("--contents", "x"), ("--styles", "x")])
def test_inputs_must_be_named(capsys, tmp_path: Path, flags):
    finished = run(capsys, "grid", "-o", tmp_path / "out", *flags)
    assert finished.status == USAGE
    assert "--manifest" in finished.only_error()


def test_a_manifest_s_bad_line_is_named_before_anything_is_done(capsys, again: Path):
    lines = [{"content": "contents/a.png", "style": "styles/x.png", "style_weight": weight} for weight in (1, -1)]
    (again / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    finished = run(capsys, "grid", "--manifest", again / "jobs.jsonl", "-o", again / "listed", *QUICK)
    assert finished.status == USAGE
    assert "line 2: style weight -1" in finished.only_error()
    assert not (again / "listed").exists()


def test_progress_is_a_line_for_each_picture(capsys, again: Path):
    shutil.rmtree(again / "out")
    finished = grid(capsys, again)
    lines = [line for line in finished.err if line[0].isdigit()]
    assert [line.split()[:2] for line in lines] == [[f"{n}/6", name] for n, name in enumerate(NAMES, start=1)]
    assert all("left" in line for line in lines[:-1])
    assert "left" not in lines[-1]
    assert jnst.load_image(again / "out" / "sheet.jpg").shape[-1] == 3
