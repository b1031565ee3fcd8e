"""A style network trained in a loop of one's own, with `jnst.solve` on its parameters in place of an image.

    python tests/examples/style_network.py

`jnst train style` does this with checkpoints, a log and several devices.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jnst
from jnst.types import Array

OBJECTIVE = jnst.preset("jnst", style_weight=15.0).terms
SIDE = 48


def train(steps: int, batch: int = 2, widths: tuple[int, int, int] = (8, 16, 16)) -> tuple[list[float], Array]:
    """Train one style on crops of the demo's landscape; returns the losses, and the landscape repainted."""
    backbone, params = jnst.load_backbone()
    landscape, painting = (jnst.resize(image, (128, 160)) for image in jnst.demo_images())
    network = jnst.StyleNetwork(("swirls",), widths, blocks=2)
    perceptual, params = jnst.PerceptualLoss(OBJECTIVE.objective(backbone), backbone), backbone.prepare(params)
    style = jnst.fit_style(painting, perceptual.objective, params, backbone=backbone)

    def loss(theta: Any, args: Any, step: Array) -> Array:
        crops, style, params = args
        content = jnst.fit_content(crops, perceptual.objective, params, backbone=backbone)
        return jnp.mean(perceptual(params, network.apply(theta, crops), content + style))

    solver = jnst.Adam(5e-3)
    state, losses = jnst.solve.init(loss, solver, network.init(jax.random.key(0))), []
    for key in jax.random.split(jax.random.key(1), steps):
        crops = jnst.random_crops(landscape, (SIDE, SIDE), batch, key=key)
        state, (total, _) = jnst.solve.step(loss, solver, state, (crops, style, params))
        losses.append(float(total))
    return losses, network.apply(state.image, landscape)


if __name__ == "__main__":
    losses, image = train(steps=400)
    jnst.save_image("swirls.png", np.asarray(image))
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, swirls.png")
