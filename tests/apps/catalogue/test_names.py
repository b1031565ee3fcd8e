"""File names: what they say, what they leave out, and that no two are alike."""

from pathlib import Path

import hypothesis
import hypothesis.strategies as some

from jnst.apps.catalogue.names import MOST_BYTES, distinct, folded, image_name, labels, safe

FORBIDDEN = set('<>:"/\\|?*') | {chr(code) for code in range(32)}
"""On Windows; on other systems the slash and NUL alone."""

texts = some.text(some.characters(codec=None), max_size=120)


@hypothesis.given(texts)
def test_names_are_safe_whatever_they_are_made_of(text: str):
    name = safe(text)
    assert name
    assert not FORBIDDEN & set(name)
    assert not name.startswith((".", "-"))
    assert not name.endswith((".", " "))
    assert len(name.encode()) <= MOST_BYTES


def test_names_keep_what_they_can():
    assert safe("houses") == "houses"
    assert safe("Straße bei Nacht") == "Straße_bei_Nacht"
    assert safe("../../etc/passwd") == "_.._etc_passwd"
    assert safe("cafe\u0301") == "caf\u00e9"
    assert safe("...") == "_"
    assert safe("a\udcff") == "a_"


def test_long_names_stay_apart():
    first, second = safe("x" * 300 + "1"), safe("x" * 300 + "2")
    assert first != second
    assert first[:50] == second[:50] == "x" * 50


def test_a_name_says_what_the_image_is():
    changes = (("style_weight", 100.0), ("num_steps", (100, 60)))
    assert image_name("houses", ["starry_night"], ()) == "houses__starry_night"
    assert image_name("houses", ["starry_night"], changes) == (
        "houses__starry_night__style_weight=100__num_steps=100+60"
    )
    assert image_name("houses", ["night", "wave"], (("clamp", True),)) == "houses__night+wave__clamp=true"


def test_labels_tell_files_of_one_name_apart():
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


def test_names_that_meet_by_chance_are_told_apart():
    named = distinct({1: "a__b", 2: "A__B", 3: "c"})
    assert named[3] == "c"
    assert named[1].startswith("a__b-")
    assert named[2].startswith("A__B-")
    assert named[1][5:] != named[2][5:]
