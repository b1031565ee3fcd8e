"""Training a classifier: it learns, is deterministic, resumes exactly and refuses other runs' checkpoints."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts import many_devices
from small_runs import BACKBONE, SHORT, assert_same, without_seconds

from jnst.apps.training.classifier import Settings, Trained, evaluate_step, train_classifier
from jnst.apps.training.data import Dataset, held_out_batches
from jnst.backbones import make_backbone
from jnst.errors import JnstError, NumericsError

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.fixture(scope="module")
def short(dataset: Dataset) -> Trained:
    """Three epochs without an interruption."""
    return train_classifier(dataset, BACKBONE, SHORT)


def test_it_learns(dataset: Dataset) -> None:
    """72 images in 4 classes: guessing would classify 0.25 of the 24 held-out images correctly."""
    steps: list[tuple[int, int, int]] = []
    settings = Settings(epochs=12, batch_size=8, size=24, learning_rate=3e-3, schedule="cosine")
    trained = train_classifier(
        dataset, make_backbone("convnet"), settings, on_step=lambda *numbers: steps.append(numbers)
    )
    history = trained.history
    assert [epoch.epoch for epoch in history] == list(range(1, 13))
    assert steps == [(epoch, step, 9) for epoch in range(1, 13) for step in range(1, 10)]
    assert history[-1].test_accuracy >= 0.8
    assert history[-1].train_loss < 0.5 * history[0].train_loss
    assert history[-1].test_loss < 0.7 * math.log(4)


def test_the_history_matches_the_parameters(dataset: Dataset, short: Trained) -> None:
    (batch,) = held_out_batches(dataset, batch_size=24, size=16)
    sums = evaluate_step(short.params, batch, backbone=BACKBONE)
    assert short.history[-1].test_loss == pytest.approx(float(sums.loss) / 24, rel=1e-5)
    assert short.history[-1].test_accuracy == pytest.approx(float(sums.correct) / 24)


def test_runs_with_the_same_seed_are_identical(dataset: Dataset, short: Trained) -> None:
    again = train_classifier(dataset, BACKBONE, SHORT)
    assert_same(again.params, short.params)
    assert without_seconds(again.history) == without_seconds(short.history)
    other = train_classifier(dataset, BACKBONE, dataclasses.replace(SHORT, seed=1, epochs=1))
    assert other.history[0].train_loss != short.history[0].train_loss


class Stopped(Exception):
    """Stands for the end of the program."""


def stop_at(*moment: int) -> Any:
    def on_step(epoch: int, step: int, steps: int) -> None:
        if (epoch, step) == moment:
            raise Stopped

    return on_step


@pytest.fixture
def interrupted(dataset: Dataset, tmp_path: Path) -> Path:
    """The checkpoint of a run that stopped in the middle of its third epoch."""
    path = tmp_path / "run.ckpt"
    with pytest.raises(Stopped):
        train_classifier(dataset, BACKBONE, SHORT, checkpoint=path, on_step=stop_at(3, 2))
    return path


def test_a_resumed_run_equals_an_uninterrupted_one(dataset: Dataset, short: Trained, interrupted: Path) -> None:
    resumed = train_classifier(dataset, BACKBONE, SHORT, checkpoint=interrupted, resume=True)
    assert_same(resumed.params, short.params)
    assert without_seconds(resumed.history) == without_seconds(short.history)
    finished = train_classifier(dataset, BACKBONE, SHORT, checkpoint=interrupted, resume=True)
    assert_same(finished.params, short.params)
    assert finished.history == resumed.history
    assert sorted(path.name for path in interrupted.parent.iterdir()) == ["run.ckpt", "run.ckpt.previous"]


def test_the_previous_checkpoint_replaces_a_damaged_one(dataset: Dataset, short: Trained, interrupted: Path) -> None:
    interrupted.write_bytes(interrupted.read_bytes()[:-100])
    with pytest.warns(
        UserWarning, match=r"run\.ckpt' cannot be read .*continuing from the one before, '.*run\.ckpt\.previous'"
    ):
        resumed = train_classifier(dataset, BACKBONE, SHORT, checkpoint=interrupted, resume=True)
    assert_same(resumed.params, short.params)


def test_a_resumed_run_can_have_more_epochs(dataset: Dataset, short: Trained, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    train_classifier(dataset, BACKBONE, dataclasses.replace(SHORT, epochs=1), checkpoint=path)
    assert_same(train_classifier(dataset, BACKBONE, SHORT, checkpoint=path, resume=True).params, short.params)
    with pytest.raises(JnstError, match="already has 3 epochs, but only 2 were requested"):
        train_classifier(dataset, BACKBONE, dataclasses.replace(SHORT, epochs=2), checkpoint=path, resume=True)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"batch_size": 4}, "batch_size was 8, is now 4"),
        ({"schedule": "cosine"}, 'schedule was "constant", is now "cosine"'),
        ({"seed": 1}, "seed was 0, is now 1"),
        ({"dtype": "bfloat16"}, 'dtype was "float32", is now "bfloat16"'),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(
    dataset: Dataset, interrupted: Path, changes: dict[str, Any], difference: str
) -> None:
    before = interrupted.read_bytes()
    with pytest.raises(JnstError, match=f"belongs to another run .*{difference}") as caught:
        train_classifier(dataset, BACKBONE, dataclasses.replace(SHORT, **changes), checkpoint=interrupted, resume=True)
    assert "\n" not in str(caught.value)
    assert interrupted.read_bytes() == before


def test_a_checkpoint_of_another_network_or_other_images_is_refused(dataset: Dataset, interrupted: Path) -> None:
    with pytest.raises(JnstError, match=r"widths was \[\[4\], \[8\]\], is now \[\[4\], \[9\]\]\)"):
        train_classifier(dataset, make_backbone("convnet", widths="4/9"), SHORT, checkpoint=interrupted, resume=True)
    renamed = dataclasses.replace(dataset, classes=("a", "b", "c", "d"))
    with pytest.raises(JnstError, match=r'classes was \["checks", "dots", .*, is now \["a", "b"'):
        train_classifier(renamed, BACKBONE, SHORT, checkpoint=interrupted, resume=True)
    changed = dataclasses.replace(dataset, fingerprint="0")
    with pytest.raises(JnstError, match=r'images was "[0-9a-f]{16}", is now "0"'):
        train_classifier(changed, BACKBONE, SHORT, checkpoint=interrupted, resume=True)


def test_a_cosine_schedule_fixes_the_number_of_epochs(dataset: Dataset, tmp_path: Path) -> None:
    settings = dataclasses.replace(SHORT, schedule="cosine", epochs=1)
    train_classifier(dataset, BACKBONE, settings, checkpoint=tmp_path / "c")
    with pytest.raises(JnstError, match="epochs was 1, is now 2"):
        train_classifier(
            dataset, BACKBONE, dataclasses.replace(settings, epochs=2), checkpoint=tmp_path / "c", resume=True
        )


def test_missing_and_unreadable_checkpoints_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "c"
    with pytest.raises(JnstError, match="there is no such file"):
        train_classifier(dataset, BACKBONE, SHORT, checkpoint=path, resume=True)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(JnstError, match="cannot be read"):
        train_classifier(dataset, BACKBONE, SHORT, checkpoint=path, resume=True)
    with pytest.raises(JnstError, match="resume=True without a checkpoint"):
        train_classifier(dataset, BACKBONE, SHORT, resume=True)


def test_a_loss_that_becomes_infinite_ends_the_run(dataset: Dataset) -> None:
    settings = dataclasses.replace(SHORT, learning_rate=1e30)
    with pytest.raises(NumericsError, match=r"in epoch 1, step \d of 9, with learning rate 1e\+30: .*smaller"):
        train_classifier(dataset, BACKBONE, settings)


def test_crops_must_be_large_enough_for_the_network(dataset: Dataset) -> None:
    with pytest.raises(JnstError, match="size 3: relu3_1 of convnet needs at least 4 pixels"):
        train_classifier(dataset, make_backbone("convnet"), dataclasses.replace(SHORT, size=3))


@pytest.mark.long
def test_eight_devices_give_the_results_of_one(tmp_path: Path) -> None:
    script = Path(__file__).with_name("sharded_training.py")
    command = [sys.executable, str(script), str(tmp_path)]
    environment = many_devices(8)
    # A script's folder is not on the module path if PYTHONSAFEPATH is set.
    environment["PYTHONPATH"] = os.pathsep.join([str(script.parent), environment["PYTHONPATH"]])
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert max(found["gradients"]) < 1e-5
    np.testing.assert_allclose(found["losses"][1], found["losses"][0], rtol=1e-3)
