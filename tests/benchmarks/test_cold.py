"""The benchmark of cold starts: the order of processes, and the times that they report."""

import json
import time

import pytest

from benchmarks import cold
from benchmarks.children import first_step


def test_both_ways_take_turns_after_a_first_start(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def start(size: int, environment: dict[str, str]) -> tuple[float, float]:
        started.append(environment["way"])
        return {"first": 8.0, "cached": 2.0}[environment["way"]], 5.0

    monkeypatch.setattr(cold, "first_step", start)
    found = cold.measure_size(64, {"first": {"way": "first"}, "cached": {"way": "cached"}}, rounds=2)
    assert started == ["first", "cached", "first", "cached", "cached", "first"]
    assert found["seconds"]["first"]["samples"] == [8.0, 8.0]
    assert found["ratios"]["cached / first"]["median"] == 0.25
    assert len(cold.plot({"starts": [found]}).axes) == 1


def test_different_losses_with_the_cache_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "first_step", lambda size, environment: (1.0, 5.0 if environment else 6.0))
    with pytest.raises(RuntimeError, match="cached"):
        cold.measure_size(64, {"first": {}, "cached": {"a": "b"}}, rounds=1)


@pytest.mark.usefixtures("unoptimised")
def test_a_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.time()
    assert first_step.main(["32"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert begun < report["done"] <= time.time()
    assert 0 < report["loss"] < 1e4


def test_a_process_is_timed_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_module(module: str, *arguments: str, environment: dict[str, str]) -> tuple[str, float]:
        assert (module, arguments, environment) == (first_step.__name__, ("64",), {"a": "b"})
        return f'a warning\n{{"done": {time.time() + 5}, "loss": 2.5}}\n', 99.0

    monkeypatch.setattr(cold, "run_module", run_module)
    seconds, loss = cold.first_step(64, {"a": "b"})
    assert seconds == pytest.approx(5, abs=1)
    assert loss == 2.5
