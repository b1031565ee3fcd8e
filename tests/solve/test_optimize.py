"""Runs: against closed forms and NumPy, stopped and continued, chunked, averaged, and met by NaN."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import compilations, random_features, same_trees

from jnst.errors import JnstError, NumericsError
from jnst.solve import run as optimize
from jnst.solve.optimizers import LBFGS
from jnst.solve.run import Method, Report, minimise, start, step
from jnst.types import Array

pytestmark = pytest.mark.usefixtures("unoptimised")

SHAPE = (3, 4, 3)
TARGET, START = random_features(1, *SHAPE), jnp.asarray(random_features(2, *SHAPE))
CURVATURE = np.linspace(1.0, 30.0, TARGET.size, dtype=np.float32).reshape(SHAPE)
ARGS = (jnp.asarray(TARGET), jnp.asarray(CURVATURE))


def quadratic(image: Array, args: Any, step: Array) -> tuple[Array, dict[str, Array]]:
    """½ Σ a (x - t)², in two parts."""
    target, curvature = args
    halves = 0.5 * curvature * (image - target) ** 2
    parts = {"upper": jnp.sum(halves[:1]), "lower": jnp.sum(halves[1:])}
    return parts["upper"] + parts["lower"], parts


def value(image: np.ndarray) -> float:
    return float(np.sum(0.5 * CURVATURE.astype(np.float64) * (image - TARGET.astype(np.float64)) ** 2))


def descent(num_steps: int, rate: float) -> list[np.ndarray]:
    """The iterates of plain gradient descent in closed form, from the start on."""
    start, shrink = np.asarray(START, np.float64) - TARGET, 1 - rate * CURVATURE.astype(np.float64)
    return [TARGET + shrink**n * start for n in range(num_steps + 1)]


SGD, ADAM = optax.sgd(0.02), optax.adam(0.05)
MOMENTUM, LIMITED = optax.sgd(0.01, momentum=0.9), LBFGS(memory_size=6).transformation()
ZOOM = LBFGS(memory_size=6, zoom=True).transformation()

METHODS: dict[str, Method] = {
    "adam": Method(quadratic, ADAM),
    "adam, averaged": Method(quadratic, ADAM, average=0.9),
    "adam, best, bounded": Method(quadratic, ADAM, bounds=(-0.5, 0.5), keep_best=True),
    "lbfgs": Method(quadratic, LIMITED),
    "lbfgs, averaged, best": Method(quadratic, LIMITED, average=0.5, keep_best=True),
    "lbfgs-zoom": Method(quadratic, ZOOM),
    "momentum": Method(quadratic, MOMENTUM),
}


def test_gradient_descent_in_closed_form() -> None:
    """Step n records the value before its update; the state holds the image after it."""
    result = minimise(Method(quadratic, SGD), start(START, Method(quadratic, SGD)), ARGS, num_steps=10)
    iterates = descent(10, 0.02)
    np.testing.assert_allclose(result.total, [value(image) for image in iterates[:10]], rtol=1e-5)
    np.testing.assert_allclose(result.state.image, iterates[10], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.parts["upper"] + result.parts["lower"], result.total, rtol=1e-6)
    assert int(result.state.step) == 10
    assert not result.stopped


def test_momentum_against_numpy() -> None:
    method = METHODS["momentum"]
    result = minimise(method, start(START, method), ARGS, num_steps=15)
    image, speed = np.asarray(START, np.float64), 0.0
    for _ in range(15):
        speed = 0.9 * speed + CURVATURE * (image - TARGET)
        image = image - 0.01 * speed
    np.testing.assert_allclose(result.state.image, image, rtol=1e-4, atol=1e-5)


def test_adam_against_numpy() -> None:
    """Kingma & Ba 2015, algorithm 1."""
    result = minimise(METHODS["adam"], start(START, METHODS["adam"]), ARGS, num_steps=20)
    image, first, second = np.asarray(START, np.float64), 0.0, 0.0
    for n in range(1, 21):
        gradient = CURVATURE * (image - TARGET)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        image = image - 0.05 * (first / (1 - 0.9**n)) / (np.sqrt(second / (1 - 0.999**n)) + 1e-8)
    np.testing.assert_allclose(result.state.image, image, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["lbfgs", "lbfgs-zoom"])
def test_lbfgs_reaches_the_minimum(name: str) -> None:
    result = minimise(METHODS[name], start(START, METHODS[name]), ARGS, num_steps=50)
    np.testing.assert_allclose(result.state.image, TARGET, atol=1e-3)
    assert result.total[-1] < 1e-6 * result.total[0]


def rosenbrock(image: Array, args: Any, step: Array) -> tuple[Array, dict[str, Array]]:
    x, y = image[..., :-1, :], image[..., 1:, :]
    total = jnp.sum(100 * (y - x**2) ** 2 + (1 - x) ** 2)
    return total, {"rosenbrock": total}


def test_zoom_never_rises() -> None:
    method = Method(rosenbrock, ZOOM)
    losses = minimise(method, start(START, method), (), num_steps=60).total
    assert (np.diff(losses) <= 1e-6 * losses[:-1]).all()
    assert losses[-1] < 1e-2 * losses[0]


@pytest.mark.parametrize("name", METHODS)
def test_continuing_equals_never_having_stopped(name: str) -> None:
    """Bit for bit, and the state in between can be used twice."""
    method = METHODS[name]
    whole = minimise(method, start(START, method), ARGS, num_steps=9)
    half = minimise(method, start(START, method), ARGS, num_steps=4)
    for _ in range(2):
        rest = minimise(method, half.state, ARGS, num_steps=9)
        assert same_trees(rest.state, whole.state)
        np.testing.assert_array_equal(np.concatenate([half.total, rest.total]), whole.total)
        np.testing.assert_array_equal(rest.parts["lower"], whole.parts["lower"][4:])
    assert int(half.state.step) == 4


@pytest.mark.parametrize("name", ["adam, averaged", "adam, best, bounded", "lbfgs, averaged, best", "momentum"])
def test_scanned_chunks_equal_single_steps(name: str) -> None:
    """Chunks of 5, 5 and the remainder 2, to float32's rounding."""
    method = METHODS[name]
    single = minimise(method, start(START, method), ARGS, num_steps=12, chunk=1)
    chunked = minimise(method, start(START, method), ARGS, num_steps=12, chunk=5)
    assert chunked.total.shape == single.total.shape == (12,)
    np.testing.assert_allclose(chunked.total, single.total, rtol=1e-3, atol=1e-5 * single.total[0])
    np.testing.assert_allclose(chunked.state.image, single.state.image, atol=1e-3)
    assert int(chunked.state.step) == 12


