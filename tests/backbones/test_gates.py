"""Gates: with those of an input, a network is affine, and has the same features and gradient there."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_params

import jnst

pytestmark = pytest.mark.usefixtures("unoptimised")

NETWORKS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "convnet": ({"widths": "12,12/20/6"}, ("relu1_2", "conv2_1", "relu3_1")),
    "mini": ({}, ("relu2_1", "relu4_1")),
    "squeezenet1.1": ({}, ("relu1", "fire3", "fire6")),
    "alexnet": ({}, ("relu1", "relu3")),
}
"""Options and layers of each; the poolings are max poolings with windows of 2 and 3 rows."""


def network(name: str) -> tuple[Any, Any, tuple[str, ...]]:
    options, layers = NETWORKS[name]
    backbone = jnst.make_backbone(name, **options)
    return backbone, random_params(backbone), layers


def inputs(seed: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (1, 43, 47, 3))


def largest(tree: Any) -> float:
    return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", NETWORKS)
def test_features_and_gradient_are_those_of_the_network(name: str) -> None:
    backbone, params, layers = network(name)
    x = inputs(0)
    found, gates = jax.jit(lambda x: backbone.run_noting_gates(params, x, layers))(x)

    @jax.jit
    def evaluate(x: jax.Array, gates: Any = None) -> Any:
        def loss(x: jax.Array) -> Any:
            features = backbone.run(params, x, layers, gates=gates)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in features.values()), features

        return jax.grad(loss, has_aux=True)(x)

    (gradient, exact), (followed, features) = evaluate(x), evaluate(x, gates)
    for layer in layers:
        np.testing.assert_allclose(found[layer], exact[layer], 1e-5, 1e-6)
        np.testing.assert_allclose(features[layer], exact[layer], 1e-5, 1e-6)
    np.testing.assert_allclose(followed, gradient, rtol=0, atol=1e-6 * largest(gradient))


@pytest.mark.parametrize("name", NETWORKS)
def test_network_with_known_gates_is_affine(name: str) -> None:
    backbone, params, layers = network(name)
    _, gates = jax.jit(lambda x: backbone.run_noting_gates(params, x, layers))(inputs(0))
    run = jax.jit(lambda x, gates: backbone.run(params, x, layers, gates=gates))
    for known, is_affine in ((gates, True), (None, False)):
        ends = [run(inputs(seed), known) for seed in (1, 2)]
        middle = run(0.3 * inputs(1) + 0.7 * inputs(2), known)
        error = jax.tree.map(lambda a, b, m: 0.3 * a + 0.7 * b - m, *ends, middle)
        assert (largest(error) < 1e-5 * largest(ends)) == is_affine


def test_gates_take_a_bit_for_each_activation() -> None:
    backbone = jnst.make_backbone("convnet", widths="16,16/32")
    params = random_params(backbone)
    _, gates = backbone.run_noting_gates(params, jnp.zeros((1, 64, 64, 3)), ("relu1_1", "relu2_1"))
    positions = 64 * 64
    # Two ReLUs, one of them behind the max pooling with its two bits, and another after it.
    bits = 16 * positions + 16 * positions // 4 * (1 + 2) + 32 * positions // 4
    assert all(leaf.dtype == jnp.uint8 for leaf in jax.tree.leaves(gates))
    assert sum(8 * leaf.size for leaf in jax.tree.leaves(gates)) == bits
