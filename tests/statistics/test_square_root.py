"""Matrix square roots and the fidelity, against float64 eigenvalues and the published iteration."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_features

from jnst.errors import JnstError
from jnst.statistics import covariance, matrix_square_root, root_fidelity

pytestmark = pytest.mark.usefixtures("unoptimised")

Array = np.ndarray
ITERATIONS = [12, None]


def random_covariance(seed: int, positions: int, channels: int) -> Array:
    """In float64, with standard deviations from 1 to 3."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((positions, channels)) * np.linspace(1, 3, channels) @ orthogonal(seed, channels)
    return np.cov(rows, rowvar=False, bias=True)


def orthogonal(seed: int, channels: int) -> Array:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((channels, channels)))[0]


def power(matrix: Array, exponent: float) -> Array:
    values, vectors = np.linalg.eigh(matrix)
    return vectors * np.maximum(values, 1e-300) ** exponent @ vectors.T


def relative_error(value: Any, exact: Array) -> float:
    return float(np.linalg.norm(np.asarray(value, np.float64) - exact) / np.linalg.norm(exact))


def published(matrix: Array, iterations: int = 12) -> tuple[Array, Array]:
    """The root, and the gradient of its trace by the Lyapunov equation, by truncated iterations in float64."""
    eye = np.eye(len(matrix))
    root, inverse = matrix / np.linalg.norm(matrix), eye
    for _ in range(iterations):
        factor = (3 * eye - inverse @ root) / 2
        root, inverse = root @ factor, factor @ inverse
    root *= np.sqrt(np.linalg.norm(matrix))
    sign, gradient = root / np.linalg.norm(root), eye / np.linalg.norm(root)
    for _ in range(iterations):
        rest = 3 * eye - sign @ sign
        gradient = (gradient @ rest - sign.T @ (sign.T @ gradient - gradient @ sign)) / 2
        sign = sign @ rest / 2
    return root, gradient / 2


@pytest.mark.parametrize("iterations", ITERATIONS)
def test_root_against_eigenvalues(iterations: int | None) -> None:
    matrices = np.stack([random_covariance(seed, 300, 24) for seed in (1, 2)])
    roots = matrix_square_root(jnp.asarray(1e6 * matrices, jnp.float32), iterations)
    assert roots.dtype == jnp.float32
    for root, matrix in zip(roots, matrices, strict=True):
        assert relative_error(root, 1e3 * power(matrix, 0.5)) < 1e-5


@pytest.mark.parametrize("iterations", ITERATIONS)
def test_roots_in_closed_form(iterations: int | None) -> None:
    np.testing.assert_allclose(
        matrix_square_root(jnp.diag(jnp.asarray([4.0, 9.0, 0.25])), iterations), np.diag([2, 3, 0.5]), atol=1e-5
    )
    np.testing.assert_allclose(matrix_square_root(jnp.full((1, 1), 49.0), iterations), [[7.0]], rtol=1e-6)
    ones = jnp.full((4, 4), 9.0)
    np.testing.assert_allclose(matrix_square_root(ones, iterations), np.full((4, 4), 1.5), rtol=5e-5)


@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e18, 1e30])
@pytest.mark.parametrize("iterations", ITERATIONS)
def test_root_of_any_scale(iterations: int | None, scale: float) -> None:
    """Squares of the entries would overflow or underflow in float32."""
    matrix = random_covariance(3, 100, 8)
    root = np.asarray(matrix_square_root(jnp.asarray(scale * matrix, jnp.float32), iterations), np.float64)
    assert relative_error(root / np.sqrt(scale), power(matrix, 0.5)) < 1e-5


@pytest.mark.parametrize("iterations", ITERATIONS)
def test_root_of_zeros(iterations: int | None) -> None:
    zeros = jnp.zeros((3, 3))
    np.testing.assert_array_equal(matrix_square_root(zeros, iterations), zeros)
    assert np.isfinite(jax.jacobian(lambda matrix: matrix_square_root(matrix, iterations))(zeros)).all()
    assert np.isfinite(jax.grad(lambda matrix: root_fidelity(matrix, jnp.eye(3), iterations))(zeros)).all()


def test_converged_root_of_few_positions() -> None:
    """63 of 256 eigenvalues are positive, and rounding makes some of the others negative."""
    features = random_features(4, 8, 8, 256)
    rows = features.reshape(64, 256).astype(np.float64)
    exact = power(np.cov(rows, rowvar=False, bias=True), 0.5)
    assert relative_error(matrix_square_root(covariance(features), None), exact) < 1e-3


def test_small_eigenvalues_converge_as_far_as_published() -> None:
    """An eigenvalue of 1e-6 takes more than 12 iterations."""
    matrix = np.diag([1.0, 1e-2, 1e-4, 1e-6])
    exact = published(matrix)[0]
    np.testing.assert_allclose(np.diag(matrix_square_root(jnp.asarray(matrix, jnp.float32))), np.diag(exact), rtol=1e-4)
    assert exact[3, 3] < 0.2e-3


