"""The sum of several losses on the same layer, or on the same layers, as one loss."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.losses.base import FeatureLoss, Target, is_additive
from jnst.types import Array, PerImage, RandomKey


@dataclasses.dataclass(frozen=True)
class Sum:
    """``Σ wᵢ lossᵢ`` on the same features, for example Gram matrices plus shifted Gram matrices.

    The weights belong to the static loss, so a new weight compiles again. The weights of an objective's terms do not.

    Attributes:
        parts: Pairs of a loss and its weight. Either all of the losses are joint, or none.

    Raises:
        ArgumentError: No parts, joint losses mixed with others, or a weight that is negative or not finite.
    """

    parts: tuple[tuple[FeatureLoss, float], ...]

    def __post_init__(self) -> None:
        names = ", ".join(type(loss).__name__ for loss, _ in self.parts)
        if len({loss.joint for loss, _ in self.parts}) != 1:
            raise ArgumentError(
                f"cannot add losses ({names}): give at least one, and only losses for one layer or only losses for "
                "several layers"
            )
        for loss, weight in self.parts:
            if not (weight >= 0 and math.isfinite(weight)):
                raise ArgumentError(
                    f"weight {weight} of {type(loss).__name__} is invalid: give a finite number of at least 0"
                )

    @property
    def joint(self) -> bool:
        """Whether the parts are joint losses."""
        return self.parts[0][0].joint

    def fit(self, features: Any, guide: Any = None) -> tuple[Target, ...]:
        """Fit one target per part."""
        return tuple(loss.fit(features, guide) for loss, _ in self.parts)

    def blend(self, targets: Sequence[tuple[Target, ...]], weights: Array) -> tuple[Target, ...]:
        """Blend the targets part by part.

        Raises:
            ArgumentError: A part that is not a style loss.
        """
        return tuple(
            _blend(loss, part_targets, weights)
            for (loss, _), part_targets in zip(self.parts, zip(*targets, strict=True), strict=True)
        )

    def loss(
        self, features: Any, target: tuple[Target, ...], guide: Any = None, key: RandomKey | None = None
    ) -> PerImage:
        """The weighted sum, ``(...)``. Each part gets its own key."""
        keys = [None] * len(self.parts) if key is None else jax.random.split(key, len(self.parts))
        values = (
            weight * loss.loss(features, part_target, guide, part_key)
            for (loss, weight), part_target, part_key in zip(self.parts, target, keys, strict=True)
        )
        return sum(values, jnp.float32(0.0))

    @property
    def is_additive(self) -> bool:
        """Whether all parts are."""
        return all(is_additive(loss) for loss, _ in self.parts)

    def sums(
        self,
        features: Any,
        maps: tuple[Any, ...] | None,
        inside: Any,
        guide: Any = None,
        whole: tuple[Any, ...] | None = None,
    ) -> tuple[Any, ...]:
        """See `AdditiveLoss`, like all that follow: the sums of each part."""
        none = (None,) * len(self.parts)
        each = zip(self._losses, maps or none, whole or none, strict=True)
        return tuple(loss.sums(features, own, inside, guide, sums) for loss, own, sums in each)

    def fit_sums(self, sums: tuple[Any, ...], positions: Array) -> tuple[Target, ...]:
        """One target per part."""
        return tuple(loss.fit_sums(own, positions) for loss, own in zip(self._losses, sums, strict=True))

    def from_sums(self, sums: tuple[Any, ...], target: tuple[Target, ...], positions: Array) -> PerImage:
        """The weighted sum."""
        each = zip(self.parts, sums, target, strict=True)
        value = jnp.float32(0.0)
        for (loss, weight), own, goal in each:
            value = value + weight * cast(Any, loss).from_sums(own, goal, positions)
        return value

    @property
    def _losses(self) -> tuple[Any, ...]:
        return tuple(loss for loss, _ in self.parts)


def _blend(loss: Any, targets: Sequence[Target], weights: Array) -> Target:
    if not hasattr(loss, "blend"):
        raise ArgumentError(f"{type(loss).__name__} has no blend: give one style image, or style losses only")
    return loss.blend(targets, weights)
