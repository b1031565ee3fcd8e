"""When a job is done: hashes of everything that an image depends on, the journal, and the index."""

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
from jnst.apps.catalogue.digest import file_hash, job_digest, network_digest, plain, settings_json
from jnst.apps.catalogue.entries import Entry
from jnst.apps.catalogue.journal import Journal, Record, is_done, make_index, read_journal, same_jobs, save_index
from jnst.presets import PRESETS, STATISTICS
from jnst.presets.overrides import PARTS

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
def test_everything_that_an_image_depends_on_changes_its_digest(change: dict[str, Any]):
    assert digest_with() == digest_with()
    assert digest_with(**change) != digest_with()


def other_value(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 0.5
    return "other" if value != "other" else "another"


def test_every_setting_changes_the_digest():
    digests = {digest_with()}
    count = 1
    for part in PARTS:
        inner = getattr(SETTINGS, part)
        for field in dataclasses.fields(inner):
            changed = dataclasses.replace(inner, **{field.name: other_value(getattr(inner, field.name))})
            digests.add(digest_with(settings=dataclasses.replace(SETTINGS, **{part: changed})))
            count += 1
    digests.add(digest_with(settings=jnst.preset(SETTINGS, keep_color="lab")))
    assert len(digests) == count + 1


@pytest.mark.parametrize("change", [{"summary": "other"}, {"source": "other"}, {"alternatives": ()}])
def test_descriptions_do_not_change_the_digest(change: dict[str, Any]):
    assert digest_with(settings=dataclasses.replace(SETTINGS, **change)) == digest_with()


def test_every_preset_and_statistic_has_its_own_json():
    settings = [
        *PRESETS.values(),
        *(jnst.preset(SETTINGS, style_statistic=name) for name in STATISTICS if name != "gram"),
    ]
    forms = {json.dumps(settings_json(one), sort_keys=True, allow_nan=False) for one in settings}
    assert len(forms) == len(settings)


def test_values_that_json_lacks_are_refused():
    assert plain({"a": (1, None, True)}) == {"a": [1, None, True]}
    assert plain(jnst.Pyramid(2.0)) == {"class": "Pyramid", "factor": 2.0, "min_size": 128, "levels": None}
    with pytest.raises(TypeError, match="function"):
        plain(lambda: None)


def test_a_network_s_digest_depends_on_options_and_parameters():
    backbone, loaded = jnst.load_backbone()
    params = jax.tree.map(np.asarray, loaded)
    digests = [
        network_digest(backbone, params),
        network_digest(backbone.with_options(padding="reflect"), params),
        network_digest(dataclasses.replace(backbone, training="other"), params),
        network_digest(backbone, jax.tree.map(lambda leaf: np.nextafter(leaf, leaf + 1), params)),
    ]
    assert len(set(digests)) == 4
    assert network_digest(backbone, loaded) == digests[0]


def test_only_regular_files_are_hashed(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    with pytest.raises(OSError, match="none"):
        file_hash(tmp_path / "none")
    with pytest.raises(OSError, match="regular"):
        file_hash(tmp_path)


def record(file: str, **changes: Any) -> Record:
    return Record(file=file, digest="d", content="c.png", styles=["s.png"], changes={}, seed=0, **changes)


def written(folder: Path, file: str, **changes: Any) -> Record:
    data = save(folder / file, 3).read_bytes()
    return record(file, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), **changes)


def test_a_journal_returns_what_was_written(tmp_path: Path):
    assert read_journal(tmp_path) == {}
    first = record("a\udcff.png", losses=[1.5, None], parts={"style/x": 0.1}, time=1.0, error='no "image"\n', code=3)
    with Journal(tmp_path) as journal:
        journal.write(first)
        assert read_journal(tmp_path) == {first.file: first}
    with Journal(tmp_path) as journal:
        journal.write(record("b.png", time=2.0))
    assert set(read_journal(tmp_path)) == {"a\udcff.png", "b.png"}


def test_the_last_record_of_a_file_counts(tmp_path: Path):
    for seconds in (2.0, 3.0):
        with Journal(tmp_path) as journal:
            journal.write(record("a.png", seconds=seconds))
    assert read_journal(tmp_path)["a.png"].seconds == 3.0


@pytest.mark.parametrize("cut", [1, 10, 100, 300])
def test_an_incomplete_line_is_skipped_and_does_not_swallow_the_next(tmp_path: Path, cut: int):
    with Journal(tmp_path) as journal:
        journal.write(record("a.png"))
        journal.write(record("b.png"))
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(tmp_path) as journal:
        journal.write(record("c.png"))
    # A line that lacks nothing but its line break is complete.
    expected = {"a.png", "c.png"} | ({"b.png"} if cut == 1 else set())
    assert set(read_journal(tmp_path)) == expected - ({"a.png"} if cut == 300 else set())


def test_lines_that_are_not_records_are_skipped(tmp_path: Path):
    with Journal(tmp_path) as journal:
        journal.write(record("a.png"))
    with (tmp_path / "journal.jsonl").open("ab") as file:
        file.write(b'[]\nnull\n{"file": "b.png"}\n{"file": "c.png", "more": 1}\n\xff\xfe\n')
    assert set(read_journal(tmp_path)) == {"a.png"}


def test_a_job_is_done_while_its_image_is_unchanged(tmp_path: Path):
    good = written(tmp_path, "a.png")
    assert is_done(good, "d", tmp_path)
    assert not is_done(good, "e", tmp_path)
    assert not is_done(None, "d", tmp_path)
    assert not is_done(dataclasses.replace(good, error="x", code=5), "d", tmp_path)
    assert not is_done(record("a.png"), "d", tmp_path)
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[-1] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    assert not is_done(good, "d", tmp_path)
    (tmp_path / "a.png").write_bytes(data[:-1])
    assert not is_done(good, "d", tmp_path)
    (tmp_path / "a.png").unlink()
    assert not is_done(good, "d", tmp_path)


def entry(number: int) -> Entry:
    return Entry(Path("c.png"), (Path(f"s{number}.png"),), (("num_steps", (2, 1)),), 0, f"{number}.png")


def outcome(entry: Entry, **changes: Any) -> Record:
    ran = {"width": 24, "height": 18, "bytes": 1, "sha256": "h", "steps": 2, "losses": [2.0, 1.0], "seconds": 0.1}
    return record(entry.file, **(ran | {"parts": {"style/x": 0.5}} | changes))


def test_the_index_states_the_outcome_of_every_job():
    entries = [entry(number) for number in range(4)]
    done, failed, unreadable, missing = entries
    records = {
        done.file: outcome(done),
        failed.file: outcome(failed, error="NaN", code=5, losses=[1.0, None]),
        unreadable.file: outcome(
            unreadable, error="damaged", code=3, bytes=0, steps=0, width=0, height=0, losses=[], parts={}
        ),
    }
    index = make_index({"preset": "jnst"}, entries, records)
    assert index["preset"] == "jnst"
    assert index["counts"] == {"done": 1, "failed": 2, "missing": 1}
    first, second, third, fourth = json.loads(json.dumps(index["jobs"], allow_nan=False))
    assert first == {
        "file": done.file,
        "content": str(done.content),
        "styles": [str(done.styles[0])],
        "changes": {"num_steps": [2, 1]},
        "seed": 0,
        "status": "done",
        "error": None,
        "width": 24,
        "height": 18,
        "steps": 2,
        "losses": {"first": 2.0, "last": 1.0},
        "parts": {"style/x": 0.5},
        "seconds": 0.1,
        "sha256": "h",
    }
    assert (second["status"], second["error"], second["losses"]["last"]) == ("failed", "NaN", None)
    assert (third["status"], third["error"], third["file"]) == ("failed", "damaged", None)
    assert "losses" not in third
    assert (fourth["status"], fourth["error"], fourth["file"]) == ("missing", None, None)
    assert fourth["content"] == str(missing.content)


def test_indexes_are_compared_by_their_jobs(tmp_path: Path):
    entries = [entry(number) for number in range(2)]
    index = make_index({"programs": 3}, entries, {one.file: outcome(one) for one in entries})
    assert not same_jobs(tmp_path, index)
    save_index(tmp_path, index)
    assert same_jobs(tmp_path, index | {"programs": 0})
    assert not same_jobs(tmp_path, make_index({}, entries, {}))
    (tmp_path / "index.json").write_text("[]")
    assert not same_jobs(tmp_path, index)
