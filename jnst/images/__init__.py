"""Images as arrays: checks, resizing, colour spaces, colour transfer and masks."""

from jnst.images.check import check_image, check_images, check_pair
from jnst.images.colour_spaces import (
    COLOUR_SPACES,
    ColourSpace,
    lab_from_rgb,
    oklab_from_rgb,
    rgb_from_lab,
    rgb_from_oklab,
    rgb_from_yiq,
    yiq_from_rgb,
)
from jnst.images.colour_transfer import (
    COLOUR_MAPS,
    luminance,
    match_histogram,
    match_luminance,
    transfer_luminance,
)
from jnst.images.demo import demo_images
from jnst.images.keep_colour import KEEP_COLOUR, ColourControl
from jnst.images.masks import check_mask, check_masks, guides
from jnst.images.noise import MEAN_COLOUR, faint_image, noise
from jnst.images.pyramid import Pyramid
from jnst.images.resize import (
    FITS,
    METHODS,
    SEAMLESS,
    SHARP,
    fit_shape,
    nearest_multiple,
    resample,
    resize,
    resize_mask,
    size_of,
)
from jnst.images.views import random_crops, rgb_groups

__all__ = [
    "COLOUR_MAPS",
    "COLOUR_SPACES",
    "FITS",
    "KEEP_COLOUR",
    "MEAN_COLOUR",
    "METHODS",
    "SEAMLESS",
    "SHARP",
    "ColourControl",
    "ColourSpace",
    "Pyramid",
    "check_image",
    "check_images",
    "check_mask",
    "check_masks",
    "check_pair",
    "demo_images",
    "faint_image",
    "fit_shape",
    "guides",
    "lab_from_rgb",
    "luminance",
    "match_histogram",
    "match_luminance",
    "nearest_multiple",
    "noise",
    "oklab_from_rgb",
    "random_crops",
    "resample",
    "resize",
    "resize_mask",
    "rgb_from_lab",
    "rgb_from_oklab",
    "rgb_from_yiq",
    "rgb_groups",
    "size_of",
    "transfer_luminance",
    "yiq_from_rgb",
]
