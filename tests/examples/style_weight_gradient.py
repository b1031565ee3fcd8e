"""Which style weight leaves a given distance from the content? Newton's method, with gradients through whole runs.

    python tests/examples/style_weight_gradient.py

The weight is a leaf of the objective, and `jnst.solve.run` can be differentiated. So Newton's method finds the weight
from the derivative of the result's content distance by it; no step compiles anything again.
"""

import jax
import jax.numpy as jnp

import jnst
from jnst.types import Array

LAYER, SIDE = "relu2_1", 32


def search(wanted: float, run_steps: int, updates: int) -> list[tuple[float, float]]:
    """Return the style weight and the content distance before each update."""
    backbone, params = jnst.load_backbone()
    content, style = (jnst.resize(image, (SIDE, SIDE)) for image in jnst.demo_images())
    relative = jnst.losses.SquaredError("relative"), jnst.losses.Gram("hw", "relative")
    loss = jnst.transfer_loss(backbone)

    def distance(log_weight: Array) -> Array:
        objective = jnst.make_objective(
            content_layers=(LAYER,),
            style_layers=("relu1_1",),
            content_loss=relative[0],
            style_loss=relative[1],
            style_weight=jnp.exp(log_weight),
        )
        targets = jnst.fit_targets(content, style, objective, params, backbone=backbone)
        args = (objective, targets, params)
        image = jnst.solve.run(loss, jnst.Adam(0.02), content, args, num_steps=run_steps).image
        return jnst.content_distance(image, content, params, backbone=backbone, layers=(LAYER,))

    evaluate = jax.jit(jax.value_and_grad(distance))
    log_weight, trace = jnp.float32(0.0), []
    for _ in range(updates):
        value, slope = evaluate(log_weight)
        trace.append((float(jnp.exp(log_weight)), float(value)))
        log_weight = log_weight - jnp.clip((value - wanted) / slope, -1.0, 1.0)  # Newton's step
    return trace


if __name__ == "__main__":
    for weight, value in search(wanted=0.1, run_steps=30, updates=6):
        print(f"style weight {weight:8.4f}: content distance {value:.4f}")
