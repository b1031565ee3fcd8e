"""Runs with a transfer loss under JAX's transformations: the embedded network at 64x64, public names alone."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image

import jnst
from jnst.types import Array

SIDE = 64
CONTENT, STYLES = random_image(1, SIDE, SIDE), random_image(2, 4, SIDE, SIDE)


@pytest.fixture(scope="module")
def network() -> tuple[jnst.Backbone, Any]:
    """The embedded network, with zero padding because it compiles faster."""
    return jnst.load_backbone(padding="zero")


def weighted(objective: jnst.Objective, factor: Array) -> jnst.Objective:
    """An objective whose style weights are multiplied by a factor."""
    return dataclasses.replace(objective, style=jax.tree.map(lambda weight: factor * weight, objective.style))


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize(
    "solver", [jnst.Adam(0.02), pytest.param(jnst.LBFGS(memory_size=4), marks=pytest.mark.long)], ids=["adam", "lbfgs"]
)
def test_a_vmapped_run_over_four_styles_is_four_runs(network: tuple[jnst.Backbone, Any], solver: Any) -> None:
    """Through `jnst.fit_targets`. L-BFGS amplifies rounding: its images are compared by their losses."""
    backbone, params = network
    objective = jnst.preset("jnst").terms.objective(backbone)
    loss, content = jnst.transfer_loss(backbone), jnp.asarray(CONTENT)

    def one(style: Array) -> tuple[Array, Array]:
        targets = jnst.fit_targets(content, style, objective, params, backbone=backbone)
        solution = jnst.solve.run(loss, solver, content, (objective, targets, params), num_steps=3)
        return solution.image, solution.losses

    images, losses = jax.jit(jax.vmap(one))(jnp.asarray(STYLES))
    assert images.shape == (4, SIDE, SIDE, 3)
    assert losses.shape == (4, 3)
    assert len(np.unique(losses)) == 12
    single = jax.jit(one)
    for index, style in enumerate(STYLES):
        image, expected = single(jnp.asarray(style))
        np.testing.assert_allclose(losses[index], expected, rtol=1e-3)
        if isinstance(solver, jnst.Adam):
            np.testing.assert_allclose(images[index], image, atol=2e-3)


@pytest.mark.long
def test_the_gradient_through_fifty_steps_against_central_differences(network: tuple[jnst.Backbone, Any]) -> None:
    """Of the result's distance to another image, by the style weight, in float64.

    The step of the differences is small: within it, no ReLU of 50 steps may switch.
    """
    backbone, params = network
    backbone = backbone.with_options(pooling="avg")
    objective = jnst.make_objective(
        content_layers=("relu1_1",),
        style_layers=("relu1_1",),
        content_loss=jnst.SquaredError("relative"),
        style_loss=jnst.Gram("chw", "relative"),
    )
    with jax.enable_x64(True):
        loss, solver = jnst.transfer_loss(backbone), jnst.Adam(0.01, eps=1e-4)
        content, style, goal = (jnp.asarray(image, jnp.float64) for image in (CONTENT, *STYLES[:2]))
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        targets = jnst.fit_targets(content, style, objective, exact, backbone=backbone)

        def distance(factor: Array) -> Array:
            args = (weighted(objective, factor), targets, exact)
            solution = jnst.solve.run(loss, solver, content, args, num_steps=50)
            return jnp.mean((solution.image - goal) ** 2)

        gradient = jax.jit(jax.grad(distance))(jnp.float64(1.0))
        forward, step = jax.jit(distance), 1e-7
        ends = [float(forward(jnp.float64(1.0 + sign * step))) for sign in (1, -1)]
    assert gradient.dtype == jnp.float64
    assert abs(float(gradient)) > 1e-6
    np.testing.assert_allclose(float(gradient), (ends[0] - ends[1]) / (2 * step), rtol=1e-4)
