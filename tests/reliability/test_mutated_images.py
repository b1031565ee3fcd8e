"""Damaged image files: the small count of what `mutated_images` does, and files that Hypothesis damages."""

import os
import random
import signal
import warnings
from pathlib import Path

import mutated_images
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutated_images import Seen, Task, examine, look, run, whole
from mutated_images_changes import mutant

from jnst.apps.io import load_image
from jnst.errors import ImageError

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory as Linux does")


@linux
def test_damaged_files_are_decoded_or_refused(tmp_path: Path):
    seen = run(Task(seed=8), count=2700, jobs=2, kept=tmp_path)
    assert [one.fault for one in seen if one.fault] == []
    assert [one.number for one in seen] == list(range(2700))
    for kind in ("PNG", "JPEG", "WebP", "TIFF", "GIF", "other"):
        found = {one.decoded for one in seen if one.name.startswith(kind)}
        assert found == {True, False}, f"damage to {kind} is too little or too much to be one"


names = st.sampled_from(sorted(whole()))
randoms = st.randoms(use_true_random=False)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
@given(name=names, dice=randoms, size=st.sampled_from((None, 1, 9, 40)))
def test_files_that_hypothesis_damages(tmp_path_factory: pytest.TempPathFactory, name: str, dice: random.Random, size):
    path = tmp_path_factory.getbasetemp() / "damaged image"
    path.write_bytes(mutant(dice, name, whole()))
    assert not examine(path, size)[1]


@pytest.mark.parametrize("name", sorted(whole()))
def test_cut_off_at_every_twentieth(name: str, tmp_path: Path):
    path, data = tmp_path / "cut off", whole()[name]
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(load_image(path))
        for part in range(20):
            path.write_bytes(data[: len(data) * part // 20])
            decoded, fault = examine(path)
            assert not fault
            if decoded:  # only what follows the pixels is missing
                found = np.asarray(load_image(path))
                upright = found if found.shape == expected.shape else np.rot90(found, -1)
                assert np.array_equal(upright, expected) or name == "PNG/late-exif"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("tile"), "KeyError escaped"),
        (ImageError("cannot be read"), "does not name the file"),
        (ImageError("'{}' is\nbad"), "not one line"),
        (ImageError("'{}' " + "very " * 80), "characters"),
    ],
)
def test_faults_are_found(error: Exception, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def load(path: Path, size: int | None) -> None:
        raise type(error)(str(error.args[0]).format(path))

    (tmp_path / "a.png").write_bytes(whole()["PNG/rgb"])
    monkeypatch.setattr(mutated_images, "load_image", load)
    assert words in examine(tmp_path / "a.png")[1]


def test_wrong_images_and_foreign_warnings_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.png"
    path.write_bytes(whole()["PNG/rgb"])
    assert examine(path, 9) == (True, "")
    image = load_image(path)

    def warn(path: Path, size: int | None):
        warnings.warn("corrupt data", UserWarning, stacklevel=1)
        return image

    for load, words in [
        (lambda path, size: image * 2, "values from"),
        (lambda path, size: image * np.nan, "values from nan"),
        (lambda path, size: image.astype("float16"), "float16"),
        (lambda path, size: image[:5], "image_size says"),
        (warn, "a warning that is not ours: corrupt data"),
    ]:
        monkeypatch.setattr(mutated_images, "load_image", load)
        assert words in examine(path)[1]


def look_or_not(seed: int, number: int, path: Path) -> Seen:
    """Of three files, hang at the first and crash at the last."""
    if number == 0:
        while True:
            pass
    if number == 2:
        os.abort()
    return look(seed, number, path)


@linux
def test_a_hang_and_a_crash_are_found(tmp_path: Path):
    """And what the dead process leaves undone is done by another."""
    seen = run(Task(8, look_or_not, 0.3), count=3, jobs=1, kept=tmp_path)
    assert [bool(one.fault) for one in seen] == [True, False, True]
    assert f"died, -{signal.SIGPROF:d}" in seen[0].fault
    assert "in look_or_not" in seen[0].fault
    assert "Aborted" in seen[2].fault
    assert {path.name for path in tmp_path.iterdir()} == {"8-0", "8-2"}
