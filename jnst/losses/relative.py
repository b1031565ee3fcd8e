"""A loss divided by its value for an image without features."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jnst.losses.base import FeatureLoss, Target, blend_linearly, is_additive
from jnst.types import Array, PerImage, RandomKey


@dataclasses.dataclass(frozen=True)
class Relative:
    """``loss(x) / max(loss(0), floor)``: dimensionless, 0 for the target itself, 1 for an image without any features.

    It makes losses of different units, networks and layers comparable. `jnst.fit_targets` sets the floor, to the value
    that an image with faint features has for the network: without it, a nearly featureless target, such as a blank
    canvas, would count thousands of times as much as any other. Without a floor, `SquaredError` and `Gram` give the
    same values as with their own reduction ``"relative"``; if the target has no features, the loss is not divided.

    Attributes:
        inner: The loss: a style loss for style terms. Its values should not depend on the size of the image.
    """

    inner: FeatureLoss

    @property
    def joint(self) -> bool:
        """Whether the inner loss is joint."""
        return self.inner.joint

    def fit(self, features: Any, guide: Any = None) -> tuple[Target, Array]:
        """The target of the inner loss, and its value for an image without features."""
        return self.scaled(self.inner.fit(features, guide), features, guide)

    def scaled(
        self, target: Target, features: Any, guide: Any = None, floor: Array | None = None
    ) -> tuple[Target, Array]:
        """A target of the inner loss with its value for an image without features, or with ``floor`` if that is larger.

        Args:
            target: Of the inner loss.
            features: Of the shapes that the inner loss takes; their values are not used.
            guide: As for `fit`.
            floor: The least value by which the loss is divided, ``(...)``.
        """
        scale = self.inner.loss(jax.tree.map(jnp.zeros_like, features), target, guide)
        return target, scale if floor is None else jnp.maximum(scale, floor)

    def blend(self, targets: Sequence[tuple[Target, Array]], weights: Array) -> tuple[Target, Array]:
        """The mixture of the inner loss, divided by the weighted mean of the images' scales."""
        inner, scales = zip(*targets, strict=True)
        mix: Any = self.inner
        return mix.blend(inner, weights), blend_linearly(scales, weights)

    def loss(
        self, features: Any, target: tuple[Target, Array], guide: Any = None, key: RandomKey | None = None
    ) -> PerImage:
        """The inner loss divided by the scale that `fit` found."""
        return _divided(self.inner.loss(features, target[0], guide, key), target[1])

    @property
    def is_additive(self) -> bool:
        """Whether the inner loss is."""
        return is_additive(self.inner)

    def sums(
        self, features: Any, maps: tuple[Any, None] | None, inside: Any, guide: Any = None, whole: Any = None
    ) -> Any:
        """See `AdditiveLoss`, like all that follow: those of the inner loss."""
        inner: Any = self.inner
        return inner.sums(features, maps and maps[0], inside, guide, whole)

    def fit_sums(self, sums: Any, positions: Array) -> tuple[Target, Array]:
        """The target of the inner loss, and its value for an image without features, of any size."""
        inner: Any = self.inner
        channels = jax.tree.leaves(sums)[-1].shape[-1]
        return self.scaled(inner.fit_sums(sums, positions), jnp.zeros((1, 1, channels)))

    def from_sums(self, sums: Any, target: tuple[Target, Array], positions: Array) -> PerImage:
        """The value of the inner loss divided by the scale."""
        inner: Any = self.inner
        return _divided(inner.from_sums(sums, target[0], positions), target[1])


def _divided(value: PerImage, scale: Array) -> PerImage:
    # No epsilon: for deep layers with many channels the scale itself may be as small as 1e-12.
    return value / jnp.where(scale > 1e-30, scale, 1.0)
