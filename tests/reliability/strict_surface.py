"""Call everything public, on small arrays, under JAX's strict settings; print what fails.

python tests/reliability/strict_surface.py global|block SETTING=VALUE ...
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jnst
from jnst.losses import CONTENT_LOSSES, REGULARIZERS, STYLE_LOSSES

BLOCKS: dict[str, Callable[[Any], Any]] = {
    "jax_numpy_rank_promotion": jax.numpy_rank_promotion,
    "jax_numpy_dtype_promotion": jax.numpy_dtype_promotion,
    "jax_debug_nans": jax.debug_nans,
    "jax_debug_infs": jax.debug_infs,
    "jax_transfer_guard": jax.transfer_guard,
    "jax_enable_x64": jax.enable_x64,
    "jax_check_tracer_leaks": jax.checking_leaks,
}
"""The settings, and the context managers of the same."""


def random(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).random(shape, np.float32)


def losses(images: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Trace a program that fits, mixes and differentiates a loss: ranks and dtypes are checked then."""

    def evaluate(loss: Any, image: Any) -> Any:
        features = (image, image[::2, ::2]) if loss.joint else image
        guide = jax.tree.map(lambda array: array[..., 0], features)
        target = loss.fit(features)
        if hasattr(loss, "blend"):
            target = loss.blend([target, loss.fit(features)], jnp.asarray([0.5, 0.5], jnp.float32))
        value = loss.loss(jax.tree.map(lambda array: 0.9 * array, features), target)
        return value + loss.loss(features, loss.fit(features, guide), guide, jax.random.key(0))

    for name, make in (CONTENT_LOSSES | STYLE_LOSSES).items():
        yield (
            f"loss {name}",
            lambda make=make: jax.eval_shape(jax.grad(lambda image: evaluate(make(), image)), images[0]),
        )
    for name, make in REGULARIZERS.items():
        yield (
            f"regularizer {name}",
            lambda make=make: jax.eval_shape(jax.grad(lambda image: make().loss(image)), images[0]),
        )


def runs(images: Any, backbone: Any, params: Any, strict_infs: bool) -> Iterator[tuple[str, Callable[[], Any]]]:
    content, style, larger = images
    terms = {"content_layers": ("relu2_1",), "style_layers": ("relu1_1", "relu2_1"), "num_steps": 2}
    preset, network = jnst.preset(**terms), {"backbone": backbone, "params": params}
    masks: Any = [np.ones((16, 20), np.float32), np.eye(16, 20, dtype=np.float32)]

    def loss(image: Any, args: Any, step: Any) -> Any:
        return jnp.sum((image - args) ** 2)

    yield "load_backbone", lambda: jnst.load_backbone()
    for name, make in jnst.solve.OPTIMIZERS.items():
        if name != "lbfgs-zoom" or not strict_infs:  # Optax's line search keeps infinities in its state
            yield name, lambda make=make: jnst.solve.run(loss, make(), content, content, num_steps=2)
    yield "stylize", lambda: jnst.stylize(content, style, preset=preset, **network)
    for name in ("lab", "match"):
        yield name, lambda name=name: jnst.stylize(content, style, preset=preset, keep_color=name, **network)
    yield "masks", lambda: jnst.stylize(content, [style, style], preset=preset, masks=masks, **network)
    yield "synthesize", lambda: jnst.synthesize(style, (16, 16), preset=preset, **network)
    yield "batch", lambda: jnst.stylize_batch([content, content], [style, style], preset=preset, width=2, **network)
    yield "sweep", lambda: jnst.sweep(content, style, {"style_weight": (1.0, 10.0)}, preset=preset, **network)
    sizes = jnst.preset("crowson", **terms, style_layer_weights=None, min_size=24)
    yield "crowson", lambda: jnst.stylize(larger, style, preset=sizes, **network)
    yield "strotss", lambda: jnst.stylize(content, style, preset=jnst.preset("strotss", **terms), **network)
    with jax.transfer_guard("allow"):  # weights of an objective come from the host
        style_loss = jnst.losses.Sum(((jnst.Gram(), 1.0), (jnst.losses.Covariance(), 1.0)))
        objective = jnst.make_objective(style_layers=("relu1_1", "relu2_1"), style_loss=style_loss)
        wide = jnp.asarray(random(3, 70, 20, 3))
        targets = jnst.fit_targets(None, style, objective, params, backbone=backbone)

    def in_tiles(image: Any) -> Any:
        return jnst.total_loss(image, objective, targets, params, backbone=backbone, tile=64)[0]

    yield "tiles", lambda: jax.jit(jax.value_and_grad(in_tiles))(wide)
    yield "ssim", lambda: jax.jit(jnst.ssim)(content, content)


def main(where: str, *settings: str) -> None:
    values = {name: {"True": True}.get(value, value) for name, _, value in (text.partition("=") for text in settings)}
    backbone = jnst.make_backbone("convnet", widths="4/8")
    params, images = backbone.init(jax.random.key(0)), [*map(jnp.asarray, (random(0, 16, 20, 3), random(1, 18, 16, 3)))]
    images.append(jnp.asarray(random(2, 40, 48, 3)))
    jax.config.update("jax_disable_most_optimizations", True)
    with contextlib.ExitStack() as stack:
        for name, value in values.items():
            if where == "global":
                jax.config.update(name, value)
            else:
                stack.enter_context(BLOCKS[name](value))
        calls = dict(runs(images, backbone, params, "jax_debug_infs" in values))
        if where == "block":
            calls = {
                name: calls[name] for name in ("load_backbone", "lbfgs", "stylize", "synthesize", "batch", "tiles")
            }
        else:
            calls |= dict(losses(images))
        for name, call in calls.items():
            try:
                jax.block_until_ready(call())
            except Exception as error:
                print(f"{name}: {type(error).__name__}: {error}".partition("\n")[0], flush=True)
    print(f"{len(calls)} calls")


if __name__ == "__main__":
    main(*sys.argv[1:])
