"""The arrangement of contact sheets."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_images import save

from jnst.apps.catalogue import sheets
from jnst.apps.catalogue.entries import Entry, product
from jnst.apps.catalogue.journal import Record
from jnst.apps.catalogue.sheets import arrange, save_sheets
from jnst.apps.catalogue.sweeps import parse_sweeps
from jnst.apps.report.sheet import Heading, layout


def entries_of(folder: Path, contents: int, styles: int, *sweeps: str) -> list[Entry]:
    files = [
        [save(folder / kind / f"{kind}{number}.png", 10 * number + len(kind)) for number in range(count)]
        for kind, count in (("c", contents), ("st", styles))
    ]
    return product(files[0], files[1], parse_sweeps(sweeps), 0, ".png")


def record(entry: Entry, **changes: Any) -> Record:
    given = {"digest": "d", "width": 24, "height": 18, "bytes": 1, "sha256": "h", "steps": 2, "losses": [2.0, 1.0]}
    changed = given | {"parts": {"style/x": 0.5}, "seconds": 0.1} | changes
    styles = [str(path) for path in entry.styles]
    about = {"content": str(entry.content), "styles": styles, "changes": dict(entry.changes), "seed": entry.seed}
    return Record(file=entry.file, **about, **changed)


def test_contents_are_rows_and_styles_columns(tmp_path: Path):
    entries = entries_of(tmp_path, 3, 2)
    table = arrange(entries)
    assert table is not None
    assert [row[0].stem for row in table.rows] == ["c0", "c1", "c2"]
    assert [column[0][0].stem for column in table.columns] == ["st0", "st1"]
    for (row, column), entry in table.cells.items():
        assert (entry.content, entry.styles) == (row[0], column[0])
    assert len(table.cells) == 6


def test_the_last_setting_that_varies_is_in_columns(tmp_path: Path):
    entries = entries_of(tmp_path, 2, 2, "tv_weight=0,1", "clamp=true", "style_weight=1,2,3")
    table = arrange(entries)
    assert table is not None
    assert table.columns == [(("style_weight", value),) for value in (1.0, 2.0, 3.0)]
    assert [(row[0].stem, row[1][0].stem, *row[2]) for row in table.rows] == [
        (content, style, ("tv_weight", value))
        for content, style, value in itertools.product(("c0", "c1"), ("st0", "st1"), (0.0, 1.0))
    ]


def test_images_that_form_no_table_are_a_gallery(tmp_path: Path):
    entries = entries_of(tmp_path, 4, 4)
    diagonal = [entry for entry in entries if entry.content.stem[1:] == entry.styles[0].stem[2:]]
    assert arrange(diagonal) is None
    assert arrange([*entries, entries[0]._replace(file="again.png")]) is None
    assert arrange(entries[:-4]) is not None
    names, left = save_sheets(tmp_path, diagonal, {}, "note")
    assert (names, left) == (["sheet.jpg"], 0)
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        expected = layout([Heading()], [Heading()] * 4, shape=(3, 4), captions=True, note=True)
        assert sheet.size == expected.size


def test_images_are_in_their_places(tmp_path: Path):
    entries = entries_of(tmp_path, 2, 2)
    for seed, entry in enumerate(entries):
        save(tmp_path / entry.file, 100 + seed)
    (tmp_path / entries[2].file).unlink()
    records = {entry.file: record(entry) for entry in entries}
    records[entries[3].file] = record(entries[3], error="it is NaN", code=5)
    save_sheets(tmp_path, entries, records, "note")
    rows = [Heading(name, (tmp_path,), (18, 24)) for name in ("c0", "c1")]
    laid = layout(rows, [Heading(name, (tmp_path,)) for name in ("st0", "st1")], shape=(18, 24), note=True)
    with Image.open(tmp_path / "sheet.jpg") as image:
        sheet = np.asarray(image).astype(int)
    assert sheet.shape == (laid.size[1], laid.size[0], 3)
    boxes = {
        entries[0].content: laid.row_image(0, 0, 1),
        entries[2].content: laid.row_image(1, 0, 1),
        entries[0].styles[0]: laid.column_image(0),
        entries[1].styles[0]: laid.column_image(1),
        tmp_path / entries[0].file: laid.place(0, 0),
        tmp_path / entries[1].file: laid.place(0, 1),
    }
    for path, (left, top, width, height) in boxes.items():
        with Image.open(path) as picture:
            expected = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS)).astype(int)
        assert np.abs(sheet[top : top + height, left : left + width] - expected).mean() < 3, path
    for column in range(2):
        left, top, width, height = laid.place(1, column)
        assert (sheet[top : top + height, left : left + width] > 250).mean() > 0.9


def test_large_catalogues_get_several_sheets_and_old_ones_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sheets, "MAX_ROWS", 2)
    monkeypatch.setattr(sheets, "MAX_COLUMNS", 2)
    entries = entries_of(tmp_path, 3, 3)
    save(tmp_path / "sheet.jpg", 0)
    save(tmp_path / "sheets.jpg", 0)
    names, left = save_sheets(tmp_path, entries, {}, "", max_side=900)
    assert (names, left) == ([f"sheet-{number}.jpg" for number in range(1, 5)], 0)
    assert {path.name for path in tmp_path.glob("sheet*")} == {*names, "sheets.jpg"}
    monkeypatch.setattr(sheets, "MAX_SHEETS", 3)
    names, left = save_sheets(tmp_path, entries, {}, "", max_side=900)
    assert (len(names), left) == (3, 1)
    assert not (tmp_path / "sheet-4.jpg").exists()
    monkeypatch.setattr(sheets, "MAX_ROWS", 9)
    monkeypatch.setattr(sheets, "MAX_COLUMNS", 9)
    assert save_sheets(tmp_path, entries, {}, "") == (["sheet.jpg"], 0)
    assert {path.name for path in tmp_path.glob("sheet*")} == {"sheet.jpg", "sheets.jpg"}
