"""A style loss divided by its value for an image without features."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jnst.losses.base import StyleLoss, Target, blend_linearly
from jnst.types import Array, PerImage, RandomKey


@dataclasses.dataclass(frozen=True)
class Relative:
    """``loss(x) / loss(0)``: dimensionless, 0 for the style itself and 1 for an image without any features.

    It makes losses of different units, networks and layers comparable. `Gram` gives the same values as with its own
    reduction ``"relative"``. If the style has no features, the loss is not divided.

    Attributes:
        inner: The style loss.
    """

    inner: StyleLoss

    @property
    def joint(self) -> bool:
        """Whether the inner loss is joint."""
        return self.inner.joint

    def fit(self, features: Any, guide: Any = None) -> tuple[Target, Array]:
        """The target of the inner loss, and its value for an image without features."""
        target = self.inner.fit(features, guide)
        return target, self.inner.loss(jax.tree.map(jnp.zeros_like, features), target, guide)

    def blend(self, targets: Sequence[tuple[Target, Array]], weights: Array) -> tuple[Target, Array]:
        """The mixture of the inner loss, divided by the weighted mean of the images' scales."""
        inner, scales = zip(*targets, strict=True)
        return self.inner.blend(inner, weights), blend_linearly(scales, weights)

    def loss(
        self, features: Any, target: tuple[Target, Array], guide: Any = None, key: RandomKey | None = None
    ) -> PerImage:
        """The inner loss divided by its value for an image without features."""
        inner, scale = target
        # No epsilon: for deep layers with many channels the scale itself may be as small as 1e-12.
        return self.inner.loss(features, inner, guide, key) / jnp.where(scale > 1e-30, scale, 1.0)
