"""The images of a catalogue: files found, combinations, manifests, and file names."""

import json
from pathlib import Path

import hypothesis
import hypothesis.strategies as some
import pytest
from small_images import save

from jnst.apps.catalogue.entries import (
    MAX_NAME_BYTES,
    check_inputs,
    collect,
    distinct,
    folded,
    image_name,
    labels,
    make_folder,
    product,
    read_manifest,
    safe,
)
from jnst.apps.catalogue.sweeps import parse_sweeps
from jnst.errors import ImageError, JnstError


def test_folders_and_files_are_collected_in_order_and_once(tmp_path: Path):
    for name in ("b", "a"):
        save(tmp_path / "many" / f"{name}.png", 0)
    (tmp_path / "many" / "notes.txt").write_text("x")
    single = save(tmp_path / "z.png", 1)
    found, others = collect([single, tmp_path / "many", tmp_path / "many" / "a.png", single], "--contents")
    assert [path.name for path in found] == ["z.png", "a.png", "b.png"]
    assert [path.name for path in others] == ["notes.txt"]


def test_a_named_file_is_taken_whatever_its_suffix(tmp_path: Path):
    (tmp_path / "image").touch()
    assert collect([tmp_path / "image"], "--styles") == ([tmp_path / "image"], [])


def test_missing_inputs_are_reported(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ImageError, match=r"--styles .* contains no images"):
        collect([tmp_path], "--styles")
    with pytest.raises(ImageError, match=r"--contents .*none.* does not exist"):
        collect([tmp_path / "none"], "--contents")


def test_every_combination_occurs_once_and_the_last_sweep_changes_fastest():
    contents, styles = [Path("c/x.png"), Path("c/y.png")], [Path("s/u.jpg"), Path("s/v.jpg")]
    sweeps = parse_sweeps(["style_weight=1,2", "seed=5,6,7"])
    entries = product(contents, styles, sweeps, 3, ".png")
    assert len(entries) == 2 * 2 * 2 * 3
    assert len({entry.file for entry in entries}) == len(entries)
    first, second, *_ = entries
    assert first == (contents[0], (styles[0],), (("style_weight", 1.0), ("seed", 5)), 5, first.file)
    assert first.file == "x__u__style_weight=1__seed=5.png"
    assert second.file == "x__u__style_weight=1__seed=6.png"
    plain = product(contents, styles, (), 3, ".jpg")
    assert [entry.file for entry in plain] == ["x__u.jpg", "x__v.jpg", "y__u.jpg", "y__v.jpg"]
    assert {entry.seed for entry in plain} == {3}


def test_contents_with_equal_names_make_files_with_different_names():
    contents = [Path("a/x.png"), Path("b/x.png"), Path("x__y.png")]
    entries = product(contents, [Path("z.png"), Path("y__z.png")], (), 0, ".png")
    assert len({entry.file.lower() for entry in entries}) == 6


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    make_folder(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()
    assert not list((tmp_path / "new" / "folder").iterdir())
    (tmp_path / "file").touch()
    for name in ("file", "file/below", "nul\0"):
        with pytest.raises(JnstError, match=r"--output .* cannot be written to"):
            make_folder(tmp_path / name)


def test_inputs_are_not_replaced(tmp_path: Path):
    style = save(tmp_path / "s.png", 0)
    taken = save(tmp_path / "x__s.png", 1)
    entries = product([Path("x.png"), taken], [style], (), 0, ".png")
    check_inputs(entries, tmp_path / "out")
    with pytest.raises(JnstError, match=r"x__s\.png.* would replace an input"):
        check_inputs(entries, tmp_path)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "x__s.png").symlink_to(style)
    with pytest.raises(JnstError, match=r"x__s\.png.* would replace an input"):
        check_inputs(entries, tmp_path / "links")


# Manifests

GOOD = {"content": "a.png", "style": "b.png"}


def read(path: Path, *lines: object):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return read_manifest(path, 4, ".png", lambda changes: None)


