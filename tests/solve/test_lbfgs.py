"""L-BFGS against Optax's, plain and with Fourier preconditioning; units and scales are in test_optimizers."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import random_features
from test_optimizers import descend

from jnst import load_state, save_state
from jnst.errors import ArgumentError
from jnst.solve import LBFGS, fourier_precondition, run, scale_by_lbfgs
from jnst.solve.optimizers import check_optimizer, normalize_by_first_gradient
from jnst.solve.saved import restore

pytestmark = pytest.mark.usefixtures("unoptimised")

SHAPES = [(6, 9), (9, 6), (8, 8), (1, 5), (1, 1)]


def filter_matrix(height: int, width: int, power: float) -> np.ndarray:
    """The filter as a dense matrix in float64: every wave divided by the power of twice its frequency."""
    rows, columns = (np.fft.fft(np.eye(size)) for size in (height, width))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij"))
    factor = (2 * np.maximum(frequency, 1 / max(height, width))) ** -power
    waves = np.kron(rows, columns)
    return np.real(waves.conj().T @ (factor.reshape(-1, 1) * waves)) / (height * width)


def two_loops(gradient: np.ndarray, pairs: Sequence[tuple[np.ndarray, np.ndarray]], gamma: float) -> np.ndarray:
    """The direction by Nocedal's recursion (Nocedal & Wright 2006, algorithm 7.4), oldest pair first."""
    direction, alphas = gradient.copy(), []
    for step, change in reversed(pairs):
        alphas.append(np.vdot(step, direction) / np.vdot(step, change))
        direction -= alphas[-1] * change
    direction *= gamma
    for (step, change), alpha in zip(pairs, reversed(alphas), strict=True):
        direction += (alpha - np.vdot(change, direction) / np.vdot(step, change)) * step
    return direction


@pytest.mark.parametrize("memory_size", [1, 3, 20])
def test_directions_are_those_of_the_two_loops_over_pairs_of_positive_curvature(memory_size: int) -> None:
    """In float64: before and after the memory is full, after a step that was not taken, where the gradient fell."""
    with jax.enable_x64(True):
        curvature = random_features(2, 5, 4, 3).astype(np.float64) + 0.1
        points = [random_features(10 + number, 5, 4, 3).astype(np.float64) for number in range(30)]
        points[8] = points[7]
        method, pairs, gamma, rejected = scale_by_lbfgs(memory_size), [], 0.0, 0
        update, state = jax.jit(method.update), method.init(jnp.asarray(points[0]))
        for number, x in enumerate(points):
            gradient = curvature * x
            step = x - points[number - 1]
            change = curvature * step
            if number == 0:
                gamma = 1 / max(1.0, float(np.linalg.norm(gradient)))
            elif np.vdot(step, change) > 0:
                pairs = [*pairs, (step, change)][-memory_size:]
                gamma = float(np.vdot(step, change) / np.vdot(change, change))
            else:
                rejected += 1
            direction, state = update(jnp.asarray(gradient), state, jnp.asarray(x))
            expected = two_loops(gradient, pairs, gamma)
            np.testing.assert_allclose(direction, expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())
            assert np.vdot(expected, gradient) > 0
        assert 3 < rejected < 20


def test_on_convex_functions_directions_are_those_of_optax() -> None:
    with jax.enable_x64(True):
        x = jnp.asarray(random_features(1, 5, 4, 3), jnp.float64)
        curvature = jnp.exp(jnp.asarray(random_features(2, 5, 4, 3), jnp.float64))
        gradient = jax.jit(jax.grad(lambda x: jnp.sum(curvature * (x - 1) ** 2) + jnp.sum(jnp.cos(x))))
        ours, optaxs = scale_by_lbfgs(4), optax.scale_by_lbfgs(4)
        state, expected_state = ours.init(x), optaxs.init(x)
        for _ in range(12):
            direction, state = jax.jit(ours.update)(gradient(x), state, x)
            expected, expected_state = jax.jit(optaxs.update)(gradient(x), expected_state, x)
            np.testing.assert_allclose(direction, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())
            x = x - expected


