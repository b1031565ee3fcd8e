"""The host's side of runs: chunks, callbacks, ends, batches."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import compilations, random_features, same_trees

from jnst.errors import JnstError
from jnst.solve import LBFGS, Adam, Solver, driver
from jnst.solve.driver import Drive, copied, drive, start_runs
from jnst.solve.solver import as_program
from jnst.types import Array

pytestmark = pytest.mark.usefixtures("unoptimised")

SHAPE = (3, 4, 3)
TARGET, START = jnp.asarray(random_features(1, *SHAPE)), jnp.asarray(random_features(2, *SHAPE))
SOLVERS: dict[str, Any] = {
    "adam, averaged": Solver(Adam(0.05), average=0.9),
    "lbfgs, best": Solver(LBFGS(memory_size=6), keep_best=True),
    "momentum": optax.sgd(0.01, momentum=0.9),
}


def quartic(image: Array, args: Any, step: Array) -> tuple[Array, dict[str, Array]]:
    """Σ (x - t)² + (x - t)⁴, NaN where a value exceeds the wall."""
    target, wall = args
    parts = {"square": jnp.sum((image - target) ** 2), "fourth": jnp.sum((image - target) ** 4)}
    parts["wall"] = jnp.where(jnp.abs(image).max() > wall, jnp.nan, 0.0)
    return parts["square"] + parts["fourth"] + parts["wall"], parts


def alone(solver: Any, num_steps: int, wall: float = 1e9, target: Array = TARGET, **options: Any) -> Drive:
    program = as_program(quartic, solver, START)
    return drive(program, start_runs(program, START), (target, wall), last_step=num_steps, **options)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("chunk", [4, 5, 20])
def test_chunks_of_any_length_equal_single_steps(name: str, chunk: int) -> None:
    """The last chunk is shorter, and has no program of its own."""
    single = alone(SOLVERS[name], 12)
    before = compilations(driver._make_steps)
    chunked = alone(SOLVERS[name], 12, chunk=chunk)
    assert compilations(driver._make_steps) <= before + 1
    assert chunked.losses.shape == single.losses.shape == (12,)
    np.testing.assert_allclose(chunked.losses, single.losses, rtol=1e-3)
    np.testing.assert_allclose(chunked.state.image, single.state.image, atol=1e-3)
    assert int(chunked.state.step) == int(chunked.num_steps) == 12


@pytest.mark.parametrize("chunk", [1, 4])
def test_callbacks_see_every_step_once_and_in_order(chunk: int) -> None:
    seen: list[tuple[int, np.ndarray, np.ndarray]] = []

    def callback(first: int, losses: np.ndarray, parts: Any, state: Any) -> None:
        seen.append((first, losses, parts["square"]))

    end = alone(SOLVERS["momentum"], 10, chunk=chunk, callback=callback)
    assert [first + i for first, losses, _ in seen for i in range(len(losses))] == list(range(1, 11))
    np.testing.assert_array_equal(np.concatenate([losses for _, losses, _ in seen]), end.losses)
    np.testing.assert_array_equal(np.concatenate([part for _, _, part in seen]), end.parts["square"])


@pytest.mark.parametrize("name", SOLVERS)
def test_a_run_ended_by_a_callback_continues_as_if_it_had_not_been(name: str) -> None:
    whole = alone(SOLVERS[name], 8)
    stopped = alone(SOLVERS[name], 8, callback=lambda first, *_: first == 3)
    assert not stopped.running
    assert not stopped.failed
    np.testing.assert_array_equal(stopped.losses, whole.losses[:3])
    rest = drive(as_program(quartic, SOLVERS[name], START), stopped.state, (TARGET, 1e9), last_step=8)
    assert same_trees(rest.state, whole.state)


def test_a_state_that_is_there_already_makes_no_step() -> None:
    done = alone(SOLVERS["momentum"], 4)
    again = drive(as_program(quartic, SOLVERS["momentum"], START), done.state, (TARGET, 1e9), last_step=3)
    assert same_trees(again.state, done.state)
    assert again.losses.shape == (0,)


def test_arrays_of_the_caller_survive_donation() -> None:
    image = jnp.array(START)
    program = as_program(quartic, SOLVERS["lbfgs, best"], image)
    state = start_runs(program, image)
    for _ in range(2):
        drive(program, copied(state), (TARGET, 1e9), last_step=2)
    drive(program, state, (TARGET, 1e9), last_step=2)
    np.testing.assert_array_equal(image, START)


def test_an_early_nan_is_recorded_up_to_its_step() -> None:
    end = alone(optax.sgd(-0.05), 40, wall=4.0, chunk=7)
    made = int(end.num_steps)
    assert bool(end.failed)
    assert 1 < made < 40
    assert np.isfinite(end.losses[: made - 1]).all()
    assert np.isnan(end.losses[made - 1 :]).all()
    assert np.isfinite(end.parts["square"][made - 1])
    assert np.isnan(end.parts["square"][made:]).all()
    assert np.abs(end.state.image).max() > 4.0
    assert np.isfinite(end.state.image).all()


def batch(solvers: list[Any], targets: Array, walls: list[float], num_steps: int, **options: Any) -> Drive:
    programs = [as_program(quartic, solver, START) for solver in solvers]
    program = jax.tree.map(lambda *leaves: jnp.stack(leaves), *programs)
    images, axes = jnp.stack([START] * len(solvers)), (0, (0, 0))
    args = (targets, jnp.asarray(walls))
    return drive(program, start_runs(program, images, axes), args, last_step=num_steps, axes=axes, **options)


TARGETS = jnp.stack([TARGET, -TARGET, 2 * TARGET])


@pytest.mark.parametrize("chunk", [1, 4])
def test_a_batch_is_its_runs(chunk: int) -> None:
    """Each with its own learning rate and target."""
    rates = (0.05, 0.1, 0.02)
    together = batch([Adam(rate) for rate in rates], TARGETS, [1e9] * 3, 6, chunk=chunk)
    for index, rate in enumerate(rates):
        single = alone(Adam(rate), 6, target=TARGETS[index])
        np.testing.assert_allclose(together.losses[index], single.losses, rtol=1e-4)
        np.testing.assert_allclose(together.state.image[index], single.state.image, atol=1e-4)


def test_runs_of_a_batch_end_one_by_one() -> None:
    """The first meets NaN, a callback ends the second, the third is the same bit for bit as without all that."""
    solvers = [optax.sgd(0.01)] * 3
    calm = batch(solvers, TARGETS, [1e9] * 3, 8)
    wall = float(jnp.abs(START).max()) - 1e-6
    ended = batch(solvers, TARGETS, [wall, 1e9, 1e9], 8, callback=lambda first, *_: [False, first == 3, False])
    assert list(ended.failed) == [True, False, False]
    assert list(ended.running) == [False, False, True]
    assert list(ended.num_steps) == [1, 3, 8]
    np.testing.assert_array_equal(ended.losses[2], calm.losses[2])
    np.testing.assert_array_equal(ended.state.image[2], calm.state.image[2])
    np.testing.assert_array_equal(ended.losses[1, :3], calm.losses[1, :3])
    assert np.isnan(ended.losses[1, 3:]).all()
    np.testing.assert_array_equal(ended.state.image[0], START)
    np.testing.assert_array_equal(ended.state.image[1], batch(solvers, TARGETS, [1e9] * 3, 3).state.image[1])


def test_answers_of_another_length_are_refused() -> None:
    with pytest.raises(JnstError, match="the callback returned 2 values for 3 runs"):
        batch([Adam()] * 3, TARGETS, [1e9] * 3, 2, callback=lambda *_: [True, False])


@pytest.mark.parametrize(("num_steps", "chunk"), [(-1, None), (3, 0), (3, -2)])
def test_counts_that_make_no_sense(num_steps: int, chunk: int | None) -> None:
    with pytest.raises(JnstError, match=f"num_steps {num_steps}, chunk {chunk}: expected"):
        alone(Adam(), num_steps, chunk=chunk)
