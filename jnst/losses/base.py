"""The protocols of losses, and the reduction of differences to one value per image."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeGuard

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


class AdditiveLoss(FeatureLoss, Protocol):
    """A feature loss whose value follows from sums over positions, so that it can be computed from parts of an image.

    ``loss(features, target, guide) = from_sums(merged sums of all parts, target, positions)``, where sums are merged by
    `jnst.statistics.merge`. Arrays of the target with three axes are **maps** ``(h, w, c)``: `sums` is given only
    these, each part of the image the same part of them, and `from_sums` only the others.
    """

    @property
    def is_additive(self) -> bool:
        """True; losses that contain others are additive if those are."""
        ...

    def sums(self, features: Features, maps: Any, inside: Guide, guide: Guide | None = None, whole: Any = None) -> Any:
        """The sums over some positions: a pytree of arrays, which are added, and of `jnst.statistics.Scatter`.

        The arguments are positional. The last axis of the last array is that of the channels.

        Args:
            features: ``(h, w, c)``, 0 at positions that do not count.
            maps: The target's maps for these positions, and None in place of its other arrays; None without a target.
            inside: ``(h, w)``: 1, or 0 for positions that do not count.
            guide: ``(h, w)``: the weight of each position, 0 for those that do not count.
            whole: None in a first pass. In a second, the merged sums of the whole image: the result is then only
                differentiated by the features, with the gradient by ``whole``, so that its derivatives, added over all
                parts, must be those of ``whole``. Sums that are added have them anyway; a scatter needs it:
                ``scatter(features, inside, guide, whole)``.
        """
        ...

    def from_sums(self, sums: Any, target: Target, positions: Array) -> PerImage:
        """The value for an image of so many positions. The target's maps are None."""
        ...


class AdditiveStyle(AdditiveLoss, StyleLoss, Protocol):
    """A style loss that is additive: its targets can be fitted by parts, too. None of these has maps."""

    def fit_sums(self, sums: Any, positions: Array) -> Target:
        """The target that `fit` would find, from the sums over all of an image."""
        ...


def is_additive(loss: Any) -> TypeGuard[AdditiveLoss]:
    """Whether a loss is an `AdditiveLoss`."""
    return getattr(loss, "is_additive", False)


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


REDUCTIONS: dict[str, Callable[[Array, Array, Any], Array]] = {
    "mean": lambda squares, target_squares, count: squares / count,
    "sum": lambda squares, target_squares, count: squares,
    "half_sum": lambda squares, target_squares, count: 0.5 * squares,
    "quarter_mean": lambda squares, target_squares, count: 0.25 * squares / count,
    "half_sum_over_root": lambda squares, target_squares, count: 0.5 * squares / count**0.5,
    "relative": lambda squares, target_squares, count: squares / (target_squares + TINY),
}
"""Reductions of squared differences to one value, given their sum, the sum of the target's squares, and their number.
``half_sum_over_root`` is Σ/(2√n) for n squares (neural-style-tf); ``relative`` divides by the squared norm of the
target."""


class SquareSums(NamedTuple):
    """What a squared error is reduced from, ``(...)`` each: the sums of the squares of the difference and the target.

    Those of an image are the sums of those of its parts.
    """

    squares: Array
    target_squares: Array


def reduce_squares(sums: SquareSums, reduction: str, count: Any) -> PerImage:
    """Reduce ``count`` squared differences to one value.

    Raises:
        ArgumentError: An unknown reduction.
    """
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"reduction {reduction!r} is unknown: choose one of {', '.join(REDUCTIONS)}")
    return REDUCTIONS[reduction](*sums, count)


def square_sums(value: Array, target: Array, axes: tuple[int, ...], weights: Array | None = None) -> SquareSums:
    """Sum the squared difference over some axes; other arguments as for `squared_error`."""
    dtype = sum_dtype(value, target)
    value, target = value.astype(dtype), target.astype(dtype)
    squares, target_squares = (value - target) ** 2, target**2
    if weights is not None:
        squares, target_squares = weights * squares, weights * target_squares
    return SquareSums(jnp.sum(squares, axes), jnp.sum(target_squares, axes))


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
    shape = tuple(value.shape[-axes:])
    if shape != tuple(target.shape[-axes:]):
        raise ArgumentError(
            f"features give {shape}, the target has {tuple(target.shape[-axes:])}: "
            "fit the target with the same layer (and, for a content loss, at the same image size)"
        )
    if 0 in shape:
        raise ArgumentError(f"features of shape {shape} are empty: use a larger image or an earlier layer")
    sums = square_sums(value, target, tuple(range(-axes, 0)), weights)
    return reduce_squares(sums, reduction, math.prod(shape))


def absolute(x: Array) -> Array:
    """``|x|`` with gradient 0 at 0. The gradient of `jnp.abs` at 0 is 1, which would push equal values apart."""
    return jnp.maximum(x, -x)
