"""The perceptual loss of training loops: its value, its gradients, what it leaves alone, and its errors."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import compilations, random_image, random_params, tiny_backbone

import jnst
from jnst.errors import ArgumentError, ImageError
from jnst.losses import CONTENT_LOSSES, STYLE_LOSSES, Gram, SlicedWasserstein, TotalVariation

pytestmark = pytest.mark.usefixtures("unoptimised")

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
OBJECTIVE = jnst.make_objective(
    content_layers=("relu2_1", "image"),
    style_layers=("relu1_1", "relu3_1"),
    style_weight=3.0,
    style_loss=Gram("hw"),
    regularizers={"tv": (TotalVariation(), 0.1)},
)
LOSS = jnst.PerceptualLoss(OBJECTIVE, BACKBONE)
evaluate = jax.jit(lambda loss, params, prediction, target: loss(params, prediction, target))


def test_the_value_is_that_of_the_terms() -> None:
    prediction, target = random_image(1, 16, 17), random_image(2, 16, 17)
    x, y = (BACKBONE.apply(PARAMS, jnp.asarray(each), BACKBONE.layers) for each in (prediction, target))
    expected = np.mean((x["relu2_1"] - y["relu2_1"]) ** 2) + np.mean((prediction - target) ** 2)
    for layer in ("relu1_1", "relu3_1"):
        rows = [np.asarray(each[layer], np.float64).reshape(-1, each[layer].shape[-1]) for each in (x, y)]
        gram, other = (matrix.T @ matrix / len(matrix) for matrix in rows)
        expected += 3 * np.mean((gram - other) ** 2)
    variation = np.abs(np.diff(prediction, axis=0)).sum() + np.abs(np.diff(prediction, axis=1)).sum()
    np.testing.assert_allclose(evaluate(LOSS, PARAMS, prediction, target), expected + 0.1 * variation, rtol=1e-4)


def test_batches_vmap_and_fitted_targets_agree() -> None:
    predictions, targets = random_image(3, 2, 2, 16, 17), random_image(4, 2, 2, 16, 17)
    loop = [[evaluate(LOSS, PARAMS, predictions[i, j], targets[i, j]) for j in range(2)] for i in range(2)]
    batch = evaluate(LOSS, PARAMS, predictions, targets)
    assert (batch.shape, batch.dtype) == ((2, 2), jnp.float32)
    np.testing.assert_allclose(batch, loop, rtol=1e-5)
    mapped = jax.jit(jax.vmap(LOSS, in_axes=(None, 0, 0)))(PARAMS, predictions, targets)
    np.testing.assert_allclose(mapped, loop, rtol=1e-5)
    np.testing.assert_allclose(evaluate(LOSS, PARAMS, predictions, LOSS.fit(PARAMS, targets)), loop, rtol=1e-5)
    np.testing.assert_allclose(evaluate(LOSS, PARAMS, predictions, targets[0, 0])[0, 0], loop[0][0], rtol=1e-5)


def test_content_and_style_of_different_images() -> None:
    prediction, content, style = random_image(1, 16, 17), random_image(2, 16, 17), random_image(3, 24, 20)
    options: Any = {"backbone": BACKBONE}
    targets = jnst.fit_content(content, OBJECTIVE, PARAMS, **options) + jnst.fit_style(
        style, OBJECTIVE, PARAMS, **options
    )
    expected, _ = jnst.total_loss(prediction, OBJECTIVE, targets, PARAMS, **options)
    np.testing.assert_allclose(LOSS(PARAMS, prediction, targets), expected, rtol=1e-6)


def test_parameters_are_frozen_unless_asked_for() -> None:
    prediction, target = random_image(1, 16, 17), random_image(2, 16, 17)
    for loss, moves in ((LOSS, False), (dataclasses.replace(LOSS, frozen=False), True)):
        gradient = jax.jit(jax.grad(lambda params, loss=loss: loss(params, prediction, target)))(PARAMS)
        assert {bool(np.asarray(leaf["kernel"]).any()) for leaf in gradient.values()} == {moves}


def test_frozen_parameters_cost_no_gradient() -> None:
    """A training step that differentiates by a tree with the network in it has no convolution more than one without."""
    prediction, target = random_image(1, 16, 17), random_image(2, 16, 17)

    def convolutions(loss: Any, argnums: Any) -> int:
        gradient = jax.grad(lambda params, x: loss(params, x, target), argnums=argnums)
        return str(jax.make_jaxpr(gradient)(PARAMS, prediction)).count("conv_general_dilated[")

    alone = convolutions(LOSS, 1)
    assert convolutions(LOSS, (0, 1)) == alone
    assert convolutions(dataclasses.replace(LOSS, frozen=False), (0, 1)) > alone


def test_gradients_are_finite_and_0_at_the_target() -> None:
    loss = jnst.PerceptualLoss(dataclasses.replace(OBJECTIVE, regularizers=()), BACKBONE)
    gradient = jax.jit(jax.grad(lambda x, y: loss(PARAMS, x, y)))
    photo, black = random_image(1, 16, 17), np.zeros((16, 17, 3), np.float32)
    for image in (photo, black, black + 1):
        np.testing.assert_allclose(gradient(image, image), 0, atol=1e-7)
    assert np.isfinite(gradient(black, photo)).all()
    assert np.isfinite(gradient(photo, black)).all()


def test_the_gradient_by_weights_is_the_terms() -> None:
    """The loss is linear in its weights, which are the leaves of the loss itself."""
    prediction, target = random_image(1, 16, 17), random_image(2, 16, 17)
    gradient = jax.jit(jax.grad(lambda loss: loss(PARAMS, prediction, target)))(LOSS)
    _, parts = jnst.total_loss(prediction, OBJECTIVE, LOSS.fit(PARAMS, target), PARAMS, backbone=BACKBONE)
    by_style = [float(term.weight) for term in gradient.objective.style]
    np.testing.assert_allclose(by_style, [parts["style/relu1_1"] / 3, parts["style/relu3_1"] / 3], rtol=1e-5)


def test_other_weights_do_not_compile_again() -> None:
    step = jax.jit(lambda loss, x, y: loss(PARAMS, x, y))
    pair = random_image(1, 16, 17), random_image(2, 16, 17)
    values = [float(step(jax.tree.map(lambda w, f=f: f * w, LOSS), *pair)) for f in (1.0, 2.0)]
    np.testing.assert_allclose(values[1], 2 * values[0], rtol=1e-5)
    assert compilations(step) == 1


def test_bfloat16_images_and_parameters() -> None:
    prediction, target = random_image(1, 16, 17), random_image(2, 16, 17)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    value = LOSS(half, jnp.asarray(prediction, jnp.bfloat16), jnp.asarray(target, jnp.bfloat16))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, LOSS(PARAMS, prediction, target), rtol=0.05)


def test_keys_of_stochastic_losses() -> None:
    objective = jnst.make_objective(style_layers=("relu2_1",), style_loss=SlicedWasserstein(directions=2))
    loss = jnst.PerceptualLoss(objective, BACKBONE)
    pair = random_image(1, 16, 17), random_image(2, 16, 17)
    values = [float(loss(PARAMS, *pair, key=jax.random.key(seed))) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        ((16, 17, 3), (16, 16, 3), "`prediction` is 17x16 pixels, `target` 16x16, expected the same size"),
        ((16, 17, 4), (16, 17, 3), r"`prediction` has shape \(16, 17, 4\)"),
        ((2, 16, 17, 6), (2, 16, 17, 6), "jnst.rgb_groups"),
        ((16, 17, 1), (16, 17, 1), "repeat the grey channel"),
        ((2, 16, 17, 3), (3, 16, 17, 3), r"leading axes \(2,\), `target` \(3,\)"),
        ((2, 2, 3), (2, 2, 3), "`prediction` is 2x2 pixels, but relu3_1 of tiny needs"),
    ],
)
def test_wrong_shapes(prediction: tuple[int, ...], target: tuple[int, ...], message: str) -> None:
    half = [np.full(shape, 0.5, np.float32) for shape in (prediction, target)]
    with pytest.raises(ImageError, match=message) as caught:
        LOSS(PARAMS, *half)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((-0.9, 0.9), r"`prediction` looks like \[-1, 1\] \(from -0.9 to 0.9\): use \(x \+ 1\) / 2"),
        ((0.0, 255.0), r"`prediction` looks like 0-255 \(max 255\)"),
        ((-3e5, 0.5), r"`prediction` has values from -300000 to 0.5, expected \[0, 1\]"),
        ((0.5, np.nan), "`prediction` has 1 values that are NaN"),
    ],
)
def test_wrong_values(values: tuple[float, float], message: str) -> None:
    image = np.full((16, 17, 3), 0.5, np.float32)
    image.flat[:2] = values
    with pytest.raises(ImageError, match=message):
        LOSS(PARAMS, image, np.full((16, 17, 3), 0.5, np.float32))


def test_targets_of_another_objective() -> None:
    image = random_image(1, 16, 17)
    other = jnst.fit_content(image, OBJECTIVE, PARAMS, backbone=BACKBONE)
    with pytest.raises(ArgumentError, match="targets for 2 content and 0 style terms, but the objective has 2 content"):
        LOSS(PARAMS, image, other)


def test_fitted_targets_of_another_batch_or_size() -> None:
    predictions = random_image(1, 2, 16, 17)
    targets = jax.jit(LOSS.fit)(PARAMS, random_image(2, 3, 16, 17))
    with pytest.raises(ArgumentError, match=r"leading axes \(2,\), the fitted targets \(3,\), which do not") as caught:
        LOSS(PARAMS, predictions, targets)
    assert "\n" not in str(caught.value)
    assert jax.eval_shape(LOSS, PARAMS, predictions[:, None], targets).shape == (2, 3)
    assert jax.eval_shape(LOSS, PARAMS, predictions[0], targets).shape == (3,)
    with pytest.raises(ArgumentError, match="at the same image size"):
        jax.eval_shape(LOSS, PARAMS, predictions[0, :8], targets)


@pytest.mark.parametrize(
    ("kind", "make"),
    [*(("content", make) for make in CONTENT_LOSSES.values()), *(("style", make) for make in STYLE_LOSSES.values())],
)
def test_leading_axes_of_every_loss(kind: str, make: Any) -> None:
    """Targets of a batch are told from those of one image, whatever a loss keeps."""
    options: Any = {f"{kind}_layers": ("relu1_1", "relu2_1"), f"{kind}_loss": make()}
    loss = jnst.PerceptualLoss(jnst.make_objective(**options), BACKBONE)
    targets = jax.eval_shape(loss.fit, PARAMS, jax.ShapeDtypeStruct((3, 16, 16, 3), jnp.float32))
    image = jax.ShapeDtypeStruct((2, 16, 16, 3), jnp.float32)
    with pytest.raises(ArgumentError, match=r"the fitted targets \(3,\)"):
        jax.eval_shape(loss, PARAMS, image, targets)


def test_rgb_groups() -> None:
    image = random_image(1, 2, 8, 9)
    grey = np.asarray(jnst.rgb_groups(image[..., :1]))
    np.testing.assert_array_equal(grey, np.repeat(image[:, None, ..., :1], 3, -1))
    four = np.concatenate([image, image[..., :1] / 2], -1)
    groups = np.asarray(jnst.rgb_groups(four))
    assert groups.shape == (2, 2, 8, 9, 3)
    np.testing.assert_array_equal(groups[:, 0], image)
    np.testing.assert_array_equal(groups[:, 1], np.repeat(image[..., :1] / 2, 3, -1))
    with pytest.raises(ImageError, match=r"shape \(8, 0\)"):
        jnst.rgb_groups(np.zeros((8, 0)))
    assert jnst.rgb_groups(np.zeros((0, 8, 8, 6))).shape == (0, 2, 8, 8, 3)
    with pytest.raises(ImageError, match="`images` is a list, expected an array"):
        jnst.rgb_groups([[[0.5]]])  # pyright: ignore[reportArgumentType]


def test_random_crops() -> None:
    """Crops are parts of their images, the same of each array, at all positions; a new key compiles nothing."""
    y, x = np.mgrid[:7, :9]
    places = np.stack([y, x, 0 * y], -1).astype(np.float32)
    batch = np.stack([places, places + 100])
    crop = jax.jit(lambda key: jnst.random_crops((batch, places[..., :1]), (3, 4), 50, key=key))
    crops, others = crop(jax.random.key(1))
    assert (crops.shape, others.shape) == ((50, 2, 3, 4, 3), (50, 3, 4, 1))
    corners = np.asarray(crops[:, 0, 0, 0, :2], int)
    for (top, left), both, other in zip(corners, np.asarray(crops), np.asarray(others), strict=True):
        np.testing.assert_array_equal(both, batch[:, top : top + 3, left : left + 4])
        np.testing.assert_array_equal(other, places[top : top + 3, left : left + 4, :1])
    assert set(corners[:, 0]) == set(range(5))
    assert set(corners[:, 1]) == set(range(6))
    assert not np.array_equal(crop(jax.random.key(2))[0], crops)
    assert compilations(crop) == 1


@pytest.mark.parametrize(
    ("images", "shape", "count", "message"),
    [
        (np.zeros((8, 8, 3)), (9, 8), 1, "1 crops of 8x9 pixels from images of 8x8"),
        (np.zeros((8, 8, 3)), (0, 8), 1, "crops of 8x0 pixels"),
        (np.zeros((8, 8, 3)), (4, 4), 0, "0 crops"),
        ((np.zeros((8, 8, 3)), np.zeros((8, 9, 3))), (4, 4), 1, r"images of sizes \[\(8, 8\), \(8, 9\)\]"),
        (np.zeros((8, 8)), (2, 2), 1, r"images of shape \(8, 8\), expected \(\.\.\., h, w, c\)"),
        ((np.zeros((8, 8, 3)), 0.5), (2, 2), 1, r"images of shape \(\), expected"),
        ((), (2, 2), 1, "no images to crop: pass an array"),
    ],
)
def test_wrong_crops(images: Any, shape: tuple[int, int], count: int, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        jnst.random_crops(images, shape, count, key=jax.random.key(0))
