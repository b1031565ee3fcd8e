"""Gram matrices against float64 NumPy, and their symmetries and scales."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_features
from hypothesis import given, settings
from hypothesis import strategies as st

from jnst.errors import JnstError
from jnst.statistics import GRAM_NORMALIZATIONS, flatten_positions, gram_matrix, mean_std

pytestmark = pytest.mark.usefixtures("unoptimised")

DIVISORS = {"chw": 6 * 7 * 5, "hw": 6 * 7, "none": 1}


@pytest.mark.parametrize("normalization", GRAM_NORMALIZATIONS)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_against_sums_of_outer_products(normalization: str, batch: tuple[int, ...]) -> None:
    features = random_features(1, *batch, 6, 7, 5)
    exact = np.zeros((*batch, 5, 5))
    for y, x in np.ndindex(6, 7):
        vector = features[..., y, x, :].astype(np.float64)
        exact += vector[..., :, None] * vector[..., None, :]
    gram = gram_matrix(features, normalization)
    assert gram.dtype == jnp.float32
    np.testing.assert_allclose(gram, exact / DIVISORS[normalization], rtol=1e-5, atol=1e-6 * np.abs(exact).max())


def test_normalizations_differ_by_exact_factors() -> None:
    """With 64 positions and 4 channels all divisions are exact."""
    features = random_features(2, 8, 8, 4)
    chw, hw, none = (np.asarray(gram_matrix(features, name)) for name in ("chw", "hw", "none"))
    np.testing.assert_array_equal(hw * 64, none)
    np.testing.assert_array_equal(chw * 256, none)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 4), width=st.integers(1, 4), channels=st.integers(1, 6))
def test_symmetric_and_positive_semi_definite(seed: int, height: int, width: int, channels: int) -> None:
    """Also with fewer positions than channels, where the matrix is singular."""
    gram = np.asarray(gram_matrix(random_features(seed, height, width, channels)), np.float64)
    largest = np.abs(gram).max()
    np.testing.assert_allclose(gram, gram.T, atol=1e-6 * largest)
    assert np.linalg.eigvalsh(gram).min() >= -1e-6 * channels * largest


def test_permuted_positions() -> None:
    features = random_features(3, 6, 7, 5)
    shuffled = np.random.default_rng(0).permutation(features.reshape(-1, 5)).reshape(7, 6, 5)
    np.testing.assert_allclose(gram_matrix(jnp.asarray(shuffled)), gram_matrix(features), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(gram_matrix(features[::-1, ::-1]), gram_matrix(features), rtol=1e-4, atol=1e-7)


def test_permuted_channels() -> None:
    features, order = random_features(4, 6, 7, 5), [3, 0, 4, 1, 2]
    permuted = np.asarray(gram_matrix(features))[order][:, order]
    np.testing.assert_allclose(gram_matrix(features[..., order]), permuted, rtol=1e-5)


def test_images_of_a_batch_are_independent() -> None:
    features = random_features(5, 3, 6, 7, 5)
    changed = features.copy()
    changed[1] = 1e3
    before, after = np.asarray(gram_matrix(features)), np.asarray(gram_matrix(changed))
    np.testing.assert_array_equal(before[[0, 2]], after[[0, 2]])
    assert (before[1] != after[1]).all()


def test_half_precision_accumulates_in_float32() -> None:
    """A sum of 4096 ones in bfloat16 would stop at 256."""
    gram = gram_matrix(jnp.ones((64, 64, 2), jnp.bfloat16), "none")
    assert gram.dtype == jnp.float32
    np.testing.assert_array_equal(gram, np.full((2, 2), 4096.0))


def test_gradients_of_half_precision_features_are_as_exact_as_those() -> None:
    """Of ``‖G - T‖²`` by the features: ``4 F (G - T)``, here in float64 with the same rounded features."""
    features = jnp.asarray(np.maximum(random_features(8, 32, 32, 64), 0), jnp.bfloat16)
    target = gram_matrix(jnp.asarray(np.maximum(random_features(9, 32, 32, 64), 0), jnp.bfloat16))
    gradient = jax.jit(jax.grad(lambda features: jnp.sum((gram_matrix(features) - target) ** 2)))(features)
    rows = np.asarray(features, np.float64).reshape(-1, 64)
    exact = 4 * rows @ (rows.T @ rows / features.size - np.asarray(target, np.float64)) / features.size
    found = np.asarray(gradient, np.float64).reshape(-1, 64)
    assert np.linalg.norm(found - exact) < 2e-3 * np.linalg.norm(exact)


def test_flattening_keeps_the_order_of_positions() -> None:
    features = random_features(6, 2, 3, 4, 5)
    rows = np.asarray(flatten_positions(jnp.asarray(features)))
    assert rows.shape == (2, 12, 5)
    for y, x in np.ndindex(3, 4):
        np.testing.assert_array_equal(rows[:, 4 * y + x], features[:, y, x])


@pytest.mark.parametrize("statistic", [gram_matrix, mean_std])
def test_features_without_positions_raise(statistic: Any) -> None:
    """Their mean would be NaN. Pooling a 1x1 image gives such features."""
    with pytest.raises(JnstError, match=r"shape \(2, 0, 3, 5\) have no positions: use a larger image"):
        statistic(jnp.zeros((2, 0, 3, 5)))


def test_unknown_normalization() -> None:
    with pytest.raises(JnstError, match="normalization 'wh' is unknown: choose one of chw, hw, none"):
        gram_matrix(jnp.zeros((2, 2, 2)), "wh")
