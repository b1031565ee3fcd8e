"""`--checkpoint`, `--checkpoint-every` and `--resume`: a command continues as if it had never been interrupted."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import Finished, run
from contracts import random_params
from small_images import save

import jnst
from jnst.apps.cli.checkpointing import Keeper
from jnst.weights import Weights, save_weights

pytestmark = pytest.mark.usefixtures("unoptimised")
FLAGS = ("--content-layers", "conv1_1", "--style-layers", "relu1_1", "--size", 24, "--pyramid", "--min-size", 6)
FLAGS += ("--optimizer", "adam", "--steps", "3,2", "--log", "run.jsonl", "--checkpoint", "run.ckpt")
STEPS = 7
"""3, 2 and 2 at three sizes."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    backbone = jnst.make_backbone("convnet", widths="4")
    tree = random_params(backbone)
    params = {f"{layer}/{name}": np.asarray(leaf) for layer, leaves in tree.items() for name, leaf in leaves.items()}
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, Weights("convnet", params, backbone.preprocessing, "test", "none", "MIT", {"widths": "4"}))
    return path


Command = Callable[..., Finished]


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Run `jnst stylize` in a temporary folder."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "content.png", 1, 24, 20)
    save(tmp_path / "style.png", 2)
    words = ("stylize", "content.png", "style.png", "-o", "out.png", "--weights", weights)
    return lambda *flags: run(capsys, *words, *FLAGS, *flags)


class Stopped(Exception):
    """Stands for a process that is killed."""


def run_up_to(command: Command, monkeypatch: pytest.MonkeyPatch, step: int, *flags: object) -> None:
    """Run until a step is reported, then stop without any ceremony."""
    listen = Keeper.listen

    def stop(keeper: Keeper, report: Any) -> Any:
        whole = listen(keeper, report)
        if report.first == step:
            raise Stopped
        return whole

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "listen", stop)
        with pytest.raises(Stopped):
            command("--checkpoint-every", 1, *flags)


