"""`demo`: a whole run without files, network or choices."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from jnst.demo_pictures import content_picture, style_picture
from jnst.image import Pyramid
from jnst.optimize import Callback
from jnst.presets import preset
from jnst.stylize import Solution, stylize
from jnst.weights.load import load_backbone

STEPS = (70, 50)
"""At half the size, then at the whole."""

GAP, CAPTION = 12, 30
PAPER, INK = (250, 249, 246), (60, 58, 54)


@dataclasses.dataclass(frozen=True)
class Demo:
    """What a demo made: content, style and result, ``(h, w, 3)`` in [0, 1], and the run."""

    content: np.ndarray
    style: np.ndarray
    solution: Solution


def run(callback: Callback | None = None) -> Demo:
    """Stylise the package's landscape after the package's painting, with the embedded network."""
    content, style = content_picture(), style_picture()
    backbone, params = load_backbone()
    settings = preset("jnst", num_steps=STEPS, pyramid=Pyramid(factor=2.0))
    solution = stylize(
        jnp.asarray(content), jnp.asarray(style), params, backbone=backbone, preset=settings, callback=callback
    )
    return Demo(content, style, solution)


def sheet(demo: Demo) -> np.ndarray:
    """Content, style and result side by side with captions, ``(h, w, 3)`` float32 in [0, 1]."""
    tiles = {"content": demo.content, "style": demo.style, "result": np.asarray(demo.solution.image)}
    height = demo.content.shape[0]
    pictures = [_to_pillow(tile, height) for tile in tiles.values()]
    width = sum(picture.width for picture in pictures) + GAP * (len(pictures) + 1)
    paper = Pillow.new("RGB", (width, height + 2 * GAP + CAPTION), PAPER)
    draw, left = ImageDraw.Draw(paper), GAP
    for name, picture in zip(tiles, pictures, strict=True):
        paper.paste(picture, (left, GAP))
        middle = (left + picture.width / 2, height + GAP + CAPTION / 2)
        draw.text(middle, name, INK, ImageFont.load_default(16), anchor="mm")
        left += picture.width + GAP
    return np.asarray(paper, np.float32) / 255


def _to_pillow(tile: np.ndarray, height: int) -> Pillow.Image:
    picture = Pillow.fromarray(np.asarray(np.clip(tile, 0, 1) * 255 + 0.5, np.uint8))
    return picture.resize((round(picture.width * height / picture.height), height), Pillow.Resampling.LANCZOS)
