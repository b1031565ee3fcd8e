"""Smoothness of the picture itself."""

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp

from jnst.errors import JnstError
from jnst.types import Array, Image, PerPicture

NORMS: dict[str, Callable[[Array], Array]] = {"l1": jnp.abs, "l2": jnp.square}


def total_variation(image: Image, norm: str = "l1", reduction: str = "sum", value_range: float = 1.0) -> PerPicture:
    """Differences between vertical and horizontal neighbours: ``Σ|dy|ᵖ + Σ|dx|ᵖ`` over all channels.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1].
        norm: ``"l1"`` for p = 1 (anisotropic total variation), ``"l2"`` for p = 2.
        reduction: ``"sum"``, or ``"mean"`` (mean of the vertical plus mean of the horizontal differences; the
            value does not grow with the picture).
        value_range: The range in which differences are taken: 255.0 gives the value of programs that
            optimise 0-255 pictures.

    Returns:
        ``(...)`` in float32; 0 for a picture of one colour.

    Raises:
        JnstError: An unknown norm or reduction.

    References:
        Rudin, Osher & Fatemi, Physica D 1992; in style transfer: Johnson, Alahi & Fei-Fei, ECCV 2016.
    """
    if norm not in NORMS:
        raise JnstError(f"norm {norm!r} is unknown: choose one of {', '.join(NORMS)}")
    if reduction not in ("sum", "mean"):
        raise JnstError(f"reduction {reduction!r} is unknown: choose one of sum, mean")
    image = image.astype(jnp.float32) * value_range
    vertical = NORMS[norm](image[..., 1:, :, :] - image[..., :-1, :, :])
    horizontal = NORMS[norm](image[..., :, 1:, :] - image[..., :, :-1, :])
    return sum((_reduce(part, reduction) for part in (vertical, horizontal)), jnp.float32(0.0))


def _reduce(differences: Array, reduction: str) -> Array:
    total = jnp.sum(differences, (-3, -2, -1))
    # A picture one pixel wide has no horizontal differences: 0 of them, not 0/0.
    return total if reduction == "sum" else total / max(1, math.prod(differences.shape[-3:]))


@dataclasses.dataclass(frozen=True)
class TotalVariation:
    """`total_variation` as a regularizer."""

    norm: str = "l1"
    reduction: str = "sum"
    value_range: float = 1.0

    def loss(self, image: Image) -> PerPicture:
        """See `total_variation`."""
        return total_variation(image, self.norm, self.reduction, self.value_range)
