"""Squared error between the means and standard deviations of the channels."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from jnst.losses.base import blend_linearly, squared_error
from jnst.statistics import Scatter, mean_std, moments_from_scatter, safe_sqrt, scatter
from jnst.types import Array, Features, Guide, PerImage, RandomKey


class MeanStdTarget(NamedTuple):
    """The mean and the standard deviation of `jnst.statistics.mean_std`, ``(..., c)`` each."""

    mean: Array
    std: Array


def mean_std_loss(
    features: Features, target: MeanStdTarget, reduction: str = "mean", guide: Guide | None = None
) -> PerImage:
    """Squared error between means plus squared error between standard deviations: ``|Δμ|² + |Δσ|²``.

    Args:
        features: ``(..., h, w, c)``, of the image.
        target: The style image's `jnst.statistics.mean_std`. The style image may have any size.
        reduction: ``"mean"`` over the c channels, or another reduction of `jnst.content_loss`, applied to both parts.
        guide: As in `jnst.gram_matrix`.

    Returns:
        ``(...)``, in squared units of the features (dimensionless for ``"relative"``).

    Raises:
        ArgumentError: A number of channels that differs from the target's, or an unknown reduction.

    References:
        Huang & Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV 2017,
        equation 13, with norms instead of their squares; with squares: Li, Wang, Liu & Hou, Demystifying Neural Style
        Transfer, IJCAI 2017, "BN statistics matching".
    """
    return _distance(MeanStdTarget(*mean_std(features, guide)), target, reduction)


def _distance(own: MeanStdTarget, target: MeanStdTarget, reduction: str) -> PerImage:
    mean_error = squared_error(own.mean, target.mean, reduction, axes=1)
    return mean_error + squared_error(own.std, target.std, reduction, axes=1)


@dataclasses.dataclass(frozen=True)
class MeanStd:
    """`mean_std_loss` as a feature loss.

    Attributes:
        reduction: See `mean_std_loss`.
    """

    joint = False
    is_additive = True
    reduction: str = "mean"

    def fit(self, features: Features, guide: Guide | None = None) -> MeanStdTarget:
        """See `jnst.statistics.mean_std`."""
        return MeanStdTarget(*mean_std(features, guide))

    def blend(self, targets: Sequence[MeanStdTarget], weights: Array) -> MeanStdTarget:
        """The variance of a mixture is the mean of its parts' variances plus the variance of their means."""
        mean = blend_linearly([part.mean for part in targets], weights)
        variance = blend_linearly([part.std**2 + (part.mean - mean) ** 2 for part in targets], weights)
        return MeanStdTarget(mean, safe_sqrt(variance))

    def loss(
        self, features: Features, target: MeanStdTarget, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """See `mean_std_loss`."""
        return mean_std_loss(features, target, self.reduction, guide)

    def sums(
        self, features: Features, maps: Any, inside: Guide, guide: Guide | None = None, whole: Scatter | None = None
    ) -> Scatter:
        """See `AdditiveLoss`."""
        return scatter(features, inside, guide, whole, diagonal=True)

    def fit_sums(self, sums: Scatter, positions: Array) -> MeanStdTarget:
        """See `AdditiveStyle`."""
        mean, variance = moments_from_scatter(sums, positions)
        return MeanStdTarget(mean, safe_sqrt(variance))

    def from_sums(self, sums: Scatter, target: MeanStdTarget, positions: Array) -> PerImage:
        """See `AdditiveLoss`."""
        return _distance(self.fit_sums(sums, positions), target, self.reduction)
