"""The contact sheets of a catalogue, arranged so that the effect of each content, style and setting can be compared."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jnst.apps.catalogue.entries import Entry, labels
from jnst.apps.catalogue.journal import Record
from jnst.apps.catalogue.sweeps import value_text
from jnst.apps.report.sheet import Heading, Tile, contact_sheet
from jnst.errors import ImageError, NumericsError
from jnst.weights.files import write_atomically

MAX_ROWS, MAX_COLUMNS, MAX_SHEETS = 40, 40, 25
"""The most tiles on a sheet, and the most sheets."""

GALLERY_COLUMNS = 6
"""Used where the images do not form a table."""

ERROR_WORDS = {NumericsError.exit_code: "not finite", ImageError.exit_code: "unreadable"}
"""Shown in place of an image, by the exit status of its error."""

Key = tuple[Any, ...]


class Table(NamedTuple):
    """Entries by row and column. The keys of rows and columns, in order, say what their entries have in common."""

    rows: list[Key]
    columns: list[Key]
    cells: dict[tuple[Key, Key], Entry]


class Labels(NamedTuple):
    """The labels of content and style images."""

    contents: Mapping[Path, str]
    styles: Mapping[Path, str]


def arrange(entries: Sequence[Entry]) -> Table | None:
    """Arrange contents in rows and styles in columns; if settings vary, pairs in rows and the last setting in columns.

    Returns:
        A table; None if more than a quarter of it would be empty, or if two entries share a place.
    """
    varied = [name for name, values in _values(entries).items() if len(values) > 1]
    cells: dict[tuple[Key, Key], Entry] = {}
    for entry in entries:
        settings = entry.settings
        others = tuple((name, settings.get(name)) for name in varied[:-1] if name in settings)
        if varied:
            last = tuple((name, settings[name]) for name in varied[-1:] if name in settings)
            place = ((entry.content, entry.styles, others), last)
        else:
            place = ((entry.content,), (entry.styles,))
        if place in cells:
            return None
        cells[place] = entry
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    return Table(rows, columns, cells) if 4 * len(cells) >= 3 * len(rows) * len(columns) else None


def _values(entries: Sequence[Entry]) -> dict[str, set[Any]]:
    """The values of each setting that some entry changes, with None for entries that do not change it."""
    names = dict.fromkeys(name for entry in entries for name, _ in entry.changes)
    return {name: {entry.settings.get(name) for entry in entries} for name in names}


def save_sheets(
    folder: Path, entries: Sequence[Entry], records: Mapping[str, Record], note: str, *, max_side: int = 6000
) -> tuple[list[str], int]:
    """Write ``sheet.jpg``, or ``sheet-1.jpg`` and so on if one is not enough. Sheets of earlier runs are removed.

    Args:
        folder: The output folder, which contains the images.
        entries: The catalogue.
        records: The last record of each image file.
        note: A line at the bottom of each sheet.
        max_side: The longer side of a sheet in pixels, at most.

    Returns:
        The names of the files, and the number of images that are on none of them because there are too many.

    Raises:
        ArgumentError: A sheet cannot be written.
    """
    table = arrange(entries)
    pages = list(_gallery_pages(entries) if table is None else _pages(table))
    drawn, names = pages[:MAX_SHEETS], []
    shape = _mean_shape(entries, records)

    def tile_of(entry: Entry | None) -> Tile:
        return Tile(None) if entry is None else _tile(folder, entry, records.get(entry.file))

    known = _labels(entries)
    for number, page in enumerate(drawn, start=1):
        rows, columns, tile = _table_page(page, known, tile_of) if table else _gallery_page(page, known, tile_of)
        rows = [
            heading._replace(shape=_row_shape(page, row, records)) for heading, row in zip(rows, page.rows, strict=True)
        ]
        sheet = contact_sheet(rows, columns, tile, shape=shape, captions=table is None, note=note, max_side=max_side)
        buffer = BytesIO()
        sheet.save(buffer, "JPEG", quality=88, subsampling=0)
        names.append("sheet.jpg" if len(drawn) == 1 else f"sheet-{number}.jpg")
        write_atomically(folder / names[-1], buffer.getvalue())
    for old in folder.glob("sheet*.jpg"):
        if old.name not in names and _is_sheet(old.stem):
            old.unlink()
    return names, sum(len(page.cells) for page in pages[MAX_SHEETS:])


def _is_sheet(stem: str) -> bool:
    return stem == "sheet" or stem.removeprefix("sheet-").isdecimal()


def _pages(table: Table) -> Iterator[Table]:
    for rows, columns in itertools.product(_parts(table.rows, MAX_ROWS), _parts(table.columns, MAX_COLUMNS)):
        places = [place for place in itertools.product(rows, columns) if place in table.cells]
        yield Table(rows, columns, {place: table.cells[place] for place in places})


def _gallery_pages(entries: Sequence[Entry]) -> Iterator[Table]:
    columns: list[Key] = [(column,) for column in range(GALLERY_COLUMNS)]
    for part in _parts(list(entries), MAX_ROWS * GALLERY_COLUMNS):
        cells: dict[tuple[Key, Key], Entry] = {
            ((place // GALLERY_COLUMNS,), (place % GALLERY_COLUMNS,)): entry for place, entry in enumerate(part)
        }
        yield Table(list(dict.fromkeys(row for row, _ in cells)), columns[: len(part)], cells)


def _parts(items: list[Any], most: int) -> list[list[Any]]:
    """Divide a list into as few parts of similar length as possible, none longer than ``most``."""
    count = math.ceil(len(items) / most)
    length = math.ceil(len(items) / count)
    return [items[first : first + length] for first in range(0, len(items), length)]


SheetContent = tuple[list[Heading], list[Heading], Callable[[int, int], Tile]]
"""Arguments of `contact_sheet`."""


def _table_page(page: Table, known: Labels, tile_of: Callable[[Entry | None], Tile]) -> SheetContent:
    pairs = len(page.rows[0]) == 3
    if pairs:
        columns = [Heading("\n".join(_changes_text(column)) or "unchanged") for column in page.columns]
        rows, before = [], None
        for content, styles, others in page.rows:
            rows.append(_pair_heading(content, styles, others, known, again=(content, styles) == before))
            before = content, styles
    else:
        columns = [Heading(_names(styles, known.styles), styles[:1]) for (styles,) in page.columns]
        rows = [Heading(known.contents[content], (content,)) for (content,) in page.rows]

    def tile(row: int, column: int) -> Tile:
        return tile_of(page.cells.get((page.rows[row], page.columns[column])))

    return rows, columns, tile


def _pair_heading(content: Path, styles: tuple[Path, ...], others: Key, known: Labels, again: bool) -> Heading:
    """The settings of a row; for the first row of a pair also its content and style."""
    if again:
        return Heading("\n".join(_changes_text(others)))
    text = [known.contents[content], _names(styles, known.styles), *_changes_text(others)]
    return Heading("\n".join(text), (content, *styles[:1]))


def _gallery_page(page: Table, known: Labels, tile_of: Callable[[Entry | None], Tile]) -> SheetContent:
    def tile(row: int, column: int) -> Tile:
        entry = page.cells.get(((row,), (column,)))
        if entry is None:
            return Tile(None)
        caption = [
            known.contents[entry.content],
            _names(entry.styles, known.styles),
            " ".join(_changes_text(entry.changes)),
        ]
        return tile_of(entry)._replace(caption="\n".join(filter(None, caption)))

    return [Heading() for _ in page.rows], [Heading() for _ in page.columns], tile


def _changes_text(changes: Key) -> list[str]:
    return [f"{name}={value_text(value)}" for name, value in changes]


def _names(styles: tuple[Path, ...], known: Mapping[Path, str]) -> str:
    return " + ".join(known[style] for style in styles)


def _labels(entries: Sequence[Entry]) -> Labels:
    return Labels(
        labels(entry.content for entry in entries), labels(style for entry in entries for style in entry.styles)
    )


def _tile(folder: Path, entry: Entry, record: Record | None) -> Tile:
    if record is None:
        return Tile(None, "not done")
    if record.error is not None:
        return Tile(None, ERROR_WORDS.get(record.code, "failed"))
    path = folder / entry.file
    return Tile(path) if path.exists() else Tile(None, "missing")


def _row_shape(page: Table, row: Key, records: Mapping[str, Record]) -> tuple[int, int] | None:
    """The height and width of all images in a row; None if they differ or one is missing."""
    entries = [entry for (at, _), entry in page.cells.items() if at == row]
    found = [records[entry.file] for entry in entries if entry.file in records]
    shapes = {(record.height, record.width) for record in found}
    return shapes.pop() if len(shapes) == 1 and len(found) == len(entries) and found[0].height else None


def _mean_shape(entries: Sequence[Entry], records: Mapping[str, Record]) -> tuple[int, int]:
    """The geometric means of the heights and widths of all images, in proportion."""
    found = [records[entry.file] for entry in entries if entry.file in records]
    shapes = np.array([(record.height, record.width) for record in found if record.height], float)
    height, width = np.exp(np.log(shapes).mean(0)) if len(shapes) else (3.0, 4.0)
    return max(1, round(100 * height)), max(1, round(100 * width))
