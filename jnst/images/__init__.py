"""Images as arrays: checks, resizing, colour spaces and colour transfer, masks. No files here."""

from jnst.images.check import check_image
from jnst.images.demo import content_image, style_image
from jnst.images.keep_colour import KEEP_COLOUR, ColourControl
from jnst.images.luminance import luminance, match_luminance, transfer_luminance
from jnst.images.masks import check_mask, check_masks, guides
from jnst.images.matching import COLOUR_MAPS, match_histogram
from jnst.images.noise import MEAN_COLOUR, noise
from jnst.images.pyramid import Pyramid
from jnst.images.resize import FITS, METHODS, SHARP, fit_shape, resample, resize, resize_mask, size_of
from jnst.images.spaces import (
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
    "FITS",
    "KEEP_COLOUR",
    "MEAN_COLOUR",
    "METHODS",
    "SHARP",
    "ColourControl",
    "ColourSpace",
    "Pyramid",
    "check_image",
    "check_mask",
    "check_masks",
    "content_image",
    "fit_shape",
    "guides",
    "lab_from_rgb",
    "luminance",
    "match_histogram",
    "match_luminance",
    "noise",
    "oklab_from_rgb",
    "resample",
    "resize",
    "resize_mask",
    "rgb_from_lab",
    "rgb_from_oklab",
    "rgb_from_yiq",
    "size_of",
    "style_image",
    "transfer_luminance",
    "yiq_from_rgb",
]
