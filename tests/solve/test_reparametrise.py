"""RMSprop, gradient descent and the Laplacian pyramid against loops in float64 NumPy."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import random_features
from resampling import linear_weights

from jnst.errors import JnstError
from jnst.solve import SGD, RMSprop, Solver
from jnst.solve.optimizers import check_optimizer
from jnst.solve.reparametrise import in_laplacian_pyramid

pytestmark = pytest.mark.usefixtures("unoptimised")
SHAPE = (8, 12, 2)
TARGET, START = random_features(1, *SHAPE), random_features(2, *SHAPE)
CURVATURE = np.linspace(1.0, 20.0, TARGET.size, dtype=np.float32).reshape(SHAPE)


def gradient(x: Any) -> Any:
    """Of ½ Σ a (x - t)²."""
    return CURVATURE * (x - TARGET)


def descend(method: optax.GradientTransformation, num_steps: int, start: Any = START) -> np.ndarray:
    @jax.jit
    def step(x: Any, state: Any) -> Any:
        updates, state = method.update(gradient(x), state, x)
        return optax.apply_updates(x, updates), state

    x = jnp.asarray(start)
    state = method.init(x)
    for _ in range(num_steps):
        x, state = step(x, state)
    return np.asarray(x)


def level_shapes(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    return [(height >> level, width >> level) for level in range(levels + 1)]


def level_matrices(shapes: list[tuple[int, int]]) -> list[np.ndarray]:
    """From each level to the image, by bilinear enlargement from one level to the next; dense."""
    matrices = [np.eye(shapes[0][0] * shapes[0][1])]
    for (height, width), (rows, columns) in itertools.pairwise(shapes):
        matrices.append(matrices[-1] @ np.kron(linear_weights(rows, height), linear_weights(columns, width)))
    return matrices


@pytest.mark.parametrize("levels", [1, 2, 5])
def test_gradient_descent_on_levels_is_a_linear_preconditioner(levels: int) -> None:
    """Each step goes along Σ M Mᵀ g, with M from a level to the image; halving ends before a side of 1."""
    matrices = level_matrices(level_shapes(8, 12, min(levels, 2)))
    preconditioner = sum(matrix @ matrix.T for matrix in matrices)
    x = np.asarray(START, np.float64)
    for _ in range(6):
        x = x - 0.01 * (preconditioner @ gradient(x).reshape(96, 2)).reshape(SHAPE)
    found = descend(in_laplacian_pyramid(optax.sgd(0.01), levels), 6)
    assert np.abs(found - START).max() > 0.1
    np.testing.assert_allclose(found, x, atol=1e-4)


def test_odd_sizes_are_halved_downwards() -> None:
    """9x7 and 4x3, where it ends."""
    shapes: list[Any] = []

    def init(params: Any) -> Any:
        shapes.extend(leaf.shape for leaf in params)
        return ()

    method = in_laplacian_pyramid(
        optax.GradientTransformation(init, lambda updates, state, params=None: (updates, state)), 5
    )
    state = method.init(jnp.zeros((9, 7, 3)))
    assert shapes == [(9, 7, 3), (4, 3, 3)]
    ones, _ = method.update(jnp.ones((9, 7, 3)), state)
    matrices = level_matrices([(9, 7), (4, 3)])
    expected = sum(matrix @ matrix.T for matrix in matrices) @ np.ones(63)
    np.testing.assert_allclose(np.asarray(ones)[..., 1].ravel(), expected, rtol=1e-5)


def test_rmsprop_in_units_of_a_grey_level() -> None:
    """Hinton's, with ε beside the root: in the variable y = 255 x, whose gradient is 255 times smaller."""
    y, mean = 255 * np.asarray(START, np.float64), 0.0
    for _ in range(12):
        g = gradient(y / 255) / 255
        mean = 0.95 * mean + 0.05 * g**2
        y = y - 3.0 * g / (np.sqrt(mean) + 1e-3)
    found = descend(Solver(RMSprop(3.0, decay=0.95, eps=1e-3), unit=255.0).transformation(), 12)
    np.testing.assert_allclose(255 * found, y, rtol=1e-3, atol=0.02)


def test_rmsprop_on_levels() -> None:
    """As STROTSS has it: each level has its own mean squares."""
    matrices = level_matrices(level_shapes(8, 12, 2))
    x, means = np.asarray(START, np.float64), [np.zeros(()) for _ in matrices]
    for _ in range(8):
        gradients = [matrix.T @ gradient(x).reshape(96, 2) for matrix in matrices]
        means = [0.99 * mean + 0.01 * g**2 for mean, g in zip(means, gradients, strict=True)]
        levels = [0.02 * g / (np.sqrt(mean) + 1e-8) for mean, g in zip(means, gradients, strict=True)]
        for matrix, level in zip(matrices, levels, strict=True):
            x = x - (matrix @ level).reshape(SHAPE)
    np.testing.assert_allclose(descend(Solver(RMSprop(0.02, levels=2), unit=1.0).transformation(), 8), x, atol=1e-3)
    assert np.abs(x - descend(Solver(RMSprop(0.02), unit=1.0).transformation(), 8)).max() > 0.1


def test_the_learning_rate_falls_in_stairs() -> None:
    x = np.asarray(START, np.float64)
    for n in range(8):
        x = x - 0.02 * 0.5 ** (n // 3) * gradient(x)
    np.testing.assert_allclose(
        descend(Solver(SGD(0.02, decay=0.5, decay_steps=3), unit=1.0).transformation(), 8), x, atol=1e-4
    )


def test_descent_in_units_of_a_grey_level() -> None:
    """A step of y = 255 x is 255² times smaller in x: Keras' 100 there is 100 / 255² here."""
    found = descend(Solver(SGD(0.01 * 255**2), unit=255.0).transformation(), 5)
    np.testing.assert_allclose(found, descend(optax.sgd(0.01), 5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [RMSprop, SGD])
@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_learning_rates(kind: Any, rate: float) -> None:
    with pytest.raises(JnstError, match=f"learning rate {rate}: expected a positive number"):
        check_optimizer(kind(learning_rate=rate))
