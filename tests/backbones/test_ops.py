"""Pooling, ReLU and convolution against NumPy loops, and their gradients."""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_features

from jnst.backbones import ops

pytestmark = pytest.mark.usefixtures("unoptimised")

REDUCE = {"max": np.max, "avg": np.mean, "l2": lambda window, axis: np.sqrt(np.sum(window**2, axis=axis))}
MODES = {"zero": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
WINDOWS = list(itertools.product(REDUCE, [(2, 2), (3, 2)], [False, True]))


def loop(x: np.ndarray, pooling: str, window: int, stride: int, ceil: bool) -> np.ndarray:
    """Pool window by window; windows are cut off at the border."""
    count = math.ceil if ceil else math.floor
    rows, columns = (count((size - window) / stride) + 1 for size in x.shape[1:3])
    y = np.zeros((x.shape[0], rows, columns, x.shape[3]))
    for i, j in np.ndindex(rows, columns):
        part = x[:, i * stride : i * stride + window, j * stride : j * stride + window]
        y[:, i, j] = REDUCE[pooling](part.astype(np.float64), axis=(1, 2))
    return y


@pytest.mark.parametrize(("pooling", "window", "ceil"), WINDOWS)
@pytest.mark.parametrize("size", [(4, 5), (7, 8)])
def test_pooling_against_a_loop(pooling: str, window: tuple[int, int], ceil: bool, size: tuple[int, int]) -> None:
    x = random_features(1, 2, *size, 3)
    y = ops.pool(jnp.asarray(x), pooling, window=window[0], stride=window[1], ceil=ceil)
    np.testing.assert_allclose(y, loop(x, pooling, *window, ceil), rtol=1e-5)


@pytest.mark.parametrize("size", [(4, 5), (7, 8), (1, 2)])
def test_hann_pooling_against_a_loop(size: tuple[int, int]) -> None:
    """DISTS: 3x3 taps (1 2 1) x (1 2 1) / 16 around every second position, with zeros beyond the border."""
    x = random_features(1, 2, *size, 3)
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = np.outer([1, 2, 1], [1, 2, 1])[None, :, :, None] / 16
    y = np.zeros((2, (size[0] + 1) // 2, (size[1] + 1) // 2, 3))
    for i, j in np.ndindex(y.shape[1:3]):
        y[:, i, j] = np.sqrt((taps * padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] ** 2).sum((1, 2)) + 1e-12)
    np.testing.assert_allclose(ops.hann_pool(jnp.asarray(x)), y, rtol=1e-5)


@pytest.mark.parametrize("ceil", [False, True])
def test_hann_pooling_of_odd_windows_needs_no_padding(ceil: bool) -> None:
    x = random_features(1, 1, 7, 8, 2)
    y = ops.hann_pool(jnp.asarray(x), 3, 2, ceil)
    assert y.shape == ops.max_pool(jnp.asarray(x), 3, 2, ceil).shape
    taps = np.outer([1, 2, 1], [1, 2, 1])[:, :, None] / 16
    np.testing.assert_allclose(
        y[0, 1, 2], np.sqrt((taps * x[0, 2:5, 4:7].astype(np.float64) ** 2).sum((0, 1))), rtol=1e-5
    )


def test_hann_pooling_of_zeros_has_gradient_0() -> None:
    gradient = jax.grad(lambda x: ops.hann_pool(x).sum())(jnp.zeros((1, 4, 4, 2)))
    np.testing.assert_array_equal(gradient, 0)


def test_rescaling_multiplies_by_a_constant() -> None:
    x = jnp.asarray(random_features(1, 1, 4, 4, 2))
    for pooling, factor in {"max": 1.0, "avg": 2.0, "l2": 0.78, "hann": 1.56}.items():
        plain, rescaled = ops.pool(x, pooling), ops.pool(x, pooling, rescale=True)
        np.testing.assert_allclose(rescaled, factor * np.asarray(plain), rtol=1e-6)


def test_gradient_of_max_pooling_goes_to_the_maximum() -> None:
    x = random_features(2, 1, 4, 6, 2)
    gradient = np.asarray(jax.grad(lambda x: ops.max_pool(x).sum())(jnp.asarray(x)))
    windows = x.reshape(1, 2, 2, 3, 2, 2)
    expected = windows == windows.max(axis=(2, 4), keepdims=True)
    np.testing.assert_array_equal(gradient, expected.reshape(x.shape))


@pytest.mark.parametrize(("window", "ceil"), [(2, False), (2, True), (3, False), (3, True)])
def test_gradient_of_max_pooling_among_equal_values(window: int, ceil: bool) -> None:
    """It goes to the first of each window, row by row, as in PyTorch. Windows may overlap."""
    x = random_features(3, 1, 7, 8, 2).round().astype(np.float32)
    expected = np.zeros_like(x)
    shape = jax.eval_shape(lambda x: ops.max_pool(x, window, 2, ceil), x).shape
    weights = random_features(4, *shape)
    for n, i, j, c in np.ndindex(shape):
        part = x[n, 2 * i : 2 * i + window, 2 * j : 2 * j + window, c]
        row, column = np.unravel_index(part.argmax(), part.shape)
        expected[n, 2 * i + row, 2 * j + column, c] += weights[n, i, j, c]
    gradient = jax.grad(lambda x: jnp.vdot(weights, ops.max_pool(x, window, 2, ceil)))(jnp.asarray(x))
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("output_is_kept", [True, False])
def test_gradient_of_relu(output_is_kept: bool) -> None:
    x = jnp.asarray([-1.0, -0.0, 0.0, 2.0])
    value, gradient = jax.value_and_grad(lambda x: (3.0 * ops.relu(x, output_is_kept)).sum())(x)
    assert value == 6
    np.testing.assert_array_equal(gradient, [0, 0, 0, 3])
    np.testing.assert_array_equal(jax.jacfwd(lambda x: ops.relu(x, output_is_kept))(x), np.diag([0, 0, 0, 1]))


def test_gradient_of_l2_pooling_is_zero_where_the_window_is_zero() -> None:
    """It is x / |x| elsewhere."""
    x = np.zeros((1, 4, 2, 1), np.float32)
    x[0, :2, :, 0] = [[3, 0], [0, 4]]
    gradient = np.asarray(jax.grad(lambda x: ops.l2_pool(x).sum())(jnp.asarray(x)))
    np.testing.assert_allclose(gradient[0, :, :, 0], [[0.6, 0], [0, 0.8], [0, 0], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize("padding", ops.PADDINGS)
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_against_a_loop(padding: str, stride: int) -> None:
    x, kernel, bias = random_features(3, 1, 5, 6, 2), random_features(4, 3, 3, 2, 4), random_features(5, 4)
    mode: Any = MODES[padding]
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
    rows, columns = (-(-size // stride) for size in (5, 6))
    y = np.zeros((1, rows, columns, 4))
    for i, j in np.ndindex(rows, columns):
        part = padded[0, i * stride : i * stride + 3, j * stride : j * stride + 3]
        y[0, i, j] = np.einsum("abc,abcd->d", part, kernel) + bias
    ours = ops.convolve(jnp.asarray(x), jnp.asarray(kernel), jnp.asarray(bias), stride=stride, padding=padding)
    np.testing.assert_allclose(ours, y, rtol=1e-4, atol=1e-5)
