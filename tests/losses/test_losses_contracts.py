"""Contract tests for every row of the loss tables. A new row is tested without a change here."""

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import CASES, NOT_A_MIXTURE, TABLES, ZERO_UP_TO, Case, compilations, many_devices, random_features

from jnst.errors import JnstError

pytestmark = pytest.mark.usefixtures("unoptimised")

FITTED = [name for name, case in CASES.items() if case.kind != "image"]
STYLE = [name for name, case in CASES.items() if case.kind == "style"]
ROWS = list({(case.kind, case.name): name for name, case in reversed(CASES.items())}.values())
"""The first case of each row, for slow tests."""
TWICE = (
    *("mse-mean", "gram-chw", "covariance-mean", "mean-std-mean", "wasserstein-0.01", "wasserstein-12"),
    *("sliced-wasserstein-default", "tv-l1", "tv-l2", "tv-nine_point", "tv-isotropic"),
)
"""Losses whose second derivatives are tested in float32, too."""
RTOL = 2e-6


def rtol(name: str) -> float:
    """Looser for the rows of `ZERO_UP_TO`, whose values are differences of larger numbers."""
    return 2e-5 if CASES[name].name in ZERO_UP_TO else RTOL


@functools.cache
def compiled(name: str) -> Callable[..., jax.Array]:
    """The value of features against targets, compiled. Only `test_jit_equals_eager` runs the operations one by one."""
    return jax.jit(CASES[name].fitted_value)


@functools.cache
def guided(name: str) -> Callable[..., jax.Array]:
    """The value with one guide for both images."""
    case = CASES[name]
    return jax.jit(lambda features, targets, guide: case.value(features, case.fit(targets, guide), guide))


@functools.cache
def gradient_at_the_target(name: str) -> Callable[[Any], jax.Array]:
    case = CASES[name]
    return jax.jit(lambda features: jax.grad(lambda x: case.value(x, case.fit(features)))(features))


def pair(case: Case, *batch: int) -> tuple[Any, Any]:
    shape = (*batch, 6, 7, case.channels)
    return random_features(1, *shape), random_features(2, *shape)


def test_every_row_has_a_case() -> None:
    rows = {(kind, name) for kind, table in TABLES.items() for name in table}
    assert {(case.kind, case.name) for case in CASES.values()} == rows


@pytest.mark.parametrize("name", FITTED)
def test_zero_at_its_own_target(name: str) -> None:
    case = CASES[name]
    features, others = pair(case, 2)
    elsewhere = np.asarray(compiled(name)(features, others))
    own = jax.jit(lambda features: case.fitted_value(features, features))(features)
    assert (np.abs(own) <= ZERO_UP_TO.get(case.name, 0.0) * elsewhere).all()


@pytest.mark.parametrize("name", CASES)
def test_positive_elsewhere(name: str) -> None:
    assert (np.asarray(compiled(name)(*pair(CASES[name], 2))) > 0).all()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fill", [None, 0.0, 0.7])
def test_finite_gradient_at_the_target(name: str, fill: float | None) -> None:
    """At random features, at zero, and at a constant, where square roots and divisions could give NaN."""
    features, _ = pair(CASES[name])
    features = features if fill is None else np.full_like(features, fill)
    assert np.isfinite(gradient_at_the_target(name)(features)).all()


@pytest.mark.parametrize("name", CASES)
def test_jit_equals_eager(name: str) -> None:
    case, arrays = CASES[name], pair(CASES[name])
    np.testing.assert_allclose(compiled(name)(*arrays), case.fitted_value(*arrays), rtol=rtol(name))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_one_value_per_image(name: str, batch: tuple[int, ...]) -> None:
    features, targets = pair(CASES[name], *batch)
    together = np.asarray(compiled(name)(features, targets))
    assert together.shape == batch
    assert together.dtype == np.float32
    alone = [float(compiled(name)(features[index], targets[index])) for index in np.ndindex(batch)]
    np.testing.assert_allclose(together.ravel(), alone, rtol=rtol(name))


@pytest.mark.parametrize("name", CASES)
def test_vmap_equals_a_loop(name: str) -> None:
    case = CASES[name]
    features, targets = pair(case, 3)
    loop = [float(compiled(name)(*arrays)) for arrays in zip(features, targets, strict=True)]
    np.testing.assert_allclose(jax.jit(jax.vmap(case.fitted_value))(features, targets), loop, rtol=rtol(name))


