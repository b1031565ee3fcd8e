"""The classifier's loss, gradient and steps, compared with closed forms."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from labelled_images import CLASSES
from small_runs import BACKBONE, SHORT

from jnst.apps.training.classifier import (
    SCHEDULES,
    Settings,
    batch_loss,
    evaluate_step,
    init_params,
    init_state,
    logits,
    train_step,
)
from jnst.apps.training.data import Batch, Dataset, held_out_batches
from jnst.backbones import make_backbone
from jnst.errors import JnstError
from jnst.weights.convert import flatten

pytestmark = pytest.mark.usefixtures("unoptimised")

LOSS = jax.jit(partial(batch_loss, backbone=BACKBONE))
GRADIENT = jax.jit(jax.value_and_grad(partial(batch_loss, backbone=BACKBONE), has_aux=True))


@pytest.fixture(scope="module")
def batch(dataset: Dataset) -> Batch:
    """Every second held-out image with weight 1; the others and four rows of padding with weight 0."""
    (whole,) = held_out_batches(dataset, batch_size=24, size=16, multiple=28)
    weights = whole.weights * (np.arange(28) % 2)
    assert weights.sum() == 12
    return whole._replace(weights=weights.astype(np.float32))


@pytest.fixture(scope="module")
def params() -> Any:
    return init_params(jax.random.key(3), BACKBONE, len(CLASSES))


def test_initial_parameters_are_he_normal_and_seeded() -> None:
    backbone = make_backbone("convnet")
    first, again, other = (flatten(init_params(jax.random.key(seed), backbone, 64)) for seed in (1, 1, 2))
    for name, param in first.items():
        assert np.array_equal(param, again[name])
        if name.endswith("bias"):
            assert not np.any(param)
            continue
        assert not np.array_equal(param, other[name])
        expected = math.sqrt(2 / math.prod(param.shape[:-1]))
        # Three standard errors of a standard deviation estimated from this many values.
        assert np.std(param) == pytest.approx(expected, rel=3 / math.sqrt(2 * param.size))


def test_loss_and_gradient_of_the_head_match_the_closed_form(batch: Batch, params: Any) -> None:
    """In float64, the gradient of softmax cross-entropy by the logits is p - y; the loss is a weighted mean."""
    features = BACKBONE.apply(params["trunk"], jnp.asarray(batch.images) / 255, ("relu2_1",))["relu2_1"]
    pooled = np.asarray(features, np.float64).mean(axis=(1, 2))
    scores = pooled @ np.asarray(params["head"]["kernel"], np.float64) + np.asarray(params["head"]["bias"], np.float64)
    exponents = np.exp(scores - scores.max(axis=1, keepdims=True))
    p, y = exponents / exponents.sum(axis=1, keepdims=True), np.eye(4)[np.asarray(batch.labels)]
    weights = np.asarray(batch.weights, np.float64)

    (loss, sums), gradient = GRADIENT(params, batch)
    losses = -np.log((p * y).sum(axis=1))
    assert float(loss) == pytest.approx((losses * weights).sum() / 12, rel=1e-5)
    assert float(sums.loss) == pytest.approx((losses * weights).sum(), rel=1e-5)
    assert float(sums.images) == 12
    assert float(sums.correct) == (weights * (scores.argmax(axis=1) == np.asarray(batch.labels))).sum()
    by_logits = (p - y) * weights[:, None] / 12
    np.testing.assert_allclose(gradient["head"]["kernel"], pooled.T @ by_logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradient["head"]["bias"], by_logits.sum(axis=0), rtol=1e-4, atol=1e-6)


def test_the_gradient_of_the_trunk_matches_finite_differences(batch: Batch, params: Any) -> None:
    _, gradient = GRADIENT(params, batch)
    leaves, structure = jax.tree.flatten(params)
    random = np.random.default_rng(0)
    direction = [random.standard_normal(leaf.shape).astype(np.float32) for leaf in leaves]
    step = 3e-4
    ends = [
        jax.tree.unflatten(structure, [leaf + sign * step * d for leaf, d in zip(leaves, direction, strict=True)])
        for sign in (1, -1)
    ]
    up, down = (float(LOSS(end, batch)[0]) for end in ends)
    slope = sum(float(np.sum(g * d)) for g, d in zip(jax.tree.leaves(gradient), direction, strict=True))
    assert (up - down) / (2 * step) == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_the_first_step_of_adam_matches_the_closed_form(batch: Batch, decay: float) -> None:
    """The bias-corrected moments are g and g², so the step is g / (|g| + 1e-8); only kernels decay."""
    settings = Settings(learning_rate=0.01, weight_decay=decay)
    state = init_state(jax.random.key(3), BACKBONE, 4, settings)
    after, sums = train_step(state, batch, backbone=BACKBONE, settings=settings, num_steps=1)
    np.testing.assert_allclose(sums, evaluate_step(state.params, batch, backbone=BACKBONE), rtol=1e-5)
    gradient = flatten(GRADIENT(state.params, batch)[1])
    old, new = flatten(state.params), flatten(after.params)
    for name, g in gradient.items():
        far = np.abs(g) > 1e-5
        kept = old[name] * (1 - 0.01 * decay * name.endswith("kernel"))
        np.testing.assert_allclose(new[name][far], (kept - 0.01 * g / (np.abs(g) + 1e-8))[far], rtol=2e-3, atol=2e-5)


def test_schedules() -> None:
    cosine, constant = SCHEDULES["cosine"](0.2, 100), SCHEDULES["constant"](0.2, 100)
    for step in (0, 25, 50, 99):
        assert np.asarray(cosine(step)) == pytest.approx(0.1 * (1 + math.cos(math.pi * step / 100)), abs=1e-7)
        assert np.asarray(constant(step)) == pytest.approx(0.2)


def test_images_of_weight_0_change_nothing(batch: Batch, params: Any) -> None:
    counts = np.asarray(batch.weights) > 0
    alone = Batch(*(np.asarray(part)[counts] for part in batch))
    assert float(LOSS(params, alone)[0]) == pytest.approx(float(LOSS(params, batch)[0]), rel=1e-6)


def test_images_of_any_size_have_logits(params: Any) -> None:
    images = np.random.default_rng(0).random((2, 21, 34, 3), np.float32)
    scores = logits(params, jnp.asarray(images), backbone=BACKBONE)
    assert scores.shape == (2, 4)
    assert scores.dtype == jnp.float32


def test_bfloat16_is_close_to_float32(batch: Batch, params: Any) -> None:
    exact, sums = LOSS(params, batch)
    rough, _ = jax.jit(partial(batch_loss, backbone=BACKBONE, dtype="bfloat16"))(params, batch)
    # Two convolutions with a mantissa of eight bits.
    assert float(rough) == pytest.approx(float(exact), rel=0.02)
    assert float(rough) != float(exact)
    assert sums.loss.dtype == jnp.float32
    settings = dataclasses.replace(SHORT, dtype="bfloat16")
    state = init_state(jax.random.key(0), BACKBONE, 4, settings)
    after, _ = train_step(state, batch, backbone=BACKBONE, settings=settings, num_steps=1)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(after.params)} == {"float32"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs 0: expected"),
        ({"batch_size": 0}, "batch_size 0: expected"),
        ({"size": -1}, "size -1: expected"),
        ({"learning_rate": 0.0}, "learning rate 0.0: expected"),
        ({"learning_rate": math.nan}, "learning rate nan: expected"),
        ({"weight_decay": -1e-4}, "weight decay -0.0001: expected"),
        ({"seed": -1}, "seed -1: expected"),
        ({"schedule": "linear"}, "'linear' is unknown: choose one of constant, cosine"),
        ({"dtype": "float16"}, "'float16' is unknown: choose one of float32, bfloat16"),
    ],
)
def test_invalid_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(JnstError, match=message):
        dataclasses.replace(SHORT, **changes)
