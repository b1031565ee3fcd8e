"""Units, scales and the named optimisers."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import random_features, same_trees

from jnst.errors import JnstError
from jnst.solve import LBFGS, OPTIMIZERS, Adam, Solver
from jnst.solve.optimizers import check_optimizer, limit_steps, normalize_by_first_gradient
from jnst.solve.reparametrise import in_units

pytestmark = pytest.mark.usefixtures("unoptimised")

TARGET = random_features(1, 4, 5, 3)
CURVATURE = np.linspace(1.0, 20.0, TARGET.size, dtype=np.float32).reshape(TARGET.shape)
START = random_features(2, 4, 5, 3)


def quadratic(x: Any) -> Any:
    return 0.5 * jnp.sum(CURVATURE * (x - TARGET) ** 2)


def descend(transformation: optax.GradientTransformation, loss: Any, start: Any, num_steps: int) -> tuple[Any, Any]:
    """The image and the losses after some steps of a plain Optax loop."""
    method = optax.with_extra_args_support(transformation)

    @jax.jit
    def step(x: Any, state: Any) -> tuple[Any, Any, Any]:
        value, gradient = jax.value_and_grad(loss)(x)
        updates, state = method.update(gradient, state, x, value=value, grad=gradient, value_fn=loss)
        return optax.apply_updates(x, updates), state, value

    x, values = jnp.asarray(start), []
    state = method.init(x)
    for _ in range(num_steps):
        x, state, value = step(x, state)
        values.append(float(value))
    return x, values


TRANSFORMATIONS: dict[str, optax.GradientTransformation] = {
    "adam": optax.adam(5.0),
    "momentum": optax.sgd(2.0, momentum=0.9),
    "lbfgs": LBFGS(memory_size=5).transformation(),
    "lbfgs-zoom": LBFGS(memory_size=5, zoom=True).transformation(),
    "adamw": optax.adamw(5.0, weight_decay=0.01),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_units_are_those_of_the_scaled_variable(name: str) -> None:
    """x in [0, 1] with `in_units(…, 256)` goes the way of y = 256 x: a power of two, so that nothing is rounded."""
    method = TRANSFORMATIONS[name]
    x, values = descend(in_units(method, 256.0), quadratic, START, 6)
    y, scaled_values = descend(method, lambda y: quadratic(y / 256.0), START * 256, 6)
    np.testing.assert_allclose(256 * np.asarray(x), y, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(values, scaled_values, rtol=1e-4)


def test_adam_in_units_of_a_grey_level() -> None:
    """Adam's first step is its learning rate in every coordinate: 10 grey levels of 255."""
    x, _ = descend(Solver(Adam(10.0), unit=255.0).transformation(), quadratic, START, 1)
    np.testing.assert_allclose(np.abs(np.asarray(x) - START), 10 / 255, rtol=1e-3)


@pytest.mark.parametrize(("number", "length", "limited"), [(0, 9, 1), (0, 0.1, 1), (1, 9, 5), (1, 3, 3), (0, 0, 0)])
def test_steps_are_limited_and_the_first_has_a_fifth(number: int, length: float, limited: float) -> None:
    """Root mean squares before and behind a limit of 5."""
    method, step = limit_steps(5.0), jnp.asarray(TARGET / np.sqrt(np.mean(TARGET**2)))
    state = method.init(step)
    for _ in range(number):
        _, state = method.update(step, state)
    found, _ = method.update(length * step, state)
    np.testing.assert_allclose(np.asarray(found), limited * np.asarray(step), rtol=1e-5)


def test_lbfgs_limits_its_steps_as_shares_of_the_range() -> None:
    """An image in grey levels of 255, far from the minimum: first 0.01 of the range, then all that a step may have."""
    method = Solver(LBFGS(memory_size=4, fourier_power=0.25, max_step=0.05), unit=255.0).transformation()
    points = [np.asarray(descend(method, quadratic, START, steps)[0]) for steps in range(4)]
    lengths = [np.sqrt(np.mean((after - before) ** 2)) for before, after in itertools.pairwise(points)]
    np.testing.assert_allclose(lengths, [0.01, 0.05, 0.05], rtol=1e-4)


def test_a_line_search_takes_no_limit() -> None:
    with pytest.raises(JnstError, match=r"max_step 0\.1 with zoom: the line search chooses"):
        check_optimizer(LBFGS(zoom=True, max_step=0.1))


@pytest.mark.parametrize("longest", [-0.1, float("nan"), float("inf")])
def test_a_limit_is_a_share_of_the_range(longest: float) -> None:
    with pytest.raises(JnstError, match=r"max_step .*: expected a share"):
        check_optimizer(LBFGS(max_step=longest))


@pytest.mark.parametrize("exponent", [-90, -24, 10, 40, 90])
def test_unit_gradient_makes_the_scale_of_the_loss_irrelevant(exponent: int) -> None:
    """Bit for bit for powers of two, also where the squares of the gradient are beyond float32."""
    factor = 2.0**exponent
    plain, _ = descend(LBFGS(memory_size=4).transformation(), quadratic, START, 8)
    scaled, _ = descend(LBFGS(memory_size=4).transformation(), lambda x: factor * quadratic(x), START, 8)
    assert np.abs(np.asarray(plain) - START).max() > 0.1
    assert same_trees(plain, scaled)


def test_unit_gradient_scales_by_the_first_norm() -> None:
    method: Any = normalize_by_first_gradient()
    first, second = jnp.asarray([3.0, 4.0]), jnp.asarray([30.0, -5.0])
    state = method.init(first)
    updates, state = method.update(first, state)
    np.testing.assert_allclose(updates, [0.6, 0.8], rtol=1e-6)
    updates, state = method.update(second, state)
    np.testing.assert_allclose(updates, [6.0, -1.0], rtol=1e-6)


def test_unit_gradient_of_nothing_is_nothing() -> None:
    """A first gradient of zero scales nothing; the next one counts as the first."""
    method: Any = normalize_by_first_gradient()
    state = method.init(jnp.zeros(2))
    updates, state = method.update(jnp.zeros(2), state)
    np.testing.assert_array_equal(updates, np.zeros(2))
    updates, state = method.update(jnp.asarray([0.0, 5.0]), state)
    np.testing.assert_allclose(updates, [0.0, 1.0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_named_optimiser_descends(name: str) -> None:
    _, values = descend(Solver(OPTIMIZERS[name](), unit=1.0).transformation(), quadratic, START, 12)
    assert values[-1] < values[0]


def test_lbfgs_options() -> None:
    """A memory of one pair against many, and half a step length, make different runs."""
    runs = [LBFGS(), LBFGS(memory_size=1), LBFGS(learning_rate=0.5)]
    ends = [descend(Solver(run, unit=1.0).transformation(), quadratic, START, 8)[1][-1] for run in runs]
    assert len(set(ends)) == 3
    assert ends[0] < ends[1]
    assert OPTIMIZERS["lbfgs-zoom"]() == LBFGS(zoom=True)


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [Adam, LBFGS])
def test_learning_rates(kind: type[Adam] | type[LBFGS], rate: float) -> None:
    with pytest.raises(JnstError, match=f"learning rate {rate}: expected a positive number"):
        check_optimizer(kind(learning_rate=rate))
