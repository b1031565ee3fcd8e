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
from contracts import CASES, TABLES, Case, compilations, random_features

from jnst.errors import JnstError

FITTED = [name for name, case in CASES.items() if case.kind != "picture"]
RTOL = 2e-6


def pair(case: Case, *batch: int) -> tuple[Any, Any]:
    shape = (*batch, 6, 7, case.channels)
    return random_features(1, *shape), random_features(2, *shape)


def test_every_row_has_a_case() -> None:
    rows = {(kind, name) for kind, table in TABLES.items() for name in table}
    assert {(case.kind, case.name) for case in CASES.values()} == rows


@pytest.mark.parametrize("name", FITTED)
def test_zero_at_its_own_target(name: str) -> None:
    features, _ = pair(CASES[name], 2)
    np.testing.assert_array_equal(CASES[name].fitted_value(features, features), np.zeros(2, np.float32))


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
    np.testing.assert_allclose(jax.jit(case.fitted_value)(*arrays), case.fitted_value(*arrays), rtol=RTOL)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_one_value_per_picture(name: str, batch: tuple[int, ...]) -> None:
    case = CASES[name]
    features, targets = pair(case, *batch)
    together = np.asarray(case.fitted_value(features, targets))
    assert together.shape == batch
    assert together.dtype == np.float32
    alone = [float(case.fitted_value(features[index], targets[index])) for index in np.ndindex(batch)]
    np.testing.assert_allclose(together.ravel(), alone, rtol=RTOL)


@pytest.mark.parametrize("name", CASES)
def test_vmap_equals_a_loop(name: str) -> None:
    case = CASES[name]
    features, targets = pair(case, 3)
    loop = [float(case.fitted_value(*arrays)) for arrays in zip(features, targets, strict=True)]
    np.testing.assert_allclose(jax.vmap(case.fitted_value)(features, targets), loop, rtol=RTOL)


@pytest.mark.parametrize("name", FITTED)
def test_one_target_for_a_batch(name: str) -> None:
    case = CASES[name]
    features, targets = pair(case, 2, 3)
    loop = [[float(case.fitted_value(x, targets[0, 0])) for x in row] for row in features]
    np.testing.assert_allclose(case.fitted_value(features, targets[0, 0]), loop, rtol=RTOL)


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
    }
    command, environment = [sys.executable, str(script)], os.environ | flags
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_sharded_equals_unsharded(name: str, sharded_differences: dict[str, list[float]]) -> None:
    assert len(sharded_differences[name]) == 4
    assert max(sharded_differences[name]) < 1e-5
