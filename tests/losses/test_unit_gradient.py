"""Normalised gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_features, random_image, random_params, tiny_backbone

from jnst.losses import Gram, SquaredError, TotalVariation
from jnst.losses.gradient import unit_gradient
from jnst.losses.objective import make_objective, total_loss
from jnst.losses.targets import fit_targets

pytestmark = pytest.mark.usefixtures("unoptimised")
BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
FEATURES = random_features(1, 2, 3, 4, 5, 6)
IMAGE, CONTENT, STYLE = (jnp.asarray(random_image(seed, 12, 16)) for seed in (1, 2, 3))


def quartic(features: Any, weight: Any) -> Any:
    """A value for each image."""
    return jnp.sum(unit_gradient(features, weight) ** 4, (-3, -2, -1))


def test_the_value_does_not_change() -> None:
    np.testing.assert_array_equal(unit_gradient(jnp.asarray(FEATURES), jnp.float32(3.0)), FEATURES)


@pytest.mark.parametrize("factor", [1e-12, 1.0, 1e12])
def test_the_gradient_of_each_image_has_the_weight_as_its_1_norm(factor: float) -> None:
    """For any factor of the loss. The direction does not change."""
    weight = jnp.float32(7.0)
    found = jax.jit(jax.grad(lambda x: factor * jnp.sum(quartic(x, weight))))(jnp.asarray(FEATURES))
    np.testing.assert_allclose(np.abs(found).sum((-3, -2, -1)), np.full((2, 3), 7.0), rtol=1e-5)
    plain = 4 * FEATURES.astype(np.float64) ** 3
    np.testing.assert_allclose(found, 7 * plain / np.abs(plain).sum((-3, -2, -1), keepdims=True), rtol=1e-4)


def test_a_weight_for_each_image() -> None:
    weights = jnp.asarray([[1.0, 2.0, 3.0], [0.0, 5.0, 0.5]])
    found = jax.jit(jax.grad(lambda x: jnp.sum(quartic(x, weights))))(jnp.asarray(FEATURES))
    np.testing.assert_allclose(np.abs(found).sum((-3, -2, -1)), weights, rtol=1e-5)


def test_a_gradient_of_zero_stays_zero() -> None:
    found = jax.jit(jax.grad(lambda x: jnp.sum(quartic(x, jnp.float32(2.0)))))(jnp.zeros((3, 3, 2)))
    np.testing.assert_array_equal(found, np.zeros((3, 3, 2)))


def test_second_derivatives() -> None:
    """Against central differences in float64; finite where the gradient, or one image's gradient, is 0."""
    weights, direction = random_features(2, *FEATURES.shape), random_features(3, *FEATURES.shape)

    def weighted(features: Any) -> Any:
        return jnp.vdot(weights, jax.grad(lambda x: jnp.sum(quartic(x, jnp.float32(7.0))))(features))

    second = jax.jit(jax.grad(weighted))
    for features in (FEATURES, np.where(np.arange(6) < 3, FEATURES, 0), 0 * FEATURES, 1e-8 * FEATURES):
        assert np.isfinite(second(features)).all()
    with jax.enable_x64(True):
        features, step = jnp.asarray(FEATURES, jnp.float64), 1e-6
        slope = (weighted(features + step * direction) - weighted(features - step * direction)) / (2 * step)
        np.testing.assert_allclose(jnp.vdot(second(features), direction), slope, rtol=1e-6)


def test_half_precision_is_kept() -> None:
    found = jax.jit(jax.grad(lambda x: jnp.sum(quartic(x, jnp.float32(2.0))).astype(jnp.float32)))(
        jnp.ones((3, 3, 2), jnp.bfloat16)
    )
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.abs(np.asarray(found, np.float32)).sum(), 2.0, rtol=0.02)


def objective(*, normalize: bool, **layers: Any) -> Any:
    regularizers = {"tv": (TotalVariation("l2", "mean"), 0.7)}
    return make_objective(
        content_weight=3.0, style_weight=0.2, regularizers=regularizers, normalize_gradients=normalize, **layers
    )


def value_and_gradient(terms: Any, image: Any = IMAGE, **options: Any) -> Any:
    targets = fit_targets(CONTENT, STYLE, terms, PARAMS, backbone=BACKBONE, **options)
    total = lambda x: jnp.sum(total_loss(x, terms, targets, PARAMS, backbone=BACKBONE)[0])  # noqa: E731
    return jax.jit(jax.value_and_grad(total))(image)


def test_the_gradient_of_each_layer_in_an_objective_has_its_weight() -> None:
    """The value does not change."""
    layers = {"content_layers": ("relu2_1",), "style_layers": ("relu1_1", "relu2_1"), "style_layer_weights": (1.0, 0.5)}
    value, found = value_and_gradient(objective(normalize=True, **layers))
    plain, _ = value_and_gradient(objective(normalize=False, **layers))
    np.testing.assert_allclose(value, plain, rtol=1e-6)

    expected = jax.jit(by_hand)(IMAGE)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6 * np.abs(expected).max())


def by_hand(image: Any) -> Any:
    """The gradient by the image: the gradients by the layers, scaled, and propagated back."""
    names = ("relu1_1", "relu2_1")
    taps, back = jax.vjp(lambda x: BACKBONE.apply(PARAMS, x, names), image)
    content, style = (BACKBONE.apply(PARAMS, image, names) for image in (CONTENT, STYLE))
    gradients = {name: jnp.zeros_like(tap) for name, tap in taps.items()}
    for loss, target, name, weight in (
        (SquaredError(), content["relu2_1"], "relu2_1", 3.0),
        (Gram(), Gram().fit(style["relu1_1"]), "relu1_1", 0.2),
        (Gram(), Gram().fit(style["relu2_1"]), "relu2_1", 0.1),
    ):
        gradient = jax.grad(lambda x, loss=loss, target=target: loss.loss(x, target))(taps[name])
        gradients[name] += weight * gradient / jnp.sum(jnp.abs(gradient))
    (expected,) = back(gradients)
    return expected + jax.grad(lambda x: 0.7 * TotalVariation("l2", "mean").loss(x))(image)


def test_regions_and_weights_of_zero() -> None:
    """The gradient of each region has its own norm: the style weight times the region's share of the image."""
    mask = np.zeros((12, 16), np.float32)
    mask[:, :4] = 1.0
    terms = make_objective(style_layers=["image"], style_weight=8.0, normalize_gradients=True)
    _, found = value_and_gradient(terms, masks=[mask])
    np.testing.assert_allclose(np.abs(found).sum(), 8.0 / 4, rtol=1e-5)
    _, nothing = value_and_gradient(jax.tree.map(lambda weight: 0 * weight, terms), masks=[mask])
    np.testing.assert_array_equal(nothing, np.zeros_like(nothing))
    images = jnp.stack([IMAGE, STYLE[::-1] ** 2])
    _, both = value_and_gradient(terms, images, masks=[mask])
    np.testing.assert_allclose(np.abs(both).sum((1, 2, 3)), [2.0, 2.0], rtol=1e-5)
