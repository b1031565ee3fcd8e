"""The protocols of losses, and the reduction of differences to one value per image."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.types import Array, Features, Guide, Image, PerImage, RandomKey, sum_dtype

Target = Any
"""What a loss keeps of the image it is fitted to: a pytree of arrays."""


class FeatureLoss(Protocol):
    """A distance between the features of an image and a target fitted to another image.

    Losses are frozen dataclasses: static and hashable. A **guide** ``(..., h, w)`` holds the weight of each position,
    at least 0, of which only the proportions matter. None weights all positions equally.
    """

    @property
    def joint(self) -> bool:
        """Whether the loss takes several layers at once.

        If it does, ``features`` and ``guide`` are tuples with one array per layer; if not, they are arrays.
        """
        ...

    def fit(self, features: Features, guide: Guide | None = None) -> Target:
        """Compute the target from features ``(..., h, w, c)``."""
        ...

    def loss(
        self, features: Features, target: Target, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """Compute the distance, one value per image; 0 for the fitted image itself.

        Stochastic losses draw new samples for each ``key``, and the same samples every time without one. The others
        ignore it.
        """
        ...


class StyleLoss(FeatureLoss, Protocol):
    """A feature loss that does not depend on where things are in an image, so that several images can be one target."""

    def blend(self, targets: Sequence[Target], weights: Array) -> Target:
        """The target of a mixture in which each position of image i has weight ``weights[i]``; these sum to 1."""
        ...


def blend_linearly(targets: Sequence[Target], weights: Array) -> Target:
    """Blend targets that are means over positions: the means of a mixture are the weighted means of its parts."""
    return jax.tree.map(lambda *parts: sum(w * part for w, part in zip(weights, parts, strict=True)), *targets)


class Regularizer(Protocol):
    """A property of an image alone, without a target."""

    def loss(self, image: Image) -> PerImage:
        """Compute the value, one per image."""
        ...


TINY = 1e-12
"""Keeps a relative error finite where the target is 0 (a black image through a network without biases)."""


def _half_sum_over_root(squares: Array, target_squares: Array, axes: tuple[int, ...]) -> Array:
    return 0.5 * jnp.sum(squares, axes) / math.sqrt(math.prod(squares.shape[axis] for axis in axes))


REDUCTIONS: dict[str, Callable[[Array, Array, tuple[int, ...]], Array]] = {
    "mean": lambda squares, target_squares, axes: jnp.mean(squares, axes),
    "sum": lambda squares, target_squares, axes: jnp.sum(squares, axes),
    "half_sum": lambda squares, target_squares, axes: 0.5 * jnp.sum(squares, axes),
    "quarter_mean": lambda squares, target_squares, axes: 0.25 * jnp.mean(squares, axes),
    "half_sum_over_root": _half_sum_over_root,
    "relative": lambda squares, target_squares, axes: jnp.sum(squares, axes) / (jnp.sum(target_squares, axes) + TINY),
}
"""Reductions of squared differences to one value, given the squares of the target and the axes to reduce.
``half_sum_over_root`` is Σ/(2√n) for n squares (neural-style-tf); ``relative`` divides by the squared norm of the
target."""


def squared_error(value: Array, target: Array, reduction: str, *, axes: int, weights: Array | None = None) -> Array:
    """Reduce the squared difference over the last ``axes`` axes.

    Args:
        value: ``(..., *feature axes)``.
        target: The same feature axes; leading axes broadcast.
        reduction: A key of `REDUCTIONS`.
        axes: Number of trailing axes that belong to one image.
        weights: Weights of the squares, which broadcast. None weights all by 1.

    Raises:
        ArgumentError: Unknown reduction, feature axes that differ, or nothing to reduce.
    """
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"reduction {reduction!r} is unknown: choose one of {', '.join(REDUCTIONS)}")
    shape = tuple(value.shape[-axes:])
    if shape != tuple(target.shape[-axes:]):
        raise ArgumentError(
            f"features give {shape}, the target has {tuple(target.shape[-axes:])}: "
            "fit the target with the same layer (and, for a content loss, at the same image size)"
        )
    if 0 in shape:
        raise ArgumentError(f"features of shape {shape} are empty: use a larger image or an earlier layer")
    dtype = sum_dtype(value, target)
    value, target = value.astype(dtype), target.astype(dtype)
    squares, target_squares = (value - target) ** 2, target**2
    if weights is not None:
        squares, target_squares = weights * squares, weights * target_squares
    return REDUCTIONS[reduction](squares, target_squares, tuple(range(-axes, 0)))


def absolute(x: Array) -> Array:
    """``|x|`` with gradient 0 at 0. The gradient of `jnp.abs` at 0 is 1, which would push equal values apart."""
    return jnp.maximum(x, -x)
