"""The luminance of one image with the colours of another."""

import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError, ImageError
from jnst.images.spaces import COLOUR_SPACES, ColourSpace, yiq_from_rgb
from jnst.types import Array, Image

CHROMA_KEPT = 1e-3
"""How much chroma may change where a colour just outside sRGB is clipped to it, in a space's units."""
HALVINGS = 24
"""Steps to the gamut's border: 1e-5 of a lightness of 100."""
FLAT = 1e-8
"""Added to variances of luminance: of a deviation of 0.0001."""


def luminance(image: Image) -> Array:
    """Y of YIQ, ``0.299 R + 0.587 G + 0.114 B`` (Rec. 601): ``(..., h, w)`` in float32, in [0, 1]."""
    return yiq_from_rgb(image)[..., 0]


def transfer_luminance(image: Image, content: Image, space: str = "yiq") -> Image:
    """Give an image the colours of another: the luminance of ``image`` with the chroma of ``content``.

    The chroma is kept. Where no colour of sRGB has this chroma with the luminance wanted, luminance goes as far as it
    can from the content's own.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1].
        content: The same height and width; leading axes broadcast.
        space: A key of `COLOUR_SPACES`: ``"yiq"`` as published.

    Returns:
        ``(..., h, w, 3)`` in [0, 1], in float32. Except in ``"yiq"``, the gradient holds the gamut's border constant.

    Raises:
        ArgumentError: An unknown space.
        ImageError: Images of different sizes.

    References:
        Gatys, Bethge, Hertzmann & Shechtman, Preserving Color in Neural Artistic Style Transfer, 2016, section 3;
        Hertzmann, Algorithms for Rendering in Artistic Styles, 2001.
    """
    if space not in COLOUR_SPACES:
        raise ArgumentError(f"colour space {space!r} is unknown: choose one of {', '.join(COLOUR_SPACES)}")
    if image.shape[-3:] != content.shape[-3:]:
        raise ImageError(
            f"`image` has shape {image.shape}, `content` {content.shape}, expected the same size: use jnst.resize"
        )
    row, content = COLOUR_SPACES[space], content.astype(jnp.float32)
    own, wanted = row.from_rgb(content), row.from_rgb(image)[..., 0]
    if row.additive:
        lowest, highest = -jnp.min(content, -1), 1.0 - jnp.max(content, -1)
        moved = content + jnp.clip(wanted - own[..., 0], lowest, highest)[..., None]
    else:
        moved = row.to_rgb(_with_luminance(own, _nearest_luminance(row, own, wanted)))
    return jnp.clip(moved, 0.0, 1.0)


def _with_luminance(values: Array, lightness: Array) -> Array:
    values = jnp.broadcast_to(values, (*lightness.shape, 3))
    return jnp.concatenate([lightness[..., None], values[..., 1:]], -1)


def _nearest_luminance(row: ColourSpace, own: Array, wanted: Array) -> Array:
    """Bisection between a colour's own luminance, which is in the gamut, and the luminance wanted."""
    start, goal, own = (lax.stop_gradient(array) for array in (own[..., 0], wanted, own))
    start, goal = jnp.broadcast_arrays(start, goal)

    def is_colour(part: Array) -> Array:
        rgb = row.to_rgb(_with_luminance(own, start + part * (goal - start)))
        # Not by the distance from [0, 1]: near black chroma changes with the cube root of it.
        change = row.from_rgb(jnp.clip(rgb, 0.0, 1.0)) - own
        return jnp.all(jnp.abs(change[..., 1:]) <= CHROMA_KEPT, -1)

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        inside, outside = bounds
        middle = 0.5 * (inside + outside)
        fits = is_colour(middle)
        return jnp.where(fits, middle, inside), jnp.where(fits, outside, middle)

    inside, _ = lax.fori_loop(0, HALVINGS, halve, (jnp.zeros_like(start), jnp.ones_like(start)))
    return jnp.where(is_colour(jnp.ones_like(start)), wanted, start + inside * (goal - start))


def match_luminance(style: Image, content: Image, *, clip: bool = True) -> Image:
    """Prepare a style for transfer of luminance alone: grey, with the content's mean and deviation of luminance.

    ``L' = (L - mean(L)) std(L_content) / std(L) + mean(L_content)``

    Args:
        style: ``(..., h, w, 3)`` in [0, 1].
        content: ``(..., h', w', 3)`` in [0, 1]; leading axes broadcast.
        clip: Whether the result is clipped to [0, 1]. Without it mean and deviation are the content's.

    Returns:
        ``(..., h, w, 3)`` in float32, three equal channels. A style of one brightness gets the content's mean.

    References:
        Gatys, Ecker, Bethge, Hertzmann & Shechtman, Controlling Perceptual Factors in Neural Style Transfer, CVPR 2017,
        section 5.1.
    """
    own, goal = luminance(style), luminance(content)
    means = [jnp.mean(values, (-2, -1), keepdims=True) for values in (own, goal)]
    variances = [jnp.var(values, (-2, -1), keepdims=True) + FLAT for values in (own, goal)]
    matched = (own - means[0]) * jnp.sqrt(variances[1] / variances[0]) + means[1]
    grey = jnp.repeat(matched[..., None], 3, -1)
    return jnp.clip(grey, 0.0, 1.0) if clip else grey
