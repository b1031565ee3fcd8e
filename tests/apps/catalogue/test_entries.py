"""What a catalogue consists of: files found, and every combination once."""

from pathlib import Path

import pytest
from small_images import save

from jnst.apps.catalogue.changes import parse_sweeps
from jnst.apps.catalogue.entries import collect, product
from jnst.apps.catalogue.folder import check_inputs, make_folder
from jnst.errors import ImageError, JnstError


def test_folders_and_files_are_collected_in_order_and_once(tmp_path: Path):
    for name in ("b", "a"):
        save(tmp_path / "many" / f"{name}.png", 0)
    (tmp_path / "many" / "notes.txt").write_text("x")
    single = save(tmp_path / "z.png", 1)
    found, others = collect([single, tmp_path / "many", tmp_path / "many" / "a.png", single], "--contents")
    assert [path.name for path in found] == ["z.png", "a.png", "b.png"]
    assert [path.name for path in others] == ["notes.txt"]


def test_a_file_that_is_named_is_taken_whatever_its_name(tmp_path: Path):
    (tmp_path / "image").touch()
    assert collect([tmp_path / "image"], "--styles") == ([tmp_path / "image"], [])


def test_what_is_not_there_is_said(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ImageError, match=r"--styles .* holds no images"):
        collect([tmp_path], "--styles")
    with pytest.raises(ImageError, match=r"--contents .*none.* does not exist"):
        collect([tmp_path / "none"], "--contents")


def test_every_combination_is_there_once_the_last_sweep_fastest():
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


def test_contents_of_one_name_make_files_of_different_names():
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


def test_inputs_are_not_written_over(tmp_path: Path):
    style = save(tmp_path / "s.png", 0)
    taken = save(tmp_path / "x__s.png", 1)
    entries = product([Path("x.png"), taken], [style], (), 0, ".png")
    check_inputs(entries, tmp_path / "out")
    with pytest.raises(JnstError, match=r"x__s\.png.* over an input"):
        check_inputs(entries, tmp_path)
