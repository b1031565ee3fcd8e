"""Style as a whole distribution of feature vectors, compared along random directions."""

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.statistics import as_columns
from jnst.statistics.distributions import (
    WeightedSet,
    directions,
    flat_weights,
    map_rows,
    mixture_of_sets,
    project,
    quantiles,
    transport,
    weighted_set,
)
from jnst.types import Array, Features, Guide, PerImage, RandomKey


def sliced_wasserstein_loss(
    features: Features, target: WeightedSet, along: Array, guide: Guide | None = None
) -> PerImage:
    """Squared 2-Wasserstein distance of the projected feature vectors, in the mean over directions.

    Along a direction v the distance is ``mean((sort(F v) - sort(S v))²)``; where image and style have different
    sizes or weights, the image's numbers are compared with the style's quantiles at their mid-ranks.

    Args:
        features: ``(..., h, w, c)`` of the image.
        target: ``(..., m, c)``, from `jnst.statistics.weighted_set`; m need not be h·w.
        along: ``(k, c)``, unit vectors: `jnst.statistics.directions`, or the unit matrix for the channels themselves.
        guide: ``(..., h, w)``: how much every position counts, in proportion; None: all alike.

    Returns:
        ``(...)`` in float32, in squared units of the features.

    Raises:
        ArgumentError: Another number of channels than the target's or the directions'.

    References:
        Heitz, Vanhoey, Chambon & Belcour, A Sliced Wasserstein Loss for Neural Texture Synthesis, CVPR 2021;
        the distance is that of Rabin, Peyré, Delon & Bernot, Wasserstein Barycenter and its Application to Texture
        Mixing, SSVM 2011.
    """
    columns = as_columns(features).astype(jnp.float32)
    if not columns.shape[-1] == target.values.shape[-1] == along.shape[-1]:
        raise ArgumentError(
            f"features have {columns.shape[-1]} channels, the target {target.values.shape[-1]}, the directions "
            f"{along.shape[-1]}: fit the target with the same layer, and draw directions for it"
        )
    weights = None if guide is None else flat_weights(guide)

    def distance(direction: Array) -> PerImage:
        line, goal = project(columns, direction), quantiles(project(target.values, direction), target.weights)
        squares = (line - transport(line, goal, weights)) ** 2
        return jnp.mean(squares if weights is None else weights * squares, -1)

    numbers = math.prod(columns.shape[:-1]) + math.prod(target.values.shape[:-1])
    return jnp.mean(map_rows(distance, along, numbers), 0)


@dataclasses.dataclass(frozen=True)
class SlicedWasserstein:
    """`sliced_wasserstein_loss` as a feature loss: the target is the style image's feature vectors.

    With a ``key`` the directions are drawn afresh from it, as published; without one they are always the same.

    Attributes:
        directions: How many; None: as many as there are channels, as published. The time of a step is nearly
            proportional to it, and fewer fresh directions leave the mean of the loss the same.

    Raises:
        ArgumentError: Less than one direction.
    """

    joint: ClassVar[bool] = False
    directions: int | None = None

    def __post_init__(self) -> None:
        if self.directions is not None and self.directions < 1:
            raise ArgumentError(f"directions {self.directions} is not usable: at least 1, or None for one a channel")

    def fit(self, features: Features, guide: Guide | None = None) -> WeightedSet:
        """See `jnst.statistics.weighted_set`."""
        return weighted_set(features, guide)

    def blend(self, targets: Sequence[WeightedSet], weights: Array) -> WeightedSet:
        """All the vectors together, weighted."""
        return mixture_of_sets(targets, weights)

    def loss(
        self, features: Features, target: WeightedSet, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """See `sliced_wasserstein_loss`."""
        channels = features.shape[-1]
        key = jax.random.key(0) if key is None else key
        along = directions(key, channels, channels if self.directions is None else self.directions)
        return sliced_wasserstein_loss(features, target, along, guide)
