"""The contracts of losses, and how a difference becomes one value per image.

A **feature loss** is a frozen (hashable, static) dataclass with ``fit(features) -> target``, run once, and
``loss(features, target) -> (...)``; a **style loss** also blends targets. A **regularizer** needs no target:
``loss(image) -> (...)``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.types import Array, Features, Guide, Image, PerImage, RandomKey

Target = Any
"""What a loss fits: a pytree of arrays."""


class FeatureLoss(Protocol):
    """A distance between the features of an image and what was fitted to another's.

    A **guide** ``(..., h, w)`` says how much every position counts: weights of at least 0, of which only the
    proportions matter. None: all alike.

    Attributes:
        joint: False: a term has one layer, and ``features`` and ``guide`` are its arrays. True: a term has several
            layers, and both are tuples with an entry for each.
    """

    joint: ClassVar[bool]

    def fit(self, features: Features, guide: Guide | None = None) -> Target:
        """Compute the target from ``(..., h, w, c)``."""
        ...

    def loss(
        self, features: Features, target: Target, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """Compute the distance, one value per image; 0 at the fitted image itself.

        ``key`` is for losses that draw at random, afresh at every step; without one they draw the same every time.
        """
        ...


class StyleLoss(FeatureLoss, Protocol):
    """A feature loss that does not ask where in an image something is, so that several images can be one target."""

    def blend(self, targets: Sequence[Target], weights: Array) -> Target:
        """The target of a mixture: as if every position of image i counted ``weights[i]``, which sum to 1."""
        ...


def blend_linearly(targets: Sequence[Target], weights: Array) -> Target:
    """Blend targets that are means over positions: a mixture's means are the weighted means of its parts'."""
    return jax.tree.map(lambda *parts: sum(w * part for w, part in zip(weights, parts, strict=True)), *targets)


class Regularizer(Protocol):
    """A property of an image alone."""

    def loss(self, image: Image) -> PerImage:
        """Compute the value, one per image."""
        ...


TINY = 1e-12
"""Keeps a relative error finite where the target is 0 (a black image through a network without biases)."""


def _mean(difference: Array, target: Array, axes: tuple[int, ...]) -> Array:
    return jnp.mean(difference**2, axes)


def _sum(difference: Array, target: Array, axes: tuple[int, ...]) -> Array:
    return jnp.sum(difference**2, axes)


def _half_sum(difference: Array, target: Array, axes: tuple[int, ...]) -> Array:
    return 0.5 * jnp.sum(difference**2, axes)


def _quarter_mean(difference: Array, target: Array, axes: tuple[int, ...]) -> Array:
    return 0.25 * jnp.mean(difference**2, axes)


def _half_sum_over_root(difference: Array, target: Array, axes: tuple[int, ...]) -> Array:
    return 0.5 * jnp.sum(difference**2, axes) / math.sqrt(math.prod(difference.shape[axis] for axis in axes))


def _relative(difference: Array, target: Array, axes: tuple[int, ...]) -> Array:
    return jnp.sum(difference**2, axes) / (jnp.sum(target**2, axes) + TINY)


REDUCTIONS: dict[str, Callable[[Array, Array, tuple[int, ...]], Array]] = {
    "mean": _mean,
    "sum": _sum,
    "half_sum": _half_sum,
    "quarter_mean": _quarter_mean,
    "half_sum_over_root": _half_sum_over_root,
    "relative": _relative,
}
"""How squared differences become one value; ``half_sum_over_root`` is Σ/(2√n) over n squares (neural-style-tf),
``relative`` divides by the squared norm of the target."""


def squared_error(value: Array, target: Array, reduction: str, *, axes: int, weights: Array | None = None) -> Array:
    """Reduce the squared difference over the last ``axes`` axes, in float32.

    Args:
        value: ``(..., *feature axes)``.
        target: The same feature axes; leading axes broadcast.
        reduction: A key of `REDUCTIONS`.
        axes: How many of the last axes belong to one image.
        weights: Of every square; they broadcast, and leave a value unchanged where their mean is 1.

    Raises:
        ArgumentError: An unknown reduction, or feature axes that differ.
    """
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"reduction {reduction!r} is unknown: choose one of {', '.join(REDUCTIONS)}")
    if value.shape[-axes:] != target.shape[-axes:]:
        raise ArgumentError(
            f"features give {value.shape[-axes:]}, the target has {target.shape[-axes:]}: "
            "fit the target with the same layer (and, for a content loss, at the same image size)"
        )
    value, target = value.astype(jnp.float32), target.astype(jnp.float32)
    difference = value - target
    if weights is not None:
        difference, target = difference * jnp.sqrt(weights), target * jnp.sqrt(weights)
    return REDUCTIONS[reduction](difference, target, tuple(range(-axes, 0)))
