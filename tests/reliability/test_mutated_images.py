"""Damaged image files: a small run of `mutated_images`, files damaged by Hypothesis, and truncated files."""

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
from mutated_images import Outcome, Task, check, examine, intact_files, run
from mutated_images_changes import mutant

from jnst.apps.io import load_image
from jnst.errors import ImageError

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures memory with Linux's /proc")


@pytest.mark.long
@linux
def test_damaged_files_are_decoded_or_refused(tmp_path: Path):
    outcomes = run(Task(seed=8), count=2700, jobs=2, kept=tmp_path)
    assert [outcome.fault for outcome in outcomes if outcome.fault] == []
    assert [outcome.number for outcome in outcomes] == list(range(2700))
    for kind in ("PNG", "JPEG", "WebP", "TIFF", "GIF", "other"):
        found = {outcome.decoded for outcome in outcomes if outcome.name.startswith(kind)}
        assert found == {True, False}, f"the damage to {kind} is too light or too heavy to test anything"


names = st.sampled_from(sorted(intact_files()))
randoms = st.randoms(use_true_random=False)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
@given(name=names, rng=randoms, size=st.sampled_from((None, 1, 9, 40)))
def test_files_damaged_by_hypothesis(tmp_path_factory: pytest.TempPathFactory, name: str, rng: random.Random, size):
    path = tmp_path_factory.getbasetemp() / "damaged image"
    path.write_bytes(mutant(rng, name, intact_files()))
    assert not examine(path, size)[1]


@pytest.mark.parametrize("name", sorted(intact_files()))
def test_truncated_at_every_twentieth(name: str, tmp_path: Path):
    path, data = tmp_path / "truncated", intact_files()[name]
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(load_image(path))
        for part in range(20):
            path.write_bytes(data[: len(data) * part // 20])
            decoded, fault = examine(path)
            assert not fault
            if decoded:  # only data behind the pixels may be missing
                found = np.asarray(load_image(path))
                upright = found if found.shape == expected.shape else np.rot90(found, -1)
                assert np.array_equal(upright, expected) or name == "PNG/late-exif"


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (KeyError("tile"), "KeyError escaped"),
        (ImageError("cannot be read"), "does not name the file"),
        (ImageError("'{}' is\nbad"), "not one line"),
        (ImageError("'{}' " + "very " * 80), "characters"),
    ],
)
def test_wrong_errors_are_found(error: Exception, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def load(path: Path, size: int | None) -> None:
        raise type(error)(str(error.args[0]).format(path))

    (tmp_path / "a.png").write_bytes(intact_files()["PNG/rgb"])
    monkeypatch.setattr(mutated_images, "load_image", load)
    assert fault in examine(tmp_path / "a.png")[1]


def test_wrong_images_and_unexpected_warnings_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.png"
    path.write_bytes(intact_files()["PNG/rgb"])
    assert examine(path, 9) == (True, "")
    image = load_image(path)

    def warn(path: Path, size: int | None):
        warnings.warn("corrupt data", UserWarning, stacklevel=1)
        return image

    for load, fault in [
        (lambda path, size: image * 2, "values from"),
        (lambda path, size: image * np.nan, "values from nan"),
        (lambda path, size: image.astype("float16"), "float16"),
        (lambda path, size: image[:5], "image_size says"),
        (warn, "an unexpected warning: corrupt data"),
    ]:
        monkeypatch.setattr(mutated_images, "load_image", load)
        assert fault in examine(path)[1]


def check_or_fail(seed: int, number: int, path: Path) -> Outcome:
    """Hang for the first of three files, and crash for the last."""
    if number == 0:
        while True:
            pass
    if number == 2:
        os.abort()
    return check(seed, number, path)


@pytest.mark.long
@linux
def test_a_hang_and_a_crash_are_found(tmp_path: Path):
    """A new process continues where the dead one stopped."""
    outcomes = run(Task(8, check_or_fail, 0.3), count=3, jobs=1, kept=tmp_path)
    assert [bool(outcome.fault) for outcome in outcomes] == [True, False, True]
    assert f"died, -{signal.SIGPROF:d}" in outcomes[0].fault
    assert "in check_or_fail" in outcomes[0].fault
    assert "Aborted" in outcomes[2].fault
    assert {path.name for path in tmp_path.iterdir()} == {"8-0", "8-2"}
