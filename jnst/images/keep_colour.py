"""Ways to keep the content image's colours: what is done to the images before a run, and to its result after it."""

import dataclasses
from collections.abc import Callable
from functools import partial

from jnst.images.luminance import match_luminance, transfer_luminance
from jnst.images.matching import match_histogram
from jnst.types import Image

Change = Callable[[Image, Image], Image]


def _unchanged(image: Image, content: Image) -> Image:
    return image


@dataclasses.dataclass(frozen=True)
class ColourControl:
    """A row of `KEEP_COLOUR`.

    Attributes:
        summary: One line for lists.
        style: Changes each style, given the content image, before the run.
        result: Changes the result, given the content image, after it.
    """

    summary: str
    style: Change = _unchanged
    result: Change = _unchanged


KEEP_COLOUR: dict[str, ColourControl] = {
    "luminance": ColourControl(
        "the result's luminance with the content's chroma, in YIQ (neural-style's -original_colors)",
        result=transfer_luminance,
    ),
    "lab": ColourControl("the same in CIE Lab", result=partial(transfer_luminance, space="lab")),
    "oklab": ColourControl("the same in Oklab", result=partial(transfer_luminance, space="oklab")),
    "luminance-only": ColourControl(
        "a grey style of the content's brightness, then as luminance (Gatys et al. 2017)",
        style=match_luminance,
        result=transfer_luminance,
    ),
    "match": ColourControl(
        "the style's colours mapped to the content's mean and covariance beforehand (Gatys et al. 2016)",
        style=match_histogram,
    ),
    "match-cholesky": ColourControl(
        "the same by Cholesky factors: another map with the same outcome",
        style=partial(match_histogram, method="cholesky"),
    ),
    "match-pca": ColourControl("the same along principal axes", style=partial(match_histogram, method="pca")),
    "match-after": ColourControl("the result's colours mapped to the content's afterwards", result=match_histogram),
}
"""Every way by its name (Gatys et al., Preserving Color in Neural Artistic Style Transfer, 2016)."""