def test_no_steps() -> None:
    for method in (METHODS["adam"], METHODS["adam, averaged"], METHODS["lbfgs, averaged, best"]):
        result = minimise(method, start(START, method), ARGS, num_steps=0)
        assert result.total.shape == (0,)
        assert result.parts == {}
        np.testing.assert_array_equal(optimize.image(result.state, method), START)


def test_a_state_that_is_there_already_makes_no_step() -> None:
    method = METHODS["adam"]
    done = minimise(method, start(START, method), ARGS, num_steps=4)
    again = minimise(method, done.state, ARGS, num_steps=3)
    assert same_trees(again.state, done.state)
    assert again.total.size == 0


def test_average_is_the_debiased_exponential_mean() -> None:
    method = Method(quadratic, SGD, average=0.8)
    for num_steps in (1, 2, 7):
        result = minimise(method, start(START, method), ARGS, num_steps=num_steps)
        iterates = descent(num_steps, 0.02)[1:]
        weights = 0.8 ** np.arange(num_steps)[::-1]
        expected = np.tensordot(weights / weights.sum(), np.stack(iterates), 1)
        np.testing.assert_allclose(optimize.image(result.state, method), expected, rtol=1e-4, atol=1e-5)


def test_a_slow_average_is_exact_after_one_step() -> None:
    """1 - 0.9999 in float32 would be wrong in its fourth digit."""
    method = Method(quadratic, SGD, average=0.9999)
    result = minimise(method, start(START, method), ARGS, num_steps=1)
    np.testing.assert_allclose(optimize.image(result.state, method), result.state.image, rtol=1e-5)


def test_the_best_image_is_kept() -> None:
    """Gradient descent that diverges is best where it began; a good run is best at its last evaluation."""
    diverging = Method(quadratic, optax.sgd(0.2), keep_best=True)
    result = minimise(diverging, start(START, diverging), ARGS, num_steps=6)
    assert result.total[-1] > result.total[0]
    np.testing.assert_array_equal(optimize.image(result.state, diverging), START)
    good = Method(quadratic, SGD, keep_best=True)
    result = minimise(good, start(START, good), ARGS, num_steps=6)
    np.testing.assert_allclose(optimize.image(result.state, good), descent(6, 0.02)[5], rtol=1e-4, atol=1e-5)
    assert result.state.best is not None
    np.testing.assert_array_equal(result.state.best[0], result.total.min())


