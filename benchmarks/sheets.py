"""Contact sheets: images in a table with labels."""

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from jnst.types import Image

GAP = 4


def to_pillow(image: Image, width: int) -> Pillow.Image:
    """Round to 8 bits and reduce to a width."""
    picture = Pillow.fromarray(np.asarray(np.asarray(image) * 255 + 0.5, np.uint8))
    return picture.resize((width, round(width * picture.height / picture.width)), Pillow.Resampling.LANCZOS)


def contact_sheet(
    columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Image]]], width: int = 190
) -> Pillow.Image:
    """Images in a table with labels above and at the left."""
    tiles = [[to_pillow(tile, width) for tile in row] for _, row in rows]
    heights = [max(tile.height for tile in row) for row in tiles]
    font, margin, top = ImageFont.load_default(11), 60, 20
    size = margin + len(columns) * (width + GAP), top + sum(height + GAP for height in heights)
    sheet = Pillow.new("RGB", size, "white")
    draw, y = ImageDraw.Draw(sheet), top
    for i, name in enumerate(columns):
        draw.text((margin + i * (width + GAP) + width / 2, 10), name, "black", font, anchor="mm")
    for (label, _), row, height in zip(rows, tiles, heights, strict=True):
        draw.text((margin - GAP, y + height / 2), label, "black", font, anchor="rm")
        for i, tile in enumerate(row):
            sheet.paste(tile, (margin + i * (width + GAP), y))
        y += height + GAP
    return sheet


def captioned(tiles: Sequence[tuple[str, str, Image]], columns: int = 3, width: int = 300) -> Pillow.Image:
    """Images in rows of ``columns``, each with a title and a line below it: (title, line, image)."""
    images = [to_pillow(image, width) for _, _, image in tiles]
    title_font, line_font, caption = ImageFont.load_default(14), ImageFont.load_default(10), 52
    height = max(picture.height for picture in images) + caption
    rows = -(-len(tiles) // columns)
    sheet = Pillow.new("RGB", (columns * (width + GAP), rows * (height + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, ((title, line, _), picture) in enumerate(zip(tiles, images, strict=True)):
        x, y = index % columns * (width + GAP), index // columns * (height + GAP)
        sheet.paste(picture, (x, y))
        draw.text((x + 2, y + picture.height + 2), title, "black", title_font)
        draw.multiline_text((x + 2, y + picture.height + 21), textwrap.fill(line, width // 6), "black", line_font)
    return sheet