def test_float64_is_more_accurate() -> None:
    """Also for eigenvalues that do not converge in float32."""
    basis = orthogonal(1, 6)
    matrix = basis * np.geomspace(1, 1e-9, 6) @ basis.T
    with jax.enable_x64(True):
        root = matrix_square_root(jnp.asarray(matrix), None)
        value, gradient = jax.value_and_grad(root_fidelity)(jnp.asarray(matrix), jnp.eye(6), None)
    assert root.dtype == jnp.float64
    assert relative_error(root, power(matrix, 0.5)) < 1e-12
    np.testing.assert_allclose(value, np.trace(power(matrix, 0.5)), rtol=1e-10)
    assert relative_error(gradient, power(matrix, -0.5) / 2) < 1e-4


@pytest.mark.parametrize("iterations", ITERATIONS)
def test_derivative_of_the_root(iterations: int | None) -> None:
    """R dR + dR R = dA."""
    matrix, change = random_covariance(5, 100, 6), random_covariance(6, 100, 6)
    point, tangent = (jnp.asarray(each, jnp.float32) for each in (matrix, change))
    root, moved = jax.jvp(lambda each: matrix_square_root(each, iterations), (point,), (tangent,))
    root, moved = np.asarray(root, np.float64), np.asarray(moved, np.float64)
    assert relative_error(root @ moved + moved @ root, change) < 1e-4


@pytest.mark.parametrize("iterations", ITERATIONS)
def test_fidelity_and_its_gradients(iterations: int | None) -> None:
    """By B: half the transport map, S (S B S)^-½ S / 2 with S = A^½. By S: the symmetric part of (S B S)^-½ S B."""
    a, b = random_covariance(7, 200, 16), random_covariance(8, 200, 16)
    s = power(a, 0.5)
    inverse = power(s @ b @ s, -0.5)
    arrays = [jnp.asarray(each, jnp.float32) for each in (b, s)]
    value, (by_covariance, by_root) = jax.value_and_grad(root_fidelity, (0, 1))(*arrays, iterations)
    np.testing.assert_allclose(value, np.trace(power(s @ b @ s, 0.5)), rtol=1e-6)
    assert relative_error(by_covariance, s @ inverse @ s / 2) < 1e-5
    by_root = np.asarray(by_root, np.float64)
    exact = inverse @ s @ b
    assert relative_error(by_root + by_root.T, exact + exact.T) < 1e-5


@pytest.mark.parametrize("iterations", ITERATIONS)
def test_fidelity_in_forward_mode_and_twice(iterations: int | None) -> None:
    exact = [random_covariance(seed, 60, 5) for seed in (1, 2, 3)]
    b, s, change = (jnp.asarray(each, jnp.float32) for each in exact)

    def slope(step: Any) -> Any:
        return jnp.vdot(jax.grad(root_fidelity)(b + step * change, s, iterations), change)

    def exact_value(step: float) -> float:
        return float(np.trace(power(exact[1] @ (exact[0] + step * exact[2]) @ exact[1], 0.5)))

    forwards = jax.jvp(lambda each: root_fidelity(each, s, iterations), (b,), (change,))[1]
    np.testing.assert_allclose(forwards, (exact_value(1e-4) - exact_value(-1e-4)) / 2e-4, rtol=1e-5)
    second = (exact_value(1e-3) - 2 * exact_value(0) + exact_value(-1e-3)) / 1e-6
    np.testing.assert_allclose(jax.grad(slope)(0.0), second, rtol=1e-3)


def test_fidelity_of_batches() -> None:
    a, b = (np.stack([random_covariance(seed + step, 60, 5) for step in range(3)]) for seed in (1, 11))
    roots = jnp.asarray([power(each, 0.5) for each in a], jnp.float32)
    for iterations in ITERATIONS:
        values = root_fidelity(jnp.asarray(b, jnp.float32), roots[0], iterations)
        exact = [np.trace(power(power(a[0], 0.5) @ each @ power(a[0], 0.5), 0.5)) for each in b]
        np.testing.assert_allclose(values, exact, rtol=1e-5)


def test_published_fidelity_of_few_positions() -> None:
    """With 64 positions and 128 channels, neither the root nor its inverse converges."""
    a, b = (random_covariance(seed, 64, 128) + 1e-4 * np.eye(128) for seed in (1, 2))
    s = published(a)[0]
    root, inverse = published(s @ b @ s)
    value, gradient = jax.value_and_grad(root_fidelity)(jnp.asarray(b, jnp.float32), jnp.asarray(s, jnp.float32))
    np.testing.assert_allclose(value, np.trace(root), rtol=1e-5)
    assert relative_error(gradient, s @ inverse @ s) < 1e-3


@pytest.mark.parametrize("iterations", [0, -3, 19])
def test_invalid_iterations(iterations: int) -> None:
    with pytest.raises(JnstError, match=f"iterations {iterations} .*choose 1 to 18 .12 as published., or None"):
        matrix_square_root(jnp.eye(3), iterations)
    with pytest.raises(JnstError, match=f"iterations {iterations} "):
        root_fidelity(jnp.eye(3), jnp.eye(3), iterations)
