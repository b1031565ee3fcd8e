"""Where everything is on a contact sheet."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jnst.apps.report.text import font, printable, wrap

LEAST_TILE, MOST_TILE = 72, 280
"""Pixels of a tile's longer side."""
MOST_LINES = 3
"""Of a label; of one beside a row two more, of a caption one."""
PAIRED = 0.62
"""The size of two heading images beside a row, in tiles."""

ImageArray = Path | np.ndarray
"""A file, read when it is drawn, or pixels: uint8 ``(h, w, 3)``."""


class Heading(NamedTuple):
    """What a row or column has in common.

    Attributes:
        text: Its label.
        images: What all its tiles are made of.
        shape: Height and width of a row's tiles, which is then no higher than they are; None: as high as any.
    """

    text: str = ""
    images: tuple[ImageArray, ...] = ()
    shape: tuple[int, int] | None = None


class Box(NamedTuple):
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int


class Geometry(NamedTuple):
    """Where everything is on a sheet, in pixels.

    Attributes:
        size: Width and height of the sheet.
        tile: Width and height of a tile, where rows are not lower.
        left: Where the first column begins.
        tops: Where each row begins.
        heights: Of each row's tiles.
        row_text: Width of the rows' texts, which begin at the margin.
        heading: Width and height of a row's heading image.
        column_text: Height of the columns' texts, which begin at the margin.
        margin: Around everything.
        gap: Between tiles.
        type_size: Of labels.
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

    def place(self, row: int, column: int) -> Box:
        """The box of a tile."""
        left = self.left + column * (self.tile[0] + self.gap)
        return Box(left, self.tops[row], self.tile[0], self.heights[row])

    def row_image(self, row: int, number: int, count: int) -> Box:
        """The box of one of ``count`` images beside a row: they stand next to the tiles."""
        width, height = self.heading[0], min(self.heading[1], self.heights[row])
        left = self.left - 3 * self.gap - (count - number) * (width + self.gap) + self.gap
        return Box(left, self.tops[row] + (self.heights[row] - height) // 2, width, height)

    def column_image(self, column: int) -> Box:
        """The box of the image above a column."""
        left, top, width, _ = self.place(0, column)
        return Box(left, top - 3 * self.gap - self.tile[1], width, self.tile[1])


def geometry(
    rows: Sequence[Heading],
    columns: Sequence[Heading],
    *,
    shape: tuple[int, int],
    captions: bool | int = False,
    note: bool = False,
    max_side: int = 6000,
) -> Geometry:
    """Lay out a sheet: tiles as large as they may be, and smaller where it would grow beyond ``max_side``.

    Args:
        rows: The rows' headings.
        columns: The columns' headings.
        shape: Height and width of the images for which tiles are made; others are fitted into them.
        captions: Whether tiles have captions, or how many lines there are of them: `MOST_LINES` and one, if not said.
        note: Whether there is a line at the bottom.
        max_side: Neither side of the sheet is longer, unless tiles of `LEAST_TILE` make it so.
    """
    side = MOST_TILE
    while True:
        laid = _geometry(rows, columns, shape, captions, note, side)
        if max(laid.size) <= max_side or side <= LEAST_TILE:
            return laid
        side = max(LEAST_TILE, min(side - 1, int(side * max_side / max(laid.size))))


def _geometry(
    rows: Sequence[Heading], columns: Sequence[Heading], shape: tuple[int, int], captions: int, note: bool, side: int
) -> Geometry:
    scale = side / max(shape)
    width, height = max(LEAST_TILE // 3, round(shape[1] * scale)), max(LEAST_TILE // 3, round(shape[0] * scale))
    type_size, gap = max(11, min(20, side // 13)), max(3, side // 40)
    line, margin = math.ceil(1.3 * type_size), max(8, side // 16)
    beside = max((len(row.images) for row in rows), default=0)
    factor = 1.0 if beside < 2 else PAIRED
    heading = max(1, round(width * factor)), max(1, round(height * factor))
    lines = [lines_of(column.text, width, type_size) for column in columns]
    column_text = line * max((len(text) for text in lines), default=0)
    row_text = min(
        max((_width(row.text, type_size) for row in rows), default=0), max(7 * type_size, round(0.8 * width))
    )
    left = margin + row_text + (2 * gap if row_text else 0) + beside * (heading[0] + gap) + (2 * gap if beside else 0)
    top = margin + column_text + (2 * gap if column_text else 0)
    top += height + 3 * gap if any(column.images for column in columns) else 0
    texts = [line * len(lines_of(row.text, row_text, type_size, MOST_LINES + 2)) for row in rows]
    heights = [max(text, _height(row, width, height)) for row, text in zip(rows, texts, strict=True)]
    below = line * (MOST_LINES + 1 if captions is True else captions) + gap if captions else 0
    *tops, bottom = itertools.accumulate((tall + below + gap for tall in heights), initial=top)
    size = left + len(columns) * (width + gap) - gap + margin, bottom - gap + margin + (2 * line if note else 0)
    return Geometry(
        size, (width, height), left, tuple(tops), tuple(heights), row_text, heading, column_text, margin, gap, type_size
    )


def _height(row: Heading, width: int, height: int) -> int:
    """Of a row's tiles: what images of its shape need, and not more than ``height``."""
    return height if row.shape is None else max(1, min(height, round(width * row.shape[0] / row.shape[1])))


def _width(text: str, type_size: int) -> int:
    return max(math.ceil(font(type_size).getlength(line)) for line in printable(text).split("\n"))


def lines_of(text: str, width: float, type_size: int, most: int = MOST_LINES) -> list[str]:
    """A label as lines of at most ``width`` pixels; none if it is empty."""
    return wrap(printable(text), width, most, font(type_size).getlength) if text else []
