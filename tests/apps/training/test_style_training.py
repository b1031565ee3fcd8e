"""Training of style networks: the loss, exact continuation, several devices, and bad data."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import many_devices, random_image, same_trees
from PIL import Image

import jnst
from jnst.apps.training.data import Photos, load_photos, photo_batches
from jnst.apps.training.style import (
    PARTS,
    VIEWS,
    Batch,
    Recipe,
    StyleLoss,
    Trained,
    check_training,
    make_task,
    train_style_network,
)
from jnst.backbones import make_backbone
from jnst.errors import ArgumentError, ImageError, JnstError, NumericsError

pytestmark = pytest.mark.usefixtures("unoptimised")

BACKBONE = make_backbone("convnet", widths="4/8")
TERMS = dataclasses.replace(Recipe.terms, content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"))
SHORT = Recipe(steps=6, batch_size=2, size=20, terms=TERMS)
STYLES = {"night": random_image(1, 24, 20), "wave": random_image(2, 20, 30)}
DEEP = dataclasses.replace(TERMS, content_layers=("conv5",), style_layers=("relu5",))
NO_PHOTOS = Photos((), (), 32, "")
SMALL: dict[str, Any] = {"widths": (2, 3, 4), "blocks": 1, "log_every": 4}


@pytest.fixture(scope="module")
def params() -> Any:
    return BACKBONE.init(jax.random.key(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(5):
        pixels = np.asarray(255 * random_image(seed, 24 + seed, 33), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed}.png")
    Image.fromarray(np.full((30, 24), 90, np.uint8)).save(folder / "grey.png")
    return folder


@pytest.fixture(scope="module")
def photos(folder: Path) -> Photos:
    return load_photos(folder, side=32)


def train(photos: Photos, params: Any, recipe: Recipe = SHORT, **options: Any) -> Trained:
    return train_style_network(photos, STYLES, BACKBONE, params, recipe, **{**SMALL, **options})[1]


def stop_after(step: int) -> dict[str, Any]:
    """Callbacks that end a run after this many steps."""
    made: list[int] = []
    return {"on_step": made.append, "stop": lambda: len(made) >= step}


def test_the_loss_is_the_objective_of_every_image_in_its_style(photos: Photos, params: Any) -> None:
    network = jnst.StyleNetwork(tuple(STYLES), (2, 3, 4), 1)
    theta = network.init(jax.random.key(1))
    task = make_task(list(STYLES.values()), BACKBONE, params, TERMS, [1.0, 0.5])
    (images,) = photo_batches(photos, batch_size=3, size=20, seed=0, steps=[0], augmentation=VIEWS)
    total, parts = StyleLoss(network, BACKBONE)(
        theta, (task, Batch(images, np.array([0, 1, 1], np.int32))), jnp.int32(0)
    )
    expected = []
    for image, name in zip(images, ("night", "wave", "wave"), strict=True):
        content = jnp.asarray(image, jnp.float32) / 255
        output = network.apply(theta, content, network.style_weights(name))
        weight = TERMS.style_weight * (1.0 if name == "night" else 0.5)
        objective = dataclasses.replace(TERMS, style_weight=weight).objective(BACKBONE)
        targets = jnst.fit_targets(content, STYLES[name], objective, params, backbone=BACKBONE)
        expected.append(float(jnst.total_loss(output, objective, targets, params, backbone=BACKBONE)[0]))
    assert float(total) == pytest.approx(np.mean(expected), rel=1e-4)
    assert sum(map(float, parts.values())) == pytest.approx(float(total), rel=1e-5)
    assert tuple(parts) == PARTS


def test_training_lowers_the_loss(photos: Photos, params: Any) -> None:
    recipe = dataclasses.replace(SHORT, steps=60, learning_rate=0.03)
    history = train(photos, params, recipe, log_every=20).history
    assert [record["step"] for record in history] == [20, 40, 60]
    assert history[-1]["total"] < 0.8 * history[0]["total"]


@pytest.mark.parametrize("end", [3, 4])
def test_a_run_that_continues_gives_the_same_bits(photos: Photos, params: Any, tmp_path: Path, end: int) -> None:
    """Stopped between two lines of the log, and at one."""
    whole = train(photos, params)
    file = tmp_path / "run.ckpt"
    part = train(photos, params, checkpoint=file, **stop_after(end))
    assert part.steps == end
    assert not same_trees(part.params, whole.params)
    rest = train(photos, params, checkpoint=file, resume=True)
    assert rest.steps == whole.steps == 6
    assert same_trees(rest.params, whole.params)
    assert rest.history == whole.history
    assert [record["step"] for record in rest.history] == [4, 6]


def test_another_run_is_not_continued(photos: Photos, params: Any, tmp_path: Path) -> None:
    file = tmp_path / "run.ckpt"
    train(photos, params, checkpoint=file, **stop_after(1))
    heavier = dataclasses.replace(TERMS, style_weight=2.5)
    for changed, difference in (
        ({"seed": 1}, "recipe.seed was 0, is now 1"),
        ({"steps": 9}, "recipe.steps was 6, is now 9"),
        ({"terms": heavier}, "recipe.terms.style_weight was 15.0, is now 2.5"),
    ):
        recipe = dataclasses.replace(SHORT, **changed)
        with pytest.raises(ArgumentError, match=rf"belongs to another run \({re.escape(difference)}\):"):
            train(photos, params, recipe, checkpoint=file, resume=True)
    with pytest.raises(ArgumentError, match=r"network\.blocks was 1, is now 2"):
        train(photos, params, checkpoint=file, resume=True, blocks=2)
    with pytest.raises(ArgumentError, match="another run"):
        train(photos, params, checkpoint=file, resume=True, style_weights=[1.0, 2.0])


def test_batches_depend_on_the_step_alone_and_show_every_image(photos: Photos) -> None:
    def batches(steps: range) -> list[np.ndarray]:
        return list(photo_batches(photos, batch_size=2, size=20, seed=0, steps=steps, augmentation=VIEWS))

    whole = batches(range(6))
    np.testing.assert_array_equal(batches(range(4, 6)), whole[4:])
    assert len({image.tobytes() for batch in whole for image in batch}) == 12


@pytest.mark.long
def test_devices_divide_a_batch(folder: Path, tmp_path: Path) -> None:
    script = Path(__file__).with_name("sharded_style_training.py")
    environment = many_devices(2)
    environment["PYTHONPATH"] += os.pathsep + str(script.parent)
    finished = subprocess.run(
        [sys.executable, script, folder], capture_output=True, text=True, env=environment, check=False
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    losses = json.loads(finished.stdout)
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-4)


def test_a_run_that_diverges_says_so_and_keeps_the_last_finite_state(
    photos: Photos, params: Any, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(SHORT, learning_rate=1e38)
    with pytest.raises(NumericsError, match=r"stopped being finite at step .*: start a new run with a smaller one"):
        train(photos, params, recipe, checkpoint=tmp_path / "run.ckpt")
    assert (tmp_path / "run.ckpt").exists()


def test_unreadable_files_are_named_and_left_out(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff and nothing else")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / ".thumbnails" / "0.png").write_bytes((tmp_path / "0.png").read_bytes())
    found = load_photos(tmp_path, side=32)
    assert len(found.examples) == 6
    (line,) = found.damaged
    assert "broken.jpg" in line
    assert "\n" not in line


def test_folders_without_photographs(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="contains no images"):
        load_photos(tmp_path, side=32)
    with pytest.raises(ImageError, match="is not a folder"):
        load_photos(tmp_path / "none", side=32)
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"none of its 1 images can be read; the first error: .*a\.png"):
        load_photos(tmp_path, side=32)


@pytest.mark.parametrize(
    ("style", "message"),
    [
        (np.full((20, 20, 3), np.nan, np.float32), "NaN"),
        (np.zeros((20, 20, 4), np.float32), "alpha"),
        (np.zeros((20, 20, 3), np.uint8), "divide by 255"),
        (np.zeros((1, 20, 3), np.float32), "needs at least"),
    ],
)
def test_styles_that_are_no_images(photos: Photos, params: Any, style: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        train_style_network(photos, {"bad": jnp.asarray(style)}, BACKBONE, params, SHORT, **SMALL)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Recipe(steps=0), "steps 0"),
        (lambda: Recipe(size=16), "size 16: expected an integer of at least 20"),
        (lambda: Recipe(learning_rate=float("nan")), "learning rate nan"),
        (lambda: Recipe(seed=-1), "seed -1"),
        (lambda: train_style_network(NO_PHOTOS, STYLES, BACKBONE, {}, SHORT, log_every=0), "log_every 0"),
        (
            lambda: check_training(dataclasses.replace(SHORT, terms=DEEP), make_backbone("alexnet"), 1),
            "need crops of at least",
        ),
        (lambda: check_training(SHORT, BACKBONE, 1, [1.0, 2.0]), "style weights 1, 2 for 1 styles"),
        (lambda: make_task([STYLES["night"]], BACKBONE, {}, TERMS, [1.0, 2.0]), "style weights 1, 2 for 1 styles"),
    ],
)
def test_wrong_settings(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(JnstError, match=message):
        call()
