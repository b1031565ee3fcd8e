"""The contracts of losses, and how a difference becomes one value per picture.

A **feature loss** is a frozen (hashable, static) dataclass with ``fit(features) -> target``, run once, and
``loss(features, target) -> (...)``. A **regularizer** needs no target: ``loss(image) -> (...)``.
"""

from collections.abc import Callable
from typing import Protocol

import jax.numpy as jnp

from jnst.errors import JnstError
from jnst.types import Array, Features, Image, PerPicture


class FeatureLoss(Protocol):
    """A distance between the features of a picture and what was fitted to another's."""

    def fit(self, features: Features) -> Array:
        """Compute the target from ``(..., h, w, c)``."""
        ...

    def loss(self, features: Features, target: Array) -> PerPicture:
        """Compute the distance, one value per picture; 0 at the fitted picture itself."""
        ...


class Regularizer(Protocol):
    """A property of a picture alone."""

    def loss(self, image: Image) -> PerPicture:
        """Compute the value, one per picture."""
        ...


TINY = 1e-12
"""Keeps a relative error finite where the target is 0 (a black picture through a network without biases)."""


def _mean(difference: Array, target: Array, axes: tuple[int, ...]) -> Array:
    return jnp.mean(difference**2, axes)


def _sum(difference: Array, target: Array, axes: tuple[int, ...]) -> Array:
    return jnp.sum(difference**2, axes)


def _half_sum(difference: Array, target: Array, axes: tuple[int, ...]) -> Array:
    return 0.5 * jnp.sum(difference**2, axes)


def _quarter_mean(difference: Array, target: Array, axes: tuple[int, ...]) -> Array:
    return 0.25 * jnp.mean(difference**2, axes)


def _relative(difference: Array, target: Array, axes: tuple[int, ...]) -> Array:
    return jnp.sum(difference**2, axes) / (jnp.sum(target**2, axes) + TINY)


REDUCTIONS: dict[str, Callable[[Array, Array, tuple[int, ...]], Array]] = {
    "mean": _mean,
    "sum": _sum,
    "half_sum": _half_sum,
    "quarter_mean": _quarter_mean,
    "relative": _relative,
}
"""How squared differences become one value; ``relative`` divides by the squared norm of the target."""


def squared_error(value: Array, target: Array, reduction: str, *, axes: int) -> Array:
    """Reduce the squared difference over the last ``axes`` axes, in float32.

    Args:
        value: ``(..., *feature axes)``.
        target: The same feature axes; leading axes broadcast.
        reduction: A key of `REDUCTIONS`.
        axes: How many of the last axes belong to one picture.

    Raises:
        JnstError: An unknown reduction, or feature axes that differ.
    """
    if reduction not in REDUCTIONS:
        raise JnstError(f"reduction {reduction!r} is unknown: choose one of {', '.join(REDUCTIONS)}")
    if value.shape[-axes:] != target.shape[-axes:]:
        raise JnstError(
            f"features give {value.shape[-axes:]}, the target has {target.shape[-axes:]}: "
            "fit the target with the same layer (and, for a content loss, at the same picture size)"
        )
    value, target = value.astype(jnp.float32), target.astype(jnp.float32)
    return REDUCTIONS[reduction](value - target, target, tuple(range(-axes, 0)))
