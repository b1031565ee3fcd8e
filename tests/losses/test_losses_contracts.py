"""What every row of the tables of losses must keep to; a new row is tested here without a change."""

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
RTOL = 2e-6


def rtol(name: str) -> float:
    """Rows in which rounding does not cancel at the target are differences of larger numbers elsewhere too."""
    return 2e-5 if CASES[name].name in ZERO_UP_TO else RTOL


@functools.cache
def compiled(name: str) -> Callable[..., jax.Array]:
    """The value of features under targets: `test_jit_equals_eager` runs the operations one by one."""
    return jax.jit(CASES[name].fitted_value)


@functools.cache
def guided(name: str) -> Callable[..., jax.Array]:
    """The value under a guide that is that of both images."""
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
    """At random features, at zero, and at a constant, where square roots and divisions would give NaN."""
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
    assert not np.allclose(value, plain, rtol=1e-4), "the guide is not looked at"
    np.testing.assert_allclose(guided(name)(features, targets, 3 * uneven), value, rtol=1e-4)


@pytest.mark.parametrize("name", FITTED)
def test_what_a_guide_leaves_out_does_not_matter(name: str) -> None:
    """The guide covers the left; a margin keeps losses that compare neighbourhoods from seeing across."""
    case = CASES[name]
    features, targets = (random_features(seed, 8, 12, case.channels) for seed in (1, 2))
    guide = np.zeros(features.shape[:-1], np.float32)
    guide[:, :4] = 1.0
    evaluate = jax.jit(jax.value_and_grad(guided(name)))
    value, gradient = evaluate(features, targets, guide)
    assert np.isfinite(gradient).all()
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
    assert not np.allclose(value, same, rtol=1e-3), "the second image is not looked at"
    if name not in NOT_A_MIXTURE:
        np.testing.assert_allclose(value, compiled(name)(features, np.concatenate([first, second], axis=1)), rtol=1e-4)


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
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=many_devices(8), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_sharded_equals_unsharded(name: str, sharded_differences: dict[str, list[float]]) -> None:
    assert len(sharded_differences[name]) == 4
    assert max(sharded_differences[name]) < 1e-5
