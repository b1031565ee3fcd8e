"""Values and gradients of losses against float64 NumPy and closed forms, and how losses scale."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import CASES, random_features, random_image
from losses import references

from jnst.errors import JnstError
from jnst.losses import Gram, SquaredError, TotalVariation, content_loss, style_loss, total_variation
from jnst.statistics import gram_matrix

pytestmark = pytest.mark.usefixtures("unoptimised")

KNOWN = [name for name, case in CASES.items() if case.name in references.REFERENCES]


def arrays(name: str) -> tuple[Any, Any]:
    return random_features(1, 6, 7, CASES[name].channels), random_features(2, 6, 7, CASES[name].channels)


@pytest.mark.parametrize("name", KNOWN)
def test_value(name: str) -> None:
    case = CASES[name]
    expected = references.REFERENCES[case.name](*arrays(name), **dict(case.options))
    np.testing.assert_allclose(jax.jit(case.fitted_value)(*arrays(name)), expected, rtol=1e-5)


@pytest.mark.parametrize("name", KNOWN)
def test_gradient_against_central_differences(name: str) -> None:
    case = CASES[name]
    features, targets = arrays(name)
    gradient = np.asarray(jax.jit(jax.grad(case.fitted_value))(jnp.asarray(features), targets), np.float64)
    step = 1e-5
    for seed in (5, 6, 7):
        direction = random_features(seed, *features.shape).astype(np.float64)
        ahead, behind = (
            references.REFERENCES[case.name](features + sign * step * direction, targets, **dict(case.options))
            for sign in (1, -1)
        )
        scale = float(np.linalg.norm(gradient) * np.linalg.norm(direction))
        np.testing.assert_allclose(np.sum(gradient * direction), (ahead - behind) / (2 * step), atol=1e-5 * scale)


@pytest.mark.parametrize(("kind", "power"), [("content", 2), ("style", 4)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "half_sum", "quarter_mean", "relative"])
def test_scaling(kind: str, power: int, reduction: str) -> None:
    """Scaling all features by k = 2 scales squared errors by k², those of Gram matrices by k⁴, relative ones by 1."""
    loss = SquaredError(reduction) if kind == "content" else Gram("hw", reduction)
    features, targets = random_features(1, 8, 8, 4), random_features(2, 8, 8, 4)
    value = loss.loss(features, loss.fit(targets))
    scaled = loss.loss(2 * features, loss.fit(2 * targets))
    np.testing.assert_allclose(scaled, value * (1 if reduction == "relative" else 2**power), rtol=1e-6)


def test_relative_losses_without_features_are_one() -> None:
    targets = random_features(1, 5, 6, 4)
    for loss in (SquaredError("relative"), Gram("chw", "relative")):
        np.testing.assert_allclose(loss.loss(jnp.zeros_like(targets), loss.fit(targets)), 1.0, rtol=1e-6)


def test_content_loss_by_hand() -> None:
    features, target = jnp.full((2, 3, 4), 5.0), jnp.full((2, 3, 4), 2.0)
    by_hand = {"mean": 9.0, "sum": 216.0, "half_sum": 108.0, "quarter_mean": 2.25, "relative": 9 / 4}
    for reduction, value in by_hand.items():
        np.testing.assert_allclose(content_loss(features, target, reduction), value, rtol=1e-6)


def test_style_loss_by_hand() -> None:
    """Constant features a and b: every entry of a Gram matrix over h·w is a², or b²."""
    features, style = jnp.full((2, 3, 4), 3.0), jnp.full((5, 5, 4), 2.0)
    target = gram_matrix(style, "hw")
    by_hand = {"mean": 25.0, "sum": 400.0, "half_sum": 200.0, "quarter_mean": 6.25, "relative": 25 / 16}
    for reduction, value in by_hand.items():
        np.testing.assert_allclose(style_loss(features, target, "hw", reduction), value, rtol=1e-6)


def test_style_loss_of_gatys() -> None:
    """E_l = Σ (G - A)² / (4 c² n²), where G and A are sums, not means."""
    features, style = random_features(1, 6, 7, 5), random_features(2, 6, 7, 5)
    gram, target = references.gram(features, "none"), references.gram(style, "none")
    expected = np.sum((gram - target) ** 2) / (4 * 5**2 * 42**2)
    value = style_loss(features, gram_matrix(style, "hw"), "hw", "quarter_mean")
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_style_image_of_another_size() -> None:
    loss, features, style = Gram(), random_features(1, 6, 7, 5), random_features(2, 9, 4, 5)
    np.testing.assert_allclose(loss.loss(features, loss.fit(style)), references.style_loss(features, style), rtol=1e-5)


def test_tiles_of_a_style_have_its_style() -> None:
    """A Gram matrix per position does not depend on how often a texture is repeated."""
    loss, tile = Gram("chw"), random_features(1, 4, 4, 5)
    np.testing.assert_allclose(loss.loss(jnp.tile(tile, (3, 2, 1)), loss.fit(tile)), 0.0, atol=1e-12)


@pytest.mark.parametrize("norm", ["l1", "l2"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_total_variation_of_one_colour_is_zero(norm: str, reduction: str) -> None:
    flat = jnp.broadcast_to(jnp.asarray([0.2, 0.5, 0.9]), (2, 5, 4, 3))
    np.testing.assert_array_equal(total_variation(flat, norm, reduction), np.zeros(2))


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1)])
@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("tv") and "isotropic" not in name])
def test_total_variation_of_a_line(shape: tuple[int, int], name: str) -> None:
    image, case = random_image(3, *shape), CASES[name]
    value, gradient = jax.jit(jax.value_and_grad(case.loss.loss))(jnp.asarray(image))
    expected = references.total_variation(image, **dict(case.options))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.isfinite(gradient).all()
    assert (expected == 0) == (shape == (1, 1))


def test_total_variation_of_a_ramp() -> None:
    """0.1 per row and 0.05 per column: h(w-1) horizontal and (h-1)w vertical differences in three channels."""
    y, x = np.mgrid[:5, :6]
    ramp = jnp.repeat(jnp.asarray(0.1 * y + 0.05 * x, jnp.float32)[..., None], 3, axis=-1)
    np.testing.assert_allclose(total_variation(ramp), 3 * (4 * 6 * 0.1 + 5 * 5 * 0.05), rtol=1e-6)
    np.testing.assert_allclose(total_variation(ramp, "l2"), 3 * (4 * 6 * 0.01 + 5 * 5 * 0.0025), rtol=1e-5)
    np.testing.assert_allclose(total_variation(ramp, "l1", "mean"), 0.15, rtol=1e-6)
    np.testing.assert_allclose(total_variation(ramp, "l1", "sum", 255.0), 255 * total_variation(ramp), rtol=1e-6)


def test_unknown_options_list_the_choices() -> None:
    features = jnp.zeros((3, 3, 3))
    with pytest.raises(JnstError, match=r"reduction 'maen' .*mean, sum, half_sum"):
        SquaredError("maen").loss(features, features)
    with pytest.raises(JnstError, match=r"normalization 'c' .*chw, hw, none"):
        Gram("c").fit(features)
    with pytest.raises(JnstError, match=r"norm 'l3' .*l1, l2"):
        TotalVariation("l3").loss(features)
    with pytest.raises(JnstError, match=r"reduction 'median' .*sum, mean"):
        TotalVariation("l1", "median").loss(features)


def test_content_target_of_another_size_raises() -> None:
    with pytest.raises(JnstError, match=r"\(4, 5, 2\).*\(5, 4, 2\).*same image size"):
        content_loss(jnp.zeros((4, 5, 2)), jnp.zeros((5, 4, 2)))
