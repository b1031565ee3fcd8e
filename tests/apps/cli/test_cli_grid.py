"""`jnst grid`: errors are reported before anything is made."""

import json
from pathlib import Path

import pytest
from cli_runs import run
from grid_runs import QUICK, grid, save_inputs
from small_images import save

pytestmark = pytest.mark.usefixtures("unoptimised")

USAGE, IMAGE, NUMBERS = 2, 3, 5


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    save_inputs(tmp_path)
    save(tmp_path / "made" / "a__x.png", 20)
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (("--contents", "{}/empty"), IMAGE, ("--contents", "empty", "contains no images")),
        (("--styles", "{}/none"), IMAGE, ("--styles", "none", "does not exist")),
        (("-o", "{}/contents/a.png"), USAGE, ("--output", "a.png", "cannot be written")),
        (("-o", "{}/contents/a.png/new"), USAGE, ("--output", "new", "cannot be written")),
        (("--styles", "{}/styles/x.png", "{}/made/a__x.png", "-o", "{}/made"), USAGE, ("a__x.png", "replace an input")),
        (("-o", "{}/contents"), USAGE, ("--contents", "name another")),
        (("--sweep", "style_wieght=1"), USAGE, ("style_wieght", "did you mean", "style_weight")),
        (("--sweep", "style_weight=1,much"), USAGE, ("style_weight=1,much", "'much'", "a number")),
        (("--sweep", "style_weight=1,-1"), USAGE, ("style_weight=-1", "style weight")),
        (("--sweep", "keep_color=lumnance"), USAGE, ("keep_color=lumnance", "did you mean luminance")),
        (("--sweep", "style_layers=relu9_9"), USAGE, ("relu9_9",)),
        (("--style-statistic", "gram", "--sweep", "style_statistic=remd"), USAGE, ("leave --style-statistic out",)),
        (("--style-weight", "-1"), USAGE, ("style weight", "-1")),
        (("--manifest", "{}/jobs.jsonl"), USAGE, ("--manifest", "--contents", "give one or the other")),
        (("--batch-size", "0"), USAGE, ("--batch-size 0", "at least 1")),
        (("--quality", "0"), USAGE, ("--quality 0", "1 to 100")),
        (("--fit", "corp"), USAGE, ("corp", "crop")),
        (("--format", "gif"), USAGE, ("gif", "png")),
        (("--gpus-per-task", "1"), USAGE, ("--gpus-per-task", "add --ray")),
        (("--ray", "--cpus-per-task", "0"), USAGE, ("--cpus-per-task 0", "more than 0")),
        (("--ray", "--gpus-per-task", "-1"), USAGE, ("--gpus-per-task -1", "whole number")),
        (("--ray", "--gpus-per-task", "1.5"), USAGE, ("--gpus-per-task 1.5", "whole number")),
        (("--ray", "--gpus-per-task", "0", "--device", "gpu"), USAGE, ("--gpus-per-task 0", "--device gpu")),
        (("--ray", "a:1", "b:1"), USAGE, ("--ray a:1 b:1", "one address")),
        (("--seed", "-1"), USAGE, ("--seed -1",)),
    ],
)
def test_wrong_usage_is_reported_in_one_line_and_makes_nothing(capsys, inputs: Path, flags, status: int, words):
    (inputs / "empty").mkdir()
    before = sorted(inputs.rglob("*"))
    finished = grid(capsys, inputs, *(flag.format(inputs) for flag in flags))
    assert finished.status == status
    assert finished.out == []
    message = finished.only_error()
    assert all(word in message for word in words), message
    assert sorted(inputs.rglob("*")) == before


@pytest.mark.parametrize("flags", [(), ("--contents", "x"), ("--styles", "x")])
def test_inputs_are_required(capsys, tmp_path: Path, flags):
    finished = run(capsys, "grid", "-o", tmp_path / "out", *flags)
    assert finished.status == USAGE
    assert "--manifest" in finished.only_error()


def test_a_bad_line_of_a_manifest_is_named_before_anything_is_made(capsys, inputs: Path):
    lines = [{"content": "contents/a.png", "style": "styles/x.png", "style_weight": weight} for weight in (1, -1)]
    (inputs / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    finished = run(capsys, "grid", "--manifest", inputs / "jobs.jsonl", "-o", inputs / "listed", *QUICK)
    assert finished.status == USAGE
    assert "line 2: style weight -1" in finished.only_error()
    assert not (inputs / "listed").exists()
