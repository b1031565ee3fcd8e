"""Colour spaces, and the colours of one picture given to another: pure functions of pictures in [0, 1]."""

from jnst.colour.luminance import luminance, match_luminance, transfer_luminance
from jnst.colour.matching import COLOUR_MAPS, match_histogram
from jnst.colour.spaces import (
    COLOUR_SPACES,
    ColourSpace,
    lab_from_rgb,
    oklab_from_rgb,
    rgb_from_lab,
    rgb_from_oklab,
    rgb_from_yiq,
    yiq_from_rgb,
)

__all__ = [
    "COLOUR_MAPS",
    "COLOUR_SPACES",
    "ColourSpace",
    "lab_from_rgb",
    "luminance",
    "match_histogram",
    "match_luminance",
    "oklab_from_rgb",
    "rgb_from_lab",
    "rgb_from_oklab",
    "rgb_from_yiq",
    "transfer_luminance",
    "yiq_from_rgb",
]
