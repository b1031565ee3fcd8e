"""The run of `jnst demo`, which needs no files, no network and no choices."""

import dataclasses

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from jnst.apps.pixels import to_levels
from jnst.images import Pyramid, demo_images
from jnst.presets import preset
from jnst.solve import Solution
from jnst.transfer import Callback, OnCompile, stylize
from jnst.types import Image
from jnst.weights.load import load_backbone

STEPS = (60, 25)
"""At half the size, then at the full size."""

GAP, CAPTION = 12, 30
PAPER, INK = (250, 249, 246), (60, 58, 54)


@dataclasses.dataclass(frozen=True)
class Demo:
    """The images of a demo, ``(h, w, 3)`` in [0, 1], and the run's solution."""

    content: Image
    style: Image
    solution: Solution


def run(callback: Callback | None = None, on_compile: OnCompile | None = None) -> Demo:
    """Stylise the landscape of `jnst.demo_images` after its brush strokes, with the embedded network."""
    content, style = demo_images()
    backbone, params = load_backbone()
    settings = preset("jnst", num_steps=STEPS, pyramid=Pyramid(factor=2.0))
    solution = stylize(
        content, style, params, backbone=backbone, preset=settings, callback=callback, on_compile=on_compile
    )
    return Demo(content, style, solution)


def sheet(demo: Demo) -> np.ndarray:
    """Content, style and result side by side with captions, ``(h, w, 3)`` float32 in [0, 1]."""
    tiles = {"content": demo.content, "style": demo.style, "result": demo.solution.image}
    height = demo.content.shape[0]
    images = [_tile(image, height) for image in tiles.values()]
    width = sum(image.width for image in images) + GAP * (len(images) + 1)
    paper = Pillow.new("RGB", (width, height + 2 * GAP + CAPTION), PAPER)
    draw, left = ImageDraw.Draw(paper), GAP
    for name, image in zip(tiles, images, strict=True):
        paper.paste(image, (left, GAP))
        middle = (left + image.width / 2, height + GAP + CAPTION / 2)
        draw.text(middle, name, INK, ImageFont.load_default(16), anchor="mm")
        left += image.width + GAP
    return np.asarray(paper, np.float32) / 255


def _tile(image: Image, height: int) -> Pillow.Image:
    tile = Pillow.fromarray(to_levels(image))
    return tile.resize((round(tile.width * height / tile.height), height), Pillow.Resampling.LANCZOS)
