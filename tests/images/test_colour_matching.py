"""Matching of colours by mean and covariance, and of luminance by mean and standard deviation."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image

from jnst.images import COLOUR_MAPS, luminance, match_histogram, match_luminance

pytestmark = pytest.mark.usefixtures("unoptimised")


def moments(image: Any) -> tuple[Any, Any]:
    rows = np.asarray(image, np.float64).reshape(-1, 3)
    return rows.mean(0), np.cov(rows.T, bias=True)


def root(matrix: Any) -> Any:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def mapped(source: Any, target: Any, method: str) -> Any:
    """Colours mapped by the published matrices in float64."""
    (mean, s), (goal, t) = moments(source), moments(target)
    if method == "cholesky":
        matrix = np.linalg.cholesky(t) @ np.linalg.inv(np.linalg.cholesky(s))
    elif method == "pca":
        matrix = root(t) @ np.linalg.inv(root(s))
    else:
        inverse = np.linalg.inv(root(s))
        matrix = inverse @ root(root(s) @ t @ root(s)) @ inverse
    return (np.asarray(source, np.float64) - mean) @ matrix.T + goal


PAIRS = {
    "alike": (random_image(1, 24, 30), 0.3 + 0.4 * random_image(2, 17, 20)),
    "more contrast": (0.4 + 0.1 * random_image(1, 24, 30), 0.25 + 0.5 * random_image(2, 17, 20)),
    "less contrast": (random_image(3, 24, 30), 0.5 + 0.1 * random_image(4, 17, 20)),
}


@pytest.mark.parametrize("method", COLOUR_MAPS)
@pytest.mark.parametrize("pair", PAIRS)
def test_mean_and_covariance_are_the_targets(method: str, pair: str) -> None:
    source, target = PAIRS[pair]
    result = np.asarray(match_histogram(jnp.asarray(source), jnp.asarray(target), method, clip=False))
    for got, wanted in zip(moments(result), moments(target), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-4)
    np.testing.assert_allclose(result, mapped(source, target, method), atol=5e-3)
    clipped = np.asarray(match_histogram(jnp.asarray(source), jnp.asarray(target), method))
    np.testing.assert_allclose(clipped, np.clip(result, 0, 1), atol=1e-6)


def test_the_methods_are_different_maps() -> None:
    """With Cholesky factors red depends on red only. The symmetric map has the optimal transport cost."""
    source, target = PAIRS["alike"]
    results = {name: np.asarray(match_histogram(source, target, name, clip=False)) for name in COLOUR_MAPS}
    red, changed = source[..., 0], results["cholesky"][..., 0]
    np.testing.assert_allclose(np.polyval(np.polyfit(red.ravel(), changed.ravel(), 1), red), changed, atol=1e-4)
    (mean, s), (goal, t) = moments(source), moments(target)
    least = np.sum((mean - goal) ** 2) + np.trace(s + t - 2 * root(root(s) @ t @ root(s)))
    costs = {name: np.sum((result - source) ** 2, -1).mean() for name, result in results.items()}
    np.testing.assert_allclose(costs["symmetric"], least, rtol=1e-3)
    assert costs["symmetric"] < costs["pca"] < 10 * costs["symmetric"]
    assert costs["symmetric"] < costs["cholesky"]


FLAT: dict[str, tuple[Any, Any]] = {
    "one colour": (np.full((9, 8, 3), 0.3, np.float32), random_image(1, 9, 8)),
    "one colour as target": (random_image(1, 9, 8), np.full((9, 8, 3), 0.3, np.float32)),
    "both": (np.full((9, 8, 3), 0.3, np.float32), np.full((4, 5, 3), 0.6, np.float32)),
    "black": (np.zeros((9, 8, 3), np.float32), np.zeros((9, 8, 3), np.float32)),
    "grey": (np.repeat(random_image(1, 9, 8)[..., :1], 3, -1), random_image(2, 9, 8)),
    "grey as target": (random_image(2, 9, 8), np.repeat(random_image(1, 9, 8)[..., :1], 3, -1)),
    "one pixel": (np.full((1, 1, 3), 0.3, np.float32), random_image(1, 9, 8)),
}


@pytest.mark.parametrize("method", COLOUR_MAPS)
@pytest.mark.parametrize("pair", FLAT)
def test_flat_images(method: str, pair: str) -> None:
    source, target = (jnp.asarray(array) for array in FLAT[pair])
    result = match_histogram(source, target, method, clip=False)
    np.testing.assert_allclose(moments(result)[0], moments(target)[0], atol=1e-3)
    gradients = jax.jit(jax.grad(lambda x, y: jnp.sum(match_histogram(x, y, method) ** 2), (0, 1)))(source, target)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    if pair.endswith("as target"):
        np.testing.assert_allclose(moments(result)[1], moments(target)[1], atol=1e-4)


@pytest.mark.parametrize("method", COLOUR_MAPS)
def test_gradient_of_matching_against_central_differences(method: str) -> None:
    source, target = random_image(1, 5, 6), 0.25 + 0.5 * random_image(2, 4, 5)
    weights = np.random.default_rng(3).standard_normal(source.shape)
    gradients = jax.jit(jax.grad(lambda x, y: jnp.sum(weights * match_histogram(x, y, method, clip=False)), (0, 1)))(
        jnp.asarray(source), jnp.asarray(target)
    )
    for which, gradient in enumerate(gradients):
        direction = np.random.default_rng(4 + which).standard_normal(gradient.shape)
        sides = []
        for sign in (1, -1):
            moved = [np.asarray(array, np.float64) for array in (source, target)]
            moved[which] = moved[which] + sign * 1e-5 * direction
            sides.append(float(np.sum(weights * mapped(moved[0], moved[1], method))))
        expected = (sides[0] - sides[1]) / 2e-5
        scale = float(np.linalg.norm(gradient) * np.linalg.norm(direction))
        np.testing.assert_allclose(np.sum(np.asarray(gradient) * direction), expected, atol=2e-3 * scale)


@pytest.mark.parametrize("function", [*COLOUR_MAPS, "luminance"])
def test_matching_under_transformations(function: str) -> None:
    def match(source: Any, target: Any) -> Any:
        return match_luminance(source, target) if function == "luminance" else match_histogram(source, target, function)

    sources, targets = jnp.asarray(random_image(1, 3, 8, 9)), jnp.asarray(random_image(2, 3, 7, 6))
    loop = np.stack([match(*pair) for pair in zip(sources, targets, strict=True)])
    for result in (match(sources, targets), jax.vmap(match)(sources, targets), jax.jit(match)(sources, targets)):
        assert result.dtype == jnp.float32
        np.testing.assert_allclose(result, loop, atol=1e-4)
    np.testing.assert_allclose(match(sources, targets[0])[1], match(sources[1], targets[0]), atol=1e-4)
    assert loop.min() >= 0
    assert loop.max() <= 1


def test_luminance_gets_mean_and_standard_deviation() -> None:
    style, content = random_image(1, 12, 10), 0.3 + 0.4 * random_image(2, 7, 9)
    grey = np.asarray(match_luminance(jnp.asarray(style), jnp.asarray(content), clip=False), np.float64)
    assert (grey == grey[..., :1]).all()
    wanted = np.asarray(content, np.float64) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose([grey.mean(), grey[..., 0].std()], [wanted.mean(), wanted.std()], rtol=1e-4)
    own = np.asarray(style, np.float64) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(np.corrcoef(grey[..., 0].ravel(), own.ravel())[0, 1], 1, atol=1e-6)


@pytest.mark.parametrize("pair", FLAT)
def test_luminance_of_flat_images(pair: str) -> None:
    style, content = (jnp.asarray(array) for array in FLAT[pair])
    result, gradients = match_luminance(style, content), jax.grad(lambda x, y: jnp.sum(match_luminance(x, y)), (0, 1))
    np.testing.assert_allclose(np.mean(result), np.mean(luminance(content)), atol=5e-3)
    assert all(np.isfinite(gradient).all() for gradient in gradients(style, content))
