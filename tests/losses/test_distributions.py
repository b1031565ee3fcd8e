"""Losses on distributions: closed forms, different sizes and weights, ties, and directions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_features
from losses.sorted_references import rows, transported, unit_vectors

from jnst.errors import JnstError
from jnst.losses import Histogram, SlicedWasserstein, channel_quantiles, histogram_loss, sliced_wasserstein_loss
from jnst.statistics import directions, distributions, quantiles, transport, weighted_set

pytestmark = pytest.mark.usefixtures("unoptimised")

LOSSES = [SlicedWasserstein(7), Histogram()]


def named(loss: Any) -> str:
    return repr(loss)


def test_directions_are_uniform_on_the_sphere() -> None:
    vectors = np.asarray(directions(jax.random.key(1), 4, 20000), np.float64)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(vectors.mean(0), 0.0, atol=0.02)
    np.testing.assert_allclose(vectors.T @ vectors / len(vectors), np.eye(4) / 4, atol=0.01)
    # In four dimensions a coordinate has the fourth moment 3 / (4 * 6). The tolerances are five standard deviations.
    np.testing.assert_allclose((vectors**4).mean(0), 1 / 8, atol=0.007)


@pytest.mark.parametrize("count", [None, 3])
def test_translation(count: int | None) -> None:
    """A shift by v has the distance (v . d)² along direction d, and the gradient at each position is along d."""
    features, shift = random_features(1, 6, 7, 5), np.asarray([0.5, -1.0, 2.0, 0.0, 0.25])
    loss = SlicedWasserstein(count)
    target = loss.fit(jnp.asarray(features + shift, jnp.float32))
    value, gradient = jax.jit(jax.value_and_grad(lambda x: loss.loss(x, target)))(jnp.asarray(features))
    vectors = unit_vectors(5, count or 5)
    np.testing.assert_allclose(value, np.mean((vectors @ shift) ** 2), rtol=1e-5)
    pull = -2 * vectors.T @ (vectors @ shift) / len(vectors) / 42
    np.testing.assert_allclose(gradient, np.broadcast_to(pull, features.shape), rtol=1e-4, atol=1e-6)


def test_scaling_by_a_factor() -> None:
    features = random_features(1, 6, 7, 5)
    loss = SlicedWasserstein()
    expected = 0.25 * np.mean((rows(features) @ unit_vectors(5, 5).T) ** 2)
    np.testing.assert_allclose(loss.loss(features, loss.fit(1.5 * features)), expected, rtol=1e-5)
    histogram = histogram_loss(features, channel_quantiles(1.5 * features), "mean")
    np.testing.assert_allclose(histogram, 0.25 * np.mean(features**2), rtol=1e-5)


def test_along_the_channels_it_is_the_histogram_loss() -> None:
    features, style = random_features(1, 6, 7, 5), random_features(2, 9, 4, 5)
    sliced = sliced_wasserstein_loss(features, weighted_set(style), jnp.eye(5))
    np.testing.assert_allclose(sliced, histogram_loss(features, channel_quantiles(style)), rtol=1e-6)


@pytest.mark.parametrize("sizes", [(6, 6), (6, 12), (12, 6), (5, 7), (1, 6), (5, 1), (40, 97)])
@pytest.mark.parametrize("weighted", ["neither", "values", "target", "both"])
def test_transport_between_sets_of_any_size(sizes: tuple[int, int], weighted: str) -> None:
    """Against exact ranks in integers."""
    rng = np.random.default_rng(sum(sizes))
    values, goal = (rng.standard_normal(size).astype(np.float32) for size in sizes)
    weights = rng.integers(1, 5, sizes[0]) if weighted in ("values", "both") else None
    goal_weights = rng.integers(0, 4, sizes[1]) + (np.arange(sizes[1]) == 0) if weighted in ("target", "both") else None
    shares = None if goal_weights is None else jnp.asarray(goal_weights / goal_weights.sum(), jnp.float32)
    target = quantiles(jnp.asarray(goal), shares)
    weight = None if weights is None else jnp.asarray(weights, jnp.float32)
    moved = jax.jit(transport)(jnp.asarray(values), target, weight)
    np.testing.assert_allclose(moved, transported(values, goal, weights, goal_weights), atol=1e-6)


def test_sorting_of_special_values() -> None:
    values = np.asarray([3.0, -0.0, -1e-42, 0.0, 1e-42, np.inf, -np.inf, -2.5, -1e38, 1e-30, 7e37], np.float32)
    np.testing.assert_array_equal(quantiles(jnp.asarray(values)).values, np.sort(values))


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_tiles_of_a_style_have_its_style(loss: Any) -> None:
    tile = random_features(1, 4, 4, 5)
    np.testing.assert_allclose(loss.loss(jnp.tile(tile, (3, 2, 1)), loss.fit(tile)), 0.0, atol=1e-10)


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_integer_weights_of_the_style_are_repeated_positions(loss: Any) -> None:
    features, style = random_features(1, 6, 7, 5), random_features(2, 1, 20, 5)
    counts = np.random.default_rng(3).integers(0, 4, 20)
    guided = loss.fit(style, jnp.asarray(counts[None], jnp.float32))
    repeated = loss.fit(np.repeat(style, counts, axis=1))
    measure = jax.jit(loss.loss)
    np.testing.assert_allclose(measure(features, guided), measure(features, repeated), rtol=1e-5)


def test_value_and_gradient_under_a_guide() -> None:
    """For each channel, the gradient is twice the weighted difference from the matched values."""
    features, style = random_features(1, 6, 7, 3), random_features(2, 5, 8, 3)
    guide, counts = np.random.default_rng(3).integers(0, 4, (6, 7)), np.random.default_rng(4).integers(0, 3, (5, 8))
    target = channel_quantiles(style, jnp.asarray(counts, jnp.float32))
    moved = [
        transported(channel, goal, guide.ravel(), counts.ravel())
        for channel, goal in zip(rows(features).T, rows(style).T, strict=True)
    ]
    difference = (rows(features) - np.transpose(moved)).reshape(features.shape)
    weights = (guide / guide.mean())[..., None] / features.size
    value, gradient = jax.jit(
        jax.value_and_grad(lambda x: histogram_loss(x, target, "mean", jnp.asarray(guide, jnp.float32)))
    )(jnp.asarray(features))
    np.testing.assert_allclose(value, np.sum(weights * difference**2), rtol=1e-5)
    np.testing.assert_allclose(gradient, 2 * weights * difference, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_a_blend_of_images_of_different_sizes(loss: Any) -> None:
    """A quarter of 6 positions and three quarters of 8: as if each were repeated 4 and 9 times."""
    features, first, second = random_features(1, 4, 5, 5), random_features(2, 1, 6, 5), random_features(3, 1, 8, 5)
    blended = loss.blend([loss.fit(first), loss.fit(second)], jnp.asarray([0.25, 0.75]))
    together = loss.fit(np.concatenate([np.repeat(first, 4, axis=1), np.repeat(second, 9, axis=1)], axis=1))
    measure = jax.jit(loss.loss)
    np.testing.assert_allclose(measure(features, blended), measure(features, together), rtol=1e-5)
    of_one = loss.blend([loss.fit(first), loss.fit(second)], jnp.asarray([0.0, 1.0]))
    np.testing.assert_allclose(measure(features, of_one), measure(features, loss.fit(second)), rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_equal_values_are_spread_over_the_target(loss: Any) -> None:
    """The distance of an image of zeros is the mean squared projection of the style's vectors."""
    style = random_features(2, 6, 7, 5)
    value = loss.loss(jnp.zeros((6, 7, 5)), loss.fit(style))
    if isinstance(loss, Histogram):
        expected = np.mean(style**2)
    else:
        expected = np.mean((rows(style) @ unit_vectors(5, loss.directions or 5).T) ** 2)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_a_key_draws_new_directions() -> None:
    features, style = random_features(1, 6, 7, 5), random_features(2, 6, 7, 5) + 0.3
    loss = SlicedWasserstein(2)
    target = loss.fit(style)
    keys = jax.random.split(jax.random.key(5), 400)
    values = jax.vmap(lambda key: loss.loss(features, target, key=key))(keys)
    assert len(np.unique(values)) == 400
    assert loss.loss(features, target, key=keys[0]) == loss.loss(features, target, key=keys[0])
    assert loss.loss(features, target) == loss.loss(features, target, key=jax.random.key(0))
    many = sliced_wasserstein_loss(features, target, directions(jax.random.key(6), 5, 4000))
    np.testing.assert_allclose(np.mean(values), many, rtol=0.1)


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_sorting_in_chunks(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    features, style, guide = random_features(1, 6, 7, 5), random_features(2, 9, 4, 5), np.ones((6, 7), np.float32)
    target = loss.fit(style, jnp.linspace(0.0, 1.0, 36).reshape(9, 4))

    def run() -> tuple[Any, Any]:
        return jax.jit(jax.value_and_grad(lambda x: loss.loss(x, target, guide)))(jnp.asarray(features))

    value, gradient = run()
    monkeypatch.setattr(distributions, "MOST_SORTED", 2 * (42 + 36))
    np.testing.assert_allclose(run()[0], value, rtol=1e-6)
    np.testing.assert_allclose(run()[1], gradient, atol=1e-6 * np.abs(gradient).max())


def test_a_guide_of_zeros_gives_zero() -> None:
    features, target = random_features(1, 6, 7, 5), random_features(2, 6, 7, 5)
    for loss in LOSSES:
        value, gradient = jax.jit(
            jax.value_and_grad(lambda x, loss=loss: loss.loss(x, loss.fit(target), jnp.zeros((6, 7))))
        )(jnp.asarray(features))
        assert value == 0
        assert not np.asarray(gradient).any()


def test_invalid_arguments() -> None:
    with pytest.raises(JnstError, match="directions 0 is invalid: give at least 1"):
        SlicedWasserstein(0)
    features = jnp.zeros((3, 3, 4))
    with pytest.raises(JnstError, match=r"4 channels, the target 4, the directions 3: .*draw directions"):
        sliced_wasserstein_loss(features, weighted_set(features), jnp.eye(3))
    with pytest.raises(JnstError, match=r"reduction 'man' .*mean, sum"):
        Histogram("man").loss(features, Histogram().fit(features))
