"""`jnst grid` a second time: what is made again and what is not, after changes, damage and interruptions."""

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from grid_runs import NAMES, grid, images, index_of, made
from PIL import Image
from small_images import save

from jnst.apps.catalogue import work
from jnst.apps.catalogue.journal import Journal, Record
from jnst.apps.io.sizes import LoadOptions, load_with
from jnst.errors import ResourceError
from jnst.weights.files import write_atomically

pytestmark = pytest.mark.usefixtures("unoptimised")

USAGE, IMAGE, NUMBERS, RESOURCES = 2, 3, 5, 6


def test_nothing_is_made_twice(capsys, again: Path):
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
    journal = folder / "out" / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-40])


def lose_middle(folder: Path) -> None:
    journal = folder / "out" / "journal.jsonl"
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
        (lambda folder: (folder / "out" / "journal.jsonl").unlink(), NAMES),
    ],
)
def test_only_what_is_missing_is_made(capsys, whole: Path, again: Path, damage, missing: list[str]):
    damage(again)
    before = made(again)
    finished = grid(capsys, again)
    assert finished.status == 0
    assert f"{len(missing)} done" in finished.out[-1]
    assert images(again) == images(whole)
    assert made(again)[len(before) :] == missing
    assert "0 done, 6 skipped" in grid(capsys, again).out[-1]


def test_images_of_changed_inputs_are_made_again(capsys, whole: Path, again: Path):
    save(again / "contents" / "b.png", 77)
    assert "2 done, 4 skipped" in grid(capsys, again).out[-1]
    changed = {name for name, data in images(again).items() if data != images(whole)[name]}
    assert changed == {"b__x.png", "b__y.png"}
    save(again / "styles" / "x.png", 78)
    assert "3 done, 3 skipped" in grid(capsys, again).out[-1]
    assert "6 done" in grid(capsys, again, "--style-weight", "3").out[-1]
    assert "6 done" in grid(capsys, again).out[-1]
    assert "0 done, 6 skipped" in grid(capsys, again).out[-1]


@pytest.fixture
def interrupted(monkeypatch):
    """A context in which a signal arrives when so many images have been made."""

    @contextlib.contextmanager
    def interrupt(folder: Path, count: int, number: int) -> Iterator[None]:
        write = Journal.write

        def write_and_interrupt(journal: Journal, record: Record) -> None:
            write(journal, record)
            if len(made(folder)) == count:
                signal.raise_signal(number)

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "write", write_and_interrupt)
            yield

    return interrupt


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_catalogue_continues_where_it_stopped(capsys, interrupted, whole, again, number, status):
    shutil.rmtree(again / "out")
    with interrupted(again, 2, number):
        finished = grid(capsys, again)
    assert finished.status == status
    assert "2 done" in finished.out[-1]
    assert "stopped before the end" in finished.out[-1]
    assert made(again) == NAMES[:2]
    assert list(images(again)) == NAMES[:2]
    assert index_of(again)["counts"] == {"done": 2, "failed": 0, "missing": 4}
    assert not (again / "out" / "sheet.jpg").exists()
    assert grid(capsys, again).status == 0
    assert made(again) == NAMES
    assert images(again) == images(whole)
    assert index_of(again)["counts"]["done"] == 6
    assert (again / "out" / "sheet.jpg").exists()


def test_images_of_other_settings_are_missing_from_the_index(capsys, interrupted, again: Path):
    with interrupted(again, 7, signal.SIGINT):
        assert grid(capsys, again, "--style-weight", "3").status == 130
    assert made(again) == [*NAMES, NAMES[0]]
    assert index_of(again)["counts"] == {"done": 1, "failed": 0, "missing": 5}
    assert [job["file"] for job in index_of(again)["jobs"]] == [NAMES[0], *[None] * 5]


def test_all_images_depend_on_the_first_content_s_proportions(capsys, again: Path):
    assert "6 done" in grid(capsys, again, "--fit", "resize", "--no-sheet").out[-1]
    assert "6 skipped" in grid(capsys, again, "--fit", "resize", "--no-sheet").out[-1]
    save(again / "contents" / "a.png", 0, width=24, height=24)
    assert "6 done" in grid(capsys, again, "--fit", "resize", "--no-sheet").out[-1]


def test_a_second_interruption_leaves_only_complete_files(capsys, monkeypatch, whole, again):
    shutil.rmtree(again / "out")

    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", interrupt)
        assert grid(capsys, again).status == 130
    assert made(again) == []
    assert grid(capsys, again).status == 0
    assert images(again) == images(whole)
    assert not list((again / "out").glob(".*"))


def test_a_job_too_large_for_memory_is_recorded_and_the_rest_is_made(capsys, monkeypatch, whole, again):
    shutil.rmtree(again / "out")

    def load(path: Path, options: LoadOptions) -> object:
        if path.name == "b.png":
            raise MemoryError
        return load_with(path, options)

    with monkeypatch.context() as patch:
        patch.setattr(work, "load_with", load)
        finished = grid(capsys, again, "--no-sheet")
    assert finished.status == RESOURCES
    assert "4 done, 2 failed" in finished.out[-1]
    assert "memory ran out" in index_of(again)["jobs"][2]["error"]
    assert grid(capsys, again).status == 0
    assert images(again) == images(whole)


def test_a_full_disk_ends_the_command(capsys, monkeypatch, whole, again):
    shutil.rmtree(again / "out")

    def write(path: Path, data: bytes) -> None:
        if path.name == NAMES[2]:
            raise ResourceError("no space left")
        write_atomically(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(work, "write_atomically", write)
        finished = grid(capsys, again)
    assert finished.status == RESOURCES
    assert "no space left" in finished.err[-1]
    assert made(again) == NAMES[:2]
    assert grid(capsys, again).status == 0
    assert images(again) == images(whole)


DAMAGES = {
    "no image": lambda path: path.write_text("no image"),
    "half": lambda path: path.write_bytes(path.read_bytes()[:150]),
    "too small": lambda path: Image.new("RGB", (200, 1)).save(path),
}


@pytest.mark.parametrize(
    ("damage", "damaged"),
    [*((damage, "contents/b.png") for damage in DAMAGES), ("no image", "styles/x.png"), ("half", "styles/x.png")],
)
def test_a_corrupt_image_is_reported_and_the_rest_is_made(capsys, whole: Path, again: Path, damage: str, damaged: str):
    shutil.rmtree(again / "out")
    DAMAGES[damage](again / damaged)
    hit = [name for name in NAMES if Path(damaged).stem in name.removesuffix(".png").split("__")]
    finished = grid(capsys, again)
    assert finished.status == IMAGE
    assert f"{6 - len(hit)} done, {len(hit)} failed" in finished.out[-1]
    failures = [line for line in finished.err if "failed: " in line]
    assert len(failures) == len(hit)
    assert images(again) == {name: data for name, data in images(whole).items() if name not in hit}
    jobs = dict(zip(NAMES, index_of(again)["jobs"], strict=True))
    assert [name for name, job in jobs.items() if job["status"] == "failed"] == hit
    assert all(any(jobs[name]["error"] in line for line in failures) for name in hit)
    assert f"0 done, {6 - len(hit)} skipped (done before), {len(hit)} failed" in grid(capsys, again).out[-1]
    shutil.copy(whole / damaged, again / damaged)
    mended = grid(capsys, again)
    assert mended.status == 0
    assert f"{len(hit)} done" in mended.out[-1]
    assert images(again) == images(whole)
