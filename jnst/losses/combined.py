"""Several losses on the same layer, or the same layers, as one."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.losses.base import FeatureLoss, Target
from jnst.types import Array, PerImage, RandomKey


@dataclasses.dataclass(frozen=True)
class Sum:
    """``Σ wᵢ lossᵢ`` on the same features, as one loss: Gram matrices and shifted ones, say.

    The weights are part of the loss, so that another weight compiles again; terms of an objective have weights that
    do not.

    Attributes:
        joint: As that of its parts.
        parts: Losses with their weights; all of them joint, or none.

    Raises:
        ArgumentError: No parts, joint losses among others, or a weight that is negative or not finite.
    """

    joint: ClassVar[bool] = False
    parts: tuple[tuple[FeatureLoss, float], ...]

    def __post_init__(self) -> None:
        names = ", ".join(type(loss).__name__ for loss, _ in self.parts)
        if len({loss.joint for loss, _ in self.parts}) != 1:
            raise ArgumentError(f"parts ({names}) cannot be added: give one or more, all for one layer or all for several")
        for loss, weight in self.parts:
            if not (weight >= 0 and math.isfinite(weight)):
                raise ArgumentError(f"weight {weight} of {type(loss).__name__} is not usable: give one of at least 0")
        # The contract has it of the class; here the parts decide, sum by sum.
        object.__setattr__(self, "joint", self.parts[0][0].joint)

    def fit(self, features: Any, guide: Any = None) -> tuple[Target, ...]:
        """A target for each part."""
        return tuple(loss.fit(features, guide) for loss, _ in self.parts)

    def blend(self, targets: Sequence[tuple[Target, ...]], weights: Array) -> tuple[Target, ...]:
        """Each part's own mixture.

        Raises:
            ArgumentError: A part that is no style loss.
        """
        return tuple(
            _blend(loss, of_part, weights)
            for (loss, _), of_part in zip(self.parts, zip(*targets, strict=True), strict=True)
        )

    def loss(
        self, features: Any, target: tuple[Target, ...], guide: Any = None, key: RandomKey | None = None
    ) -> PerImage:
        """The weighted sum, ``(...)`` in float32; every part draws from a key of its own."""
        keys = [None] * len(self.parts) if key is None else jax.random.split(key, len(self.parts))
        values = (
            weight * loss.loss(features, of_part, guide, of_key)
            for (loss, weight), of_part, of_key in zip(self.parts, target, keys, strict=True)
        )
        return sum(values, jnp.float32(0.0))


def _blend(loss: Any, targets: Sequence[Target], weights: Array) -> Target:
    if not hasattr(loss, "blend"):
        raise ArgumentError(f"{type(loss).__name__} has no blend: give one style image, or style losses only")
    return loss.blend(targets, weights)
