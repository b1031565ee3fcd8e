"""Distances, nearest neighbours, samples and hypercolumns against float64 NumPy and closed forms."""

import inspect
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_features
from losses import nearest_references as references

import jnst.statistics.distances as distances_module
import jnst.statistics.patch_search as patches_module
from jnst.errors import JnstError
from jnst.statistics import (
    DISTANCES,
    cosine_distances,
    draw_positions,
    hypercolumns,
    nearest_patches,
    nearest_rows,
    normalize_rows,
    patches,
    squared_distances,
)
from jnst.statistics.hypercolumn import hypercolumn_weights
from jnst.statistics.sampling import take_rows

pytestmark = pytest.mark.usefixtures("unoptimised")


def test_matrices_of_distances() -> None:
    x, y = random_features(1, 2, 9, 5), random_features(2, 7, 5)
    for index in range(2):
        np.testing.assert_allclose(cosine_distances(x, y)[index], references.cosine(x[index], y), atol=1e-6)
        exact = 5 * references.euclidean(x[index], y) ** 2
        np.testing.assert_allclose(squared_distances(x, y)[index], exact, rtol=1e-5)


@pytest.mark.parametrize("name", DISTANCES)
def test_paired_distances_are_the_diagonal(name: str) -> None:
    x, y = random_features(1, 8, 5), random_features(2, 8, 5)
    all_pairs, paired = DISTANCES[name]
    np.testing.assert_allclose(paired(x, y), np.diagonal(all_pairs(x, y)), rtol=1e-5)
    np.testing.assert_array_equal(paired(x, x), np.zeros(8))
    for distance in (all_pairs, paired):
        gradient = jax.jit(jax.grad(lambda x, distance=distance: distance(x, x[::-1]).sum()))(jnp.ones((3, 5)))
        assert np.isfinite(gradient).all()


def test_rows_of_zeros() -> None:
    rows = jnp.asarray([[3.0, 4.0], [0.0, 0.0], [1e-12, 0.0]])
    np.testing.assert_allclose(normalize_rows(rows), [[0.6, 0.8], [0, 0], [0, 0]], rtol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: normalize_rows(x)[:, 0].sum()))(rows)
    np.testing.assert_allclose(gradient, [[0.64 / 5, -0.48 / 5], [0, 0], [0, 0]], rtol=1e-5)


