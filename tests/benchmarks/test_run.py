"""The benchmark of whole runs: when a race ends, who judges it, and real runs at the smallest sizes."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import networks, run
from benchmarks.networks import ImageArray, Network
from benchmarks.peers import Settings, Step

pytestmark = pytest.mark.usefixtures("unoptimised")


class Falling:
    """A run whose losses fall by a constant from 100. Its image has the current loss as its value."""

    def __init__(self, pace: float = 10.0) -> None:
        self.loss, self.pace, self.calls = 100.0, pace, 0

    def advance(self) -> list[float]:
        self.calls += 1
        self.loss -= self.pace
        return [self.loss + self.pace]

    def step(self) -> Step:
        return Step(self.advance, lambda: np.full((1, 1, 3), self.loss))


def value(image: ImageArray) -> float:
    return float(image.max())


def test_the_judge_ends_a_race() -> None:
    peers = {"jnst-float32": Falling(10.0), "torch-eager": Falling(5.0)}
    runs = run.race(lambda name: peers[name].step(), list(peers), value, target=61.0, every=3, limit=100)
    assert [(each["steps"], each["reached"]) for each in runs.values()] == [(6, 40.0), (9, 55.0)]
    assert runs["torch-eager"]["losses"] == [100.0 - 5 * number for number in range(9)]
    assert [each.calls for each in peers.values()] == [6, 9]
    assert all(each["seconds"] > 0 for each in runs.values())


def test_the_losses_of_peers_do_not_end_a_race() -> None:
    with pytest.raises(RuntimeError, match=r"^jnst-auto: a loss of 99 after 20 steps, not 50"):
        run.race(lambda name: Falling().step(), ["jnst-auto"], lambda image: 99.0, target=50.0, every=5, limit=20)
    with pytest.raises(RuntimeError, match="jnst-auto"):
        run.race(lambda name: Falling(np.nan).step(), ["jnst-auto"], value, target=50.0, every=5, limit=20)


def test_reports_of_several_tries() -> None:
    """The ratios are 2/4 and 3/12, with compilation 5/5 and 6/13."""
    names = ("jnst-float32", "torch-eager")
    tries = [
        {
            name: {"seconds": seconds, "steps": 10, "losses": [7.0, 6.0], "reached": 1.0}
            for name, seconds in zip(names, times, strict=True)
        }
        for times in ((2.0, 4.0), (3.0, 12.0))
    ]
    found = run.report(tries, dict(zip(names, (3.0, 1.0), strict=True)), names)
    key = "jnst-float32 / torch-eager"
    assert found["excluded"]["ratios"][key]["samples"] == [0.5, 0.25]
    assert found["included"]["ratios"][key]["samples"] == [1.0, 6 / 13]
    tries[0]["torch-eager"]["losses"] = [8.0, 6.0]
    with pytest.raises(RuntimeError, match="torch-eager: the loss of step 1"):
        run.report(tries, dict.fromkeys(names, 0.0), names)


@pytest.fixture
def published(tmp_path: Path, shared: Path) -> Path:
    """A curve whose loss is reached within a few steps."""
    curve = json.loads((shared / "golden/trajectory_parrots_starry_lbfgs_max.json").read_text())
    curve |= {"image_size": 32, "iterations": [{"iteration": 2, "total": 2e6}]}
    path = tmp_path / "curve.json"
    path.write_text(json.dumps(curve))
    return path


@pytest.mark.long
def test_a_run_to_a_loss(published: Path, shared: Path) -> None:
    names = ("jnst-float32",)
    options = argparse.Namespace(shared=shared, weights=None, evaluation=2, every=2, rounds=2, peers=names)
    found = run.reach(published, options)
    assert (found["curve"], found["target"]) == ("curve.json", 2e6)
    for name in names:
        assert len(found["excluded"]["seconds"][name]["samples"]) == 2
        assert found["steps"][name][0] % 2 == 0
        assert max(found["reached"][name]) <= 2e6 < found["losses"][name][0]
        excluded, included = (found[key]["seconds"][name]["median"] for key in ("excluded", "included"))
        assert included == pytest.approx(excluded + found["compile_seconds"][name])
    assert len(run.plot({"reach": [found]}).axes) == 1


@pytest.mark.long
def test_agreement_of_precisions(shared: Path, shallow_network: Network) -> None:
    params = {name: shallow_network[name] for name in ("conv1_1", "conv1_2")}
    settings = Settings(params, "relu1_2", ("relu1_1",), style_layer_weights=(1.0,), optimizer="lbfgs", steps=2)
    row = run.agreement(shared, settings, run.PAIRS[0], 32, "bfloat16")
    assert row["gap"] == pytest.approx(row["losses"]["bfloat16"] / row["losses"]["float32"] - 1)
    assert abs(row["gap"]) < 0.03
    assert 0.97 < row["ssim"] <= 1.0
    assert row["losses"]["noisy start"] != row["losses"]["float32"]
    assert 0 < abs(row["noisy_start"]["gap"]) < 0.03
    assert 0.999 < row["noisy_start"]["ssim"] <= 1.0
    assert len(run.plot({"agreement": [row]}).axes) == 1


def test_image_sizes_equal_those_of_neural_style_pt(shared: Path) -> None:
    """768 x 512 pixels become 256 x 170: of the height of 170.67, the fraction is cut off."""
    assert networks.sized_image(shared / networks.CONTENT, 256).shape == (170, 256, 3)


def test_the_shared_folder_is_required() -> None:
    with pytest.raises(SystemExit, match="--shared"):
        run.measure(argparse.Namespace(shared=None))
