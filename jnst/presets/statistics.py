"""Another style statistic in place of a preset's."""

import dataclasses
from typing import Any

from jnst.errors import ArgumentError, hint
from jnst.losses import (
    STYLE_LOSSES,
    Contextual,
    HypercolumnSelfSimilarity,
    MarkovRandomField,
    Relative,
    SlicedWasserstein,
    SquaredError,
    StyleLoss,
)
from jnst.presets.settings import Preset
from jnst.solve.optimizers import Adam


@dataclasses.dataclass(frozen=True)
class Statistic:
    """How a style loss is used where nothing else is said, and what it is good for.

    Attributes:
        good_for: One line for lists.
        strength: The style weight of a preset with relative losses is multiplied by this, so that its images are
            about as stylised as with Gram matrices. Found by eye and by figure on the embedded network.
        loss: With other options than the row's in `jnst.losses.STYLE_LOSSES`; None: as there.
        changes: Further fields of the preset.
    """

    good_for: str
    strength: float = 1.0
    loss: StyleLoss | None = None
    changes: tuple[tuple[str, Any], ...] = ()


AT_RANDOM = (("optimizer", Adam(5.0, b2=0.99)), ("average", 0.9), ("clamp", True))
"""For losses that draw at random L-BFGS sees another function at every step; Adam and an average do not mind."""

STATISTICS: dict[str, Statistic] = {
    "gram": Statistic("the classic: brush strokes and colours that go together; quick"),
    "mean-std": Statistic("the least that works: softer, keeps more of the content's drawing; quickest"),
    "covariance": Statistic("texture apart from brightness and colour, which may stay the content's", 0.1),
    "wasserstein": Statistic("strokes and colours as with gram, evener over layers; flat areas fill", 0.1),
    "sliced-wasserstein": Statistic(
        "the whole distribution: rare colours and textures survive", 0.3, SlicedWasserstein(16), AT_RANDOM
    ),
    "histogram": Statistic("each channel's distribution: colours and contrast exactly, no washing out", 0.3),
    "cross-gram": Statistic("strokes tied to the shapes around them, across layers", 10.0),
    "shifted-gram": Statistic("regular patterns, stripes, weaves: repeats at a distance", 0.05),
    "patches": Statistic(
        "whole motifs of the style, put where they fit; slow", 0.03, MarkovRandomField(stride=2), (("skip_layers", 1),)
    ),
    "contextual": Statistic(
        "similar things alike, for unaligned images; keeps the drawing",
        0.03,
        Contextual(max_positions=2048),
        (*AT_RANDOM, ("skip_layers", 1)),
    ),
    "remd": Statistic(
        "recolours and retextures what is there; outlines stay", 0.05, None, (*AT_RANDOM, ("with_image", True))
    ),
    "strotss": Statistic(
        "strong style, free colours: content is only what resembles what",
        0.1,
        None,
        (*AT_RANDOM, ("with_image", True), ("content_loss", HypercolumnSelfSimilarity())),
    ),
}
"""A row for each of `jnst.losses.STYLE_LOSSES`."""


def with_style_statistic(settings: Preset, name: str) -> Preset:
    """A preset with another style loss.

    Presets whose losses are relative (such as ``jnst``) stay balanced: the loss is made relative too, and the style
    weight follows `STATISTICS`. Otherwise the weights are left to the caller: the new loss has units of its own.

    Args:
        settings: Any preset.
        name: A key of `jnst.losses.STYLE_LOSSES`.

    Raises:
        ArgumentError: An unknown name.
    """
    if name not in STYLE_LOSSES:
        raise ArgumentError(f"unknown style statistic {name!r}: {hint(name, STYLE_LOSSES)}")
    row = STATISTICS[name]
    loss = STYLE_LOSSES[name]() if row.loss is None else row.loss
    if settings.content_loss != SquaredError("relative"):
        return dataclasses.replace(settings, style_loss=loss)
    weight = settings.style_weight * row.strength
    return dataclasses.replace(settings, style_loss=Relative(loss), style_weight=weight, **dict(row.changes))
