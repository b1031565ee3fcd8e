"""Means, standard deviations and covariances, and the losses on them, against float64 NumPy and closed forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_features
from losses import references

from jnst.errors import JnstError
from jnst.losses import Covariance, MeanStd, Wasserstein, covariance_loss, mean_std_loss, wasserstein_loss
from jnst.statistics import covariance, gram_matrix, mean_covariance, mean_std, safe_sqrt

pytestmark = pytest.mark.usefixtures("unoptimised")

Array = np.ndarray
LOSSES: dict[str, Any] = {
    "mean-std": MeanStd(),
    "covariance": Covariance(),
    "wasserstein": Wasserstein(iterations=12),
    "wasserstein-converged": Wasserstein(iterations=None),
}
WASSERSTEIN = [name for name in LOSSES if name.startswith("wasserstein")]


def rows(features: Array) -> Array:
    return np.asarray(features, np.float64).reshape(-1, features.shape[-1])


@pytest.mark.parametrize("guided", [False, True])
def test_moments_against_numpy(guided: bool) -> None:
    features = random_features(1, 6, 7, 5)
    weights = np.random.default_rng(2).integers(0, 4, (6, 7))
    guide: Any = weights.astype(np.float32) if guided else None
    exact_mean = np.average(rows(features), axis=0, weights=weights.ravel() if guided else None)
    exact = np.cov(rows(features), rowvar=False, bias=True, fweights=weights.ravel() if guided else None)
    mean, std = mean_std(features, guide)
    np.testing.assert_allclose(mean, exact_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(std, np.sqrt(np.diag(exact)), rtol=1e-5)
    mean, matrix = mean_covariance(features, guide)
    np.testing.assert_allclose(mean, exact_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(matrix, exact, rtol=1e-5, atol=1e-6)
    second = gram_matrix(features, "hw", guide)
    np.testing.assert_allclose(second, exact + np.outer(exact_mean, exact_mean), rtol=1e-5, atol=1e-6)


def test_covariance_of_small_variations_of_large_values() -> None:
    """A difference of raw moments would be 1 in 1e8, below the precision of float32."""
    features = 1e4 + random_features(3, 20, 20, 6)
    exact = np.cov(rows(features), rowvar=False, bias=True)
    np.testing.assert_allclose(covariance(features), exact, atol=1e-4)
    np.testing.assert_allclose(mean_std(features)[1], np.sqrt(np.diag(exact)), rtol=1e-4)


def test_covariance_of_half_precision_features_keeps_small_eigenvalues() -> None:
    """Channels whose variances span six decades, around a mean far above most of them."""
    features = jnp.asarray(8 + random_features(3, 48, 48, 7) * np.logspace(0, -3, 7), jnp.bfloat16)
    exact = np.cov(rows(np.asarray(features, np.float64)), rowvar=False, bias=True)
    found = np.asarray(covariance(features), np.float64)
    np.testing.assert_allclose(np.linalg.eigvalsh(found), np.linalg.eigvalsh(exact), rtol=1e-4)


def test_gram_matrices_of_images_average() -> None:
    first, second = random_features(1, 6, 8, 5), random_features(2, 6, 8, 5)
    whole, *parts = (gram_matrix(image, "hw") for image in (jnp.concatenate([first, second]), first, second))
    np.testing.assert_allclose(whole, (parts[0] + parts[1]) / 2, rtol=1e-5, atol=1e-6)


def test_safe_square_root() -> None:
    values, slopes = jax.vmap(jax.value_and_grad(safe_sqrt))(jnp.asarray([4.0, 0.0, -1e-9]))
    np.testing.assert_allclose(values, [2.0, 0.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(slopes, [0.25, 0.0, 0.0], rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_mixture_of_images_of_different_sizes(name: str) -> None:
    """Against one set of positions, in which the positions of each image share its weight."""
    loss, features = LOSSES[name], random_features(1, 6, 7, 5)
    parts = [random_features(2, 6, 8, 5), 1.5 * random_features(3, 4, 3, 5) + 1, random_features(4, 9, 5, 5) - 1]
    weights = np.asarray([0.2, 0.5, 0.3])
    counts = [part.shape[0] * part.shape[1] for part in parts]
    style = np.concatenate([part.reshape(-1, 5) for part in parts])[None]
    guide = np.repeat(weights / counts, counts)[None].astype(np.float32)
    blended = loss.blend([loss.fit(part) for part in parts], jnp.asarray(weights, jnp.float32))
    np.testing.assert_allclose(loss.loss(features, blended), loss.loss(features, loss.fit(style, guide)), rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_images_of_one_colour(name: str) -> None:
    """Without variance, a difference of raw moments would consist of rounding errors, some of them negative."""
    loss, colours = LOSSES[name], np.random.default_rng(1).uniform(0, 1e3, (2, 64)).astype(np.float32)
    flat, other = (np.broadcast_to(colour, (16, 16, 64)) for colour in colours)
    varied = 300 * random_features(2, 16, 16, 64) + 500

    @jax.jit
    def value_and_gradient(features: Any, style: Any) -> Any:
        blended = loss.blend([loss.fit(style), loss.fit(features)], jnp.asarray([0.5, 0.5]))
        return jax.value_and_grad(lambda x: loss.loss(x, loss.fit(style)) + loss.loss(x, blended))(features)

    for features, style in ((flat, flat), (flat, other), (varied, flat), (flat, varied)):
        value, gradient = value_and_gradient(features, style)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
    if name != "covariance":
        exact = np.mean((colours[0].astype(np.float64) - colours[1]) ** 2)
        np.testing.assert_allclose(loss.loss(flat, loss.fit(other)), exact, rtol=1e-5)


def test_losses_by_hand() -> None:
    """Two positions a ± s have the mean a, the standard deviation s, and the covariance s sᵀ."""
    a, s = np.asarray([[1.0, 2.0], [4.0, 0.0]]), np.asarray([[0.5, 1.0], [1.5, -1.0]])
    x, y = (jnp.asarray([[mean + std, mean - std]], jnp.float32) for mean, std in zip(a, s, strict=True))
    np.testing.assert_allclose(mean_std_loss(x, MeanStd().fit(y)), (9 + 4) / 2 + (1 + 0) / 2, rtol=1e-6)
    squares = (0.25 - 2.25) ** 2 + 2 * (0.5 + 1.5) ** 2 + (1 - 1) ** 2
    np.testing.assert_allclose(covariance_loss(x, covariance(y), "sum"), squares, rtol=1e-6)
    np.testing.assert_allclose(covariance_loss(x, covariance(y), "quarter_mean"), squares / 16, rtol=1e-6)
    # The fidelity of the covariances s sᵀ and t tᵀ is |s · t|.
    exact = (9 + 4) / 2 + (1.25 + 3.25 - 2 * abs(0.75 - 1)) / 2
    for iterations in (12, None):
        target = Wasserstein(0.0, iterations).fit(y)
        np.testing.assert_allclose(wasserstein_loss(x, target, 0.0, iterations), exact, rtol=1e-4)


@pytest.mark.parametrize("name", WASSERSTEIN)
def test_wasserstein_distance_of_independent_channels(name: str) -> None:
    """(Δμ)² + (Δσ)² per channel: for uncorrelated channels it equals `mean_std_loss`."""
    signs = np.asarray([[1, 1, 1, 1, -1, -1, -1, -1], [1, 1, -1, -1] * 2, [1, -1] * 4], np.float32).T.reshape(2, 4, 3)
    features, style = (scale * signs + shift for scale, shift in (([1.0, 2.0, 0.5], 1.0), ([3.0, 1.0, 0.7], [0, 2, 1])))
    features, style = (np.asarray(each, np.float32) for each in (features, style))
    value = LOSSES[name].loss(features, LOSSES[name].fit(style))
    np.testing.assert_allclose(value, references.mean_std_loss(features, style), rtol=1e-3)


@pytest.mark.parametrize("name", WASSERSTEIN)
def test_wasserstein_distance_of_a_shift(name: str) -> None:
    """The mean squared shift; its gradient is 2 shift / (c n), the same everywhere."""
    style, shift = random_features(1, 10, 10, 4), np.asarray([1.0, -2.0, 0.5, 3.0], np.float32)
    loss = LOSSES[name]
    value, gradient = jax.jit(jax.value_and_grad(loss.loss))(jnp.asarray(style + shift), loss.fit(style))
    np.testing.assert_allclose(value, np.mean(shift**2), rtol=1e-5)
    np.testing.assert_allclose(gradient, np.broadcast_to(2 * shift / 400, style.shape), atol=1e-6)


@pytest.mark.parametrize("name", WASSERSTEIN)
def test_symmetries_of_the_wasserstein_distance(name: str) -> None:
    x, y = random_features(1, 9, 9, 6), 2 * random_features(2, 5, 14, 6) + 0.5
    loss = LOSSES[name]
    value = loss.loss(x, loss.fit(y))
    np.testing.assert_allclose(loss.loss(y, loss.fit(x)), value, rtol=1e-5)
    rotation = np.linalg.qr(random_features(3, 6, 6))[0].astype(np.float32)
    np.testing.assert_allclose(loss.loss(x @ rotation, loss.fit(y @ rotation)), value, rtol=1e-5)
    np.testing.assert_allclose(loss.loss(10 * x, loss.fit(10 * y)), 100 * value, rtol=1e-3)


def few_positions(channels: int) -> tuple[Any, Any]:
    """64 positions, standard deviations from 30 to 3000, as in VGG19, and covariances of rank 63 at most."""
    mixing = np.geomspace(30, 3000, channels)[:, None] * np.linalg.qr(random_features(3, channels, channels))[0]
    first, second = (random_features(seed, 8, 8, channels) for seed in (1, 2))
    return (first @ mixing).astype(np.float32), (second @ mixing[::-1]).astype(np.float32)


def exact_gradient(features: Array, style: Array, eps: float) -> Array:
    """2/(c n) (x - T x) plus the part of the means, with T from a factor of the covariance, which is more accurate."""
    (mean, _), (style_mean, matrix) = references.moments(features), references.moments(style)
    channels, centred = len(mean), rows(features) - mean
    values, vectors = np.linalg.eigh(matrix + eps * np.eye(channels))
    root = vectors * np.sqrt(values) @ vectors.T
    factor = np.concatenate([centred.T / np.sqrt(len(centred)), np.sqrt(eps) * np.eye(channels)], axis=1)
    left, _, right = np.linalg.svd(root @ factor, full_matrices=False)
    transported = np.sqrt(len(centred)) * (root @ left @ right)[:, : len(centred)].T
    gradient = 2 / (channels * len(centred)) * (centred - transported + mean - style_mean)
    return gradient.reshape(features.shape)


@pytest.mark.parametrize("channels", [64, 192])
def test_converged_wasserstein_distance_of_few_positions(channels: int) -> None:
    features, style = few_positions(channels)
    loss = LOSSES["wasserstein-converged"]
    value, gradient = jax.jit(jax.value_and_grad(loss.loss))(jnp.asarray(features), loss.fit(style))
    np.testing.assert_allclose(value, references.wasserstein_loss(features, style), rtol=1e-4)
    exact = exact_gradient(features, style, 1e-4)
    assert np.linalg.norm(gradient - exact) < 0.02 * np.linalg.norm(exact)
    at_target, rest = jax.jit(jax.value_and_grad(loss.loss))(jnp.asarray(style), loss.fit(style))
    assert abs(at_target) < 1e-4 * value
    assert np.linalg.norm(rest) < 0.01 * np.linalg.norm(exact)


def test_published_wasserstein_distance_of_few_positions() -> None:
    """After twelve iterations the value is slightly too large, and the gradient has nearly the right direction."""
    features, style = few_positions(64)
    loss = Wasserstein(iterations=12)
    value, gradient = jax.jit(jax.value_and_grad(loss.loss))(jnp.asarray(features), loss.fit(style))
    exact = references.wasserstein_loss(features, style)
    assert exact < value < 1.1 * exact
    expected = exact_gradient(features, style, 1e-4)
    cosine = np.sum(gradient * expected) / (np.linalg.norm(gradient) * np.linalg.norm(expected))
    assert cosine > 0.97


def test_invalid_arguments() -> None:
    features = random_features(1, 4, 4, 3)
    with pytest.raises(JnstError, match=r"eps -0\.1 is invalid"):
        Wasserstein(eps=-0.1).fit(features)
    with pytest.raises(JnstError, match="eps nan is invalid"):
        Wasserstein(eps=float("nan")).fit(features)
    with pytest.raises(JnstError, match=r"iterations 30 .*choose 1 to 18"):
        Wasserstein(iterations=30).fit(features)
    with pytest.raises(JnstError, match=r"reduction 'maen'.*mean, sum"):
        MeanStd("maen").loss(features, MeanStd().fit(features))
    with pytest.raises(JnstError, match=r"reduction 'maen'.*mean, sum"):
        Covariance("maen").loss(features, Covariance().fit(features))
