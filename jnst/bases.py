"""The variables that an Optax transformation works in: the picture's values in other units, or its scales.

With x = P z for the picture x, the gradient by z is Pᵀ times the picture's, and an update of z is P times as much of
the picture. What the optimiser takes for a sphere, its first guess of the curvature, is then an ellipsoid of pictures.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jnst.types import Array

Map = Callable[[Any], Any]


def in_units(optimizer: optax.GradientTransformation, unit: float) -> optax.GradientTransformationExtraArgs:
    """Let ``optimizer`` see the picture multiplied by ``unit``, so that its step lengths are in those units.

    Programs that optimise 0-255 pictures state learning rates in units of 1/255 of ours: with ``unit=255.0``
    they can be used as published.
    """
    smaller: Map = lambda tree: scaled(tree, 1 / unit)  # noqa: E731
    return _in_basis(optimizer, smaller, smaller, lambda tree: scaled(tree, unit))


def _in_basis(
    optimizer: optax.GradientTransformation, forward: Map, transposed: Map, inverse: Map
) -> optax.GradientTransformationExtraArgs:
    """Let ``optimizer`` move z, where the picture is ``forward(z)``, a linear function."""
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Any:
        return inner.init(inverse(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        if "grad" in extra:
            extra["grad"] = transposed(extra["grad"])
        if "value_fn" in extra:
            value_fn = extra["value_fn"]
            extra["value_fn"] = lambda z: value_fn(forward(z))
        z = None if params is None else inverse(params)
        updates, state = inner.update(transposed(updates), state, z, **extra)
        return forward(updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def scaled(tree: Any, factor: float | Array) -> Any:
    """All arrays of ``tree`` times ``factor``."""
    return jax.tree.map(lambda leaf: leaf * factor, tree)


def in_laplacian_pyramid(optimizer: optax.GradientTransformation, levels: int) -> optax.GradientTransformationExtraArgs:
    """Let ``optimizer`` move the levels of a Laplacian pyramid instead of the pixels.

    The picture is the finest level plus the next one, enlarged, which is itself a sum of that kind, and so on; so the
    gradient by a level is the picture's gradient carried back through the enlargements between, and an update of the
    levels is one of the picture.

    Args:
        optimizer: Sees a tuple of ``levels + 1`` arrays, each half as high and wide as the one before; no picture.
        levels: How often the picture is halved; fewer where that would leave a side of 1.

    References:
        Kolkin, Salavon & Shakhnarovich, Style Transfer by Relaxed Optimal Transport and Self-Similarity, CVPR 2019.
    """
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Any:
        return inner.init(tuple(jnp.zeros(shape, params.dtype) for shape in _level_shapes(params.shape, levels)))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        shapes = _level_shapes(updates.shape, levels)
        back = jax.linear_transpose(_summed, tuple(jax.ShapeDtypeStruct(shape, updates.dtype) for shape in shapes))
        (gradients,) = back(updates)
        updates_of_levels, state = inner.update(gradients, state, None, **extra)
        return _summed(updates_of_levels), state

    return optax.GradientTransformationExtraArgs(init, update)


def _level_shapes(shape: tuple[int, ...], levels: int) -> list[tuple[int, ...]]:
    shapes = [tuple(shape)]
    while len(shapes) <= levels and min(shapes[-1][:2]) > 3:
        height, width, channels = shapes[-1]
        shapes.append((height // 2, width // 2, channels))
    return shapes


def _summed(levels: Any) -> Array:
    """The picture of a pyramid, finest level first: from the coarsest on, enlarged bilinearly and added."""
    *finer, picture = levels
    for level in reversed(finer):
        picture = level + jax.image.resize(picture, level.shape, "linear", antialias=False)
    return picture
