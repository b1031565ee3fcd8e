"""When a job counts as done: digests of all that an image depends on, and journals that outlive their process."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from small_images import save

import jnst
from jnst.apps.catalogue.digest import FileHashes, job_digest, network_digest, plain, settings_json
from jnst.apps.catalogue.journal import Journal, Record, is_done, read_journals
from jnst.presets import PRESETS, STATISTICS, with_style_statistic

SETTINGS = jnst.preset("jnst")
ARGUMENTS: dict[str, Any] = {
    "content": "c",
    "styles": ["s", "t"],
    "settings": SETTINGS,
    "seed": 0,
    "network": "n",
    "writing": {"fit": "keep", "frame": None, "quality": None},
}


def digest_with(**changes: Any) -> str:
    arguments: dict[str, Any] = ARGUMENTS | changes
    return job_digest(**arguments)


@pytest.mark.parametrize(
    "change",
    [
        {"content": "x"},
        {"styles": ["t", "s"]},
        {"styles": ["s"]},
        {"seed": 1},
        {"network": "m"},
        {"writing": {"fit": "keep", "frame": None, "quality": 90}},
        {"writing": {"fit": "crop", "frame": (3, 4), "quality": None}},
    ],
)
def test_whatever_a_image_depends_on_changes_its_digest(change: dict[str, Any]):
    assert digest_with() == digest_with()
    assert digest_with(**change) != digest_with()


def other_value(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return "other" if value != "other" else "another"


def test_every_setting_changes_the_digest_but_for_words_about_them():
    digests = {digest_with()}
    fields = [field.name for field in dataclasses.fields(SETTINGS)]
    for name in fields:
        changed = jnst.preset(SETTINGS, **{name: other_value(getattr(SETTINGS, name))})
        digests.add(digest_with(settings=changed))
    assert len(digests) == 1 + len(fields) - len({"summary", "source", "alternatives"})


def test_all_presets_and_statistics_have_a_form_in_json_each_its_own():
    settings = [*PRESETS.values(), *(with_style_statistic(SETTINGS, name) for name in STATISTICS if name != "gram")]
    forms = {json.dumps(settings_json(one), sort_keys=True, allow_nan=False) for one in settings}
    assert len(forms) == len(settings)


def test_only_what_json_has_gets_a_digest():
    assert plain({"a": (1, None, True)}) == {"a": [1, None, True]}
    assert plain(jnst.Pyramid(2.0)) == {"class": "Pyramid", "factor": 2.0, "min_size": 128, "levels": None}
    with pytest.raises(TypeError, match="function"):
        plain(lambda: None)


def test_networks_differ_by_options_and_parameters():
    backbone, loaded = jnst.load_backbone()
    params = jax.tree.map(np.asarray, loaded)
    digests = [
        network_digest(backbone, params),
        network_digest(backbone.with_options(padding="zero"), params),
        network_digest(dataclasses.replace(backbone, training="other"), params),
        network_digest(backbone, jax.tree.map(lambda leaf: np.nextafter(leaf, leaf + 1), params)),
    ]
    assert len(set(digests)) == 4
    assert network_digest(backbone, loaded) == digests[0]


def test_files_are_hashed_once(tmp_path: Path):
    path, hashes = tmp_path / "a", FileHashes()
    path.write_bytes(b"abc")
    assert hashes(path) == hashlib.sha256(b"abc").hexdigest()
    path.write_bytes(b"abd")
    assert hashes(path) == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(OSError, match="none"):
        hashes(tmp_path / "none")
    with pytest.raises(OSError, match="regular"):
        hashes(tmp_path)


def record(file: str, **changes: Any) -> Record:
    return Record(file=file, digest="d", content="c.png", styles=["s.png"], changes={}, seed=0, **changes)


def written(folder: Path, file: str, **changes: Any) -> Record:
    data = save(folder / file, 3).read_bytes()
    return record(file, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), **changes)


def test_journals_give_back_what_was_written(tmp_path: Path):
    first = record("a\udcff.png", losses=[1.5, None], parts={"style/x": 0.1}, time=1.0, error='no "image"\n', code=3)
    with Journal(tmp_path, 0) as journal:
        journal.write(first)
        assert read_journals(tmp_path) == {first.file: first}
    with Journal(tmp_path, 1) as journal:
        journal.write(record("b.png", time=2.0))
    assert set(read_journals(tmp_path)) == {"a\udcff.png", "b.png"}
    assert read_journals(tmp_path / "none") == {}


def test_the_last_record_of_a_file_counts_whichever_process_wrote_it(tmp_path: Path):
    with Journal(tmp_path, 0) as journal:
        journal.write(record("a.png", time=2.0, seconds=2.0))
    with Journal(tmp_path, 1) as journal:
        journal.write(record("a.png", time=3.0, seconds=3.0))
        journal.write(record("a.png", time=1.0, seconds=1.0))
    assert read_journals(tmp_path)["a.png"].seconds == 3.0


@pytest.mark.parametrize("cut", [1, 10, 100, 300])
def test_a_line_that_broke_off_is_passed_over_and_swallows_none(tmp_path: Path, cut: int):
    with Journal(tmp_path, 0) as journal:
        journal.write(record("a.png"))
        journal.write(record("b.png"))
    path = tmp_path / "journal-0.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(tmp_path, 0) as journal:
        journal.write(record("c.png"))
    # Without its line break alone a line is whole.
    expected = {"a.png", "c.png"} | ({"b.png"} if cut == 1 else set())
    assert set(read_journals(tmp_path)) == expected - ({"a.png"} if cut == 300 else set())


def test_lines_that_are_no_records_are_passed_over(tmp_path: Path):
    with Journal(tmp_path, 0) as journal:
        journal.write(record("a.png"))
    with (tmp_path / "journal-7.jsonl").open("wb") as file:
        file.write(b'[]\nnull\n{"file": "b.png"}\n{"file": "c.png", "more": 1}\n\xff\xfe\n')
    assert set(read_journals(tmp_path)) == {"a.png"}


def test_done_is_what_is_there_as_it_was_written(tmp_path: Path):
    good = written(tmp_path, "a.png")
    assert is_done("a.png", "d", {"a.png": good}, tmp_path)
    assert not is_done("a.png", "e", {"a.png": good}, tmp_path)
    assert not is_done("a.png", "d", {}, tmp_path)
    assert not is_done("a.png", "d", {"a.png": dataclasses.replace(good, error="x", code=5)}, tmp_path)
    assert not is_done("a.png", "d", {"a.png": record("a.png")}, tmp_path)
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    assert not is_done("a.png", "d", {"a.png": good}, tmp_path)
    (tmp_path / "a.png").write_bytes(data[:-1])
    assert not is_done("a.png", "d", {"a.png": good}, tmp_path)
    (tmp_path / "a.png").unlink()
    assert not is_done("a.png", "d", {"a.png": good}, tmp_path)
