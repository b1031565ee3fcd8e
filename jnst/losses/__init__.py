"""Losses, one a file, and the tables of them."""

from collections.abc import Callable

from jnst.losses.base import FeatureLoss, Regularizer
from jnst.losses.content import SquaredError, content_loss
from jnst.losses.gram import Gram, style_loss
from jnst.losses.total_variation import TotalVariation, total_variation

__all__ = [
    "CONTENT_LOSSES",
    "REGULARIZERS",
    "STYLE_LOSSES",
    "FeatureLoss",
    "Gram",
    "Regularizer",
    "SquaredError",
    "TotalVariation",
    "content_loss",
    "style_loss",
    "total_variation",
]

CONTENT_LOSSES: dict[str, Callable[..., FeatureLoss]] = {"mse": SquaredError}
STYLE_LOSSES: dict[str, Callable[..., FeatureLoss]] = {"gram": Gram}
REGULARIZERS: dict[str, Callable[..., Regularizer]] = {"tv": TotalVariation}
