"""Compression and distillation, on networks so small that the right answers are known."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_params

from jnst.apps.training.augmentation import PhotometricAugmentation, random_crops
from jnst.apps.training.distill import (
    DistillationState,
    Recipe,
    Setup,
    Student,
    cosine_distance,
    distillation_loss,
    held_out_losses,
    init_mini,
    init_state,
    make_held_out_pairs,
    make_targets,
    split_images,
    train_student,
)
from jnst.apps.training.prune import compress, ridge_regression, select_channels
from jnst.backbones import make_backbone
from jnst.errors import ImageError, JnstError, WeightsError
from jnst.types import Params

pytestmark = pytest.mark.usefixtures("unoptimised")

RECIPE = Recipe(steps=6, crop=32, pairs=2, pool=4, lifetime=2, learning_rate=5e-3)
COARSE = np.random.default_rng(0).integers(0, 256, (3, 10, 12, 3), np.uint8)
IMAGES = [np.repeat(np.repeat(image, 8, 0), 8, 1) for image in COARSE]


class Setting(NamedTuple):
    """Networks and recipe, the student's parameters, and the teacher's parameters."""

    setup: Setup
    params: Params
    teacher_params: Params


@pytest.fixture(scope="module")
def setting() -> Setting:
    teacher = make_backbone("convnet", widths=((8,), (12, 5)))
    student = make_backbone("convnet", widths=((4,), (6,)))
    return Setting(Setup(student, teacher, RECIPE), random_params(student, 1), random_params(teacher, 2))


def initial(setting: Setting) -> DistillationState:
    return init_state(*setting, IMAGES)


def with_recipe(setting: Setting, recipe: Recipe) -> Setting:
    return setting._replace(setup=dataclasses.replace(setting.setup, recipe=recipe))


def test_selected_channels_span_the_others() -> None:
    """Three of nine channels, all mixtures of three sources, predict the others; the largest is among them."""
    random = np.random.default_rng(0)
    sources = random.standard_normal((500, 3))
    features = sources @ random.standard_normal((3, 9))
    features[:, 4] *= 50.0
    kept = select_channels(features.T @ features / 500, 3)
    assert 4 in kept
    assert len(set(kept)) == 3
    mixture = np.linalg.lstsq(features[:, kept], features, rcond=None)[0]
    np.testing.assert_allclose(features[:, kept] @ mixture, features, atol=1e-9)


def test_ridge_regression_is_close_to_least_squares() -> None:
    random = np.random.default_rng(1)
    inputs, outputs = random.standard_normal((200, 5)), random.standard_normal((200, 2))
    exact = np.linalg.lstsq(inputs, outputs, rcond=None)[0]
    np.testing.assert_allclose(ridge_regression(inputs, outputs), exact, atol=1e-3)


def test_a_student_as_wide_as_its_teacher_reproduces_it() -> None:
    network = make_backbone("convnet", widths=((5, 4), (6,)))
    params = random_params(network, 3)
    crops = random_crops(np.random.default_rng(2), IMAGES, 32, 6, PhotometricAugmentation())
    targets = network.apply(params, jnp.asarray(crops), ("conv1_1", "conv1_2", "conv2_1"))
    found = compress(network, targets, crops, rows=4000)
    ours, theirs = (network.apply(p, jnp.asarray(crops), ("relu2_1",))["relu2_1"] for p in (found, params))
    np.testing.assert_allclose(ours, theirs, atol=0.01 * float(jnp.max(jnp.abs(theirs))))


def test_the_loss_of_the_teacher_itself_is_zero(setting: Setting) -> None:
    teacher, teacher_params = setting.setup.teacher, setting.teacher_params
    images, styles = (jnp.asarray(random_crops(np.random.default_rng(i), IMAGES, 24, 2)) for i in (3, 4))
    setup = Setup(teacher, teacher, RECIPE)
    targets = make_targets(teacher_params, images, styles, setup)
    student = Student(teacher_params, {"relu1_1": jnp.eye(8), "relu2_1": jnp.eye(12), "relu2_2": jnp.eye(5)})
    total, _ = distillation_loss(student, images, styles, targets, setup)
    assert float(total) < 1e-4


def test_cosine_distance_of_known_directions() -> None:
    x = jax.random.normal(jax.random.key(0), (3, 20, 20, 3))
    np.testing.assert_allclose(cosine_distance(x, 5 * x), 0.0, atol=1e-6)
    np.testing.assert_allclose(cosine_distance(x, -x), 2.0, atol=1e-6)


def test_training_lowers_the_loss(setting: Setting) -> None:
    setting = with_recipe(setting, Recipe(steps=60, crop=32, pairs=2, pool=4, lifetime=8, learning_rate=0.02))
    records: list[dict[str, float]] = []
    train_student(
        setting.setup, initial(setting), setting.teacher_params, IMAGES, log_every=20, on_record=records.append
    )
    assert [record["step"] for record in records] == [20, 40, 60]
    assert records[-1]["styles"] < 0.8 * records[0]["styles"]


def test_a_resumed_run_equals_an_uninterrupted_one(setting: Setting, tmp_path: Path) -> None:
    def run(**options: Any) -> DistillationState:
        return train_student(setting.setup, initial(setting), setting.teacher_params, IMAGES, log_every=3, **options)

    whole = run()
    assert whole.step == RECIPE.steps
    file = tmp_path / "run.ckpt"
    part = run(checkpoint=file, stop=iter([False, False, False, True]).__next__)
    assert part.step == 4
    resumed = run(checkpoint=file, resume=True)
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (whole, resumed)), strict=True))


def test_another_runs_checkpoint_is_refused(setting: Setting, tmp_path: Path) -> None:
    file = tmp_path / "run.ckpt"
    train_student(setting.setup, initial(setting), setting.teacher_params, IMAGES, checkpoint=file, log_every=3)
    other = with_recipe(setting, dataclasses.replace(RECIPE, seed=5))
    arguments = (other.setup, initial(other), other.teacher_params, IMAGES)
    with pytest.raises(JnstError, match="seed was 0, is now 5"):
        train_student(*arguments, checkpoint=file, resume=True, log_every=3)


def test_held_out_losses_fall_with_training(setting: Setting) -> None:
    setting = with_recipe(setting, Recipe(steps=60, crop=32, pairs=2, pool=4, lifetime=8, learning_rate=0.02))
    images, held_out = split_images(IMAGES)
    assert (len(images), len(held_out)) == (2, 1)
    setup, _, teacher_params = setting
    state = init_state(*setting, images)
    pairs = make_held_out_pairs(state.student, teacher_params, held_out, setup)
    before = held_out_losses(state.student, pairs, teacher_params, setup)
    trained = train_student(setup, state, teacher_params, images)
    after = held_out_losses(trained.student, pairs, teacher_params, setup)
    assert before.keys() == {"held_out/images", "held_out/styles", "held_out/pull", "held_out/total"}
    assert after["held_out/total"] < before["held_out/total"]


def test_weights_that_end_too_early_are_refused(shared: Path) -> None:
    partial_weights = shared / "weights" / "vgg19-oxford-tfjs" / "model.json"
    with pytest.raises(WeightsError, match="layer relu4_1 of vgg19 is beyond these weights, which end at relu3_4"):
        init_mini(partial_weights, IMAGES, RECIPE)


def test_one_image_cannot_be_split() -> None:
    with pytest.raises(ImageError, match="expected at least 2"):
        split_images(IMAGES[:1])


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"crop": 31}, {"pairs": 5, "pool": 4}])
def test_invalid_recipes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(JnstError, match="expected at least one"):
        Recipe(**wrong)