def test_bounds() -> None:
    """Every iterate is clipped; projected gradient descent on a separable quadratic ends at the clipped minimum."""
    method = Method(quadratic, SGD, bounds=(-0.25, 0.5))
    seen: list[np.ndarray] = []
    result = minimise(
        method,
        start(jnp.clip(START, -0.25, 0.5), method),
        ARGS,
        num_steps=400,
        chunk=100,
        callback=lambda report: seen.append(np.asarray(report.image)),
    )
    assert all(image.min() >= -0.25 and image.max() <= 0.5 for image in seen)
    np.testing.assert_allclose(result.state.image, np.clip(TARGET, -0.25, 0.5), atol=1e-3)


@pytest.mark.parametrize("chunk", [1, 4])
def test_callbacks_see_every_step_once_and_in_order(chunk: int) -> None:
    method = METHODS["adam"]
    reports: list[Report] = []
    images: list[np.ndarray] = []

    def callback(report: Report) -> None:
        reports.append(report)
        images.append(np.array(report.image))

    result = minimise(method, start(START, method), ARGS, num_steps=10, chunk=chunk, callback=callback)
    steps = [report.first + i for report in reports for i in range(len(report.total))]
    assert steps == list(range(1, 11))
    assert {report.num_steps for report in reports} == {10}
    np.testing.assert_array_equal(np.concatenate([report.total for report in reports]), result.total)
    np.testing.assert_array_equal(np.concatenate([report.parts["upper"] for report in reports]), result.parts["upper"])
    np.testing.assert_array_equal(images[-1], result.state.image)
    seconds = [report.seconds for report in reports]
    assert seconds == sorted(seconds)


def test_a_callback_ends_the_run() -> None:
    method = METHODS["lbfgs"]
    whole = minimise(method, start(START, method), ARGS, num_steps=8)
    stopped = minimise(method, start(START, method), ARGS, num_steps=8, callback=lambda report: report.first == 3)
    assert stopped.stopped
    np.testing.assert_array_equal(stopped.total, whole.total[:3])
    rest = minimise(method, stopped.state, ARGS, num_steps=8)
    assert same_trees(rest.state, whole.state)


def test_other_numbers_compile_nothing_again() -> None:
    method = METHODS["adam"]
    minimise(method, start(START, method), ARGS, num_steps=2)
    count = compilations(optimize.advance)
    other = (jnp.asarray(random_features(7, *SHAPE)), 3 * ARGS[1])
    again = Method(quadratic, ADAM)
    minimise(again, start(jnp.asarray(random_features(8, *SHAPE)), again), other, num_steps=3)
    assert compilations(optimize.advance) == count


@pytest.mark.parametrize(("num_steps", "chunk"), [(-1, None), (3, 0), (3, -2)])
def test_counts_that_make_no_sense(num_steps: int, chunk: int | None) -> None:
    method = METHODS["adam"]
    with pytest.raises(JnstError, match=f"num_steps {num_steps}, chunk {chunk}: expected"):
        minimise(method, start(START, method), ARGS, num_steps=num_steps, chunk=chunk)


def test_an_initial_state_does_not_own_the_image() -> None:
    """Buffers are donated to the compiled step; the caller's image must survive that."""
    method, image = METHODS["lbfgs, averaged, best"], jnp.array(START)
    minimise(method, start(image, method), ARGS, num_steps=2)
    np.testing.assert_array_equal(image, START)


def test_a_vectorised_step_equals_single_ones() -> None:
    images = jnp.stack([START, START + 1, 2 * START])
    for name in ("adam, averaged", "lbfgs"):
        method = METHODS[name]
        states = jax.vmap(partial(start, method=method))(images)
        advance = jax.jit(jax.vmap(partial(step, method=method), in_axes=(0, None)))
        for _ in range(2):
            states, _ = advance(states, ARGS)
        states, (totals, _) = advance(states, ARGS)
        for lane in range(3):
            alone = minimise(method, start(images[lane], method), ARGS, num_steps=3)
            np.testing.assert_allclose(totals[lane], alone.total[-1], rtol=1e-3)
            np.testing.assert_allclose(states.image[lane], alone.state.image, rtol=1e-3, atol=1e-4)


def test_numerics_error_is_a_value_error() -> None:
    assert issubclass(NumericsError, JnstError)
    assert issubclass(JnstError, ValueError)
