"""Contact sheets: where things are, what is drawn there, and whether labels fit."""

import itertools
from pathlib import Path

import hypothesis
import hypothesis.strategies as some
import numpy as np
import pytest
from PIL import Image, ImageDraw

from jnst.apps.report.sheet import MAX_TILE, MIN_TILE, PAPER, Box, Heading, Layout, Tile, contact_sheet, layout
from jnst.apps.report.text import font, printable, wrap

COLOURS = {"red": (220, 30, 40), "green": (30, 160, 60), "blue": (40, 60, 200), "gold": (230, 190, 30)}
SHAPE = (20, 30)


def flat(name: str, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.full((*shape, 3), COLOURS[name], np.uint8)


def inside(sheet: Image.Image, box: Box) -> np.ndarray:
    return np.asarray(sheet)[box.top : box.top + box.height, box.left : box.left + box.width]


def outside(sheet: Image.Image, boxes: list[Box]) -> np.ndarray:
    """The pixels outside of all boxes."""
    free = np.ones((sheet.height, sheet.width), bool)
    for box in boxes:
        free[box.top : box.top + box.height, box.left : box.left + box.width] = False
    return np.asarray(sheet)[free]


def is_all(pixels: np.ndarray, name: str) -> bool:
    return bool((np.abs(pixels.astype(int) - COLOURS[name]) <= 1).all())


def is_paper(pixels: np.ndarray) -> bool:
    return PAPER == "#ffffff" and bool((pixels == 255).all())


def ink(sheet: Image.Image, box: Box) -> int:
    return int((inside(sheet, box).astype(int).sum(-1) < 300).sum())


def test_every_image_is_in_its_place_and_nothing_else_is_drawn():
    rows, columns = [Heading(), Heading()], [Heading(), Heading()]
    names = [["red", "green"], ["blue", "gold"]]
    sheet = contact_sheet(rows, columns, lambda row, column: Tile(flat(names[row][column])), shape=SHAPE)
    places = layout(rows, columns, shape=SHAPE)
    assert sheet.size == places.size
    boxes = [places.place(row, column) for row, column in itertools.product(range(2), range(2))]
    for box, name in zip(boxes, itertools.chain(*names), strict=True):
        assert (box.width, box.height) == (MAX_TILE, round(MAX_TILE * 2 / 3))
        assert is_all(inside(sheet, box), name)
    assert is_paper(outside(sheet, boxes))
    across, down = boxes[1].left - boxes[0].left, boxes[2].top - boxes[0].top
    assert (across, down) == (boxes[0].width + places.gap, boxes[0].height + places.gap)


def test_headings_are_to_the_left_and_on_top_with_their_labels():
    rows = [Heading("a street", (flat("gold"),)), Heading("a cat", (flat("blue"),))]
    columns = [Heading("night", (flat("green"),)), Heading("", (flat("red"),))]
    sheet = contact_sheet(rows, columns, lambda *_: Tile(None), shape=SHAPE)
    places = layout(rows, columns, shape=SHAPE)
    images = [places.row_image(0, 0, 1), places.row_image(1, 0, 1), places.column_image(0), places.column_image(1)]
    for box, name in zip(images, ("gold", "blue", "green", "red"), strict=True):
        assert is_all(inside(sheet, box), name)
    assert all(box.left + box.width < places.left for box in images[:2])
    assert all(box.top + box.height < places.tops[0] for box in images[2:])
    assert [box.left for box in images[2:]] == [places.place(0, column).left for column in range(2)]
    beside = Box(places.margin, images[0].top, places.row_text, images[0].height)
    above = [Box(box.left, places.margin, box.width, places.column_text) for box in images[2:]]
    assert ink(sheet, beside) > 50
    assert ink(sheet, above[0]) > 50
    assert ink(sheet, above[1]) == 0
    assert is_paper(outside(sheet, [*images, beside, beside._replace(top=images[1].top), *above]))


def test_two_images_beside_a_row_do_not_touch():
    rows = [Heading("", (flat("red"), flat("blue")))]
    places = layout(rows, [Heading()], shape=SHAPE)
    sheet = contact_sheet(rows, [Heading()], lambda *_: Tile(flat("green")), shape=SHAPE)
    first, second, tile = places.row_image(0, 0, 2), places.row_image(0, 1, 2), places.place(0, 0)
    for box, name in ((first, "red"), (second, "blue"), (tile, "green")):
        assert is_all(inside(sheet, box)[2:-2, 2:-2], name)
    assert places.margin <= first.left
    assert first.left + first.width < second.left
    assert second.left + second.width < tile.left
    assert first.height < tile.height


@pytest.mark.parametrize(("shape", "free"), [((40, 20), "sides"), ((10, 40), "ends"), ((20, 30), "none")])
def test_images_of_other_shapes_are_letterboxed(shape: tuple[int, int], free: str):
    sheet = contact_sheet([Heading()], [Heading()], lambda *_: Tile(flat("red", shape)), shape=SHAPE)
    pixels = inside(sheet, layout([Heading()], [Heading()], shape=SHAPE).place(0, 0))
    height, width = pixels.shape[:2]
    assert is_all(pixels[height // 2 - 2 : height // 2 + 2, width // 2 - 2 : width // 2 + 2], "red")
    assert is_paper(pixels[:, :5]) == (free == "sides")
    assert is_paper(pixels[:5]) == (free == "ends")
    ys, xs = np.nonzero((np.abs(pixels.astype(int) - COLOURS["red"]) <= 1).all(-1))
    assert (np.ptp(ys) + 1) / (np.ptp(xs) + 1) == pytest.approx(shape[0] / shape[1], rel=0.03)


def test_rows_are_no_higher_than_their_images():
    rows = [Heading(shape=(10, 40)), Heading(shape=(40, 10)), Heading()]
    places = layout(rows, [Heading()], shape=(20, 20))
    assert places.heights == (MAX_TILE // 4, MAX_TILE, MAX_TILE)
    assert [after - before for before, after in itertools.pairwise(places.tops)] == [
        height + places.gap for height in places.heights[:2]
    ]


def test_a_missing_image_is_a_frame_with_a_word(tmp_path: Path):
    damaged = tmp_path / "a.png"
    damaged.write_bytes(b"no image")
    tiles = [Tile(None, "not finite"), Tile(None), Tile(damaged), Tile(tmp_path / "none.png")]
    columns = [Heading()] * len(tiles)
    sheet = contact_sheet([Heading()], columns, lambda _, column: tiles[column], shape=SHAPE)
    places = layout([Heading()], columns, shape=SHAPE)
    for column in (0, 2, 3):
        pixels = inside(sheet, places.place(0, column))
        edges = (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])
        assert not any((edge == 255).all() for edge in edges)
        assert is_paper(pixels[2:10, 2:-2])
        assert not is_paper(pixels[60:-60, 40:-40])
    assert is_paper(inside(sheet, places.place(0, 1)))


def test_files_are_read_one_at_a_time(tmp_path: Path):
    for name in COLOURS:
        Image.fromarray(flat(name, (200, 300))).save(tmp_path / f"{name}.png")
    asked: list[tuple[int, int]] = []

    def tile(row: int, column: int) -> Tile:
        asked.append((row, column))
        return Tile(tmp_path / f"{list(COLOURS)[2 * row + column]}.png")

    sheet = contact_sheet([Heading()] * 2, [Heading()] * 2, tile, shape=SHAPE)
    places = layout([Heading()] * 2, [Heading()] * 2, shape=SHAPE)
    assert asked == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for name, place in zip(COLOURS, asked, strict=True):
        assert is_all(inside(sheet, places.place(*place)), name)


def test_captions_and_a_note_have_their_own_space():
    note, tiles = "preset jnst", [Tile(flat("red"), caption="street\nnight"), Tile(flat("red"))]
    arguments = {"shape": SHAPE, "captions": True}
    sheet = contact_sheet([Heading()] * 2, [Heading()], lambda row, _: tiles[row], note=note, **arguments)
    places = layout([Heading()] * 2, [Heading()], note=True, **arguments)
    first, second = places.place(0, 0), places.place(1, 0)
    below = [Box(box.left, box.top + box.height, box.width, 3 * places.type_size) for box in (first, second)]
    assert below[0].top + below[0].height < second.top
    assert [ink(sheet, box) > 50 for box in below] == [True, False]
    assert is_all(inside(sheet, second), "red")
    last = Box(places.margin, places.size[1] - places.margin - places.type_size, places.tile[0], places.type_size + 5)
    assert not is_paper(inside(sheet, last))


def all_boxes(places: Layout, rows: int, columns: int) -> list[Box]:
    return [places.place(row, column) for row in range(rows) for column in range(columns)]


@hypothesis.given(
    some.integers(1, 30),
    some.integers(1, 30),
    some.tuples(some.integers(1, 3000), some.integers(1, 3000)),
    some.integers(600, 5000),
    some.text(max_size=60),
)
@hypothesis.settings(deadline=None, max_examples=40)
def test_sheets_are_bounded_and_tiles_do_not_overlap(rows: int, columns: int, shape, max_side: int, text: str):
    heads, tops = [Heading(text, (flat("red"),))] * rows, [Heading(text, (flat("red"),))] * columns
    places = layout(heads, tops, shape=shape, max_side=max_side)
    if max(places.tile) > MIN_TILE:
        assert max(places.size) <= max_side
    boxes = all_boxes(places, rows, columns)
    assert len({(box.left, box.top) for box in boxes}) == rows * columns
    assert min(box.left for box in boxes) >= places.margin
    assert max(box.left + box.width for box in boxes) == places.size[0] - places.margin
    assert max(box.top + box.height for box in boxes) == places.size[1] - places.margin
    assert places.row_image(0, 0, 1).left >= places.margin + places.row_text
    assert places.column_image(0).top >= places.margin + places.column_text
    assert places.type_size >= 11


@hypothesis.given(some.text(max_size=80), some.integers(20, 300), some.integers(1, 4))
def test_lines_fit_and_lose_text_only_with_an_ellipsis(text: str, width: int, most: int):
    measure = font(14).getlength
    text = printable(text)
    lines = wrap(text, width, most, measure)
    assert 1 <= len(lines) <= most
    assert all(measure(line) <= max(width, measure("…")) for line in lines)
    if not any("…" in line for line in lines):
        assert "".join(lines).replace(" ", "") == text.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize(
    ("text", "width", "most", "lines"),
    [
        ("one_two", 100, 3, ["one_two"]),
        ("one_two_six", 8, 3, ["one_", "two_six"]),
        ("aaaa_bb_cc_ddd", 10, 3, ["aaaa_bb_", "cc_ddd"]),
        ("style_weight=100", 13, 3, ["style_", "weight=100"]),
        ("first\nsecond", 100, 3, ["first", "second"]),
        ("first\nsecond\nthird", 100, 2, ["first", "second…"]),
        ("abcdefghij", 5, 3, ["abcd…"]),
        ("", 5, 1, [""]),
    ],
)
def test_lines_break_after_words_and_are_balanced(text: str, width: int, most: int, lines: list[str]):
    assert wrap(text, width, most, len) == lines


def test_labels_only_have_characters_that_the_font_has():
    assert printable("Café Straße_漢") == "Cafe Stra?e_?"
    drawn = {character: pixels_of(character) for character in map(chr, range(33, 127))}
    unknown = pixels_of("\uffff")
    assert unknown not in drawn.values()
    assert pixels_of("…") != unknown


def pixels_of(text: str) -> bytes:
    image = Image.new("L", (40, 40))
    ImageDraw.Draw(image).text((5, 5), text, 255, font(20))
    return image.tobytes()
