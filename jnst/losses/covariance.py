"""Style as the covariance of the channels."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from jnst.losses.base import blend_linearly, squared_error
from jnst.statistics import covariance, mean_covariance
from jnst.types import Array, Features, Guide, Matrix, PerImage, RandomKey


class Moments(NamedTuple):
    """What `jnst.statistics.mean_covariance` gives, ``(..., c)`` and ``(..., c, c)``."""

    mean: Array
    covariance: Matrix


def blend_moments(parts: Sequence[Moments], weights: Array) -> Moments:
    """The moments of a mixture: ``μ = Σ wᵢ μᵢ`` and ``Σ wᵢ (Cᵢ + (μᵢ - μ)(μᵢ - μ)ᵀ)``.

    That is the weighted mean of the raw second moments ``Cᵢ + μᵢ μᵢᵀ`` less ``μ μᵀ``, but positive semi-definite in
    float32 too.

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
    """Squared error between covariances: `jnst.style_loss` that does not see the channels' means.

    Args:
        features: ``(..., h, w, c)`` of the image.
        target: ``(..., c, c)``, the style image's `jnst.statistics.covariance`.
        reduction: As in `jnst.style_loss`.
        guide: As in `jnst.gram_matrix`.

    Returns:
        ``(...)`` in float32, in fourth powers of the features' units (none for ``"relative"``).

    Raises:
        ArgumentError: Another number of channels than the target's, or an unknown reduction.

    References:
        Sun & Saenko, Deep CORAL, ECCV workshops 2016, equation 1: ``"quarter_mean"``, of covariances over n - 1.
    """
    return squared_error(covariance(features, guide), target, reduction, axes=2)


@dataclasses.dataclass(frozen=True)
class Covariance:
    """`covariance_loss` as a feature loss: the target's mean is only there for mixtures."""

    joint: ClassVar[bool] = False
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
