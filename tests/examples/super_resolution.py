"""Super-resolution by a factor of 2 with a Gram term, for texture that a pixel loss averages away.

    python tests/examples/super_resolution.py

The loss is ``mean |x - x̂|`` plus features and Gram matrices, as in EnhanceNet (Sajjadi, Schölkopf & Hirsch, ICCV 2017).
"""

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jnst
from jnst.types import Array, Params

SIDE = 48
OBJECTIVE = jnst.make_objective(
    content_layers=("relu2_1",),
    content_loss=jnst.losses.SquaredError("relative"),
    content_weight=0.1,
    style_layers=("relu1_1", "relu2_1", "relu3_1"),
    style_loss=jnst.losses.Gram("hw", "relative"),
    style_weight=0.05,
)


class Upscaler(nnx.Module):
    """Bilinear enlargement plus a residual by four subpixels."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(3, width, (5, 5), rngs=rngs)
        self.last = nnx.Conv(width, 12, (3, 3), rngs=rngs, kernel_init=nnx.initializers.zeros)

    def __call__(self, small: Array) -> Array:
        """``(n, h, w, 3)`` to ``(n, 2 h, 2 w, 3)``."""
        n, height, width, _ = small.shape
        subpixels = self.last(nnx.relu(self.first(small))).reshape(n, height, width, 2, 2, 3)
        residual = subpixels.swapaxes(2, 3).reshape(n, 2 * height, 2 * width, 3)
        return jnp.clip(jax.image.resize(small, residual.shape, "bilinear") + residual, 0, 1)


def train(steps: int, batch: int = 4) -> list[float]:
    """Train on random crops of the demo's images; returns the loss of each step."""
    backbone, params = jnst.load_backbone()
    perceptual, params = jnst.PerceptualLoss(OBJECTIVE, backbone), backbone.prepare(params)
    photos = jnp.stack([jnst.resize(image, (128, 128)) for image in jnst.demo_images()])
    model = Upscaler(32, nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)

    @nnx.jit
    def step(model: Upscaler, optimizer: nnx.Optimizer, params: Params, key: Array) -> Array:
        large = jnst.random_crops(photos, (SIDE, SIDE), batch, key=key).reshape(-1, SIDE, SIDE, 3)
        small = large.reshape(-1, SIDE // 2, 2, SIDE // 2, 2, 3).mean((2, 4))

        def loss(model: Upscaler) -> Array:
            prediction = model(small)
            return jnp.mean(jnp.abs(prediction - large)) + jnp.mean(perceptual(params, prediction, large))

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return value

    keys = jax.random.split(jax.random.key(0), steps)
    return [float(step(model, optimizer, params, key)) for key in keys]


if __name__ == "__main__":
    losses = train(steps=500)
    print(f"loss {losses[0]:.4f} -> {losses[-1]:.4f}")
