"""Squared error between the covariances of the channels."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from jnst.losses.base import blend_linearly, squared_error
from jnst.statistics import Scatter, covariance, mean_covariance, moments_from_scatter, scatter
from jnst.types import Array, Features, Guide, Matrix, PerImage, RandomKey


class Moments(NamedTuple):
    """The mean ``(..., c)`` and the covariance ``(..., c, c)`` of `jnst.statistics.mean_covariance`."""

    mean: Array
    covariance: Matrix


def blend_moments(parts: Sequence[Moments], weights: Array) -> Moments:
    """The moments of a mixture: ``μ = Σ wᵢ μᵢ`` and ``Σ wᵢ (Cᵢ + (μᵢ - μ)(μᵢ - μ)ᵀ)``.

    The covariance equals the weighted mean of the raw second moments ``Cᵢ + μᵢ μᵢᵀ`` minus ``μ μᵀ``, but it stays
    positive semi-definite in float32.

    Args:
        parts: Moments of the parts.
        weights: ``(number of parts,)``, which sum to 1.
    """
    mean = blend_linearly([part.mean for part in parts], weights)
    spread = [_outer_square(part.mean - mean) for part in parts]
    within = [part.covariance + outer for part, outer in zip(parts, spread, strict=True)]
    return Moments(mean, blend_linearly(within, weights))


def _outer_square(vector: Array) -> Matrix:
    return vector[..., :, None] * vector[..., None, :]


def covariance_loss(
    features: Features, target: Matrix, reduction: str = "mean", guide: Guide | None = None
) -> PerImage:
    """Squared error between covariances: like `jnst.style_loss`, but independent of the channels' means.

    Args:
        features: ``(..., h, w, c)``, of the image.
        target: ``(..., c, c)``, the style image's `jnst.statistics.covariance`.
        reduction: As in `jnst.style_loss`.
        guide: As in `jnst.gram_matrix`.

    Returns:
        ``(...)``, in fourth powers of the features' units (dimensionless for ``"relative"``).

    Raises:
        ArgumentError: A number of channels that differs from the target's, or an unknown reduction.

    References:
        Sun & Saenko, Deep CORAL, ECCV workshops 2016, equation 1: ``"quarter_mean"``, with covariances over n - 1.
    """
    return squared_error(covariance(features, guide), target, reduction, axes=2)


@dataclasses.dataclass(frozen=True)
class Covariance:
    """`covariance_loss` as a feature loss. The target's mean is only used for mixtures.

    Attributes:
        reduction: See `covariance_loss`.
    """

    joint = False
    is_additive = True
    reduction: str = "mean"

    def fit(self, features: Features, guide: Guide | None = None) -> Moments:
        """See `jnst.statistics.mean_covariance`."""
        return Moments(*mean_covariance(features, guide))

    def blend(self, targets: Sequence[Moments], weights: Array) -> Moments:
        """See `blend_moments`."""
        return blend_moments(targets, weights)

    def loss(
        self, features: Features, target: Moments, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """See `covariance_loss`."""
        return covariance_loss(features, target.covariance, self.reduction, guide)

    def sums(
        self, features: Features, maps: Any, inside: Guide, guide: Guide | None = None, whole: Scatter | None = None
    ) -> Scatter:
        """See `AdditiveLoss`."""
        return scatter(features, inside, guide, whole)

    def fit_sums(self, sums: Scatter, positions: Array) -> Moments:
        """See `AdditiveStyle`."""
        return Moments(*moments_from_scatter(sums, positions))

    def from_sums(self, sums: Scatter, target: Moments, positions: Array) -> PerImage:
        """See `AdditiveLoss`."""
        own = self.fit_sums(sums, positions)
        return squared_error(own.covariance, target.covariance, self.reduction, axes=2)
