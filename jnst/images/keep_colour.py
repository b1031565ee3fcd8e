"""Ways to keep the content image's colours: changes to the style images before a run, and to the result after it."""

import dataclasses
from collections.abc import Callable
from functools import partial

from jnst.images.colour_transfer import match_histogram, match_luminance, transfer_luminance
from jnst.types import Image

Change = Callable[[Image, Image], Image]
"""A function of an image and the content image that returns the changed image."""


def _unchanged(image: Image, content: Image) -> Image:
    return image


@dataclasses.dataclass(frozen=True)
class ColourControl:
    """A row of `KEEP_COLOUR`.

    Attributes:
        summary: A one-line description.
        style: Changes each style image before the run.
        result: Changes the result after the run.
    """

    summary: str
    style: Change = _unchanged
    result: Change = _unchanged


KEEP_COLOUR: dict[str, ColourControl] = {
    "luminance": ColourControl(
        "combine the result's luminance with the content's chroma, in YIQ (-original_colors of neural-style)",
        result=transfer_luminance,
    ),
    "lab": ColourControl("the same in CIE Lab", result=partial(transfer_luminance, space="lab")),
    "oklab": ColourControl("the same in Oklab", result=partial(transfer_luminance, space="oklab")),
    "luminance-only": ColourControl(
        "make the style grey, matched to the content's luminance, then as luminance (Gatys et al. 2017)",
        style=match_luminance,
        result=transfer_luminance,
    ),
    "match": ColourControl(
        "match the style's colours to the content's mean and covariance before the run (Gatys et al. 2016)",
        style=match_histogram,
    ),
    "match-cholesky": ColourControl(
        "the same by Cholesky factors: another map to the same mean and covariance",
        style=partial(match_histogram, method="cholesky"),
    ),
    "match-pca": ColourControl("the same along principal axes", style=partial(match_histogram, method="pca")),
    "match-after": ColourControl("match the result's colours to the content's after the run", result=match_histogram),
}
"""The ways by name (Gatys, Bethge, Hertzmann & Shechtman, Preserving Color in Neural Artistic Style Transfer, 2016)."""
