"""A variational autoencoder whose reconstructions are compared by LPIPS.

    python tests/examples/vae_lpips.py

The loss is ``mean |x - x̂| + λ LPIPS(x, x̂) + β KL``, as in the autoencoders of latent diffusion (Rombach et al. 2022).
"""

from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import jnst
from jnst.types import Array, Params

SIDE, LATENT = 32, 4
LPIPS_WEIGHT, KL_WEIGHT = 1.0, 1e-6


class VAE(nn.Module):
    """Two strided convolutions to latents of a quarter of the size, and two transposed ones back."""

    width: int = 16

    @nn.compact
    def __call__(self, images: Array, key: Array) -> tuple[Array, Array]:
        """Return reconstructions in [0, 1] and the divergence of the latents from a standard normal, per image."""
        x = nn.silu(nn.Conv(self.width, (3, 3), 2)(images))
        mean, log_variance = jnp.split(nn.Conv(2 * LATENT, (3, 3), 2)(x), 2, -1)
        latent = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        divergence = 0.5 * jnp.sum(mean**2 + jnp.exp(log_variance) - 1 - log_variance, (-3, -2, -1))
        x = nn.silu(nn.ConvTranspose(self.width, (4, 4), (2, 2))(latent))
        return nn.sigmoid(nn.ConvTranspose(3, (4, 4), (2, 2))(x)), divergence


def train(metric: jnst.LPIPS, lpips_params: Params, steps: int, batch: int = 4) -> list[float]:
    """Train on random crops of the demo's images; returns the loss of each step."""
    model, optimizer, key = VAE(), optax.adam(2e-3), jax.random.key(0)
    photos = jnp.stack([jnst.resize(image, (96, 96)) for image in jnst.demo_images()])
    params = model.init(key, photos[:, :SIDE, :SIDE], key)

    def loss(params: Params, lpips_params: Params, key: Array) -> Array:
        images = jnst.random_crops(photos, (SIDE, SIDE), batch, key=key).reshape(-1, SIDE, SIDE, 3)
        reconstructions, divergence = cast(tuple[Array, Array], model.apply(params, images, key))
        pixels = jnp.mean(jnp.abs(images - reconstructions), (-3, -2, -1))
        return jnp.mean(pixels + LPIPS_WEIGHT * metric(lpips_params, reconstructions, images) + KL_WEIGHT * divergence)

    @jax.jit
    def step(params: Params, state: optax.OptState, lpips_params: Params, key: Array):
        value, gradient = jax.value_and_grad(loss)(params, lpips_params, key)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, losses = optimizer.init(params), []
    for number in range(steps):
        params, state, value = step(params, state, lpips_params, jax.random.fold_in(key, number))
        losses.append(float(value))
    return losses


if __name__ == "__main__":
    metric, lpips_params = jnst.load_lpips("vgg")  # 64 MB, downloaded once
    losses = train(metric, metric.prepare(lpips_params), steps=500)
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
