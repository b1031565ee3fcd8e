"""How each style statistic is used in place of a preset's own, and what it is good for."""

import dataclasses
from typing import Any

from jnst.losses import (
    Contextual,
    HypercolumnSelfSimilarity,
    MarkovRandomField,
    SlicedWasserstein,
    StyleLoss,
)
from jnst.solve import Adam


@dataclasses.dataclass(frozen=True)
class Statistic:
    """How a style loss is used unless something else is asked for.

    Attributes:
        good_for: One line for lists.
        strength: Multiplies the style weight of presets with relative losses, so that images are about as stylised as
            with Gram matrices. Found by eye and by measurement on the embedded network.
        loss: The loss; None: the row of `jnst.losses.STYLE_LOSSES` with its defaults.
        changes: Further overrides of the preset, see `jnst.preset`.
    """

    good_for: str
    strength: float = 1.0
    loss: StyleLoss | None = None
    changes: tuple[tuple[str, Any], ...] = ()


STOCHASTIC = (("optimizer", Adam(5.0, b2=0.99)), ("average", 0.9), ("clamp", True))
"""For stochastic losses, which are another function at every step: L-BFGS does not tolerate that, Adam with an average
of the iterates does."""

STATISTICS: dict[str, Statistic] = {
    "gram": Statistic("the classic: brush strokes and colours that go together; quick"),
    "mean-std": Statistic("the simplest statistic that works: softer, keeps more of the content's drawing; quickest"),
    "covariance": Statistic("texture apart from brightness and colour, which may stay the content's", 0.1),
    "wasserstein": Statistic("strokes and colours as with gram, evener over layers; flat areas fill", 0.1),
    "sliced-wasserstein": Statistic(
        "the whole distribution: rare colours and textures survive", 0.3, SlicedWasserstein(16), STOCHASTIC
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
        (*STOCHASTIC, ("skip_layers", 1)),
    ),
    "remd": Statistic(
        "recolours and retextures what is there; outlines stay", 0.05, None, (*STOCHASTIC, ("with_image", True))
    ),
    "strotss": Statistic(
        "strong style, free colours: content is only what resembles what",
        0.1,
        None,
        (*STOCHASTIC, ("with_image", True), ("content_loss", HypercolumnSelfSimilarity())),
    ),
}
"""A row for each of `jnst.losses.STYLE_LOSSES`."""