def logged(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def last_line(finished: Finished) -> str:
    return re.sub("[0-9.]+ s$", "", finished.out[-1])


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_a_resumed_command_ends_like_an_uninterrupted_one(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: int
) -> None:
    whole = command("--report")
    expected = (tmp_path / "out.png").read_bytes(), logged(tmp_path), jnst.load_state("run.ckpt")
    table = _losses((tmp_path / "out.html").read_text())
    assert len(expected[1]) == STEPS
    for name in ("out.png", "run.ckpt", "run.jsonl", "out.html"):
        (tmp_path / name).unlink()
    run_up_to(command, monkeypatch, step)
    assert not (tmp_path / "out.png").exists()
    resumed = command("--resume", "--report")
    assert resumed.status == 0
    assert f"jnst: continuing from 'run.ckpt' after step {step}" in resumed.err
    assert resumed.out[0] == whole.out[0]
    assert (tmp_path / "out.png").read_bytes() == expected[0]
    assert logged(tmp_path) == expected[1]
    assert _losses((tmp_path / "out.html").read_text()) == table
    state = jnst.load_state("run.ckpt")
    assert all(np.array_equal(leaf, expected[2].leaves[name]) for name, leaf in state.leaves.items())
    seconds = state.records["seconds"]
    assert (np.diff(seconds) >= 0).all()


def _losses(page: str) -> list[str]:
    """The rows of the report's table of losses."""
    return re.findall(r"<tr>.*?</tr>", page.partition("first")[2].partition("</table>")[0], re.DOTALL)


def test_the_same_command_can_be_repeated_until_it_has_finished(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_up_to(command, monkeypatch, 2, "--resume")
    run_up_to(command, monkeypatch, 5, "--resume")
    first = command("--resume")
    image = (tmp_path / "out.png").read_bytes()
    (tmp_path / "out.png").unlink()
    again = command("--resume")
    assert last_line(again) == last_line(first)
    assert not any(line.startswith("step ") for line in again.err)
    assert (tmp_path / "out.png").read_bytes() == image
    assert len(logged(tmp_path)) == STEPS


def test_without_a_checkpoint_it_starts_and_says_so(command: Command) -> None:
    assert "jnst: no checkpoint 'run.ckpt' yet: starting" in command("--resume").err


def test_a_checkpoint_is_not_overwritten_unless_forced(command: Command, tmp_path: Path) -> None:
    command()
    before = (tmp_path / "run.ckpt").read_bytes()
    refused = command()
    assert refused.status == 2
    assert "--checkpoint run.ckpt exists: choose another name, --resume to continue from it" in refused.only_error()
    assert (tmp_path / "run.ckpt").read_bytes() == before
    (tmp_path / "run.ckpt").rename(tmp_path / "run.ckpt.previous")
    assert "there is run.ckpt.previous: --resume from it, or --force to overwrite it" in command().only_error()
    assert command("--force").status == 0
    assert command("--force", "--seed", 3).status == 0


def test_a_checkpoint_of_another_configuration_is_refused_with_the_difference(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_up_to(command, monkeypatch, 4)
    before = (tmp_path / "run.ckpt").read_bytes()
    for flags, difference in (
        (("--style-weight", 7), r"style_weight was [0-9.]+, is now 7\.0"),
        (("--learning-rate", 3), r"optimizer\.learning_rate was null, is now 3\.0"),
        (("--seed", 1), "seed was 0, is now 1"),
        (("--style-scale", 2), r"style_scale was 1\.0, is now 2\.0"),
        (("--pooling", "avg"), r"pooling was null, is now \"avg\"; params was \"[0-9a-f]{64}\", is now"),
        (("--steps", "4,2"), "steps at size 1 were 3, are now 4"),
        (("--steps", "3,0"), "steps at size 2 were 1, are now 0"),
        (("--init", "style.png"), 'init was "content", is now "[0-9a-f]{64}"'),
    ):
        refused = command("--resume", *flags)
        assert refused.status == 2
        line = refused.err[-1]
        pattern = rf"^jnst: error: checkpoint 'run\.ckpt' belongs to another run \(.*{difference}.*\): use"
        assert re.search(pattern, line), line
    save(tmp_path / "style.png", 5)
    assert re.search(r'\(style was \["[0-9a-f]{64}"\], is now \["[0-9a-f]{64}"\]\)', command("--resume").err[-1])
    assert (tmp_path / "run.ckpt").read_bytes() == before


def test_more_steps_can_be_asked_for_but_not_fewer(command: Command, tmp_path: Path) -> None:
    whole = command("--steps", "3,2,4")
    image, lines = (tmp_path / "out.png").read_bytes(), logged(tmp_path)
    (tmp_path / "run.ckpt").unlink()
    command()
    assert last_line(command("--resume", "--steps", "3,2,4")) == last_line(whole)
    assert (tmp_path / "out.png").read_bytes() == image
    assert logged(tmp_path) == lines
    assert "steps at size 3 were 4, are now 2" in command("--resume").err[-1]


def test_the_previous_checkpoint_is_used_if_one_is_damaged(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command()
    expected = (tmp_path / "out.png").read_bytes()
    (tmp_path / "run.ckpt").unlink()
    run_up_to(command, monkeypatch, 4)
    content = (tmp_path / "run.ckpt").read_bytes()
    (tmp_path / "run.ckpt").write_bytes(content[:-9])
    resumed = command("--resume")
    (warning,) = (line for line in resumed.err if "cannot be read" in line)
    assert re.fullmatch(
        r"jnst: checkpoint 'run\.ckpt' cannot be read \(.*\); continuing from .*run\.ckpt\.previous'", warning
    )
    assert "jnst: continuing from 'run.ckpt' after step 3" in resumed.err
    assert (tmp_path / "out.png").read_bytes() == expected
    for name in ("run.ckpt", "run.ckpt.previous"):
        (tmp_path / name).write_bytes(content[:-9])
    assert "neither can the one before" in command("--resume").err[-1]


def test_a_full_disk_during_the_run_does_not_end_it(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise jnst.ResourceError("'run.ckpt' could not be written (No space left on device): free some space")

    monkeypatch.setattr("jnst.apps.cli.checkpointing.save_state", refuse)
    finished = command("--checkpoint-every", 2)
    assert finished.status == 6
    assert sum(line.startswith("jnst: no checkpoint: 'run.ckpt' could not") for line in finished.err) == STEPS // 2
    assert jnst.load_image(tmp_path / "out.png").shape == (20, 24, 3)


def test_losses_that_are_not_finite_leave_the_last_good_checkpoint(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_up_to(command, monkeypatch, 1, "--learning-rate", 1e18)
    before = (tmp_path / "run.ckpt").read_bytes()
    finished = command("--resume", "--learning-rate", 1e18)
    assert finished.status == 5
    assert "stopped being finite at step 2" in finished.err[-1]
    assert (tmp_path / "run.ckpt").read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--checkpoint-every", 0), "--checkpoint-every 0: expected a number of steps, at least 1"),
        (("--checkpoint", "out.png"), "--checkpoint out.png is also a file that is read or written otherwise"),
        (("--checkpoint", "content.png", "--resume"), "--checkpoint content.png is also a file"),
        (("--checkpoint", "run.jsonl", "--force"), "--checkpoint run.jsonl is also a file"),
        (("--checkpoint", "."), r"--checkpoint \.: is not a regular file"),
        (("--checkpoint", "none/run.ckpt"), "--checkpoint none/run.ckpt: its folder cannot be written to"),
    ],
)
def test_wrong_flags_are_refused_before_the_run(command: Command, flags: tuple[object, ...], said: str) -> None:
    refused = command(*flags)
    assert refused.status == 2
    assert re.search(said, refused.only_error())


def test_flags_that_need_a_file_say_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    image = save(tmp_path / "content.png", 1)
    for flags in (("--resume",), ("--checkpoint-every", 3)):
        refused = run(capsys, "stylize", image, image, "-o", tmp_path / "out.png", *flags)
        assert f"{flags[0]} without --checkpoint: expected a file" in refused.only_error()


@pytest.mark.parametrize("name", ["synthesize", "reconstruct"])
def test_textures_and_reconstructions_continue_too(
    name: str, capsys: pytest.CaptureFixture[str], weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "image.png", 1, 24, 20)
    layers = {"synthesize": "--style-layers", "reconstruct": "--content-layers"}[name]
    words = (name, "image.png", "-o", "out.png", "--weights", weights, layers, "relu1_1", "--size", 16, "--steps", 4)

    def command(*flags: object) -> Finished:
        return run(capsys, *words, "--checkpoint", "run.ckpt", *flags)

    command("--seed", 2)
    expected = (tmp_path / "out.png").read_bytes()
    (tmp_path / "run.ckpt").unlink()
    run_up_to(command, monkeypatch, 2, "--seed", 2)
    assert "jnst: continuing from 'run.ckpt' after step 2" in command("--resume", "--seed", 2).err
    assert (tmp_path / "out.png").read_bytes() == expected