@pytest.mark.parametrize("name", FITTED)
def test_one_target_for_a_batch(name: str) -> None:
    features, targets = pair(CASES[name], 2, 3)
    loop = [[float(compiled(name)(x, targets[0, 0])) for x in row] for row in features]
    np.testing.assert_allclose(compiled(name)(features, targets[0, 0]), loop, rtol=rtol(name))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_accumulates_in_float32(name: str, dtype: np.dtype) -> None:
    """With 3000 positions a sum in half precision would be wrong in the second digit, or overflow."""
    case = CASES[name]
    halves = [jnp.asarray(random_features(seed, 60, 50, case.channels), dtype) for seed in (1, 2)]
    value = compiled(name)(*halves)
    assert value.dtype == jnp.float32
    exact = compiled(name)(*(half.astype(jnp.float32) for half in halves))
    np.testing.assert_allclose(value, exact, rtol=1e-5)


def weighted_gradient(case: Case) -> Callable[[Any, Any], jax.Array]:
    """A number that depends on all of a gradient."""
    return lambda features, targets: jnp.vdot(
        random_features(3, *features.shape), jax.grad(case.fitted_value)(features, targets)
    )


@pytest.mark.parametrize("name", CASES)
def test_float64_features_give_a_float64_loss(name: str) -> None:
    """float32 features give a float32 loss, also where float64 is enabled."""
    arrays = pair(CASES[name], 2)
    single = compiled(name)(*arrays)
    with jax.enable_x64(True):
        doubles = [jnp.asarray(array, jnp.float64) for array in arrays]
        double, still_single = compiled(name)(*doubles), compiled(name)(*arrays)
    assert (double.dtype, still_single.dtype) == (jnp.float64, jnp.float32)
    np.testing.assert_allclose(double, single, rtol=1e-4)
    np.testing.assert_allclose(still_single, single, rtol=1e-4)


def where_derivatives_may_fail(features: Any, others: Any) -> list[tuple[Any, Any]]:
    """At the target; and where features, target or both are zero or constant."""
    zero, flat = 0 * features, np.full_like(features, 0.7)
    return [(features, features), (zero, zero), (flat, flat), (features, flat), (flat, others)]


@pytest.mark.parametrize("name", TWICE)
def test_second_derivatives_are_finite(name: str) -> None:
    """Reverse mode through a run takes gradients of gradients, by the features and by the image of the target."""
    features, others = pair(CASES[name])
    second = jax.jit(jax.grad(weighted_gradient(CASES[name]), (0, 1)))
    for arrays in [(features, others), *where_derivatives_may_fail(features, others)]:
        assert all(np.isfinite(derivative).all() for derivative in second(*arrays))


@pytest.mark.parametrize("name", ROWS)
def test_derivatives_agree_with_central_differences_in_float64(name: str) -> None:
    """First and second derivatives, by the features and by the image that the target is fitted to."""
    case = CASES[name]
    functions = case.fitted_value, weighted_gradient(case)
    evaluate = jax.jit(lambda *arrays: jnp.stack([function(*arrays) for function in functions]))
    differentiate = jax.jit(lambda *arrays: [jax.grad(function, (0, 1))(*arrays) for function in functions])
    step = 1e-6
    with jax.enable_x64(True):
        arrays = [jnp.asarray(array, jnp.float64) for array in pair(case)]
        derivatives = differentiate(*arrays)
        for which in (0,) if case.kind == "image" else (0, 1):
            assert np.abs(derivatives[0][which]).max() > 0
            direction = np.random.default_rng(3).standard_normal(arrays[which].shape)
            ends = [
                evaluate(*(array + sign * step * direction if i == which else array for i, array in enumerate(arrays)))
                for sign in (1, -1)
            ]
            slopes = (ends[0] - ends[1]) / (2 * step)
            for derivative, expected in zip(derivatives, slopes, strict=True):
                scale = float(np.linalg.norm(derivative[which]) * np.linalg.norm(direction))
                np.testing.assert_allclose(
                    np.sum(derivative[which] * direction), expected, rtol=0, atol=1e-7 * scale + 1e-9
                )
        for special in where_derivatives_may_fail(*arrays):
            assert all(np.isfinite(derivative).all() for derivative in jax.tree.leaves(differentiate(*special)))


