"""Style as the histogram of every channel."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.losses.base import squared_error
from jnst.statistics import as_columns
from jnst.statistics.distributions import Quantiles, flat_weights, map_rows, mixture_of_quantiles, quantiles, transport
from jnst.types import Array, Features, Guide, PerImage, RandomKey


def channel_quantiles(features: Features, guide: Guide | None = None) -> Quantiles:
    """The quantile function of every channel of ``(..., h, w, c)``: ``(..., c, h * w)``; the guide weighs positions."""
    columns = jnp.swapaxes(as_columns(features), -1, -2)
    return quantiles(columns, None if guide is None else flat_weights(guide)[..., None, :] / columns.shape[-1])


def histogram_loss(
    features: Features, target: Quantiles, reduction: str = "mean", guide: Guide | None = None
) -> PerImage:
    """Squared error between features and what histogram matching to the style would make of them.

    Every channel is matched by itself, in the limit of ever finer bins: by the ranks of its values. What a value is
    matched to is held constant in the gradient, as published; the value is the squared 2-Wasserstein distance of the
    channel's two histograms.

    Args:
        features: ``(..., h, w, c)`` of the image.
        target: `channel_quantiles` of the style image, whose size need not be the image's.
        reduction: As in `jnst.content_loss`: ``"sum"`` is the published one, ``"mean"`` does not grow with the image.
        guide: ``(..., h, w)``: how much every position counts, in proportion; None: all alike.

    Returns:
        ``(...)`` in float32, in squared units of the features (none for ``"relative"``).

    Raises:
        ArgumentError: Another number of channels than the target's, or an unknown reduction.

    References:
        Risser, Wilmot & Barnes, Stable and Controllable Neural Texture Synthesis and Style Transfer Using Histogram
        Losses, 2017, arXiv:1701.08893.
    """
    columns = as_columns(features).astype(jnp.float32)
    if columns.shape[-1] != target.values.shape[-2]:
        raise ArgumentError(
            f"features have {columns.shape[-1]} channels, the target has {target.values.shape[-2]}: "
            "fit the target with the same layer"
        )
    weights = None if guide is None else flat_weights(guide)
    channels = jnp.moveaxis(columns, -1, 0)
    goals = jax.tree.map(lambda part: jnp.moveaxis(part, -2, 0), target)
    numbers = math.prod(channels.shape[1:]) + math.prod(goals.values.shape[1:])
    matched = map_rows(lambda row: transport(row[0], row[1], weights), (channels, goals), numbers)
    weights = None if weights is None else weights[..., None]
    return squared_error(columns, jnp.moveaxis(matched, 0, -1), reduction, axes=2, weights=weights)


@dataclasses.dataclass(frozen=True)
class Histogram:
    """`histogram_loss` as a feature loss: the target is the quantile functions of the style image's channels."""

    joint: ClassVar[bool] = False
    reduction: str = "mean"

    def fit(self, features: Features, guide: Guide | None = None) -> Quantiles:
        """See `channel_quantiles`."""
        return channel_quantiles(features, guide)

    def blend(self, targets: Sequence[Quantiles], weights: Array) -> Quantiles:
        """The quantile functions of all the values together, weighted."""
        return mixture_of_quantiles(targets, weights)

    def loss(
        self, features: Features, target: Quantiles, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """See `histogram_loss`."""
        return histogram_loss(features, target, self.reduction, guide)
