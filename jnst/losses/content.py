"""Content: the features themselves."""

import dataclasses

from jnst.losses.base import squared_error
from jnst.types import Features, PerPicture


def content_loss(features: Features, target: Features, reduction: str = "mean") -> PerPicture:
    """Squared error between features at the same positions.

    Args:
        features: ``(..., h, w, c)``.
        target: The same shape, from the content picture.
        reduction: ``"mean"`` (neural-style, Gatys 2017), ``"half_sum"`` (½ Σ, Gatys 2016), ``"sum"``, or
            ``"relative"`` (Σ(F - T)² / ΣT²: a number without unit, the same for every network and picture size).

    Returns:
        ``(...)`` in float32, in squared units of the features (none for ``"relative"``).

    Raises:
        JnstError: Shapes that differ, or an unknown reduction.

    References:
        Gatys, Ecker & Bethge, CVPR 2016, equation 1.
    """
    return squared_error(features, target, reduction, axes=3)


@dataclasses.dataclass(frozen=True)
class SquaredError:
    """`content_loss` as a feature loss: the target is the content picture's features."""

    reduction: str = "mean"

    def fit(self, features: Features) -> Features:
        """Return the features."""
        return features

    def loss(self, features: Features, target: Features) -> PerPicture:
        """See `content_loss`."""
        return content_loss(features, target, self.reduction)
