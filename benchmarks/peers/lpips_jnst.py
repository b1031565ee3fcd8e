"""jnst's LPIPS under plain `jax.jit`, as a training loop calls it."""

import jax
import jax.numpy as jnp
import numpy as np

import jnst
from benchmarks.peers.lpips_interface import LAYERS, Evaluate, Problem
from jnst.backbones import IMAGENET


def prepare(problem: Problem, *, prepared: bool) -> Evaluate:
    """Prepare an evaluation; with ``prepared`` of parameters that are prepared for this device."""
    available = [f"{layer}/{leaf}" for layer, leaves in problem.network.items() for leaf in leaves]
    backbone = jnst.make_backbone(
        "vgg16", preprocessing=IMAGENET, training="torchvision", available=available, precision="float32"
    )
    metric = jnst.LPIPS(backbone, LAYERS)
    heads = dict(zip(LAYERS, map(jnp.asarray, problem.heads), strict=True))
    params = {"backbone": jax.tree.map(jnp.asarray, problem.network), "heads": heads}
    params = metric.prepare(params) if prepared else params
    images, references = jnp.asarray(problem.images), jnp.asarray(problem.references)
    evaluate = jax.jit(jax.value_and_grad(lambda x, y, params: metric(params, x, y).sum()))

    def call() -> tuple[float, np.ndarray]:
        value, gradient = jax.block_until_ready(evaluate(images, references, params))
        return float(value), np.asarray(gradient)

    return call
