"""Losses and updates that stop being finite."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import random_features, same_trees

from jnst.errors import NumericsError
from jnst.solve import run as optimize
from jnst.solve.optimizers import LBFGS
from jnst.solve.run import Method, minimise, start, step
from jnst.types import Array

pytestmark = pytest.mark.usefixtures("unoptimised")

ZEROS = jnp.zeros((2, 3, 3))


def climb(image: Array, args: Any, step: Array) -> tuple[Array, dict[str, Array]]:
    """Falls by 18 a step of 1 in every value, and is NaN from ``args`` on."""
    parts = {"slope": -jnp.sum(image), "wall": jnp.where(image.max() >= args, jnp.nan, 0.0)}
    return parts["slope"] + parts["wall"], parts


UNIT = optax.sgd(1.0)


@pytest.mark.parametrize("chunk", [1, 5])
@pytest.mark.parametrize("options", [{}, {"average": 0.5}, {"keep_best": True}])
def test_a_loss_that_becomes_nan(chunk: int, options: dict[str, Any]) -> None:
    """The image is 3 at the fourth evaluation, whose loss is NaN: three updates were good."""
    method = Method(climb, UNIT, **options)
    with pytest.raises(NumericsError, match=r"^term wall stopped being finite at step 4: ") as caught:
        minimise(method, start(ZEROS, method), 2.5, num_steps=20, chunk=chunk)
    result = caught.value.result
    np.testing.assert_array_equal(result.state.image, np.full((2, 3, 3), 3.0))
    assert int(result.state.step) == 3
    np.testing.assert_array_equal(result.total, [0, -18, -36, np.nan])
    np.testing.assert_array_equal(result.parts["wall"], [0, 0, 0, np.nan])
    image = np.asarray(optimize.image(result.state, method))
    expected = 3.0 if not options else 2.0 if "keep_best" in options else (0.25 * 1 + 0.5 * 2 + 3) / 1.75
    np.testing.assert_allclose(image, expected, rtol=1e-5)
    assert "\n" not in str(caught.value)


def test_nan_at_the_first_step_of_a_continued_run() -> None:
    method = Method(climb, UNIT)
    good = minimise(method, start(ZEROS, method), 10.0, num_steps=3)
    with pytest.raises(NumericsError, match=r"term wall .*step 4") as caught:
        minimise(method, good.state, 0.0, num_steps=6)
    np.testing.assert_array_equal(caught.value.result.state.image, good.state.image)


def flat(image: Array, args: Any, step: Array) -> tuple[Array, dict[str, Array]]:
    """0, with gradient -1."""
    total = jnp.sum(jax.lax.stop_gradient(image) - image)
    return total, {"flat": total}


def test_an_update_that_is_not_finite() -> None:
    """Finite loss, finite gradient, and a second step that overflows: 2e38 + 2e38."""
    method = Method(flat, optax.sgd(2e38))
    with pytest.raises(NumericsError, match=r"the image stopped being finite at step 2") as caught:
        minimise(method, start(ZEROS, method), (), num_steps=5)
    np.testing.assert_array_equal(caught.value.result.state.image, np.full((2, 3, 3), np.float32(2e38)))


def overflow(image: Array, args: Any, step: Array) -> tuple[Array, dict[str, Array]]:
    parts = {"left": 3e38 + 0 * jnp.sum(image), "right": 3e38 + 0 * jnp.sum(image)}
    return parts["left"] + parts["right"], parts


def test_finite_parts_with_an_infinite_total() -> None:
    method = Method(overflow, UNIT)
    with pytest.raises(NumericsError, match=r"the total stopped being finite at step 1"):
        minimise(method, start(ZEROS, method), (), num_steps=5)


@pytest.mark.parametrize("name", ["adam", "lbfgs"])
def test_a_lane_that_meets_nan_freezes_alone(name: str) -> None:
    """Its neighbour does not change by one bit, and it keeps its own last finite image."""
    optimizer = {"adam": optax.adam(0.3), "lbfgs": LBFGS(memory_size=4).transformation()}[name]
    target = jnp.asarray(random_features(1, 2, 3, 3))

    def loss(image: Array, args: Any, step: Array) -> tuple[Array, dict[str, Array]]:
        total = jnp.sum((image - target) ** 4) + jnp.where(jnp.abs(image).max() > args, jnp.nan, 0.0)
        return total, {"all": total}

    method = Method(loss, optimizer, average=0.5, keep_best=True)
    advance = jax.jit(jax.vmap(partial(step, method=method)))

    def run(limits: list[float]) -> list[Any]:
        states = jax.vmap(partial(start, method=method))(jnp.stack([ZEROS, ZEROS]))
        history = []
        for _ in range(6):
            states, _ = advance(states, jnp.asarray(limits))
            history.append(jax.device_get(states))
        return history

    good, bad = run([1e9, 1e9]), run([0.5, 1e9])
    lane = lambda state, index: jax.tree.map(lambda leaf: leaf[index], state)  # noqa: E731
    assert all(same_trees(lane(left, 1), lane(right, 1)) for left, right in zip(good, bad, strict=True))
    finite = [bool(state.finite[0]) for state in bad]
    frozen = finite.index(False)
    assert 0 < frozen < 5
    assert not any(finite[frozen:])
    for state in bad[frozen:]:
        np.testing.assert_array_equal(state.image[0], good[frozen - 1].image[0])
        np.testing.assert_array_equal(state.average[0], good[frozen - 1].average[0])
        assert state.step[0] == frozen
        assert np.isfinite(state.best[1][0]).all()
    assert all(state.finite[1] for state in bad)
