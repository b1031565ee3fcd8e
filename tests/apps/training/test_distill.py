"""The student's closed-form start, and its training: on small networks, for which the right answer is known."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_params

from jnst.apps.training import distill
from jnst.apps.training.crops import Augmentation, load_folder, random_crop, random_crops
from jnst.apps.training.distill import Lesson, Recipe, Setup, Student, Teachers, Training
from jnst.apps.training.initial import start
from jnst.apps.training.mini import train
from jnst.apps.training.prune import compress, keep_channels, regress
from jnst.backbones import make_backbone
from jnst.errors import ImageError, JnstError
from jnst.statistics import gram_matrix
from jnst.types import Params

pytestmark = pytest.mark.usefixtures("unoptimised")

RECIPE = Recipe(steps=6, crop=56, pairs=2, pool=4, lifetime=2, learning_rate=5e-3)
LAYERS = ("relu1_1", "relu2_1")


def images() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (3, 10, 12, 3), np.uint8)
    return [np.repeat(np.repeat(image, 8, 0), 8, 1) for image in coarse]


class Setting(NamedTuple):
    """A student and its parameters, its teacher's, and the parameters of the teachers."""

    setup: Setup
    params: Params
    teacher_params: tuple[Params, ...]


@pytest.fixture(scope="module")
def setting() -> Setting:
    teacher = make_backbone("convnet", widths=((8,), (12,)), padding="reflect")
    student = make_backbone("convnet", widths=((4,), (6,)), padding="reflect")
    teachers = Teachers((teacher,), tuple((layer, 0, layer) for layer in LAYERS), LAYERS)
    return Setting(Setup(student, teachers, RECIPE), random_params(student, 1), (random_params(teacher, 2),))


def begin(setting: Setting) -> Training:
    return start(*setting, images())


def with_recipe(setting: Setting, recipe: Recipe) -> Setting:
    return setting._replace(setup=dataclasses.replace(setting.setup, recipe=recipe))


def test_kept_channels_span_the_others() -> None:
    """Of channels that are combinations of three, three are kept that explain all, and the loudest is among them."""
    random = np.random.default_rng(0)
    sources = random.standard_normal((500, 3))
    features = sources @ random.standard_normal((3, 9))
    features[:, 4] *= 50.0
    kept = keep_channels(features.T @ features / 500, 3)
    assert 4 in kept
    assert len(set(kept)) == 3
    mixture = np.linalg.lstsq(features[:, kept], features, rcond=None)[0]
    np.testing.assert_allclose(features[:, kept] @ mixture, features, atol=1e-9)


def test_regression_is_least_squares() -> None:
    random = np.random.default_rng(1)
    inputs, outputs = random.standard_normal((200, 5)), random.standard_normal((200, 2))
    exact = np.linalg.lstsq(inputs, outputs, rcond=None)[0]
    np.testing.assert_allclose(regress(inputs, outputs), exact, atol=1e-3)


def test_a_student_as_wide_as_its_teacher_becomes_it() -> None:
    network = make_backbone("convnet", widths=((5, 4), (6,)), padding="reflect")
    params = random_params(network, 3)
    crops = random_crops(np.random.default_rng(2), pictures(), 32, 6, Augmentation())
    names = ("conv1_1", "conv1_2", "conv2_1")

    def teacher(images: np.ndarray) -> dict[str, jax.Array]:
        return network.apply(params, jnp.asarray(images), names)

    found = compress(network, teacher, {name: name for name in names}, crops, rows=4000)
    ours, theirs = (
        network.apply(found, jnp.asarray(crops), ("relu2_1",)),
        network.apply(params, jnp.asarray(crops), ("relu2_1",)),
    )
    largest = float(jnp.max(jnp.abs(theirs["relu2_1"])))
    np.testing.assert_allclose(ours["relu2_1"], theirs["relu2_1"], atol=0.01 * largest)


def test_the_loss_is_nothing_for_the_teacher_itself(setting: Setting) -> None:
    teachers, (params,) = setting.setup.teachers, setting.teacher_params
    images, styles = (jnp.asarray(random_crops(np.random.default_rng(i), pictures(), 24, 2)) for i in (3, 4))
    heads = {"relu1_1": jnp.eye(8), "relu2_1": jnp.eye(12)}
    wanted, wanted_styles = (teachers.apply((params,), x) for x in (images, styles))
    targets = {layer: gram_matrix(wanted_styles[layer]) for layer in LAYERS}
    pull, _ = distill.style_pull(lambda x: teachers.apply((params,), x), images, targets)
    lesson, setup = Lesson(wanted, wanted_styles, pull), Setup(teachers.backbones[0], teachers, RECIPE)
    total, _ = distill.loss(Student(params, heads), images, styles, lesson, setup)
    assert float(total) < 1e-4


def test_disagreement_of_known_directions() -> None:
    x = jax.random.normal(jax.random.key(0), (3, 20, 20, 3))
    np.testing.assert_allclose(distill.disagreement(x, 5 * x), 0.0, atol=1e-6)
    np.testing.assert_allclose(distill.disagreement(x, -x), 2.0, atol=1e-6)


def test_training_lowers_the_loss(setting: Setting) -> None:
    setting = with_recipe(setting, Recipe(steps=60, crop=56, pairs=2, pool=4, lifetime=8, learning_rate=0.02))
    records = []
    train(setting.setup, begin(setting), setting.teacher_params, images(), every=20, on_record=records.append)
    assert [record["step"] for record in records] == [20, 40, 60]
    assert records[-1]["styles"] < 0.8 * records[0]["styles"]


def test_resuming_equals_not_stopping(setting: Setting, tmp_path: Path) -> None:
    def run(**options: Any) -> Training:
        return train(setting.setup, begin(setting), setting.teacher_params, images(), every=3, **options)

    whole = run()
    assert whole.step == RECIPE.steps
    file = tmp_path / "run.ckpt"
    part = run(checkpoint=file, stop=iter([False, False, False, True]).__next__)
    assert part.step == 4
    resumed = run(checkpoint=file, resume=True)
    assert all(np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (whole, resumed)), strict=True))


def test_another_runs_checkpoint_is_refused(setting: Setting, tmp_path: Path) -> None:
    file = tmp_path / "run.ckpt"
    train(setting.setup, begin(setting), setting.teacher_params, images(), checkpoint=file, every=3)
    other = with_recipe(setting, dataclasses.replace(RECIPE, seed=5))
    given = (other.setup, begin(other), other.teacher_params, images())
    with pytest.raises(JnstError, match="seed 0 there, 5 here"):
        train(*given, checkpoint=file, resume=True, every=3)


def test_crops_depend_on_the_seed_alone_and_stay_in_range() -> None:
    first, again = (random_crop(np.random.default_rng(9), images(), 20, Augmentation()) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (20, 20, 3)
    assert first.min() >= 0
    assert first.max() <= 1
    assert not np.array_equal(first, random_crop(np.random.default_rng(10), images(), 20, Augmentation()))


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="found no images"):
        load_folder(tmp_path)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"crop": 55}, {"pairs": 5, "pool": 4}])
def test_a_recipe_that_cannot_work_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(JnstError, match="expected at least one"):
        Recipe(**wrong)
