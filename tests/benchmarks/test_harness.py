"""How benchmarks are listed and run, and the form of their results."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from benchmarks import harness


class Sample:
    """A benchmark that returns a constant."""

    value: float = 0.5

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--own", default="usual")
        parser.set_defaults(sizes=[7])

    def measure(self, options: argparse.Namespace) -> dict[str, Any]:
        return {"value": self.value, "sizes": options.sizes}

    def plot(self, results: dict[str, Any]) -> Figure:
        figure = Figure(figsize=(1, 1))
        figure.subplots().plot([0, results["value"]])
        return figure


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Sample:
    made = Sample()
    monkeypatch.setitem(harness.BENCHMARKS, "sample", "sample")
    monkeypatch.setattr(harness, "load", lambda module: made)
    return made


def test_every_benchmark_is_listed_and_complete(capsys: pytest.CaptureFixture[str]) -> None:
    assert harness.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, module in harness.BENCHMARKS.items():
        assert any(line.startswith(f"{name} ") and len(line) > 40 for line in lines)
        benchmark = harness.load(module)
        options = harness.parse(name, benchmark, [])
        assert options.sizes is None or min(options.sizes) >= 128
        assert options.rounds >= harness.MIN_ROUNDS
        assert callable(benchmark.measure)
        assert callable(benchmark.plot)


def test_results_files(sample: Sample, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new"
    assert harness.main(["sample", "--rounds", "2", "--output", str(folder), "--shared", "/somewhere/shared"]) == 0
    assert "too few to publish" in capsys.readouterr().out
    (path,) = folder.glob("*.json")
    found = json.loads(path.read_text())
    assert list(found) == ["benchmark", "date", "machine", "settings", "results"]
    assert path.name == f"sample-{harness.slug(found['machine'])}-{found['date']}.json"
    assert {"cpu", "cores", "backend", "versions", "commit", "dirty", "environment"} <= found["machine"].keys()
    assert found["settings"] == {"shared": "shared", "rounds": 2, "sizes": [7], "weights": None, "own": "usual"}
    assert (found["results"]["value"], found["results"]["sizes"]) == (0.5, [7])
    assert found["results"]["others_share"] is None or 0 <= found["results"]["others_share"] <= 1
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_numbers_that_are_not_finite_are_an_error(sample: Sample, tmp_path: Path) -> None:
    sample.value = float("nan")
    with pytest.raises(ValueError, match="JSON"):
        harness.main(["sample", "--output", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_a_busy_machine_is_reported(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(harness, "others_share", lambda before, after: 0.25)
    assert harness.main(["sample", "--output", str(tmp_path)]) == 0
    assert "other processes took 25 % of the machine's time" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ({"cpu": "Intel(R) Xeon(R) Processor @ 2.70GHz", "backend": "cpu", "cores": 2}, "intel-xeon-2-cores"),
        ({"cpu": "x", "backend": "gpu", "device": "NVIDIA H200", "cores": 16}, "nvidia-h200-16-cores"),
    ],
)
def test_names_of_machines(head: dict[str, Any], expected: str) -> None:
    assert harness.slug(head) == expected


def test_wrong_names_and_numbers_of_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert harness.main(["stepp"]) == 2
    assert "did you mean step" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        harness.main(["first_image", "--rounds", "0"])
    assert "--rounds 0: expected at least 1" in capsys.readouterr().err
