"""Functions split into leaves and structure: equal code is equal structure, and together they compute the same."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jnst.solve.closures import join, split

TRANSFORMATIONS: dict[str, Any] = {
    "adam": optax.adam,
    "adamw": optax.adamw,
    "momentum": lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    "lion": optax.lion,
    "rmsprop": optax.rmsprop,
    "clipped": lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate)),
    "schedule": lambda rate: optax.sgd(optax.cosine_decay_schedule(rate, 100)),
    "warm-up": lambda rate: optax.adam(optax.warmup_cosine_decay_schedule(0.0, rate, 10, 100)),
    "injected": lambda rate: optax.inject_hyperparams(optax.adam)(learning_rate=rate),
    "lbfgs": lambda rate: optax.lbfgs(rate),
    "masked": lambda rate: optax.masked(optax.sgd(rate), True),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_optax_transformations_differ_in_their_numbers_alone(name: str) -> None:
    first, second = (split(TRANSFORMATIONS[name](rate), floats=True) for rate in (0.1, 0.2))
    assert first[1] == second[1]
    assert hash(first[1]) == hash(second[1])
    assert first[0] != second[0]
    constant = [split(TRANSFORMATIONS[name](rate), floats=False)[1] for rate in (0.1, 0.2)]
    assert constant[0] != constant[1]


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_joined_again_they_compute_the_same(name: str) -> None:
    original = optax.with_extra_args_support(TRANSFORMATIONS[name](0.1))
    joined = optax.with_extra_args_support(join(*split(TRANSFORMATIONS[name](0.1), floats=True)))
    x = jnp.asarray([1.0, -2.0, 3.0])
    extra: Any = {"value": jnp.sum(x**2), "grad": 2 * x, "value_fn": lambda x: jnp.sum(x**2)}
    for _ in range(2):
        expected, _ = original.update(2 * x, original.init(x), x, **extra)
        found, _ = joined.update(2 * x, joined.init(x), x, **extra)
        np.testing.assert_array_equal(found, expected)


def scale(factor: Any) -> Any:
    return lambda x: factor * x


NEGATIVE = jax.jit(jnp.negative)


class Affine:
    """Compared by value, and with a method that may be passed."""

    def __init__(self, shift: int) -> None:
        self.shift = shift

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and self.shift == other.shift

    def __hash__(self) -> int:
        return hash(self.shift)

    def apply(self, x: Any) -> Any:
        return x + self.shift


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: scale(jnp.float32(3.0)), 6.0),
        (lambda: partial(lambda a, x, *, b: a * x + b, jnp.float32(2.0), b=np.float32(1.0)), 5.0),
        (lambda: Affine(3).apply, 5.0),
        (lambda: partial(scale(jnp.float32(3.0))), 6.0),
        (lambda: NEGATIVE, -2.0),
        (lambda: lambda x, shift=4, *, times=1: times * x + shift, 6.0),
    ],
)
def test_many_kinds_of_functions(make: Any, expected: float) -> None:
    leaves, structure = split(make(), floats=False)
    assert structure == split(make(), floats=False)[1]
    assert all(isinstance(leaf, jax.Array | np.generic) for leaf in leaves)
    assert float(join(leaves, structure)(jnp.float32(2.0))) == expected


def test_structures_hold_no_arrays() -> None:
    """Or compiled programs would keep them alive."""
    first, second = (split(scale(jnp.full(3, value)), floats=False) for value in (1.0, 2.0))
    assert first[1] == second[1]
    np.testing.assert_array_equal(join(first[0], second[1])(1.0), np.ones(3))
    np.testing.assert_array_equal(join(second[0], first[1])(1.0), np.full(3, 2.0))


def test_other_code_is_other_structure() -> None:
    assert split(lambda x: x + 1, floats=True)[1] != split(lambda x: x + 2, floats=True)[1]
    assert split(scale(2), floats=True)[1] != split(scale(3), floats=True)[1]
    assert split(scale(1), floats=True)[1] != split(scale(True), floats=True)[1]


RATE = 2.0


def test_another_value_of_a_global_is_another_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled program keeps the values of globals that were read when it was traced."""

    def schedule(step: Any) -> Any:
        return RATE * step

    nested = lambda: lambda x: schedule(x)  # noqa: E731
    before = split(schedule, floats=True)[1], split(nested, floats=True)[1]
    assert before == (split(schedule, floats=True)[1], split(nested, floats=True)[1])
    monkeypatch.setitem(globals(), "RATE", 3.0)
    after = split(schedule, floats=True)[1], split(nested, floats=True)[1]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_recursive_function() -> None:
    def factorial(n: int) -> int:
        return 1 if n == 0 else n * factorial(n - 1)

    assert join(*split(factorial, floats=True))(5) == 120
