"""Contact sheets: images in a table, with the images that its rows and columns belong to as headings."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from jnst.apps.io import load_image
from jnst.apps.report.geometry import MOST_LINES, Box, Geometry, Heading, ImageArray, geometry, lines_of
from jnst.apps.report.text import font
from jnst.errors import ImageError

PAPER, INK, FAINT, LINE, ALARM = "#ffffff", "#26241f", "#8d8981", "#d8d5ce", "#a8452f"


class Tile(NamedTuple):
    """A place of the table: an image, or a word where there is none; and a caption below."""

    image: ImageArray | None
    word: str = ""
    caption: str = ""


def contact_sheet(
    rows: Sequence[Heading],
    columns: Sequence[Heading],
    tile: Callable[[int, int], Tile],
    *,
    shape: tuple[int, int],
    captions: bool | int = False,
    note: str = "",
    max_side: int = 6000,
) -> Pillow.Image:
    """Draw images in a table, one after the other, so that never more than one is in memory.

    Args:
        rows: The rows' headings: their images stand at the left, their texts before these.
        columns: The columns' headings: their first images stand on top, their texts above these.
        tile: What is in a row and a column.
        shape: As for `geometry`, like what follows.
        captions: Whether tiles have captions, or how many lines of them: see `geometry`.
        note: A line at the bottom.
        max_side: See `geometry`.
    """
    laid = geometry(rows, columns, shape=shape, captions=captions, note=bool(note), max_side=max_side)
    sheet = Pillow.new("RGB", laid.size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, heading in enumerate(columns):
        _draw_column(sheet, draw, laid, number, heading)
    for number, heading in enumerate(rows):
        _draw_row(sheet, draw, laid, number, heading)
        for column in range(len(columns)):
            _draw_tile(sheet, draw, laid.place(number, column), tile(number, column), laid.type_size)
    if note:
        at = laid.margin, laid.size[1] - laid.margin
        text = lines_of(note, laid.size[0] - 2 * laid.margin, laid.type_size, 1)[0]
        draw.text(at, text, FAINT, font(laid.type_size), anchor="ls")
    return sheet


def _draw_column(sheet: Pillow.Image, draw: ImageDraw.ImageDraw, laid: Geometry, number: int, heading: Heading) -> None:
    box = laid.column_image(number)
    for image in heading.images[:1]:
        _draw_tile(sheet, draw, box, Tile(image), laid.type_size)
    line = math.ceil(1.3 * laid.type_size)
    lines = lines_of(heading.text, laid.tile[0], laid.type_size)
    for place, text in enumerate(reversed(lines)):
        middle = box.left + laid.tile[0] / 2, laid.margin + laid.column_text - place * line - line / 2
        draw.text(middle, text, INK, font(laid.type_size), anchor="mm")


def _draw_row(sheet: Pillow.Image, draw: ImageDraw.ImageDraw, laid: Geometry, number: int, heading: Heading) -> None:
    count = len(heading.images)
    for place, image in enumerate(heading.images):
        _draw_tile(sheet, draw, laid.row_image(number, place, count), Tile(image), laid.type_size)
    line = math.ceil(1.3 * laid.type_size)
    lines = lines_of(heading.text, laid.row_text, laid.type_size, MOST_LINES + 2)
    box = laid.place(number, 0)
    top = box.top + (box.height - line * len(lines)) / 2 + line / 2
    for place, text in enumerate(lines):
        draw.text((laid.margin + laid.row_text, top + place * line), text, INK, font(laid.type_size), anchor="rm")


def _draw_tile(sheet: Pillow.Image, draw: ImageDraw.ImageDraw, box: Box, tile: Tile, type_size: int) -> None:
    """An image in the middle of its box, or a frame with a word."""
    word, image = tile.word, None
    if tile.image is not None:
        try:
            image = _fitted(tile.image, box)
        except ImageError:
            word = "unreadable"
    line = math.ceil(1.3 * type_size)
    if image is not None:
        at = box.left + (box.width - image.width) // 2, box.top + (box.height - image.height) // 2
        sheet.paste(image, at)
    elif word:
        draw.rectangle((box.left, box.top, box.left + box.width - 1, box.top + box.height - 1), outline=LINE)
        lines = lines_of(word, box.width - 4, type_size)
        for place, text in enumerate(lines):
            y = box.top + box.height / 2 + (place - (len(lines) - 1) / 2) * line
            draw.text((box.left + box.width / 2, y), text, ALARM, font(type_size), anchor="mm")
    for place, text in enumerate(lines_of(tile.caption, box.width, type_size, MOST_LINES + 1)):
        y = box.top + box.height + line * (place + 0.6)
        draw.text((box.left + box.width / 2, y), text, INK, font(type_size), anchor="mm")


def _fitted(image: ImageArray, box: Box) -> Pillow.Image:
    """The image as large as it can be in the box.

    Raises:
        ImageError: A file that cannot be read.
    """
    if isinstance(image, Path):
        # Twice the size at least: the reduction to the tile is then made by one filter.
        values = np.asarray(load_image(image, 2 * max(box.width, box.height), enlarge=False))
        image = np.asarray(values * 255 + 0.5, np.uint8)
    height, width = image.shape[:2]
    scale = min(box.width / width, box.height / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Pillow.fromarray(image).resize(size, Pillow.Resampling.LANCZOS)
