"""`init`, `step` and `run` as functions: against closed forms and NumPy, and under jit, vmap, grad and scan."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import random_features, random_image, same_trees

import jnst
from jnst.errors import JnstError
from jnst.solve import LBFGS, Adam, RMSprop, Solver, init, run, step
from jnst.types import Array

pytestmark = pytest.mark.usefixtures("unoptimised")

SHAPE = (4, 5, 3)
TARGET, START = jnp.asarray(random_features(1, *SHAPE)), jnp.asarray(random_features(2, *SHAPE))
CURVATURE = jnp.linspace(1.0, 30.0, TARGET.size).reshape(SHAPE)
ARGS = (TARGET, CURVATURE)


def quadratic(image: Array, args: Any, step: Array) -> tuple[Array, dict[str, Array]]:
    """½ Σ a (x - t)², in two parts."""
    target, curvature = args
    halves = 0.5 * curvature * (image - target) ** 2
    parts = {"upper": jnp.sum(halves[:1]), "lower": jnp.sum(halves[1:])}
    return parts["upper"] + parts["lower"], parts


def descent(num_steps: int, rate: float) -> list[np.ndarray]:
    """The iterates of plain gradient descent in closed form, from the start on."""
    start, shrink = np.asarray(START - TARGET, np.float64), 1 - rate * np.asarray(CURVATURE, np.float64)
    return [np.asarray(TARGET) + shrink**n * start for n in range(num_steps + 1)]


SOLVERS: dict[str, Any] = {
    "optax adam": optax.adam(0.05),
    "optax momentum": optax.sgd(0.01, momentum=0.9),
    "optax schedule": optax.adam(optax.exponential_decay(0.1, 5, 0.5)),
    "adam": Adam(0.05),
    "adam, averaged": Solver(Adam(0.05), average=0.9),
    "adam, best, bounded": Solver(Adam(0.05), bounds=(-0.5, 0.5), keep_best=True),
    "adam in units": Solver(Adam(12.0), unit=255.0),
    "lbfgs": LBFGS(memory_size=6),
    "lbfgs, fourier": LBFGS(memory_size=6, fourier_power=0.25, max_step=0.2),
    "rmsprop on levels": RMSprop(0.02, levels=1),
}


def test_gradient_descent_in_closed_form() -> None:
    """Loss n is the value before the n-th update; the image is the one after the last."""
    solution: Any = run(quadratic, optax.sgd(0.02), START, ARGS, num_steps=10)
    iterates = descent(10, 0.02)
    values = [float(np.sum(0.5 * np.asarray(CURVATURE, np.float64) * (x - np.asarray(TARGET)) ** 2)) for x in iterates]
    np.testing.assert_allclose(solution.losses, values[:10], rtol=1e-5)
    np.testing.assert_allclose(solution.image, iterates[10], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(solution.parts["upper"] + solution.parts["lower"], solution.losses, rtol=1e-6)
    assert int(solution.num_steps) == int(solution.state.step) == 10
    assert bool(solution.finite)
    assert solution.error() is None


def test_adam_against_numpy() -> None:
    """Kingma & Ba 2015, algorithm 1: Optax's transformation and ours."""
    image, first, second = np.asarray(START, np.float64), 0.0, 0.0
    for n in range(1, 21):
        gradient = np.asarray(CURVATURE) * (image - np.asarray(TARGET))
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        image = image - 0.05 * (first / (1 - 0.9**n)) / (np.sqrt(second / (1 - 0.999**n)) + 1e-8)
    for solver in (optax.adam(0.05), Adam(0.05), Solver(Adam(0.05 * 255), unit=255.0)):
        solution: Any = run(quadratic, solver, START, ARGS, num_steps=20)
        np.testing.assert_allclose(solution.image, image, rtol=1e-4, atol=3e-5)


