"""Perceptual losses in training loops of Flax Linen, Flax NNX and plain functions: one compilation, constant memory."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import compilations, many_devices, random_image, random_params, same_trees, tiny_backbone
from flax import nnx

import jnst
from jnst.types import Array

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
OBJECTIVE = jnst.make_objective(content_layers=("relu1_1",), style_layers=("relu2_1",), style_weight=10.0)
LOSS = jnst.PerceptualLoss(OBJECTIVE, BACKBONE)
IMAGES = random_image(1, 2, 16, 16)
OPTIMIZER = optax.adam(1e-2)
Step = Callable[[Any, Any, Any], tuple[Any, Array]]


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.sigmoid(nn.Conv(3, (3, 3))(x))


class NNX(nnx.Module):
    """It also keeps the loss, a metric and the network's parameters, as data that no optimiser sees."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.convolution = nnx.Conv(3, 3, (3, 3), rngs=rngs)
        self.perceptual = nnx.data(LOSS)
        self.metric = jnst.LPIPS(BACKBONE, ("relu1_1",))
        self.network = nnx.data(PARAMS)

    def __call__(self, x: Array) -> Array:
        return nnx.sigmoid(self.convolution(x))

    def loss(self, x: Array) -> Array:
        return self.perceptual(self.network, self(x), x).mean()


def plain() -> tuple[Any, Any]:
    def model(kernel: Array, x: Array) -> Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.nn.sigmoid(jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers))

    return model, jnp.zeros((3, 3, 3, 3))


def linen() -> tuple[Any, Any]:
    model = Linen()
    return model.apply, model.init(jax.random.key(0), IMAGES)


def functional_nnx() -> tuple[Any, Any]:
    graph, trained, rest = nnx.split(NNX(nnx.Rngs(0)), nnx.Param, ...)
    return (lambda trained, x: nnx.merge(graph, trained, rest)(x)), trained


def training_step(model: Any) -> Any:
    """A step of random crops, which gets the network's parameters as an argument."""

    def value(trained: Any, params: Any, key: Array) -> Array:
        crops = jnst.random_crops((model(trained, IMAGES), IMAGES), (12, 12), 2, key=key)
        return LOSS(params, *crops).mean()

    @jax.jit
    def step(trained: Any, state: Any, params: Any, key: Array) -> tuple[Any, Any, Array]:
        loss, gradient = jax.value_and_grad(value)(trained, params, key)
        updates, state = OPTIMIZER.update(gradient, state, trained)
        return optax.apply_updates(trained, updates), state, loss

    return step


def live_bytes() -> int:
    gc.collect()
    return sum(array.nbytes for array in jax.live_arrays())


@pytest.mark.parametrize("framework", [plain, linen, functional_nnx])
def test_two_hundred_steps(framework: Callable[[], tuple[Any, Any]]) -> None:
    model, trained = framework()
    step, state, losses, memory = training_step(model), OPTIMIZER.init(trained), [], []
    before = jax.tree.map(np.array, PARAMS)
    for number in range(200):
        trained, state, loss = step(trained, state, PARAMS, jax.random.fold_in(jax.random.key(0), number))
        losses.append(float(loss))
        if number in (20, 199):
            memory.append(live_bytes())
    assert compilations(step) == 1
    assert memory[0] == memory[1]
    assert np.mean(losses[-20:]) < 0.7 * np.mean(losses[:20])
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(PARAMS), strict=True))


def test_nnx_optimizer() -> None:
    """The stateful way of NNX: the model's own loss is called inside of `nnx.grad`, and only the model is trained."""
    model = NNX(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, OPTIMIZER, wrt=nnx.Param)
    assert set(nnx.state(model, nnx.Param)) == {"convolution"}

    @nnx.jit
    def step(model: NNX, optimizer: Any) -> Array:
        loss, gradient = nnx.value_and_grad(lambda model: model.loss(IMAGES))(model)
        optimizer.update(model, gradient)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(10)]
    assert losses[-1] < losses[0]
    assert same_trees(model.network, PARAMS)
    assert same_trees(model.perceptual, LOSS)


def test_losses_are_leaves_of_modules() -> None:
    """A loss with its weights is a pytree, and the metrics are pytrees without leaves: modules may hold them."""
    metric = jnst.LPIPS(BACKBONE, ("relu1_1",))
    assert len(jax.tree.leaves(LOSS)) == 2
    assert jax.tree.leaves((metric, jnst.DISTS(BACKBONE))) == []
    step = jax.jit(lambda held, params, x, y: held["loss"](params, x, y))
    np.testing.assert_allclose(step({"loss": LOSS, "metric": metric}, PARAMS, IMAGES, IMAGES), 0, atol=1e-7)


@pytest.fixture(scope="module")
def sharded() -> dict[str, float]:
    """The output of `sharded_loss.py`, run in a process with four CPU devices."""
    script = Path(__file__).with_name("sharded_loss.py")
    done = subprocess.run(
        [sys.executable, str(script)], env=many_devices(4), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", ["shard_map", "sharded arrays"])
def test_batches_divided_among_devices(way: str, sharded: dict[str, float]) -> None:
    assert sharded[way] < 1e-5