@pytest.mark.parametrize("name", FITTED)
def test_features_without_positions_raise(name: str) -> None:
    case = CASES[name]
    features, targets = pair(case)
    with pytest.raises(JnstError, match="larger image"):
        case.fitted_value(features[:0], targets[:0])


@pytest.mark.parametrize("name", FITTED)
def test_mismatched_channels_raise(name: str) -> None:
    features, targets = pair(CASES[name])
    with pytest.raises(JnstError, match="fit the target"):
        compiled(name)(features[..., :-1], targets)
    with pytest.raises(JnstError, match="fit the target"):
        compiled(name)(features[..., :1], targets)


@pytest.mark.parametrize("name", FITTED)
def test_only_the_proportions_of_a_guide_matter(name: str) -> None:
    features, targets = pair(CASES[name], 2)
    plain = compiled(name)(features, targets)
    guide = np.full(features.shape[:-1], 0.25, np.float32)
    np.testing.assert_allclose(guided(name)(features, targets, guide), plain, rtol=1e-5)
    uneven = np.random.default_rng(3).uniform(0.1, 1.0, features.shape[:-1]).astype(np.float32)
    value = guided(name)(features, targets, uneven)
    assert not np.allclose(value, plain, rtol=1e-4), "the guide has no effect"
    np.testing.assert_allclose(guided(name)(features, targets, 3 * uneven), value, rtol=1e-4)


@pytest.mark.parametrize("name", FITTED)
def test_positions_outside_the_guide_do_not_matter(name: str) -> None:
    """The guide covers the left side. The changes keep a margin, for losses that compare neighbourhoods."""
    case = CASES[name]
    features, targets = (random_features(seed, 8, 12, case.channels) for seed in (1, 2))
    guide = np.zeros(features.shape[:-1], np.float32)
    guide[:, :4] = 1.0
    evaluate = jax.jit(jax.value_and_grad(guided(name), (0, 2)))
    value, (gradient, guide_gradient) = evaluate(features, targets, guide)
    assert np.isfinite(gradient).all()
    assert np.isfinite(guide_gradient).all()
    assert np.abs(gradient[:, :4]).max() > 0
    assert np.abs(gradient[:, 8:]).max() == 0
    elsewhere = [np.where(np.arange(12)[:, None] < 8, array, 5 * array + 1) for array in (features, targets)]
    np.testing.assert_allclose(evaluate(*elsewhere, guide)[0], value, rtol=1e-4)


@pytest.mark.parametrize("name", STYLE)
def test_a_blend_is_a_mixture(name: str) -> None:
    case = CASES[name]
    features, first, second = (random_features(seed, 6, 8, case.channels) for seed in (1, 2, 3))

    @jax.jit
    def blended(features: Any, first: Any, second: Any, weights: Any) -> jax.Array:
        return case.value(features, case.loss.blend([case.fit(first), case.fit(second)], weights))

    same = blended(features, first, first, jnp.asarray([0.3, 0.7]))
    np.testing.assert_allclose(same, compiled(name)(features, first), rtol=1e-4)
    value = blended(features, first, second, jnp.asarray([0.5, 0.5]))
    assert not np.allclose(value, same, rtol=1e-3), "the second image has no effect"
    if name not in NOT_A_MIXTURE:
        np.testing.assert_allclose(value, compiled(name)(features, np.concatenate([first, second], axis=1)), rtol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_no_second_compilation(name: str) -> None:
    compiled = jax.jit(lambda case, x, target: case.value(x, target), static_argnums=0)
    for seed in (1, 2):
        # A case that is built again has an equal loss with an equal hash.
        case = Case(CASES[name].kind, CASES[name].name, CASES[name].options)
        features = random_features(seed, 6, 7, case.channels)
        compiled(case, features, case.fit(random_features(seed + 10, 6, 7, case.channels)))
    assert compilations(compiled) == 1
    assert CASES[name].loss == CASES[name].loss
    assert hash(CASES[name].loss) == hash(CASES[name].loss)


@pytest.fixture(scope="module")
def sharded_differences() -> dict[str, list[float]]:
    """The output of `sharded.py`, run in a process with eight CPU devices."""
    script = Path(__file__).with_name("sharded.py")
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=many_devices(8), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_sharded_equals_unsharded(name: str, sharded_differences: dict[str, list[float]]) -> None:
    assert len(sharded_differences[name]) == 4
    assert max(sharded_differences[name]) < 1e-5
