"""Squared error between Gram matrices."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jnst.losses.base import blend_linearly, squared_error
from jnst.statistics import GramSums, gram_from_sums, gram_matrix, gram_sums
from jnst.types import Array, Features, Guide, Matrix, PerImage, RandomKey


def style_loss(
    features: Features,
    target: Matrix,
    normalization: str = "chw",
    reduction: str = "mean",
    guide: Guide | None = None,
) -> PerImage:
    """Squared error between Gram matrices.

    Args:
        features: ``(..., h, w, c)``, of the image.
        target: ``(..., c, c)``, the style image's `gram_matrix` with the same normalization. The style image may have
            any size.
        normalization: As in `jnst.gram_matrix`.
        reduction: ``"mean"`` over the c² entries; ``"quarter_mean"``, which with ``"hw"`` is Gatys' E_l (for a style
            image of the same size); ``"sum"``; ``"half_sum"``; ``"half_sum_over_root"``; or ``"relative"``
            (Σ(G - A)² / ΣA²: dimensionless, 0 for the style itself and 1 for an image without any features).
        guide: As in `jnst.gram_matrix`.

    Returns:
        ``(...)``, in fourth powers of the features' units (dimensionless for ``"relative"``).

    Raises:
        ArgumentError: A number of channels that differs from the target's, or an unknown normalization or reduction.

    References:
        Gatys, Ecker & Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016, equations 3 and 4.
    """
    return squared_error(gram_matrix(features, normalization, guide), target, reduction, axes=2)


@dataclasses.dataclass(frozen=True)
class Gram:
    """`style_loss` as a feature loss. The target is the style image's Gram matrix.

    Attributes:
        normalization: See `style_loss`.
        reduction: See `style_loss`.
    """

    joint = False
    is_additive = True
    normalization: str = "chw"
    reduction: str = "mean"

    def fit(self, features: Features, guide: Guide | None = None) -> Matrix:
        """See `jnst.gram_matrix`."""
        return gram_matrix(features, self.normalization, guide)

    def blend(self, targets: Sequence[Matrix], weights: Array) -> Matrix:
        """The weighted mean of the Gram matrices, which are raw second moments."""
        return blend_linearly(targets, weights)

    def loss(
        self, features: Features, target: Matrix, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """See `style_loss`."""
        return style_loss(features, target, self.normalization, self.reduction, guide)

    def sums(
        self, features: Features, maps: Any, inside: Guide, guide: Guide | None = None, whole: GramSums | None = None
    ) -> GramSums:
        """See `AdditiveLoss`."""
        return gram_sums(features, guide)

    def fit_sums(self, sums: GramSums, positions: Array) -> Matrix:
        """See `AdditiveStyle`."""
        return gram_from_sums(sums, self.normalization, positions)

    def from_sums(self, sums: GramSums, target: Matrix, positions: Array) -> PerImage:
        """See `AdditiveLoss`."""
        return squared_error(self.fit_sums(sums, positions), target, self.reduction, axes=2)
