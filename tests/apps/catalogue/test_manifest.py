"""Manifests: what a line may say, and which line is wrong."""

import json
from pathlib import Path

import pytest

from jnst.apps.catalogue.manifest import read_manifest
from jnst.errors import JnstError

GOOD = {"content": "a.png", "style": "b.png"}


def read(path: Path, *lines: object):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return read_manifest(path, 4, ".png", lambda changes: None)


def test_lines_are_entries_with_files_beside_the_manifest(tmp_path: Path):
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
        ('{"content": "a.png"', ("no JSON",)),
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
def test_two_lines_do_not_make_one_file(tmp_path: Path, first, second):
    with pytest.raises(JnstError, match=r"line 3: makes .* as line 1 does"):
        read(tmp_path / "jobs.jsonl", first, "", second)


def test_a_name_that_was_given_goes_before_one_that_was_made(tmp_path: Path):
    made, given = read(tmp_path / "jobs.jsonl", GOOD, {"content": "c.png", "style": "b.png", "output": "A__b.png"})
    assert given.file == "A__b.png"
    assert made.file.startswith("a__b-")


def test_files_that_are_no_manifests(tmp_path: Path):
    with pytest.raises(JnstError, match=r"none\.jsonl.* cannot be read"):
        read_manifest(tmp_path / "none.jsonl", 0, ".png", lambda changes: None)
    with pytest.raises(JnstError, match="has no lines"):
        read(tmp_path / "jobs.jsonl", "", " ")
    (tmp_path / "jobs.jsonl").write_bytes(b"\xff\xfe\0")
    with pytest.raises(JnstError, match="UTF-8"):
        read_manifest(tmp_path / "jobs.jsonl", 0, ".png", lambda changes: None)
    (tmp_path / "jobs.jsonl").write_text("\ufeff" + json.dumps(GOOD))
    assert len(read_manifest(tmp_path / "jobs.jsonl", 0, ".png", lambda changes: None)) == 1
