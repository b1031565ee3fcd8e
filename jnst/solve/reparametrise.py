"""The variables an Optax transformation works in: the image in other units, or the levels of a pyramid."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jnst.types import NO_WRAP, Array, Wrap


def in_units(optimizer: optax.GradientTransformation, unit: float) -> optax.GradientTransformationExtraArgs:
    """Let ``optimizer`` see the image multiplied by ``unit``, so that its step lengths are in those units.

    Programs that optimise 0-255 images state learning rates in units of 1/255 of ours: with ``unit=255.0``
    they can be used as published.
    """
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Any:
        return inner.init(scaled(params, unit))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        if "grad" in extra:
            extra["grad"] = scaled(extra["grad"], 1 / unit)
        if "value_fn" in extra:
            value_fn = extra["value_fn"]
            extra["value_fn"] = lambda larger: value_fn(scaled(larger, 1 / unit))
        larger = None if params is None else scaled(params, unit)
        updates, state = inner.update(scaled(updates, 1 / unit), state, larger, **extra)
        return scaled(updates, 1 / unit), state

    return optax.GradientTransformationExtraArgs(init, update)


def scaled(tree: Any, factor: float | Array) -> Any:
    """Multiply all arrays of a pytree by ``factor``, keeping their dtypes."""
    return jax.tree.map(lambda leaf: (leaf * factor).astype(leaf.dtype), tree)


def in_laplacian_pyramid(
    optimizer: optax.GradientTransformation, levels: int, wrap: Wrap = NO_WRAP
) -> optax.GradientTransformationExtraArgs:
    """Let ``optimizer`` move the levels of a Laplacian pyramid instead of the pixels.

    The image is the finest level plus the enlarged next one, which is itself such a sum, and so on. The gradient by a
    level is therefore the image's gradient pulled back through the enlargements, and updates of the levels add up to
    one of the image.

    Args:
        optimizer: Sees a tuple of ``levels + 1`` arrays, each half as high and wide as the one before, and no image.
        levels: How often an image ``(h, w, c)`` is halved; fewer where a side would become 1.
        wrap: Whether the last row is next to the first, and whether the last column is.

    References:
        Kolkin, Salavon & Shakhnarovich, Style Transfer by Relaxed Optimal Transport and Self-Similarity, CVPR 2019.
    """
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Any:
        return inner.init(tuple(jnp.zeros(shape, params.dtype) for shape in _level_shapes(params.shape, levels)))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        shapes = _level_shapes(updates.shape, levels)
        like = tuple(jax.ShapeDtypeStruct(shape, updates.dtype) for shape in shapes)
        pull_back = jax.linear_transpose(partial(_sum, wrap=wrap), like)
        (gradients,) = pull_back(updates)
        updates_of_levels, state = inner.update(gradients, state, None, **extra)
        return _sum(updates_of_levels, wrap), state

    return optax.GradientTransformationExtraArgs(init, update)


def _level_shapes(shape: tuple[int, ...], levels: int) -> list[tuple[int, ...]]:
    shapes = [tuple(shape)]
    while len(shapes) <= levels and min(shapes[-1][:2]) > 3:
        height, width, channels = shapes[-1]
        shapes.append((height // 2, width // 2, channels))
    return shapes


def _sum(levels: Any, wrap: Wrap) -> Array:
    """The image of a pyramid, finest level first: enlarged bilinearly from the coarsest level on, and added."""
    *finer, image = levels
    for level in reversed(finer):
        image = level + _enlarged(image, level.shape, wrap)
    return image


def _enlarged(image: Array, shape: tuple[int, ...], wrap: Wrap) -> Array:
    scale = jnp.array([new / old for new, old in zip(shape[:2], image.shape[:2], strict=True)])
    margins = [int(wraps) for wraps in wrap]  # one row is as far as a linear filter reaches
    padded = jnp.pad(image, [*((margin, margin) for margin in margins), (0, 0)], mode="wrap")
    shift = -scale * jnp.array(margins)
    return jax.image.scale_and_translate(padded, shape, (0, 1), scale, shift, "linear", antialias=False)
