"""Squared error between Gram matrices of neighbouring layers."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.losses.base import blend_linearly, squared_error
from jnst.statistics import cross_gram_matrix
from jnst.types import Array, PerImage, RandomKey


class CrossGrams(NamedTuple):
    """`cross_gram_matrix` of each layer with the next one, ``(..., c₁, c₂)`` each."""

    grams: tuple[Array, ...]


@dataclasses.dataclass(frozen=True)
class CrossGram:
    """Squared error between the Gram matrices of neighbouring layers, summed over the pairs of neighbours.

    It compares which features of one scale coincide with which features of the next: strokes along curves, dots in
    rows. The Gram matrices of the single layers are not included.

    Attributes:
        normalization: As in `jnst.statistics.cross_gram_matrix`.
        reduction: As in `jnst.losses.style_loss`, for each pair.

    References:
        Novak & Nikulin, Improving the Neural Algorithm of Artistic Style, 2016, arXiv:1605.04603; Yeh & Tang,
        Improved Style Transfer by Respecting Inter-layer Correlations, 2018, arXiv:1801.01933.
    """

    joint = True
    normalization: str = "chw"
    reduction: str = "mean"

    def fit(self, features: Any, guide: Any = None) -> CrossGrams:
        """See `jnst.statistics.cross_gram_matrix`.

        Args:
            features: A tuple of ``(..., h, w, c)``, one per layer, in order.
            guide: A tuple of ``(..., h, w)``, or None.

        Raises:
            ArgumentError: Fewer than two layers, or an unknown normalization.
        """
        if len(features) < 2:
            raise ArgumentError(
                f"cross-gram got {len(features)} layer, but compares neighbouring layers: give at least 2"
            )
        guides = [None] * (len(features) - 1) if guide is None else list(itertools.pairwise(guide))
        return CrossGrams(
            tuple(
                cross_gram_matrix(first, second, self.normalization, pair)
                for (first, second), pair in zip(itertools.pairwise(features), guides, strict=True)
            )
        )

    def blend(self, targets: Sequence[CrossGrams], weights: Array) -> CrossGrams:
        """The weighted mean of the Gram matrices, which are raw second moments."""
        return blend_linearly(targets, weights)

    def loss(self, features: Any, target: CrossGrams, guide: Any = None, key: RandomKey | None = None) -> PerImage:
        """The sum over the pairs, ``(...)``, in fourth powers of the features' units.

        Raises:
            ArgumentError: Layers or numbers of channels that differ from the target's.
        """
        grams = self.fit(features, guide).grams
        if len(grams) != len(target.grams):
            raise ArgumentError(
                f"got {len(grams) + 1} layers, the target has {len(target.grams) + 1}: "
                "fit the target with the same layers"
            )
        pairs = zip(grams, target.grams, strict=True)
        return sum((squared_error(gram, goal, self.reduction, axes=2) for gram, goal in pairs), jnp.float32(0.0))
