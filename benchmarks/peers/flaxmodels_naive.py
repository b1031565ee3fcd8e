"""The step as JAX notebooks write it, on flaxmodels' VGG19: jitted and dispatched from Python, or scanned.

The parameters are arguments of the compiled function. Many notebooks close over them instead, which takes minutes to
compile and changes nothing else.
"""

from functools import partial
from typing import Any

import flaxmodels
import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.networks import ImageArray, Network
from benchmarks.peers.interface import HISTORY, MEAN, Settings, Step, Unavailable
from jnst.backbones import param_shapes
from jnst.types import Array


def complete_params(params: Network) -> dict[str, dict[str, Array]]:
    """Add zeros for the layers that the network declares but nothing here uses."""
    tree: dict[str, dict[str, Array]] = {}
    for name, shape in param_shapes("vgg19").items():
        layer, _, part = name.partition("/")
        tree.setdefault(layer, {})[part] = jnp.asarray(params[layer][part]) if layer in params else jnp.zeros(shape)
    return tree


def activations(params: Any, x: Array) -> dict[str, Array]:
    network = flaxmodels.VGG19(output="activations", pretrained=None, normalize=False, include_head=False)  # pyright: ignore[reportArgumentType]
    return network.apply({"params": params}, x[None], train=False)  # pyright: ignore[reportReturnType]


def gram(layer: Array) -> Array:
    _, height, width, channels = layer.shape
    rows = layer.reshape(height * width, channels)
    return rows.T @ rows / (channels * height * width)


def loss(x: Array, params: Any, content: Array, grams: list[Array], settings: Settings) -> Array:
    found = activations(params, x)
    total = settings.content_weight * jnp.mean((found[settings.content_layer] - content) ** 2)
    for layer, factor, target in zip(settings.style_layers, settings.style_layer_weights, grams, strict=True):
        total += settings.style_weight * factor * jnp.mean((gram(found[layer]) - target) ** 2)
    rows, columns = x[1:] - x[:-1], x[:, 1:] - x[:, :-1]
    return total + settings.tv_weight * (jnp.sum(jnp.abs(rows)) + jnp.sum(jnp.abs(columns)))


def make_optimizer(settings: Settings) -> optax.GradientTransformation:
    if settings.optimizer == "adam":
        return optax.adam(settings.learning_rate, b2=settings.b2)
    return optax.lbfgs(1.0, memory_size=HISTORY, linesearch=None)


def make_targets(params: Any, content: Array, style: Array, settings: Settings) -> tuple[Array, list[Array]]:
    found = activations(params, style)
    return activations(params, content)[settings.content_layer], [gram(found[layer]) for layer in settings.style_layers]


def to_input(image: ImageArray) -> Array:
    """The network's input, which is also what the optimiser sees: BGR, 0-255, minus the mean."""
    return jnp.asarray(image[..., ::-1]) * 255.0 - jnp.asarray(MEAN)


def prepare(content: ImageArray, style: ImageArray, settings: Settings, length: int = 1) -> Step:
    """Prepare a run.

    Args:
        content: ``(h, w, 3)`` in [0, 1].
        style: Likewise.
        settings: What to minimise, and how.
        length: How many steps a call makes. Several are made in one `jax.lax.scan`.

    Raises:
        Unavailable: A batch, or settings that the network or the losses do not have.
    """
    if settings.statistic != "gram" or settings.pooling != "max" or content.ndim != 3:
        raise Unavailable("it supports only one image, Gram matrices and maximum pooling")
    params, optimizer = complete_params(settings.params), make_optimizer(settings)
    targets = jax.jit(partial(make_targets, settings=settings))(params, to_input(content), to_input(style))

    def update(x: Array, state: Any, params: Any, targets: Any) -> tuple[Array, Any, Array]:
        value, gradient = jax.value_and_grad(loss)(x, params, *targets, settings)
        updates, state = optimizer.update(gradient, state, x)
        return x + updates, state, value  # pyright: ignore[reportOperatorIssue]

    @jax.jit
    def steps(x: Array, state: Any, params: Any, targets: Any) -> tuple[Array, Any, Array]:
        if length == 1:
            x, state, value = update(x, state, params, targets)
            return x, state, value[None]

        def body(carry: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], Array]:
            x, state, value = update(*carry, params, targets)
            return (x, state), value

        (x, state), values = jax.lax.scan(body, (x, state), length=length)
        return x, state, values

    x = to_input(content)
    state = optimizer.init(x)

    def advance() -> list[float]:
        nonlocal x, state
        x, state, values = jax.block_until_ready(steps(x, state, params, targets))
        return [float(value) for value in values]

    def image() -> np.ndarray:
        return np.asarray((x + jnp.asarray(MEAN)) / 255.0)[..., ::-1]

    return Step(advance, image, length)
