"""Squared error between features at the same positions."""

import dataclasses
from typing import Any

import jax.numpy as jnp

from jnst.losses.base import SquareSums, reduce_squares, square_sums, squared_error
from jnst.statistics import mean_weight, unit_mean
from jnst.types import Array, Features, Guide, PerImage, RandomKey


def content_loss(features: Features, target: Features, reduction: str = "mean", guide: Guide | None = None) -> PerImage:
    """Squared error between features at the same positions.

    Args:
        features: ``(..., h, w, c)``.
        target: The same shape, from the content image.
        reduction: ``"mean"`` (neural-style, Gatys 2017); ``"half_sum"`` (½ Σ, Gatys 2016); ``"sum"``;
            ``"quarter_mean"``; ``"half_sum_over_root"`` (Σ / (2√(c h w)), neural-style-tf); or ``"relative"``
            (Σ(F - T)² / ΣT²: dimensionless, comparable between networks and image sizes).
        guide: ``(..., h, w)``, the relative weight of each position. None weights all positions equally.

    Returns:
        ``(...)``, in squared units of the features (dimensionless for ``"relative"``).

    Raises:
        ArgumentError: Shapes that differ, empty features, or an unknown reduction.

    References:
        Gatys, Ecker & Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016, equation 1.
    """
    weights = None if guide is None else unit_mean(guide)[..., None]
    return squared_error(features, target, reduction, axes=3, weights=weights)


@dataclasses.dataclass(frozen=True)
class SquaredError:
    """`content_loss` as a feature loss. The target is the content image's features.

    Attributes:
        reduction: See `content_loss`.
    """

    joint = False
    is_additive = True
    reduction: str = "mean"

    def fit(self, features: Features, guide: Guide | None = None) -> Features:
        """Return the features."""
        return features

    def loss(
        self, features: Features, target: Features, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """See `content_loss`."""
        return content_loss(features, target, self.reduction, guide)

    def sums(
        self, features: Features, maps: Features, inside: Guide, guide: Guide | None = None, whole: Any = None
    ) -> tuple[SquareSums, Array | None]:
        """See `AdditiveLoss`: the squares of each channel, and the sum of the guide."""
        weights = inside if guide is None else guide
        weight = None if guide is None else jnp.sum(guide)
        return square_sums(features, maps, (0, 1), weights[..., None]), weight

    def from_sums(self, sums: tuple[SquareSums, Array | None], target: None, positions: Array) -> PerImage:
        """See `AdditiveLoss`."""
        (squares, target_squares), weight = sums
        mean = 1.0 if weight is None else mean_weight(weight, positions)
        total = SquareSums(jnp.sum(squares) / mean, jnp.sum(target_squares) / mean)
        return reduce_squares(total, self.reduction, positions * squares.shape[0])
