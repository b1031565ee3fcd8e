"""Texture synthesis in a parametrisation of your own.

    python tests/examples/texture_parametrisation.py OUT.png

What is optimised is a small network that maps a pixel's coordinates to its colour (Fourier features, two layers), so
the texture can be drawn at any resolution afterwards. `jnst.solve.run` minimises over any pytree.
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jnst
from jnst.types import Array, Image, RandomKey

FREQUENCIES, WIDTH, SIDE = 64, 32, 64


def init(key: RandomKey) -> dict[str, Array]:
    """Random weights; the frequencies are trained too."""
    waves, hidden, colours = jax.random.split(key, 3)
    return {
        "waves": 6.0 * jax.random.normal(waves, (2, FREQUENCIES)),
        "hidden": jax.random.normal(hidden, (2 * FREQUENCIES, WIDTH)) / np.sqrt(FREQUENCIES),
        "colours": 0.1 * jax.random.normal(colours, (WIDTH, 3)),
    }


def draw(weights: dict[str, Array], shape: tuple[int, int]) -> Image:
    """The texture on the unit square, ``(h, w, 3)``."""
    rows, columns = (jnp.linspace(-1, 1, side) for side in shape)
    places = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), -1) @ weights["waves"]
    waves = jnp.concatenate([jnp.sin(places), jnp.cos(places)], -1)
    return jax.nn.sigmoid(jnp.tanh(waves @ weights["hidden"]) @ weights["colours"])


def synthesize(style: Image, steps: int) -> tuple[Image, np.ndarray]:
    """Return the texture at twice the resolution it was optimised at, and the loss of each step."""
    backbone, params = jnst.load_backbone()
    objective = jnst.make_objective(
        style_layers=("relu1_1", "relu2_1", "relu3_1"), style_loss=jnst.losses.Gram("hw", "relative")
    )
    targets = jnst.fit_style(style, objective, params, backbone=backbone)

    def loss(weights: Any, args: Any, step: Array) -> tuple[Array, dict[str, Array]]:
        objective, targets, params = args
        return jnst.total_loss(draw(weights, (SIDE, SIDE)), objective, targets, params, backbone=backbone)

    args = (objective, targets, backbone.prepare(params))
    solution = jnst.solve.run(loss, jnst.Adam(0.01), init(jax.random.key(0)), args, num_steps=steps)
    return draw(solution.image, (2 * SIDE, 2 * SIDE)), np.asarray(solution.losses)


if __name__ == "__main__":
    texture, losses = synthesize(jnst.resize(jnst.demo_images()[1], (96, 96)), steps=400)
    jnst.save_image(sys.argv[1], texture)
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
