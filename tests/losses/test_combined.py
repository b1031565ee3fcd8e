"""Sums of several losses."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_features

from jnst.errors import JnstError
from jnst.losses import CrossGram, Gram, ShiftedGram, SquaredError, Sum

pytestmark = pytest.mark.usefixtures("unoptimised")

BOTH = Sum(((Gram(), 2.0), (ShiftedGram((1, 2)), 0.5)))


@dataclasses.dataclass(frozen=True)
class Draw:
    """A loss that depends on the key only."""

    joint = False

    def fit(self, features: Any, guide: Any = None) -> None:
        return None

    def loss(self, features: Any, target: Any, guide: Any = None, key: Any = None) -> Any:
        return jnp.float32(-1.0) if key is None else jax.random.uniform(key)


def pair(seed: int) -> tuple[Any, Any]:
    return random_features(seed, 6, 8, 4), random_features(seed + 10, 3, 4, 3)


def test_the_value_and_the_gradient_add_up() -> None:
    features, style = pair(1)[0], pair(2)[0]
    guide: Any = np.random.default_rng(3).uniform(0.1, 1, (6, 8)).astype(np.float32)
    for guides in (None, guide):
        target = BOTH.fit(style, guides)
        value, gradient = jax.jit(jax.value_and_grad(BOTH.loss))(features, target, guides)
        alone = [
            jax.jit(jax.value_and_grad(loss.loss))(features, loss.fit(style, guides), guides) for loss, _ in BOTH.parts
        ]
        np.testing.assert_allclose(value, 2 * alone[0][0] + 0.5 * alone[1][0], rtol=1e-6)
        np.testing.assert_allclose(gradient, 2 * alone[0][1] + 0.5 * alone[1][1], rtol=1e-5, atol=1e-8)
    assert float(BOTH.loss(style, BOTH.fit(style))) == 0.0


def test_one_value_per_image() -> None:
    features, style = random_features(1, 2, 3, 6, 8, 4), random_features(2, 6, 8, 4)
    target = BOTH.fit(style)
    values = BOTH.loss(features, target)
    assert values.shape == (2, 3)
    alone = [[float(BOTH.loss(image, target)) for image in row] for row in features]
    np.testing.assert_allclose(values, alone, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(lambda x: BOTH.loss(x, target))(features), alone, rtol=1e-5)


def test_targets_blend_part_by_part() -> None:
    styles, weights = [pair(seed)[0] for seed in (2, 3)], jnp.asarray([0.3, 0.7])
    blended = BOTH.blend([BOTH.fit(style) for style in styles], weights)
    for (loss, _), target in zip(BOTH.parts, blended, strict=True):
        expected = loss.blend([loss.fit(style) for style in styles], weights)  # type: ignore[attr-defined]
        jax.tree.map(np.testing.assert_array_equal, target, expected)


def test_a_sum_of_joint_losses_is_joint() -> None:
    layers, style = pair(1), pair(2)
    loss = Sum(((CrossGram(), 1.0), (CrossGram("hw"), 3.0)))
    assert loss.joint
    assert not BOTH.joint
    alone = [CrossGram(name).loss(layers, CrossGram(name).fit(style)) for name in ("chw", "hw")]
    np.testing.assert_allclose(loss.loss(layers, loss.fit(style)), alone[0] + 3 * alone[1], rtol=1e-6)


def test_sums_of_sums() -> None:
    features, style = pair(1)[0], pair(2)[0]
    loss = Sum(((BOTH, 2.0), (SquaredError(), 1.0)))
    expected = 2 * BOTH.loss(features, BOTH.fit(style)) + SquaredError().loss(features, style)
    np.testing.assert_allclose(loss.loss(features, loss.fit(style)), expected, rtol=1e-6)


def test_every_part_has_a_key_of_its_own() -> None:
    features, first, second = pair(1)[0], Sum(((Draw(), 1.0), (Draw(), 0.0))), Sum(((Draw(), 0.0), (Draw(), 1.0)))
    drawn = [float(loss.loss(features, (None, None), key=jax.random.key(5))) for loss in (first, second)]
    assert drawn[0] != drawn[1]
    assert min(drawn) >= 0
    assert float(first.loss(features, (None, None))) == -1.0


def test_equal_sums_are_one_static_argument() -> None:
    again = Sum(((Gram(), 2.0), (ShiftedGram((1, 2)), 0.5)))
    assert again == BOTH
    assert hash(again) == hash(BOTH)
    assert Sum(((Gram(), 2.0), (ShiftedGram((1, 2)), 0.25))) != BOTH


def test_invalid_sums() -> None:
    with pytest.raises(JnstError, match="at least one"):
        Sum(())
    with pytest.raises(JnstError, match=r"\(Gram, CrossGram\).*only losses for one layer or only losses for several"):
        Sum(((Gram(), 1.0), (CrossGram(), 1.0)))
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(JnstError, match=r"weight .* of Gram"):
            Sum(((Gram(), weight),))
    loss, style = Sum(((SquaredError(), 1.0),)), pair(2)[0]
    with pytest.raises(JnstError, match="SquaredError has no blend"):
        loss.blend([loss.fit(style)] * 2, jnp.asarray([0.5, 0.5]))
