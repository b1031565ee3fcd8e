"""A thousand of the damaged and forged files of `mutated_weights.py`, and a check that it would notice faults."""

import contextlib
import dataclasses
from pathlib import Path

import mutated_weights
import numpy as np
import pytest
import watched
from mutated_weights import Case, accepted_verdict, run, verdict
from weights_kinds import KINDS, Read

from jnst.errors import WeightsError


@pytest.mark.long
def test_a_thousand_files_are_read_unchanged_or_refused() -> None:
    result = run(seed=0, count=1000, jobs=1)
    assert result["faults"] == []
    assert result["count"] == 1000
    assert result["megabytes grown"] < 256
    for counts in result["kinds"].values():
        assert counts["refused"] > 0
    assert result["total"]["equal"] > 0


@pytest.mark.parametrize("name", KINDS)
def test_faults_would_be_noticed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = KINDS[name]
    kind.make(tmp_path)
    expected = kind.read(tmp_path / kind.main)
    case = Case(name, "nothing", False, kind.files())

    def result(**changes: np.ndarray) -> str:
        return accepted_verdict(case, kind, Read(expected.about, {**expected.arrays, **changes}), expected)[0]

    # The guards have their own tests, and cannot be removed from a process.
    monkeypatch.setattr(watched, "untouched", lambda folder, names: contextlib.nullcontext())
    first, array = next(iter(expected.arrays.items()))
    assert result() == "equal"
    assert result(**{first: array + 1}) == ("fault: accepted despite checksums" if kind.checked else "numbers")
    assert result(**{first: array * np.nan}).startswith("fault")
    assert result(**{first: array[..., :1]}).startswith("fault")
    assert result(another=array).startswith("fault")

    for error, what in (
        (RuntimeError("x"), "fault: another exception"),
        (kind.refusal(f"{tmp_path}/x: two\nlines"), "fault: unclear message"),
        (kind.refusal("no name"), "fault: unclear message"),
        (kind.refusal(f"{tmp_path}/x: one line"), "refused"),
    ):

        def read(path: Path, error: Exception = error) -> Read:
            raise error

        monkeypatch.setitem(mutated_weights.KINDS, name, dataclasses.replace(kind, read=read))
        assert verdict(case, tmp_path, expected)[0] == what


def test_the_checksum_of_our_own_files_covers_numbers_and_metadata(tmp_path: Path) -> None:
    kind = KINDS["jnst"]
    kind.make(tmp_path)
    path = tmp_path / kind.main
    data = path.read_bytes()
    for place in (len(data) - 1, data.index(b"made here"), data.index(b"reflect") - 1, data.index(b"0.485")):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(WeightsError, match=r"sha256|not readable|cannot be read"):
            kind.read(path)
    path.write_bytes(data.replace(b'"sha256"', b'"sha265"'))
    with pytest.raises(WeightsError, match="sha256"):
        kind.read(path)
