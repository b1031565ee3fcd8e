"""Squared error between features and their histogram-matched version."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.losses.base import squared_error
from jnst.statistics import flatten_positions
from jnst.statistics.distributions import Quantiles, flat_weights, map_rows, mix_quantiles, quantiles, transport
from jnst.types import Array, Features, Guide, PerImage, RandomKey, sum_dtype


def channel_quantiles(features: Features, guide: Guide | None = None) -> Quantiles:
    """The quantile function of each channel of ``(..., h, w, c)``: ``(..., c, h * w)``, weighted by the guide."""
    channels = jnp.swapaxes(flatten_positions(features), -1, -2)
    return quantiles(channels, None if guide is None else flat_weights(guide)[..., None, :] / channels.shape[-1])


def histogram_loss(
    features: Features, target: Quantiles, reduction: str = "mean", guide: Guide | None = None
) -> PerImage:
    """Squared error between features and the result of matching their histograms to the style's.

    Each channel is matched separately by the ranks of its values, the limit of ever finer bins. Ranks are constant in
    the gradient, as published. The value is the squared 2-Wasserstein distance between the channels' histograms.

    Args:
        features: ``(..., h, w, c)``, of the image.
        target: `channel_quantiles` of the style image, which may have any size.
        reduction: As in `jnst.content_loss`: ``"sum"`` as published; ``"mean"`` does not grow with the image.
        guide: ``(..., h, w)``, the relative weight of each position. None weights all positions equally.

    Returns:
        ``(...)``, in squared units of the features (dimensionless for ``"relative"``).

    Raises:
        ArgumentError: A number of channels that differs from the target's, or an unknown reduction.

    References:
        Risser, Wilmot & Barnes, Stable and Controllable Neural Texture Synthesis and Style Transfer Using Histogram
        Losses, 2017, arXiv:1701.08893.
    """
    rows = flatten_positions(features)
    rows = rows.astype(sum_dtype(rows))
    if rows.shape[-1] != target.values.shape[-2]:
        raise ArgumentError(
            f"features have {rows.shape[-1]} channels, the target has {target.values.shape[-2]}: "
            "fit the target with the same layer"
        )
    weights = None if guide is None else flat_weights(guide)
    channels = jnp.moveaxis(rows, -1, 0)
    goals = jax.tree.map(lambda part: jnp.moveaxis(part, -2, 0), target)
    numbers = math.prod(channels.shape[1:]) + math.prod(goals.values.shape[1:])
    matched = map_rows(lambda row: transport(row[0], row[1], weights), (channels, goals), numbers)
    weights = None if weights is None else weights[..., None]
    return squared_error(rows, jnp.moveaxis(matched, 0, -1), reduction, axes=2, weights=weights)


@dataclasses.dataclass(frozen=True)
class Histogram:
    """`histogram_loss` as a feature loss. The target is the quantile functions of the style image's channels.

    Attributes:
        reduction: See `histogram_loss`.
    """

    joint = False
    reduction: str = "mean"

    def fit(self, features: Features, guide: Guide | None = None) -> Quantiles:
        """See `channel_quantiles`."""
        return channel_quantiles(features, guide)

    def blend(self, targets: Sequence[Quantiles], weights: Array) -> Quantiles:
        """The quantile functions of all values together, weighted."""
        return mix_quantiles(targets, weights)

    def loss(
        self, features: Features, target: Quantiles, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """See `histogram_loss`."""
        return histogram_loss(features, target, self.reduction, guide)
