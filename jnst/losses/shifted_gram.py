"""Squared error between shifted Gram matrices."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.losses.base import blend_linearly, squared_error
from jnst.statistics import shifted_gram_matrix
from jnst.types import NO_WRAP, Array, Features, Guide, Matrix, PerImage, RandomKey, Wrap


class ShiftedGrams(NamedTuple):
    """`shifted_gram_matrix` for each shift, ``(..., c, c)`` each; None for shifts that exceed the features."""

    down: tuple[Matrix | None, ...]
    right: tuple[Matrix | None, ...]


@dataclasses.dataclass(frozen=True)
class ShiftedGram:
    """Squared error between shifted Gram matrices, summed over shifts down and to the right.

    A Gram matrix does not change if positions are permuted. Shifted Gram matrices describe which features occur at
    which distance from each other, and so reproduce bricks, weaves and other regular textures. Shifts that exceed the
    image's features or the style's are left out.

    Attributes:
        shifts: Distances in positions of the layer, at least 1.
        normalization: As in `jnst.statistics.shifted_gram_matrix`.
        reduction: As in `jnst.losses.style_loss`, for each matrix.
        wrap: As in `jnst.statistics.shifted_gram_matrix`, for the image; a style ends at its border.

    Raises:
        ArgumentError: No shift, or one below 1.

    References:
        Berger & Memisevic, Incorporating Long-range Consistency in CNN-based Texture Generation, ICLR 2017.
    """

    joint = False
    shifts: tuple[int, ...] = (2, 4, 8, 16)
    normalization: str = "chw"
    reduction: str = "mean"
    wrap: Wrap = NO_WRAP

    def __post_init__(self) -> None:
        if not self.shifts or min(self.shifts) < 1:
            raise ArgumentError(f"shifts {self.shifts} are invalid: give distances of at least 1")

    def fit(self, features: Features, guide: Guide | None = None) -> ShiftedGrams:
        """See `jnst.statistics.shifted_gram_matrix`.

        Raises:
            ArgumentError: Unknown normalization.
        """
        return self._grams(features, guide, NO_WRAP)

    def _grams(self, features: Features, guide: Guide | None, wrap: Wrap) -> ShiftedGrams:
        height, width = features.shape[-3:-1]

        def gram(down: int, right: int) -> Matrix | None:
            inside = down < height and right < width
            if not inside:
                return None
            return shifted_gram_matrix(features, (down, right), self.normalization, guide, wrap)

        return ShiftedGrams(
            tuple(gram(shift, 0) for shift in self.shifts), tuple(gram(0, shift) for shift in self.shifts)
        )

    def blend(self, targets: Sequence[ShiftedGrams], weights: Array) -> ShiftedGrams:
        """The weighted mean of each Gram matrix over the style images that are large enough for its shift.

        Pairs never span two images: unlike for images side by side, there are no pairs across a seam.
        """
        return ShiftedGrams(
            *(
                tuple(_mean(grams, weights) for grams in zip(*direction, strict=True))
                for direction in zip(*targets, strict=True)
            )
        )

    def loss(
        self, features: Features, target: ShiftedGrams, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """The sum over shifts, ``(...)``, in fourth powers of the features' units.

        Raises:
            ArgumentError: A number of channels that differs from the target's, an unknown normalization or reduction,
                or no shift that both the features and the target have.
        """
        grams = self._grams(features, guide, self.wrap)
        pairs = [
            (gram, goal)
            for mine, goals in zip(grams, target, strict=True)
            for gram, goal in zip(mine, goals, strict=True)
            if gram is not None and goal is not None
        ]
        if not pairs:
            height, width = features.shape[-3:-1]
            raise ArgumentError(
                f"none of the shifts {self.shifts} fits into both the features of {height}x{width} positions and the "
                "target's: use smaller shifts or larger images"
            )
        return sum((squared_error(gram, goal, self.reduction, axes=2) for gram, goal in pairs), jnp.float32(0.0))


def _mean(grams: Sequence[Matrix | None], weights: Array) -> Matrix | None:
    held = [i for i, gram in enumerate(grams) if gram is not None]
    if not held:
        return None
    # Keep the sum above 0, even if all images that have this matrix have weight 0.
    shares = jnp.asarray(weights)[jnp.asarray(held)] + 1e-12
    return blend_linearly([grams[i] for i in held], shares / jnp.sum(shares))
