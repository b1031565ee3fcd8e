"""Dimensionless losses."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_features

from jnst.losses import STYLE_LOSSES, Covariance, Gram, Relative

IMAGE, STYLE = random_features(1, 6, 7, 5), random_features(2, 6, 7, 5)
pytestmark = pytest.mark.usefixtures("unoptimised")
GUIDE = np.random.default_rng(3).uniform(0.1, 1, (6, 7)).astype(np.float32)
LOSSES = {
    name: Relative(STYLE_LOSSES[name]()) for name in ("covariance", "mean-std", "histogram", "cross-gram", "remd")
}


def layers(loss: Any, array: Any) -> Any:
    """One layer, or two for a joint loss."""
    return (jnp.asarray(array), jnp.asarray(array[..., ::2, ::2])) if loss.joint else jnp.asarray(array)


@pytest.mark.parametrize("loss", [*LOSSES.values(), Relative(Gram())], ids=[*LOSSES, "gram"])
def test_zero_at_the_style_and_one_without_features(loss: Any) -> None:
    seen = layers(loss, STYLE)
    target = loss.fit(seen)
    assert float(loss.loss(seen, target)) == pytest.approx(0.0, abs=1e-6)
    nothing = jax.tree.map(jnp.zeros_like, seen)
    assert float(loss.loss(nothing, target)) == pytest.approx(1.0, rel=1e-5)
    assert 0.01 < float(loss.loss(layers(loss, IMAGE), target)) < 10


@pytest.mark.parametrize("guide", [None, GUIDE])
def test_it_equals_the_relative_error_of_gram_matrices(guide: Any) -> None:
    both: list[Any] = [Relative(Gram("chw", "mean")), Gram("hw", "relative")]
    values = [float(loss.loss(jnp.asarray(IMAGE), loss.fit(jnp.asarray(STYLE), guide), guide)) for loss in both]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


@pytest.mark.parametrize("factor", [1e-4, 1e3])
def test_the_scale_of_the_features_does_not_matter(factor: float) -> None:
    loss = Relative(Covariance())
    values = [float(loss.loss(k * jnp.asarray(IMAGE), loss.fit(k * jnp.asarray(STYLE)))) for k in (1.0, factor)]
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_one_value_per_image() -> None:
    loss = Relative(Gram())
    images = jnp.stack([STYLE, 0 * STYLE, IMAGE])
    values = loss.loss(images, loss.fit(jnp.asarray(STYLE)))
    np.testing.assert_allclose(values[:2], [0.0, 1.0], atol=1e-6)
    assert values.shape == (3,)


def test_a_mixture_is_divided_by_the_mean_of_the_scales() -> None:
    loss, inner = Relative(Gram()), Gram()
    styles = [jnp.asarray(STYLE), 2 * jnp.asarray(IMAGE)]
    weights = jnp.asarray([0.25, 0.75])
    mixed = loss.blend([loss.fit(style) for style in styles], weights)
    scales = [float(inner.loss(0 * style, inner.fit(style))) for style in styles]
    target = inner.blend([inner.fit(style) for style in styles], weights)
    expected = float(inner.loss(styles[0], target)) / (0.25 * scales[0] + 0.75 * scales[1])
    assert float(loss.loss(styles[0], mixed)) == pytest.approx(expected, rel=1e-5)


def test_a_style_without_features_does_not_divide_by_zero() -> None:
    loss = Relative(Gram())
    value, slope = jax.jit(jax.value_and_grad(lambda x: loss.loss(x, loss.fit(0 * jnp.asarray(STYLE)))))(
        jnp.asarray(IMAGE)
    )
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def test_it_is_joint_if_the_inner_loss_is() -> None:
    assert [LOSSES[name].joint for name in ("covariance", "cross-gram")] == [False, True]
    assert Relative(Gram()) == Relative(Gram("chw", "mean"))
    assert hash(Relative(Gram())) == hash(Relative(Gram("chw", "mean")))
