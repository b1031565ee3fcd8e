"""Any style loss as a number without unit."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jnst.losses.base import StyleLoss, Target, blend_linearly
from jnst.types import Array, PerImage, RandomKey


@dataclasses.dataclass(frozen=True)
class Relative:
    """``loss(x) / loss(0)``: 0 for the style itself, 1 for an image without any features.

    It makes losses of different units, networks and layers comparable: `Gram` gives what its own reduction
    ``"relative"`` gives. Beside a style without any features the loss stays as it is.

    Attributes:
        inner: The style loss.
    """

    inner: StyleLoss

    @property
    def joint(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the inner loss."""
        return self.inner.joint

    def fit(self, features: Any, guide: Any = None) -> tuple[Target, Array]:
        """The inner loss' target, and its value for no features."""
        target = self.inner.fit(features, guide)
        return target, self.inner.loss(jax.tree.map(jnp.zeros_like, features), target, guide)

    def blend(self, targets: Sequence[tuple[Target, Array]], weights: Array) -> tuple[Target, Array]:
        """The inner loss' mixture, over the weighted mean of the images' own scales."""
        inner, scales = zip(*targets, strict=True)
        return self.inner.blend(inner, weights), blend_linearly(scales, weights)

    def loss(
        self, features: Any, target: tuple[Target, Array], guide: Any = None, key: RandomKey | None = None
    ) -> PerImage:
        """The inner loss over its value for no features."""
        inner, scale = target
        # Nothing is added to the scale: of deep layers with many channels it may be 1e-12 itself.
        return self.inner.loss(features, inner, guide, key) / jnp.where(scale > 1e-30, scale, 1.0)
