"""Waves as an optimiser's variables; units and scales are in test_optimizers and test_optimizers_settings."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import random_features
from test_optimizers import descend

from jnst.bases import in_waves
from jnst.optimizers import LBFGS

SHAPES = [(6, 9), (9, 6), (8, 8), (1, 5), (1, 1)]


def wave_matrix(height: int, width: int, power: float) -> np.ndarray:
    """The filter as a dense matrix in float64: every wave divided by the power of twice its frequency."""
    rows, columns = (np.fft.fft(np.eye(size)) for size in (height, width))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij"))
    factor = (2 * np.maximum(frequency, 1 / max(height, width))) ** -power
    waves = np.kron(rows, columns)
    return np.real(waves.conj().T @ (factor.reshape(-1, 1) * waves)) / (height * width)


def problem(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A start, a target and a curvature for every value: ``(h, w, 3)``."""
    curvature = np.linspace(1.0, 9.0, height * width * 3, dtype=np.float32).reshape(height, width, 3)
    return random_features(1, height, width, 3), random_features(2, height, width, 3), curvature


@pytest.mark.parametrize("power", [0.25, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_descent_on_waves_is_a_linear_preconditioner(shape: tuple[int, int], power: float) -> None:
    """Each step goes along P Pᵀ g, odd sizes and single rows too."""
    start, target, curvature = problem(*shape)
    matrix = wave_matrix(*shape, power)
    x = np.asarray(start, np.float64).reshape(-1, 3)
    for _ in range(5):
        x = x - 0.01 * matrix @ matrix.T @ (curvature * (x.reshape(start.shape) - target)).reshape(-1, 3)
    loss = lambda x: 0.5 * jnp.sum(curvature * (x - target) ** 2)  # noqa: E731
    found, _ = descend(in_waves(optax.sgd(0.01), power), loss, start, 5)
    np.testing.assert_allclose(np.asarray(found).reshape(-1, 3), x, atol=1e-4)
    assert np.abs(x.reshape(start.shape) - start).max() > 0.02


@pytest.mark.parametrize("zoom", [False, True])
def test_lbfgs_on_waves_is_lbfgs_of_their_amplitudes(zoom: bool) -> None:
    """A run on x = P z equals one on z of the loss at P z, with the dense P: curvature pairs and line search too."""
    start, target, curvature = problem(6, 8)
    matrix = wave_matrix(6, 8, 0.5)
    dense = jnp.asarray(matrix, jnp.float32)

    def loss(x: Any) -> Any:
        return 0.5 * jnp.sum(curvature * (x - target) ** 2)

    amplitudes = np.linalg.solve(matrix, start.reshape(-1, 3).astype(np.float64)).astype(np.float32)
    plain = LBFGS(memory_size=5, zoom=zoom).transformation()
    z, expected = descend(plain, lambda z: loss((dense @ z).reshape(start.shape)), amplitudes, 7)
    x, values = descend(LBFGS(memory_size=5, zoom=zoom, decay_power=0.5).transformation(), loss, start, 7)
    np.testing.assert_allclose(values, expected, rtol=1e-3)
    np.testing.assert_allclose(np.asarray(x).reshape(-1, 3), matrix @ np.asarray(z), atol=2e-3)
    assert values[-1] < 0.1 * values[0]


def test_large_forms_move_further_than_fine_grain() -> None:
    """At the same gradient a wave of one cycle in 16 pixels moves (8 / 1) ** 0.5 as far as one of 8 cycles."""
    column = np.arange(16)
    coarse, fine = (np.broadcast_to(np.cos(2 * np.pi * k * column / 16)[None, :, None], (16, 16, 3)) for k in (1, 8))
    method: Any = in_waves(optax.sgd(1.0), 0.25)
    moved, other = (method.update(jnp.asarray(wave), method.init(jnp.zeros((16, 16, 3))))[0] for wave in (coarse, fine))
    np.testing.assert_allclose(moved, -(8**0.5) * coarse, atol=1e-5)
    np.testing.assert_allclose(other, -fine, atol=1e-5)


def test_one_step_where_the_curvature_is_that_of_the_waves() -> None:
    """A loss with the Hessian (P Pᵀ)⁻¹, whose stiffness grows with the frequency, is at its minimum after one step."""
    start, target, _ = problem(6, 8)
    stiffness = np.linalg.inv(np.linalg.matrix_power(wave_matrix(6, 8, 0.5), 2)).astype(np.float32)

    def loss(x: Any) -> Any:
        rest = (x - target).reshape(-1, 3)
        return 0.5 * jnp.sum(rest * (stiffness @ rest))

    found, _ = descend(in_waves(optax.sgd(1.0), 0.5), loss, start, 1)
    np.testing.assert_allclose(found, target, atol=1e-4)
    pixels, _ = descend(optax.sgd(1.0), loss, start, 1)
    assert np.abs(np.asarray(pixels) - target).max() > 0.1
