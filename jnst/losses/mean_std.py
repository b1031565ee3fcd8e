"""Style as the mean and the standard deviation of every channel."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from jnst.losses.base import blend_linearly, squared_error
from jnst.statistics import mean_std, safe_sqrt
from jnst.types import Array, Features, Guide, PerImage, RandomKey


class MeanStdTarget(NamedTuple):
    """What `jnst.statistics.mean_std` gives, ``(..., c)`` each."""

    mean: Array
    std: Array


def mean_std_loss(
    features: Features, target: MeanStdTarget, reduction: str = "mean", guide: Guide | None = None
) -> PerImage:
    """Squared error between means plus squared error between standard deviations: ``|Δμ|² + |Δσ|²``.

    Args:
        features: ``(..., h, w, c)`` of the image.
        target: The style image's `jnst.statistics.mean_std`, of any size.
        reduction: ``"mean"`` over the c channels, or another of `jnst.losses.base.REDUCTIONS`, applied to both parts.
        guide: As in `jnst.gram_matrix`.

    Returns:
        ``(...)`` in float32, in squared units of the features (none for ``"relative"``).

    Raises:
        ArgumentError: Another number of channels than the target's, or an unknown reduction.

    References:
        Huang & Belongie, Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, ICCV 2017,
        equation 13, there with norms in place of their squares; with squares: Li, Wang, Liu & Hou, Demystifying
        Neural Style Transfer, IJCAI 2017, "BN statistics matching".
    """
    mean, std = mean_std(features, guide)
    of_means = squared_error(mean, target.mean, reduction, axes=1)
    return of_means + squared_error(std, target.std, reduction, axes=1)


@dataclasses.dataclass(frozen=True)
class MeanStd:
    """`mean_std_loss` as a feature loss."""

    joint: ClassVar[bool] = False
    reduction: str = "mean"

    def fit(self, features: Features, guide: Guide | None = None) -> MeanStdTarget:
        """See `jnst.statistics.mean_std`."""
        return MeanStdTarget(*mean_std(features, guide))

    def blend(self, targets: Sequence[MeanStdTarget], weights: Array) -> MeanStdTarget:
        """A mixture's variance is the mean of its parts' variances plus the variance of their means."""
        mean = blend_linearly([part.mean for part in targets], weights)
        variance = blend_linearly([part.std**2 + (part.mean - mean) ** 2 for part in targets], weights)
        return MeanStdTarget(mean, safe_sqrt(variance))

    def loss(
        self, features: Features, target: MeanStdTarget, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """See `mean_std_loss`."""
        return mean_std_loss(features, target, self.reduction, guide)