@pytest.mark.parametrize("power", [0.5, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_frequencies_are_divided_by_their_power(shape: tuple[int, int], power: float) -> None:
    image = random_features(1, *shape, 3)
    expected = filter_matrix(*shape, power) @ image.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(
        fourier_precondition(image, power).reshape(-1, 3), expected, atol=1e-5 * np.abs(expected).max()
    )


def test_low_frequencies_are_amplified_relative_to_high_ones() -> None:
    """A wave of one cycle in 16 pixels is multiplied by (8 / 1) ** 0.5, one of 8 cycles stays."""
    column = np.arange(16)
    for cycles, factor in ((1, 8**0.5), (8, 1.0)):
        wave = np.broadcast_to(np.cos(2 * np.pi * cycles * column / 16)[None, :, None], (16, 16, 3))
        np.testing.assert_allclose(fourier_precondition(jnp.asarray(wave), 0.5), factor * wave, atol=1e-5)


@pytest.mark.parametrize("zoom", [False, True])
def test_with_a_fourier_power_it_is_lbfgs_of_scaled_amplitudes(zoom: bool) -> None:
    """A run on x = P z equals Optax' on z of the loss at P z, with the dense P: curvature pairs and line search too."""
    start, target = random_features(1, 6, 8, 3), random_features(2, 6, 8, 3)
    curvature = np.linspace(1.0, 9.0, 6 * 8 * 3, dtype=np.float32).reshape(6, 8, 3)
    matrix = filter_matrix(6, 8, 0.5)
    dense = jnp.asarray(matrix, jnp.float32)

    def loss(x: Any) -> Any:
        return 0.5 * jnp.sum(curvature * (x - target) ** 2)

    search = optax.scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")
    fixed = optax.chain(normalize_by_first_gradient(), optax.lbfgs(1.0, memory_size=5, linesearch=None))
    plain: Any = optax.lbfgs(memory_size=5, linesearch=search) if zoom else fixed
    amplitudes = np.linalg.solve(matrix, start.reshape(-1, 3).astype(np.float64)).astype(np.float32)
    z, expected = descend(plain, lambda z: loss((dense @ z).reshape(start.shape)), amplitudes, 7)
    x, values = descend(LBFGS(memory_size=5, zoom=zoom, fourier_power=0.5).transformation(), loss, start, 7)
    np.testing.assert_allclose(values, expected, rtol=1e-3)
    np.testing.assert_allclose(np.asarray(x).reshape(-1, 3), matrix @ np.asarray(z), atol=2e-3)
    assert values[-1] < 0.1 * values[0]


@pytest.mark.parametrize("power", [0.0, 0.25])
def test_a_memory_in_bfloat16_takes_half_and_leads_as_far(power: float) -> None:
    start, target = random_features(1, 16, 24, 3), random_features(2, 16, 24, 3)
    curvature = np.geomspace(1.0, 100.0, start.size, dtype=np.float32).reshape(start.shape)

    def loss(x: Any) -> Any:
        return 0.5 * jnp.sum(curvature * (x - target) ** 2)

    plain = LBFGS(memory_size=10, fourier_power=power)
    rounded = dataclasses.replace(plain, memory_dtype="bfloat16")
    exact, values = (descend(method.transformation(), loss, start, 40)[1] for method in (plain, rounded))
    assert values[0] == exact[0]
    assert values[-1] < 1e-3 * values[0]
    assert values[-1] < 1.5 * exact[-1] or values[-1] < 1e-5 * values[0]
    states = [method.transformation().init(jnp.asarray(start)) for method in (plain, rounded)]
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(state)) for state in states]
    assert sizes[0] - sizes[1] == 2 * 2 * 10 * start.size  # two bytes of two images for each of ten steps


def test_a_memory_in_bfloat16_is_saved_bit_for_bit(tmp_path: Path) -> None:
    def loss(x: Any, args: Any, step: Any) -> Any:
        return jnp.sum(jnp.cosh(x))

    solver, start = LBFGS(memory_size=3, memory_dtype="bfloat16"), jnp.asarray(random_features(1, 4, 5, 3))
    begun = run(loss, solver, start, num_steps=5).state
    save_state(tmp_path / "state", begun)
    saved = restore(load_state(tmp_path / "state").leaves, begun)
    np.testing.assert_array_equal(
        run(loss, solver, saved, num_steps=3).image, run(loss, solver, start, num_steps=8).image
    )


def test_other_roundings_of_the_memory_are_refused() -> None:
    with pytest.raises(ArgumentError, match="memory_dtype 'float16': expected \"bfloat16\""):
        check_optimizer(LBFGS(memory_dtype="float16"))


@pytest.mark.parametrize("number", [0.1, float("nan")])
def test_where_the_memory_overflows_the_gradient_alone_decides(number: float) -> None:
    """A gradient that is not finite stays so, for the run to tell."""
    method, x = scale_by_lbfgs(3), jnp.ones((2, 2, 3))
    _, state = method.update(x, method.init(x), x)
    second: Any = method.update(2 * x, state, 2 * x)[1]
    direction, _ = method.update(number * x, second._replace(squares=jnp.full((3, 3), jnp.inf)), 2 * x)
    np.testing.assert_allclose(np.asarray(direction), number, rtol=1e-5)
