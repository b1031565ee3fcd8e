"""Comparing the steps of two checkouts, with small folders in the place of checkouts."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import checkouts, harness, networks, step
from benchmarks.networks import Network

PEERS = """
import time

STATISTICS = {{"gram": dict}}


class Step:
    length = 2

    def advance(self):
        time.sleep({seconds})
        return [{loss}, {loss} / 2]


def prepare(peer, content, style, settings):
    assert (peer, content.shape, style.shape, *settings) == ("jnst-float32", (4, 4, 3), (4, 4, 3), "conv1_1")
    return Step()
"""


def make_checkout(folder: Path, *, loss: float = 8.0, seconds: float = 0.0) -> Path:
    """A folder with a package jnst, and benchmarks whose steps take some time and have some loss."""
    for name in ("jnst", "benchmarks"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").touch()
    (folder / "benchmarks" / "networks.py").write_text(Path(networks.__file__).read_text())
    (folder / "benchmarks" / "peers.py").write_text(PEERS.format(loss=loss, seconds=seconds))
    return folder


@pytest.fixture
def inputs(tmp_path: Path, shallow_network: Network) -> Path:
    path = tmp_path / "inputs.npz"
    image = networks.square_images(None, 4)[0]
    networks.write_inputs(path, {"conv1_1": shallow_network["conv1_1"]}, image, image)
    return path


def test_both_checkouts_are_timed_pair_by_pair(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkouts, "ROOT", make_checkout(tmp_path / "this", seconds=0.1))
    other = make_checkout(tmp_path / "other")
    found = checkouts.measure(other, "jnst-float32", "gram", inputs, rounds=2, steps=3)
    assert {name: len(values["samples"]) for name, values in found["seconds"].items()} == {"this": 2, "other": 2}
    assert min(found["seconds"]["this"]["samples"]) >= 0.05 > max(found["seconds"]["other"]["samples"])
    pairs = zip(found["seconds"]["this"]["samples"], found["seconds"]["other"]["samples"], strict=True)
    assert found["ratios"]["this / other"]["samples"] == [this / other for this, other in pairs]
    assert found["losses"] == {name: [8.0, 4.0] * 5 for name in ("this", "other")}
    assert "round 2 of 2" in capfd.readouterr().out
    row = {"size": 4, "statistic": "gram", "peer": "jnst-float32", **found}
    assert len(step.plot({"comparisons": [row]}).axes) == 1


def test_the_order_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Process:
        def __init__(self, folder: Path, arguments: tuple[str, ...]) -> None:
            self.name, self.losses = folder.name, [1.0]
            calls.append(self.name.upper())

        def __enter__(self) -> "Process":
            return self

        def __exit__(self, *_: Any) -> None: ...

        def advance(self) -> float:
            calls.append(self.name)
            return 1.0

    monkeypatch.setattr(checkouts, "TimedSteps", Process)
    for backwards in (False, True):
        checkouts.run_round({"a": Path("a"), "b": Path("b")}, (), 2, backwards=backwards)
    assert "".join(calls) == "AB" + "abba" + "BA" + "baab"


def test_different_losses_are_an_error(tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkouts, "ROOT", make_checkout(tmp_path / "this"))
    other = make_checkout(tmp_path / "other", loss=9.0)
    with pytest.raises(RuntimeError, match="other: the loss of step 1 is 9, but 8 for this"):
        checkouts.measure(other, "jnst-float32", "gram", inputs, rounds=1, steps=1)


def test_a_process_that_fails_is_an_error(
    tmp_path: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkouts, "ROOT", make_checkout(tmp_path / "this"))
    with pytest.raises(RuntimeError, match=r"the process for \S+ ended with 1: see its error above"):
        checkouts.measure(tmp_path / "this", "jnst-float32", "cosine", inputs, rounds=1)
    assert "KeyError: 'cosine'" in capfd.readouterr().err


def test_a_folder_without_jnst_is_no_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        harness.main(["step", "--against", str(tmp_path)])
    assert "expected a folder that contains jnst/ and benchmarks/" in capsys.readouterr().err
