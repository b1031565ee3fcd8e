"""Contact sheets: a table of images, whose rows and columns have texts and images as headings."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from jnst.apps.io import load_image
from jnst.apps.pixels import to_levels
from jnst.apps.report.text import font, printable, wrap
from jnst.errors import ImageError

MIN_TILE, MAX_TILE = 72, 280
"""The longer side of a tile in pixels."""
COLUMN_LINES, ROW_LINES, CAPTION_LINES = 3, 5, 4
"""The most lines of text above a column, beside a row, and below a tile."""
PAIR_SCALE = 0.62
"""The size of several heading images beside a row, relative to a tile."""
PAPER, INK, FAINT, LINE, ALARM = "#ffffff", "#26241f", "#8d8981", "#d8d5ce", "#a8452f"

TileImage = Path | np.ndarray
"""A file, which is read when it is drawn, or pixels: uint8 ``(h, w, 3)``."""


class Heading(NamedTuple):
    """What the tiles of a row or a column have in common.

    Attributes:
        text: A label.
        images: The images that all these tiles are made from.
        shape: Height and width of a row's images, if the row need not be as high as a tile; None if it must be.
    """

    text: str = ""
    images: tuple[TileImage, ...] = ()
    shape: tuple[int, int] | None = None


class Tile(NamedTuple):
    """A cell of the table: an image, or a word in its place, and a caption below."""

    image: TileImage | None
    word: str = ""
    caption: str = ""


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int


class Layout(NamedTuple):
    """The positions and sizes of everything on a sheet, in pixels.

    Attributes:
        size: Width and height of the sheet.
        tile: Width and height of a tile, in rows that are not lower.
        left: The left edge of the first column.
        tops: The top edge of each row.
        heights: The height of each row's tiles.
        row_text: The width of the rows' texts, which start at the margin.
        heading: Width and height of a row's heading image.
        column_text: The height of the columns' texts, which start at the margin.
        margin: The margin of the sheet.
        gap: The space between tiles.
        type_size: The font size of labels.
    """

    size: tuple[int, int]
    tile: tuple[int, int]
    left: int
    tops: tuple[int, ...]
    heights: tuple[int, ...]
    row_text: int
    heading: tuple[int, int]
    column_text: int
    margin: int
    gap: int
    type_size: int

    @property
    def line(self) -> int:
        """The height of a line of text."""
        return _line(self.type_size)

    def place(self, row: int, column: int) -> Box:
        """The box of a tile."""
        left = self.left + column * (self.tile[0] + self.gap)
        return Box(left, self.tops[row], self.tile[0], self.heights[row])

    def row_image(self, row: int, number: int, count: int) -> Box:
        """The box of one of ``count`` images beside a row, next to the tiles."""
        width, height = self.heading[0], min(self.heading[1], self.heights[row])
        left = self.left - 3 * self.gap - (count - number) * (width + self.gap) + self.gap
        return Box(left, self.tops[row] + (self.heights[row] - height) // 2, width, height)

    def column_image(self, column: int) -> Box:
        """The box of the image above a column."""
        left, top, width, _ = self.place(0, column)
        return Box(left, top - 3 * self.gap - self.tile[1], width, self.tile[1])


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
    """Draw a table of images. They are read one after the other, so that only one of them is in memory at a time.

    Args:
        rows: The rows' headings, drawn to the left of their tiles: the text, then the images.
        columns: The columns' headings, drawn above their tiles: the text, then the first image.
        tile: Returns the tile in a row and a column.
        shape: See `layout`.
        captions: See `layout`.
        note: A line at the bottom.
        max_side: See `layout`.
    """
    places = layout(rows, columns, shape=shape, captions=captions, note=bool(note), max_side=max_side)
    sheet = Pillow.new("RGB", places.size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, heading in enumerate(columns):
        _draw_column_heading(sheet, draw, places, column, heading)
    for row, heading in enumerate(rows):
        _draw_row_heading(sheet, draw, places, row, heading)
        for column in range(len(columns)):
            _draw_tile(sheet, draw, places, places.place(row, column), tile(row, column))
    if note:
        text = _lines(note, places.size[0] - 2 * places.margin, places.type_size, 1)[0]
        bottom = places.margin, places.size[1] - places.margin
        draw.text(bottom, text, FAINT, font(places.type_size), anchor="ls")
    return sheet


def layout(
    rows: Sequence[Heading],
    columns: Sequence[Heading],
    *,
    shape: tuple[int, int],
    captions: bool | int = False,
    note: bool = False,
    max_side: int = 6000,
) -> Layout:
    """Arrange a sheet with tiles as large as possible.

    Args:
        rows: The rows' headings.
        columns: The columns' headings.
        shape: Height and width of the images that the tiles are made for. Images of other shapes are fitted into them.
        captions: Whether tiles have captions, or of how many lines; `CAPTION_LINES` if True.
        note: Whether there is a line at the bottom.
        max_side: The longer side of the sheet in pixels, unless tiles of `MIN_TILE` need more.
    """
    side = MAX_TILE
    while True:
        places = _layout(rows, columns, shape, captions, note, side)
        if max(places.size) <= max_side or side <= MIN_TILE:
            return places
        side = max(MIN_TILE, min(side - 1, int(side * max_side / max(places.size))))


def _layout(
    rows: Sequence[Heading], columns: Sequence[Heading], shape: tuple[int, int], captions: int, note: bool, side: int
) -> Layout:
    """Arrange a sheet with tiles whose longer side is ``side``."""
    scale = side / max(shape)
    width, height = max(MIN_TILE // 3, round(shape[1] * scale)), max(MIN_TILE // 3, round(shape[0] * scale))
    type_size, gap, margin = max(11, min(20, side // 13)), max(3, side // 40), max(8, side // 16)
    line = _line(type_size)

    heading_count = max((len(row.images) for row in rows), default=0)
    heading_scale = 1.0 if heading_count < 2 else PAIR_SCALE
    heading = max(1, round(width * heading_scale)), max(1, round(height * heading_scale))
    widest = max((_width(row.text, type_size) for row in rows), default=0)
    row_text = min(widest, max(7 * type_size, round(0.8 * width)))
    left = margin
    left += row_text + 2 * gap if row_text else 0
    left += heading_count * (heading[0] + gap) + 2 * gap if heading_count else 0

    column_text = line * max((len(_lines(column.text, width, type_size)) for column in columns), default=0)
    top = margin
    top += column_text + 2 * gap if column_text else 0
    top += height + 3 * gap if any(column.images for column in columns) else 0

    text_heights = [line * len(_lines(row.text, row_text, type_size, ROW_LINES)) for row in rows]
    heights = [max(text, _row_height(row, width, height)) for row, text in zip(rows, text_heights, strict=True)]
    caption = line * (CAPTION_LINES if captions is True else captions) + gap if captions else 0
    *tops, bottom = itertools.accumulate((row_height + caption + gap for row_height in heights), initial=top)
    right = left + len(columns) * (width + gap)
    return Layout(
        size=(right - gap + margin, bottom - gap + margin + (2 * line if note else 0)),
        tile=(width, height),
        left=left,
        tops=tuple(tops),
        heights=tuple(heights),
        row_text=row_text,
        heading=heading,
        column_text=column_text,
        margin=margin,
        gap=gap,
        type_size=type_size,
    )


def _row_height(row: Heading, width: int, height: int) -> int:
    """The height of a row's tiles: what images of its shape need, at most ``height``."""
    return height if row.shape is None else max(1, min(height, round(width * row.shape[0] / row.shape[1])))


