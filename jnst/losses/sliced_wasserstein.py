"""The sliced Wasserstein distance between two distributions of feature vectors."""

import dataclasses
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.statistics import flatten_positions
from jnst.statistics.distributions import (
    WeightedSet,
    directions,
    flat_weights,
    map_rows,
    mix_sets,
    project,
    quantiles,
    transport,
    weighted_set,
)
from jnst.types import Array, Features, Guide, PerImage, RandomKey, sum_dtype


def sliced_wasserstein_loss(
    features: Features, target: WeightedSet, along: Array, guide: Guide | None = None
) -> PerImage:
    """Squared 2-Wasserstein distance of the projected feature vectors, averaged over directions.

    Along a direction v the distance is ``mean((sort(F v) - sort(S v))²)``. If image and style have different sizes or
    weights, the image's values are compared with the style's quantiles at their mid-ranks.

    Args:
        features: ``(..., h, w, c)``, of the image.
        target: ``(..., m, c)``, from `jnst.statistics.weighted_set`; m may differ from h·w.
        along: ``(k, c)``, unit vectors: `jnst.statistics.directions`, or the identity matrix for the channels.
        guide: ``(..., h, w)``, the relative weight of each position. None weights all positions equally.

    Returns:
        ``(...)``, in squared units of the features.

    Raises:
        ArgumentError: A number of channels that differs from the target's or the directions'.

    References:
        Heitz, Vanhoey, Chambon & Belcour, A Sliced Wasserstein Loss for Neural Texture Synthesis, CVPR 2021; for the
        distance: Rabin, Peyré, Delon & Bernot, Wasserstein Barycenter and its Application to Texture Mixing, SSVM
        2011.
    """
    rows = flatten_positions(features)
    rows = rows.astype(sum_dtype(rows))
    if not rows.shape[-1] == target.values.shape[-1] == along.shape[-1]:
        raise ArgumentError(
            f"features have {rows.shape[-1]} channels, the target {target.values.shape[-1]}, the directions "
            f"{along.shape[-1]}: fit the target with the same layer, and draw directions for it"
        )
    weights = None if guide is None else flat_weights(guide)

    def distance(direction: Array) -> PerImage:
        line, goal = project(rows, direction), quantiles(project(target.values, direction), target.weights)
        squares = (line - transport(line, goal, weights)) ** 2
        return jnp.mean(squares if weights is None else weights * squares, -1)

    numbers = math.prod(rows.shape[:-1]) + math.prod(target.values.shape[:-1])
    return jnp.mean(map_rows(distance, along, numbers), 0)


@dataclasses.dataclass(frozen=True)
class SlicedWasserstein:
    """`sliced_wasserstein_loss` as a feature loss. The target is the style image's feature vectors.

    The loss is stochastic: it draws new directions for each key, as published.

    Attributes:
        directions: Number of directions. None uses as many as there are channels, as published. The time of a step is
            nearly proportional to it. With new directions in each step, fewer of them leave the expected loss the
            same.

    Raises:
        ArgumentError: Fewer than one direction.
    """

    joint = False
    directions: int | None = None

    def __post_init__(self) -> None:
        if self.directions is not None and self.directions < 1:
            raise ArgumentError(
                f"directions {self.directions} is invalid: give at least 1, or None for one per channel"
            )

    def fit(self, features: Features, guide: Guide | None = None) -> WeightedSet:
        """See `jnst.statistics.weighted_set`."""
        return weighted_set(features, guide)

    def blend(self, targets: Sequence[WeightedSet], weights: Array) -> WeightedSet:
        """The vectors of all images together, weighted."""
        return mix_sets(targets, weights)

    def loss(
        self, features: Features, target: WeightedSet, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """See `sliced_wasserstein_loss`."""
        channels = features.shape[-1]
        key = jax.random.key(0) if key is None else key
        along = directions(key, channels, channels if self.directions is None else self.directions)
        return sliced_wasserstein_loss(features, target, along, guide)