def test_lines_are_entries_with_files_relative_to_the_manifest(tmp_path: Path):
    folder = tmp_path / "lists"
    folder.mkdir()
    entries = read(
        folder / "jobs.jsonl",
        GOOD,
        "",
        {"content": "../c/a.png", "style": ["b.png", "d.jpg"], "output": "mix", "steps": [3, 2], "seed": 9},
        {"content": str(tmp_path / "e.png"), "style": "b.png", "output": "own.JPG", "style_weight": 10, "clamp": True},
    )
    first, second, third = entries
    assert first == (folder / "a.png", (folder / "b.png",), (), 4, "lists_a__b.png")
    assert second == (
        folder / "../c/a.png",
        (folder / "b.png", folder / "d.jpg"),
        (("num_steps", (3, 2)), ("seed", 9)),
        9,
        "mix.png",
    )
    assert third[0] == tmp_path / "e.png"
    assert third.changes == (("style_weight", 10.0), ("clamp", True))
    assert third.file == "own.JPG"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"content": "a.png"', ("not JSON",)),
        ("[1]", ("list", "object")),
        ({"style": "b.png"}, ("content", "None")),
        ({"content": "a.png"}, ("style", "None")),
        ({"content": "a.png", "style": []}, ("style", "[]")),
        ({"content": ["a.png", "c.png"], "style": "b.png"}, ("content", "one image")),
        ({"content": 3, "style": "b.png"}, ("content", "3")),
        (GOOD | {"stlye": "c.png"}, ("stlye", "did you mean", "style")),
        (GOOD | {"style_weihgt": 1}, ("style_weihgt", "did you mean", "style_weight")),
        (GOOD | {"style_weight": "much"}, ("style_weight", "'much'", "a number")),
        (GOOD | {"style_weight": {}}, ("style_weight", "{}", "a number")),
        (GOOD | {"steps": 1, "num_steps": 2}, ("twice",)),
        (GOOD | {"output": "../out.png"}, ("../out.png", "without folders")),
        (GOOD | {"output": "/out.png"}, ("/out.png", "without folders")),
        (GOOD | {"output": "a:b.png"}, ("a:b.png",)),
        (GOOD | {"output": ".hidden"}, (".hidden",)),
        (GOOD | {"output": 7}, ("7",)),
        (GOOD | {"output": "x.gif"}, ("x.gif", ".png", ".webp")),
        (GOOD | {"output": "sheet.jpg"}, ("sheet.jpg", "reserved")),
        (GOOD | {"output": "NUL.png"}, ("NUL.png", "reserved")),
        (GOOD | {"output": "x" * 300}, ("too long",)),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: object, words: tuple[str, ...]):
    with pytest.raises(JnstError) as caught:
        read(tmp_path / "jobs.jsonl", {"content": "x.png", "style": "y.png"}, "", line)
    message = str(caught.value)
    assert f"{tmp_path / 'jobs.jsonl'} line 3: " in message
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_settings_are_checked_line_by_line(tmp_path: Path):
    path = tmp_path / "jobs.jsonl"
    path.write_text("\n".join(json.dumps(GOOD | {"seed": seed}) for seed in (1, 2, 3)))

    def check(changes):
        if changes == (("seed", 2),):
            raise JnstError("two is wrong")

    with pytest.raises(JnstError, match="line 2: two is wrong"):
        read_manifest(path, 0, ".png", check)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (GOOD | {"output": "x.png"}, {"content": "c.png", "style": "b.png", "output": "X.png"}),
        (GOOD | {"output": "x"}, {"content": "c.png", "style": "b.png", "output": "x.png"}),
        (GOOD, GOOD),
    ],
)
def test_two_lines_must_not_make_the_same_file(tmp_path: Path, first, second):
    with pytest.raises(JnstError, match=r"line 3: makes .* as line 1 does"):
        read(tmp_path / "jobs.jsonl", first, "", second)


