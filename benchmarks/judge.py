"""The losses that decide: of an image by any system, in float32, with the network as XLA convolves it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

import jnst
from benchmarks.networks import ImageArray
from benchmarks.peers import Settings
from benchmarks.peers.jnst_peer import network, preset


def make_judge(content: ImageArray, style: ImageArray, settings: Settings) -> Callable[[ImageArray], float]:
    """A function of an image ``(h, w, 3)``, perhaps outside [0, 1], that gives its total loss."""
    backbone, params = network(settings.params, "float32")
    chosen = preset(settings)
    backbone = chosen.network(backbone)
    objective = chosen.objective(backbone)
    targets = jnst.fit_targets(objective, params, jnp.asarray(content), jnp.asarray(style), backbone=backbone)
    evaluate = jax.jit(jnst.total_loss, static_argnames="backbone")
    return lambda image: float(evaluate(jnp.asarray(image), objective, targets, params, backbone=backbone)[0])