@pytest.mark.parametrize("most", [2**24, 40, 3])
def test_nearest_rows(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one chunk, in chunks of four rows with a remainder, and row by row."""
    monkeypatch.setattr(distances_module, "LARGEST_MATRIX", most)
    x, y = random_features(1, 2, 11, 5), random_features(2, 9, 5)
    x_allowed, y_allowed = np.arange(11) % 3 != 1, np.arange(9) < 6
    search: Any = inspect.unwrap(nearest_rows)
    for masks in [(None, None), (x_allowed, y_allowed)]:
        of_x, of_y = search(x, y, cosine_distances, *masks)
        for index in range(2):
            exact = references.cosine(x[index], y)
            to_y, to_x = exact.copy(), exact.copy()
            if masks[0] is not None:
                to_y[:, ~y_allowed] = to_x[~x_allowed] = np.inf
            np.testing.assert_array_equal(of_x[index], to_y.argmin(1))
            np.testing.assert_array_equal(of_y[index], to_x.argmin(0))


def test_the_index_is_0_where_nothing_is_allowed() -> None:
    of_x, of_y = nearest_rows(jnp.ones((3, 2)), jnp.ones((4, 2)), x_allowed=jnp.zeros(3), y_allowed=jnp.zeros(4))
    np.testing.assert_array_equal(of_x, np.zeros(3))
    np.testing.assert_array_equal(of_y, np.zeros(4))


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (2, 3), (1, 1)])
def test_patches_are_neighbourhoods(size: int, stride: int) -> None:
    features = random_features(1, 2, 7, 6, 4)
    vectors = np.asarray(patches(features, size, stride))
    for index in range(2):
        expected = references.patch_list(features[index], size, stride)
        np.testing.assert_array_equal(vectors[index].reshape(len(expected), -1), [p.ravel() for p in expected])
    assert vectors.shape[1:] == ((7 - size) // stride + 1, (6 - size) // stride + 1, size * size * 4)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (2, 3)])
@pytest.mark.parametrize("most", [2**24, 2000, 1])
def test_nearest_patches(size: int, stride: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one band, in bands with a remainder, and row by row."""
    monkeypatch.setattr(patches_module, "LARGEST_MATRIX", most)
    features, others = random_features(1, 2, 10, 7, 4), random_features(2, 8, 9, 4)
    candidates = references.patch_list(others, size, stride)
    allowed = np.arange(len(candidates)) % 4 != 2
    grid = ((8 - size) // stride + 1, (9 - size) // stride + 1)
    search: Any = inspect.unwrap(nearest_patches)
    indices, scores = search(features, others, allowed.reshape(grid), size, stride)
    for index in range(2):
        mine = np.array([p.ravel() for p in references.patch_list(features[index], size, stride)])
        units = np.array([p.ravel() / np.linalg.norm(p) for p in candidates])
        exact = np.where(allowed, mine @ units.T, -np.inf)
        np.testing.assert_array_equal(np.ravel(indices[index]), exact.argmax(1))
        np.testing.assert_allclose(np.ravel(scores[index]), exact.max(1), rtol=1e-5)


def test_features_without_a_patch_raise() -> None:
    with pytest.raises(JnstError, match=r"2x9 positions have no 3x3 patch: use a larger image"):
        patches(jnp.zeros((2, 9, 4)))
    with pytest.raises(JnstError, match="size 3 at stride 0"):
        patches(jnp.zeros((9, 9, 4)), 3, 0)


def test_a_sample_of_few_positions_is_all_of_them() -> None:
    weights = jnp.asarray([0.1, 0.0, 0.9])
    indices, drawn = draw_positions(weights, 3, key=jax.random.key(1))
    np.testing.assert_array_equal(indices, [0, 1, 2])
    np.testing.assert_array_equal(drawn, weights)


def test_samples_estimate_sums() -> None:
    """The mean estimate over 4000 samples is the sum, within five standard errors."""
    rng = np.random.default_rng(1)
    weights, values = rng.uniform(size=60) ** 3, rng.standard_normal(60)
    weights[::4] = 0
    draw = jax.vmap(lambda key: draw_positions(jnp.asarray(weights, jnp.float32), 20, key=key))
    indices, drawn = map(np.asarray, draw(jax.random.split(jax.random.key(2), 4000)))
    assert all(len(set(row)) == 20 for row in indices)
    assert (indices % 4 != 0).all()
    np.testing.assert_allclose(drawn.sum(1), weights.sum(), rtol=1e-5)
    estimates = (drawn * values[indices]).sum(1)
    error = estimates.std() / np.sqrt(4000)
    assert estimates.std() > 0
    assert abs(estimates.mean() - weights @ values) < 5 * error + 0.01 * np.abs(weights @ np.abs(values))


def test_a_sample_of_fewer_weighted_positions_gives_the_rest_weight_0() -> None:
    weights = jnp.zeros(50).at[jnp.asarray([3, 30])].set(jnp.asarray([1.0, 3.0]))
    indices, drawn = draw_positions(weights, 10, key=jax.random.key(3))
    counted = {int(i): float(w) for i, w in zip(indices, drawn, strict=True) if w > 0}
    assert counted == {3: 1.0, 30: 3.0}


def test_the_images_of_a_batch_share_a_draw() -> None:
    uneven = jnp.asarray(np.random.default_rng(1).uniform(size=(2, 3, 40)), jnp.float32)
    indices, _ = draw_positions(uneven, 8, key=jax.random.key(4))
    for index in np.ndindex(2, 3):
        alone = draw_positions(uneven[index], 8, key=jax.random.key(4))
        np.testing.assert_array_equal(indices[index], alone.indices)
    assert not (draw_positions(uneven, 8, key=jax.random.key(5)).indices == indices).all()


def test_rows_of_a_batch() -> None:
    rows, indices = random_features(1, 2, 6, 3), np.array([[[0, 5], [2, 2]], [[1, 0], [3, 4]], [[5, 5], [0, 1]]])
    taken = np.asarray(take_rows(rows, indices))
    for i, j in itertools.product(range(3), range(2)):
        np.testing.assert_array_equal(taken[i, j], rows[j][indices[i, j]])


@pytest.mark.parametrize("sizes", [[(6, 7), (3, 3), (1, 1)], [(3, 4), (6, 8), (2, 2)]])
def test_hypercolumns_by_hand(sizes: list[tuple[int, int]]) -> None:
    """Also where the finest layer is not the first one."""
    layers = [random_features(seed, *size, 2 + seed) for seed, size in enumerate(sizes)]
    height, width = max(sizes)
    columns = np.asarray(hypercolumns(layers, jnp.arange(height * width)))
    finest = np.zeros((height, width, 0))
    for index, (row, column) in enumerate(np.ndindex(height, width)):
        expected = references.hypercolumn([finest, *layers], row, column)
        np.testing.assert_allclose(columns[index], expected, atol=1e-6)


def test_hypercolumns_of_a_ramp() -> None:
    """Averages of 2 x 2 blocks of a ramp lie on the same ramp, so both layers agree away from the border."""
    y, x = np.mgrid[:8, :10]
    ramp = (0.3 * y + 0.1 * x)[..., None].astype(np.float32)
    pooled = ramp.reshape(4, 2, 5, 2, 1).mean((1, 3))
    fine, coarse = np.asarray(hypercolumns([ramp, pooled], jnp.arange(80))).T.reshape(2, 8, 10)
    np.testing.assert_allclose(fine[1:-1, 1:-1], coarse[1:-1, 1:-1], rtol=1e-5)


def test_weights_of_hypercolumns() -> None:
    """The coarse guide is 0 on the right. Hypercolumns that touch those positions have weight 0."""
    layers = [np.zeros((4, 8, 2)), np.zeros((2, 4, 3))]
    fine, coarse = np.ones((4, 8), np.float32), np.ones((2, 4), np.float32)
    coarse[:, 2:], fine[0] = 0, 3
    weights = np.asarray(hypercolumn_weights(layers, (fine, coarse))).reshape(4, 8)
    # The coarse centres lie at 0.5, 2.5, 4.5, 6.5: columns 3 and 4 touch the third one.
    np.testing.assert_array_equal(weights[:, 3:], 0)
    assert (weights[:, :3] > 0).all()
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(weights[0, :3] / weights[1, :3], 2 / (2 / 3), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(hypercolumn_weights(layers)), np.full(32, 1 / 32), rtol=1e-6)