def test_a_given_output_name_takes_precedence(tmp_path: Path):
    made, given = read(tmp_path / "jobs.jsonl", GOOD, {"content": "c.png", "style": "b.png", "output": "A__b.png"})
    assert given.file == "A__b.png"
    assert made.file.startswith("a__b-")


def test_invalid_manifests_are_refused(tmp_path: Path):
    with pytest.raises(JnstError, match=r"none\.jsonl.* cannot be read"):
        read_manifest(tmp_path / "none.jsonl", 0, ".png", lambda changes: None)
    with pytest.raises(JnstError, match="is empty"):
        read(tmp_path / "jobs.jsonl", "", " ")
    (tmp_path / "jobs.jsonl").write_bytes(b"\xff\xfe\0")
    with pytest.raises(JnstError, match="UTF-8"):
        read_manifest(tmp_path / "jobs.jsonl", 0, ".png", lambda changes: None)
    (tmp_path / "jobs.jsonl").write_text("\ufeff" + json.dumps(GOOD))
    assert len(read_manifest(tmp_path / "jobs.jsonl", 0, ".png", lambda changes: None)) == 1


# File names

FORBIDDEN = set('<>:"/\\|?*') | {chr(code) for code in range(32)}
"""On Windows; on other systems the slash and NUL alone."""

texts = some.text(some.characters(codec=None), max_size=120)


@hypothesis.given(texts)
def test_names_are_safe_for_any_text(text: str):
    name = safe(text)
    assert name
    assert not FORBIDDEN & set(name)
    assert not name.startswith((".", "-"))
    assert not name.endswith((".", " "))
    assert len(name.encode()) <= MAX_NAME_BYTES


def test_names_keep_what_they_can():
    assert safe("houses") == "houses"
    assert safe("Straße bei Nacht") == "Straße_bei_Nacht"
    assert safe("../../etc/passwd") == "_.._etc_passwd"
    assert safe("cafe\u0301") == "caf\u00e9"
    assert safe("...") == "_"
    assert safe("a\udcff") == "a_"


def test_long_names_stay_distinct():
    first, second = safe("x" * 300 + "1"), safe("x" * 300 + "2")
    assert first != second
    assert first[:50] == second[:50] == "x" * 50


def test_a_name_describes_the_image():
    changes = (("style_weight", 100.0), ("num_steps", (100, 60)))
    assert image_name("houses", ["starry_night"], ()) == "houses__starry_night"
    assert image_name("houses", ["starry_night"], changes) == (
        "houses__starry_night__style_weight=100__num_steps=100+60"
    )
    assert image_name("houses", ["night", "wave"], (("clamp", True),)) == "houses__night+wave__clamp=true"


def test_labels_distinguish_files_with_equal_names():
    paths = [Path("a/house.png"), Path("b/house.png"), Path("b/house.jpg"), Path("b/tree.png"), Path("c/House.png")]
    chosen = labels(paths)
    assert chosen[Path("b/tree.png")] == "tree"
    assert chosen[Path("b/house.jpg")] == "house_jpg"
    assert chosen[Path("a/house.png")] == "a_house"
    assert chosen[Path("c/House.png")] == "c_House"


paths = some.lists(
    some.lists(some.sampled_from(["a", "A", "b", "a_b", "a.png", "a.jpg", "é", "e\u0301"]), min_size=1, max_size=3),
    min_size=1,
    max_size=12,
)


@hypothesis.given(paths)
def test_labels_are_distinct_on_every_file_system(parts: list[list[str]]):
    files = list(dict.fromkeys(Path(*names) for names in parts))
    chosen = labels(files)
    assert set(chosen) == set(files)
    assert len({folded(name) for name in chosen.values()}) == len(files)


def test_equal_names_become_distinct():
    named = distinct({1: "a__b", 2: "A__B", 3: "c"})
    assert named[3] == "c"
    assert named[1].startswith("a__b-")
    assert named[2].startswith("A__B-")
    assert named[1][5:] != named[2][5:]
