"""`demo`: a whole run without files, network or choices."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from jnst.images import Pyramid
from jnst.images.demo import content_image, style_image
from jnst.presets import preset
from jnst.solve.run import Callback
from jnst.transfer.stylize import Solution, stylize
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
    content, style = content_image(), style_image()
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
    images = [_to_pillow(tile, height) for tile in tiles.values()]
    width = sum(image.width for image in images) + GAP * (len(images) + 1)
    paper = Pillow.new("RGB", (width, height + 2 * GAP + CAPTION), PAPER)
    draw, left = ImageDraw.Draw(paper), GAP
    for name, image in zip(tiles, images, strict=True):
        paper.paste(image, (left, GAP))
        middle = (left + image.width / 2, height + GAP + CAPTION / 2)
        draw.text(middle, name, INK, ImageFont.load_default(16), anchor="mm")
        left += image.width + GAP
    return np.asarray(paper, np.float32) / 255


def _to_pillow(tile: np.ndarray, height: int) -> Pillow.Image:
    image = Pillow.fromarray(np.asarray(np.clip(tile, 0, 1) * 255 + 0.5, np.uint8))
    return image.resize((round(image.width * height / image.height), height), Pillow.Resampling.LANCZOS)