@pytest.mark.parametrize("name", SOLVERS)
def test_one_run_in_five_ways(name: str) -> None:
    """Dispatched steps, a fixed and a traced number of steps under jit, a scan over `step`, and a plain loop."""
    solver = SOLVERS[name]
    dispatched: Any = run(quadratic, solver, START, ARGS, num_steps=7)
    fixed = jax.jit(lambda image, args: run(quadratic, solver, image, args, num_steps=7))(START, ARGS)
    traced = jax.jit(lambda image, args, n: run(quadratic, solver, image, args, num_steps=n, max_steps=9))
    counted = traced(START, ARGS, 7)
    state, (scanned, _) = jax.lax.scan(
        lambda state, _: step(quadratic, solver, state, ARGS), init(quadratic, solver, START), length=7
    )
    looped, losses = init(quadratic, solver, START), []
    for _ in range(7):
        looped, (loss, _) = step(quadratic, solver, looped, ARGS)
        losses.append(loss)
    for solution in (fixed, counted):
        np.testing.assert_allclose(solution.image, dispatched.image, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(solution.losses[:7], dispatched.losses, rtol=1e-4)
        assert int(solution.num_steps) == 7
    assert counted.losses.shape == (9,)
    assert np.isnan(counted.losses[7:]).all()
    for other in (state, looped):
        np.testing.assert_allclose(other.image, dispatched.state.image, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scanned, dispatched.losses, rtol=1e-4)
    np.testing.assert_allclose(losses, dispatched.losses, rtol=1e-4)
    assert same_trees(traced(START, ARGS, 5).state, traced(START, ARGS, 5).state)


@pytest.mark.parametrize("name", SOLVERS)
def test_continuing_equals_never_having_stopped(name: str) -> None:
    """Bit for bit, and the state in between can be used twice."""
    solver = SOLVERS[name]
    whole = run(quadratic, solver, START, ARGS, num_steps=9)
    half: Any = run(quadratic, solver, START, ARGS, num_steps=4)
    for _ in range(2):
        rest = run(quadratic, solver, half.state, ARGS, num_steps=5)
        assert same_trees(rest.state, whole.state)
        np.testing.assert_array_equal(np.concatenate([half.losses, rest.losses]), whole.losses)


def test_vmap_over_everything_that_is_a_number() -> None:
    """Images, targets, weights and learning rates, each element as its own run."""
    images = jnp.stack([START, 2 * START, START + 1])
    targets = jnp.stack([TARGET, -TARGET, 0 * TARGET])
    rates = jnp.asarray([0.05, 0.1, 0.02])

    def one(image: Array, target: Array, scale: Array, rate: Array) -> Any:
        return run(quadratic, optax.adam(rate), image, (target, scale * CURVATURE), num_steps=6)

    batch = jax.vmap(one)(images, targets, jnp.asarray([1.0, 2.0, 0.5]), rates)
    assert batch.losses.shape == (3, 6)
    for index, scale in enumerate((1.0, 2.0, 0.5)):
        single = one(images[index], targets[index], jnp.float32(scale), rates[index])
        np.testing.assert_allclose(batch.image[index], single.image, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(batch.losses[index], single.losses, rtol=1e-4)


@pytest.mark.parametrize("solver", [Adam(0.05), LBFGS(memory_size=3), LBFGS(memory_size=3, fourier_power=0.25)])
@pytest.mark.parametrize("num_steps", [1, 4, 11])
def test_the_gradient_of_a_run_against_central_differences(solver: Any, num_steps: int) -> None:
    with jax.enable_x64(True):
        args = tuple(jnp.asarray(arg, jnp.float64) for arg in ARGS)
        start, way = jnp.asarray(START, jnp.float64), jnp.asarray(random_features(5, *SHAPE), jnp.float64)

        def end(scale: Array, image: Array, target: Array) -> Array:
            solution: Any = run(quadratic, solver, image, (target, jnp.exp(scale) * args[1]), num_steps=num_steps)
            return jnp.sum(jnp.sin(solution.image)) + solution.losses[-1] / 100

        point = (jnp.asarray(0.3, jnp.float64), start, args[0])
        gradients = jax.jit(jax.grad(end, (0, 1, 2)))(*point)
        forward = jax.jit(end)
        for index, direction in enumerate((jnp.asarray(1.0, jnp.float64), way, way)):
            ends = []
            for sign in (1, -1):
                moved = list(point)
                moved[index] = point[index] + sign * 1e-5 * direction
                ends.append(float(forward(*moved)))
            expected = (ends[0] - ends[1]) / 2e-5
            np.testing.assert_allclose(jnp.vdot(gradients[index], direction), expected, rtol=1e-5, atol=1e-7)


def test_the_memory_of_a_gradient_grows_far_slower_than_the_steps() -> None:
    """16 times as many steps: about four times the memory. Every step has intermediate values ten times its image."""

    def needed(num_steps: int) -> int:
        def wide(image: Array, args: Any, step: Array) -> Array:
            layers = jnp.stack([jnp.sin((index + 1) * image) for index in range(10)])
            return jnp.mean(jnp.tanh(layers @ args) ** 2)

        def end(matrix: Array) -> Array:
            return jnp.sum(run(wide, Adam(0.01), jnp.ones((64, 64, 3)), matrix, num_steps=num_steps).image)

        memory: Any = jax.jit(jax.grad(end)).lower(jnp.eye(3)).compile().memory_analysis()
        return memory.temp_size_in_bytes

    assert needed(256) < 6 * needed(16)


@pytest.mark.parametrize("make", [optax.adam, lambda rate: optax.chain(optax.clip(1.0), optax.sgd(rate)), Adam])
def test_equal_solvers_built_anew_compile_once(make: Any) -> None:
    """Other learning rates and numbers of steps, too; and the loss is traced once for the one program."""
    traces: list[Any] = []

    def loss(image: Array, args: Any, step: Array) -> Array:
        traces.append(image.shape)
        return jnp.sum(args * image**2)

    ends = [run(loss, make(rate), START, 1.0, num_steps=n).losses[-1] for rate, n in ((0.1, 3), (0.1, 3), (0.2, 5))]
    assert len(traces) == 1
    assert ends[0] == ends[1] != ends[2]


@pytest.mark.parametrize("num_steps", [1, 12, 13])
@pytest.mark.parametrize("solver", [Adam(), LBFGS(), LBFGS(zoom=True)])
def test_the_loss_is_traced_a_bounded_number_of_times(solver: Any, num_steps: int) -> None:
    """Once for a step; a line search evaluates it anew, in a fixed number of places."""
    traces: list[Any] = []

    def loss(image: Array, args: Any, step: Array) -> Array:
        traces.append(image.shape)
        return jnp.sum(image**2)

    most = 4 if isinstance(solver, LBFGS) and solver.zoom else 1
    jax.jit(lambda image: run(loss, solver, image, num_steps=num_steps))(START)
    assert 1 <= len(traces) <= most
    traces.clear()
    jax.jit(lambda image, n: run(loss, solver, image, num_steps=n))(START, num_steps)
    assert 1 <= len(traces) <= most


def test_eager_transformations_trace_once() -> None:
    """A gradient or a `vmap` in a loop of the caller's, without `jax.jit`."""
    traces: list[Any] = []

    def loss(image: Array, goal: Array, step: Array) -> Array:
        traces.append(image.shape)
        return jnp.sum((image - goal) ** 2)

    for scale in (1.0, 2.0, 3.0):
        gradient = jax.grad(lambda goal: jnp.sum(run(loss, Adam(0.1), START, goal, num_steps=3).image))(scale * TARGET)
        assert np.isfinite(gradient).all()
    once = len(traces)
    assert once <= 4
    for scale in (1.0, 2.0, 3.0):
        jax.vmap(lambda rate: run(loss, Adam(rate), START, TARGET, num_steps=3).image)(scale * jnp.ones(2))
    assert len(traces) <= 2 * once


def test_losses_built_anew_see_their_own_arrays() -> None:
    """Functions of the same code are not the same loss, as for `jax.jit`; arrays in ``args`` share a program."""

    def make(goal: Array) -> Any:
        return lambda image, args, step: jnp.sum((image - goal) ** 2)

    for goal in (TARGET, 2 * TARGET):
        solution: Any = run(make(goal), Adam(0.1), START, num_steps=200)
        np.testing.assert_allclose(solution.image, goal, atol=0.05)


def test_an_optimiser_that_branches_on_its_numbers_works_too() -> None:
    """Its numbers are constants of the program, and other numbers give another program."""

    def gated(rate: float) -> optax.GradientTransformation:
        def update(updates: Any, state: Any, params: Any = None) -> Any:
            return (jax.tree.map(lambda leaf: -rate * leaf, updates) if rate > 0.01 else updates), state

        return optax.GradientTransformation(lambda params: (), update)

    for rate in (0.02, 0.03):
        solution: Any = run(quadratic, gated(rate), START, ARGS, num_steps=4)
        np.testing.assert_allclose(solution.image, descent(4, rate)[4], rtol=1e-4, atol=1e-5)


def dense(params: Any, args: Any, step: Array) -> Array:
    """The mean squared error of a small network."""
    inputs, outputs = args
    hidden = jnp.tanh(inputs @ params["first"]["kernel"] + params["first"]["bias"])
    return jnp.mean((hidden @ params["second"] - outputs) ** 2)


@pytest.mark.parametrize("solver", [Adam(0.02), LBFGS(), Solver(LBFGS(memory_size=5), average=0.5)])
def test_the_variables_may_be_any_pytree(solver: Any) -> None:
    params = {
        "first": {"kernel": jnp.asarray(random_features(1, 4, 8)), "bias": jnp.zeros(8)},
        "second": jnp.asarray(random_features(2, 8)),
    }
    inputs = jnp.asarray(random_features(3, 32, 4))
    args = (inputs, jnp.sin(inputs.sum(-1)))
    solution: Any = run(dense, solver, params, args, num_steps=60)
    assert jax.tree.structure(solution.image) == jax.tree.structure(params)
    assert float(dense(solution.image, args, jnp.int32(0))) < 0.2 * float(solution.losses[0])
    jitted = jax.jit(lambda params: run(dense, solver, params, args, num_steps=5).losses)(params)
    np.testing.assert_allclose(jitted, solution.losses[:5], rtol=1e-4)


def test_lbfgs_of_a_pytree_is_lbfgs_of_its_concatenation() -> None:
    """An image and an alpha mask as two leaves, or as one array."""
    whole = run(quadratic, LBFGS(memory_size=4), START, ARGS, num_steps=12)

    def halves(parts: Any, args: Any, step: Array) -> Any:
        return quadratic(jnp.concatenate([parts["image"], parts["alpha"]]), args, step)

    split = run(halves, LBFGS(memory_size=4), {"image": START[:3], "alpha": START[3:]}, ARGS, num_steps=12)
    np.testing.assert_allclose(split.losses, whole.losses, rtol=1e-3)
    np.testing.assert_allclose(jnp.concatenate([split.image["image"], split.image["alpha"]]), whole.image, atol=1e-4)


def test_a_fourier_parametrisation() -> None:
    """Amplitudes of an image's frequencies as variables: the loss of the image they make falls."""

    def loss(spectrum: Array, args: Any, step: Array) -> Any:
        image = jnp.fft.irfft2(spectrum[0] + 1j * spectrum[1], SHAPE[:2], axes=(0, 1))
        return quadratic(image, args, step)

    spectrum = jnp.fft.rfft2(START, axes=(0, 1))
    for solver in (Adam(0.3), LBFGS()):
        solution: Any = run(loss, solver, jnp.stack([spectrum.real, spectrum.imag]), ARGS, num_steps=80)
        assert solution.losses[-1] < 0.02 * solution.losses[0]


def test_the_average_is_the_debiased_exponential_mean() -> None:
    """The initial image counts as well."""
    for num_steps in (0, 1, 2, 7):
        solution: Any = run(quadratic, Solver(optax.sgd(0.02), average=0.8), START, ARGS, num_steps=num_steps)
        weights = 0.8 ** np.arange(num_steps + 1)[::-1]
        expected = np.tensordot(weights / weights.sum(), np.stack(descent(num_steps, 0.02)), 1)
        np.testing.assert_allclose(solution.image, expected, rtol=1e-4, atol=1e-5)


def test_a_slow_average_is_exact_after_one_step() -> None:
    """1 - 0.9999 in float32 would be wrong in its fourth digit."""
    solution: Any = run(quadratic, Solver(optax.sgd(0.02), average=0.9999), START, ARGS, num_steps=1)
    expected = (0.9999 * np.float64(START) + np.float64(solution.state.image)) / 1.9999
    np.testing.assert_allclose(solution.image, expected, rtol=1e-5)


def test_the_best_image_is_kept() -> None:
    """Gradient descent that diverges is best where it began; a good run is best at its last evaluation."""
    diverging = run(quadratic, Solver(optax.sgd(0.2), keep_best=True), START, ARGS, num_steps=6)
    assert diverging.losses[-1] > diverging.losses[0]
    np.testing.assert_array_equal(diverging.image, START)
    good = run(quadratic, Solver(optax.sgd(0.02), keep_best=True), START, ARGS, num_steps=6)
    np.testing.assert_allclose(good.image, descent(6, 0.02)[5], rtol=1e-4, atol=1e-5)


def test_bounds() -> None:
    """Projected gradient descent on a separable quadratic ends at the clipped minimum, and every iterate is clipped."""
    solver = Solver(optax.sgd(0.02), bounds=(-0.25, 0.5))
    state = init(quadratic, solver, START)
    for _ in range(5):
        state, _ = step(quadratic, solver, state, ARGS)
        assert float(state.image.min()) >= -0.25
        assert float(state.image.max()) <= 0.5
    end = run(quadratic, solver, state, ARGS, num_steps=400)
    np.testing.assert_allclose(end.image, np.clip(TARGET, -0.25, 0.5), atol=1e-3)


def test_no_steps() -> None:
    for name in ("adam", "adam, averaged", "adam, best, bounded", "lbfgs"):
        solution: Any = run(quadratic, SOLVERS[name], START, ARGS, num_steps=0)
        np.testing.assert_array_equal(solution.image, START)
        assert solution.losses.shape == (0,)
        jitted = jax.jit(partial(run, quadratic, SOLVERS[name], num_steps=0))(START, ARGS)
        np.testing.assert_array_equal(jitted.image, START)
        assert jitted.losses.shape == (0,)


def climb(image: Array, args: Any, step: Array) -> tuple[Array, dict[str, Array]]:
    """Falls by 60 at every step of 1, and is NaN once a value exceeds ``args``."""
    parts = {"slope": -jnp.sum(image), "wall": jnp.where(image.max() > args, jnp.nan, 0.0)}
    return parts["slope"] + parts["wall"], parts


def test_a_run_that_meets_nan_keeps_its_last_finite_image() -> None:
    solution: Any = run(climb, optax.sgd(1.0), jnp.zeros(SHAPE), 2.5, num_steps=8)
    np.testing.assert_array_equal(solution.image, np.full(SHAPE, 3.0))
    assert not bool(solution.finite)
    assert int(solution.num_steps) == 4
    np.testing.assert_array_equal(solution.losses[:4], [0.0, -60.0, -120.0, np.nan])
    assert "term wall stopped being finite at step 4" in (solution.error() or "")


@pytest.mark.parametrize("name", ["optax adam", "lbfgs", "adam, averaged"])
def test_batch_elements_do_not_influence_each_other(name: str) -> None:
    """One element meets NaN: the other is the same bit for bit."""

    def loss(image: Array, args: Any, step: Array) -> Array:
        wall, target = args
        return jnp.sum((image - target) ** 4) + jnp.where(jnp.abs(image).max() > wall, jnp.nan, 0.0)

    batch = jax.jit(jax.vmap(lambda wall: run(loss, SOLVERS[name], jnp.zeros(SHAPE), (wall, TARGET), num_steps=6)))
    good, bad = batch(jnp.asarray([1e9, 1e9])), batch(jnp.asarray([1e-3, 1e9]))
    assert list(bad.finite) == [False, True]
    element = lambda tree, index: jax.tree.map(lambda leaf: leaf[index], tree)  # noqa: E731
    assert same_trees(element(good, 1), element(bad, 1))
    assert np.isfinite(bad.image).all()


def test_the_transfer_loss_under_every_transformation(tiny: Any) -> None:
    """Styles through `fit_targets` under vmap, weights under grad, a key as a leaf: from public functions alone."""
    backbone, params = tiny
    objective = jnst.make_objective(content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"), style_weight=10.0)
    content, styles = jnp.asarray(random_image(1, 16, 16)), jnp.asarray(random_image(2, 3, 16, 16))
    loss, solver = jnst.transfer_loss(backbone), jnst.solve.Adam(0.02)
    key = jax.random.key(1)

    def one(style: Array, weight: Array) -> Any:
        weighted = jnst.Objective(objective.content, jax.tree.map(lambda w: weight * w, objective.style))
        targets = jnst.fit_targets(content, style, weighted, params, backbone=backbone)
        return jnst.solve.run(loss, solver, content, (weighted, targets, params, key), num_steps=4)

    weights = jnp.asarray([1.0, 2.0, 0.5])
    batch = jax.jit(jax.vmap(one))(styles, weights)
    for index in range(3):
        single = one(styles[index], weights[index])
        np.testing.assert_allclose(batch.losses[index], single.losses, rtol=1e-3)
        np.testing.assert_allclose(batch.image[index], single.image, atol=2e-3)
    gradient = jax.grad(lambda weight: jnp.sum(one(styles[0], weight).image))(jnp.float32(1.0))
    assert np.isfinite(gradient)
    assert gradient != 0


@pytest.fixture(scope="module")
def tiny() -> Any:
    from contracts import random_params, tiny_backbone

    backbone = tiny_backbone()
    return backbone, random_params(backbone)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (Adam(-1.0), r"learning rate -1\.0: expected a positive number"),
        (LBFGS(float("nan")), "learning rate nan: expected a positive number"),
        ("adam", r"optimizer 'adam': expected .*jnst\.solve\.OPTIMIZERS\['adam'\]"),
        (3, "optimizer 3: expected"),
    ],
)
def test_solvers_that_make_no_sense(solver: Any, message: str) -> None:
    with pytest.raises(JnstError, match=message):
        run(quadratic, solver, START, ARGS, num_steps=1)


@pytest.mark.parametrize("average", [-0.5, 1.0, 1.5, float("nan")])
def test_averages_that_are_none(average: float) -> None:
    with pytest.raises(JnstError, match=f"average {average}: expected a decay of at least 0 and below 1"):
        Solver(Adam(), average=average)
    with pytest.raises(JnstError, match=f"average {average}: expected"):
        jnst.preset(average=average)


def test_one_choice_of_the_result() -> None:
    with pytest.raises(JnstError, match="average and keep_best both choose the image"):
        Solver(Adam(), average=0.5, keep_best=True)


def test_a_negative_number_of_steps() -> None:
    with pytest.raises(JnstError, match="num_steps -1: expected at least 0"):
        run(quadratic, Adam(), START, ARGS, num_steps=-1)
