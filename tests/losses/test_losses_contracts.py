"""What every row of the tables of losses must keep to; a new row is tested here without a change."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import CASES, NOT_A_MIXTURE, TABLES, ZERO_UP_TO, Case, compilations, random_features

from jnst.errors import JnstError

pytestmark = pytest.mark.usefixtures("unoptimised")

FITTED = [name for name, case in CASES.items() if case.kind != "picture"]
STYLE = [name for name, case in CASES.items() if case.kind == "style"]
RTOL = 2e-6


def rtol(name: str) -> float:
    """Rows in which rounding does not cancel at the target are differences of larger numbers elsewhere too."""
    return 2e-5 if CASES[name].name in ZERO_UP_TO else RTOL


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
    elsewhere = np.asarray(case.fitted_value(features, others))
    assert (np.abs(case.fitted_value(features, features)) <= ZERO_UP_TO.get(case.name, 0.0) * elsewhere).all()


@pytest.mark.parametrize("name", CASES)
def test_positive_elsewhere(name: str) -> None:
    assert (np.asarray(CASES[name].fitted_value(*pair(CASES[name], 2))) > 0).all()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fill", [None, 0.0, 0.7])
def test_finite_gradient_at_the_target(name: str, fill: float | None) -> None:
    """At random features, at zero, and at a constant, where square roots and divisions would give NaN."""
    case = CASES[name]
    features, _ = pair(case)
    features = features if fill is None else np.full_like(features, fill)
    gradient = jax.grad(lambda x: case.value(x, case.fit(features)))(jnp.asarray(features))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", CASES)
def test_jit_equals_eager(name: str) -> None:
    case, arrays = CASES[name], pair(CASES[name])
    np.testing.assert_allclose(jax.jit(case.fitted_value)(*arrays), case.fitted_value(*arrays), rtol=rtol(name))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_one_value_per_picture(name: str, batch: tuple[int, ...]) -> None:
    case = CASES[name]
    features, targets = pair(case, *batch)
    together = np.asarray(case.fitted_value(features, targets))
    assert together.shape == batch
    assert together.dtype == np.float32
    alone = [float(case.fitted_value(features[index], targets[index])) for index in np.ndindex(batch)]
    np.testing.assert_allclose(together.ravel(), alone, rtol=rtol(name))


@pytest.mark.parametrize("name", CASES)
def test_vmap_equals_a_loop(name: str) -> None:
    case = CASES[name]
    features, targets = pair(case, 3)
    loop = [float(case.fitted_value(*arrays)) for arrays in zip(features, targets, strict=True)]
    np.testing.assert_allclose(jax.vmap(case.fitted_value)(features, targets), loop, rtol=rtol(name))


@pytest.mark.parametrize("name", FITTED)
def test_one_target_for_a_batch(name: str) -> None:
    case = CASES[name]
    features, targets = pair(case, 2, 3)
    loop = [[float(case.fitted_value(x, targets[0, 0])) for x in row] for row in features]
    np.testing.assert_allclose(case.fitted_value(features, targets[0, 0]), loop, rtol=rtol(name))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_accumulates_in_float32(name: str, dtype: np.dtype) -> None:
    """With 3000 positions a sum in half precision would be wrong in the second digit, or overflow."""
    case = CASES[name]
    halves = [jnp.asarray(random_features(seed, 60, 50, case.channels), dtype) for seed in (1, 2)]
    value = case.fitted_value(*halves)
    assert value.dtype == jnp.float32
    exact = case.fitted_value(*(half.astype(jnp.float32) for half in halves))
    np.testing.assert_allclose(value, exact, rtol=1e-5)


@pytest.mark.parametrize("name", FITTED)
def test_mismatched_channels_raise(name: str) -> None:
    case = CASES[name]
    features, targets = pair(case)
    with pytest.raises(JnstError, match="fit the target"):
        case.fitted_value(features[..., :-1], targets)
    with pytest.raises(JnstError, match="fit the target"):
        case.fitted_value(features[..., :1], targets)


@pytest.mark.parametrize("name", FITTED)
def test_only_the_proportions_of_a_guide_matter(name: str) -> None:
    case = CASES[name]
    features, targets = pair(case, 2)
    plain = case.fitted_value(features, targets)
    guide = np.full(features.shape[:-1], 0.25, np.float32)
    np.testing.assert_allclose(case.value(features, case.fit(targets, guide), guide), plain, rtol=1e-5)
    uneven = np.random.default_rng(3).uniform(0.1, 1.0, features.shape[:-1]).astype(np.float32)
    guided = case.value(features, case.fit(targets, uneven), uneven)
    assert not np.allclose(guided, plain, rtol=1e-4), "the guide is not looked at"
    np.testing.assert_allclose(case.value(features, case.fit(targets, 3 * uneven), 3 * uneven), guided, rtol=1e-4)


@pytest.mark.parametrize("name", FITTED)
def test_what_a_guide_leaves_out_does_not_matter(name: str) -> None:
    """The guide covers the left; a margin keeps losses that compare neighbourhoods from seeing across."""
    case = CASES[name]
    features, targets = (random_features(seed, 8, 12, case.channels) for seed in (1, 2))
    guide = np.zeros(features.shape[:-1], np.float32)
    guide[:, :4] = 1.0
    value, gradient = jax.value_and_grad(lambda x: case.value(x, case.fit(targets, guide), guide))(features)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[:, :4]).max() > 0
    assert np.abs(gradient[:, 8:]).max() == 0
    elsewhere = [np.where(np.arange(12)[:, None] < 8, array, 5 * array + 1) for array in (features, targets)]
    np.testing.assert_allclose(case.value(elsewhere[0], case.fit(elsewhere[1], guide), guide), value, rtol=1e-4)


@pytest.mark.parametrize("name", STYLE)
def test_a_blend_is_a_mixture(name: str) -> None:
    case = CASES[name]
    features, first, second = (random_features(seed, 6, 8, case.channels) for seed in (1, 2, 3))
    targets, weights = [case.fit(first), case.fit(second)], jnp.asarray([0.5, 0.5])
    same = case.value(features, case.loss.blend([targets[0]] * 2, jnp.asarray([0.3, 0.7])))
    np.testing.assert_allclose(same, case.value(features, targets[0]), rtol=1e-4)
    blended = case.value(features, case.loss.blend(targets, weights))
    assert not np.allclose(blended, same, rtol=1e-3), "the second picture is not looked at"
    if name not in NOT_A_MIXTURE:
        side_by_side = case.fit(np.concatenate([first, second], axis=1))
        np.testing.assert_allclose(blended, case.value(features, side_by_side), rtol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_no_second_compilation(name: str) -> None:
    compiled = jax.jit(lambda case, x, target: case.value(x, target), static_argnums=0)
    for seed in (1, 2):
        # A case built again is an equal, and equally hashed, loss.
        case = Case(CASES[name].kind, CASES[name].name, CASES[name].options)
        features = random_features(seed, 6, 7, case.channels)
        compiled(case, features, case.fit(random_features(seed + 10, 6, 7, case.channels)))
    assert compilations(compiled) == 1
    assert CASES[name].loss == CASES[name].loss
    assert hash(CASES[name].loss) == hash(CASES[name].loss)


@pytest.fixture(scope="module")
def sharded_differences() -> dict[str, list[float]]:
    """`sharded.py`, in a process of its own that sees eight CPU devices."""
    script = Path(__file__).with_name("sharded.py")
    flags = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(script.parents[1]),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    command, environment = [sys.executable, str(script)], os.environ | flags
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_sharded_equals_unsharded(name: str, sharded_differences: dict[str, list[float]]) -> None:
    assert len(sharded_differences[name]) == 4
    assert max(sharded_differences[name]) < 1e-5