def _line(type_size: int) -> int:
    return math.ceil(1.3 * type_size)


def _width(text: str, type_size: int) -> int:
    return max(math.ceil(font(type_size).getlength(line)) for line in printable(text).split("\n"))


def _lines(text: str, width: float, type_size: int, count: int = COLUMN_LINES) -> list[str]:
    """A label as at most ``count`` lines of at most ``width`` pixels; no line if it is empty."""
    return wrap(printable(text), width, count, font(type_size).getlength) if text else []


def _draw_column_heading(
    sheet: Pillow.Image, draw: ImageDraw.ImageDraw, places: Layout, column: int, heading: Heading
) -> None:
    box = places.column_image(column)
    for image in heading.images[:1]:
        _draw_tile(sheet, draw, places, box, Tile(image))
    lines = _lines(heading.text, places.tile[0], places.type_size)
    bottom = places.margin + places.column_text
    _draw_lines(draw, places, lines, box.left + box.width / 2, bottom - places.line * len(lines))


def _draw_row_heading(
    sheet: Pillow.Image, draw: ImageDraw.ImageDraw, places: Layout, row: int, heading: Heading
) -> None:
    for number, image in enumerate(heading.images):
        _draw_tile(sheet, draw, places, places.row_image(row, number, len(heading.images)), Tile(image))
    lines = _lines(heading.text, places.row_text, places.type_size, ROW_LINES)
    box = places.place(row, 0)
    top = box.top + (box.height - places.line * len(lines)) / 2
    _draw_lines(draw, places, lines, places.margin + places.row_text, top, anchor="rm")


def _draw_tile(sheet: Pillow.Image, draw: ImageDraw.ImageDraw, places: Layout, box: Box, tile: Tile) -> None:
    """Draw an image in the middle of its box, or a frame with a word; below it, the caption."""
    word, image = tile.word, None
    if tile.image is not None:
        try:
            image = _fit(tile.image, box)
        except ImageError:
            word = "unreadable"
    center = box.left + box.width / 2
    if image is not None:
        sheet.paste(image, (box.left + (box.width - image.width) // 2, box.top + (box.height - image.height) // 2))
    elif word:
        draw.rectangle((box.left, box.top, box.left + box.width - 1, box.top + box.height - 1), outline=LINE)
        lines = _lines(word, box.width - 4, places.type_size)
        _draw_lines(draw, places, lines, center, box.top + (box.height - places.line * len(lines)) / 2, colour=ALARM)
    caption = _lines(tile.caption, box.width, places.type_size, CAPTION_LINES)
    _draw_lines(draw, places, caption, center, box.top + box.height + 0.1 * places.line)


def _draw_lines(
    draw: ImageDraw.ImageDraw,
    places: Layout,
    lines: Sequence[str],
    x: float,
    top: float,
    *,
    anchor: str = "mm",
    colour: str = INK,
) -> None:
    """Draw lines of text below each other. ``anchor`` is as in Pillow: ``x`` is their middle ("mm") or end ("rm")."""
    for number, text in enumerate(lines):
        draw.text((x, top + (number + 0.5) * places.line), text, colour, font(places.type_size), anchor=anchor)


def _fit(image: TileImage, box: Box) -> Pillow.Image:
    """Resize an image to the largest size that fits into the box.

    Raises:
        ImageError: A file cannot be read.
    """
    if isinstance(image, Path):
        # Read at no less than twice the size, so that a single filter makes most of the reduction.
        image = to_levels(load_image(image, 2 * max(box.width, box.height), enlarge=False))
    height, width = image.shape[:2]
    scale = min(box.width / width, box.height / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Pillow.fromarray(image).resize(size, Pillow.Resampling.LANCZOS)
