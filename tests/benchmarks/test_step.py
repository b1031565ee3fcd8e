"""Comparisons of steps: which peers, in which order, which ratios; and real ones at the smallest sizes."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import comparison, device, harness, networks, step
from benchmarks.networks import Network
from benchmarks.peers import PEERS, Settings, Step, Unavailable

pytestmark = pytest.mark.usefixtures("unoptimised")

NAMES = ("jnst-float32", "torch-eager", "flaxmodels-scanned")
LAYERS = {"content_layer": "relu1_2", "style_layers": ("relu1_1", "relu1_2"), "style_layer_weights": (1.0, 1.0)}


def fake(losses: list[float], called: list[str], name: str) -> Step:
    """A peer that returns the given losses at every call."""

    def advance() -> list[float]:
        called.append(name[0])
        return losses

    return Step(advance, lambda: np.zeros((2, 2, 3)), len(losses))


def test_only_peers_with_the_same_optimiser_are_compared() -> None:
    assert set(PEERS) - set(step.COMPARABLE) == {"jnst-fourier"}
    assert set(step.DEFAULT_PEERS) | set(step.GROWTH_PEERS) <= set(step.COMPARABLE)


def test_steps_take_turns_after_a_warm_up() -> None:
    called: list[str] = []
    lengths = zip(NAMES, (1, 1, 5), strict=True)
    found = comparison.measure({name: fake([3.0] * length, called, name) for name, length in lengths}, rounds=2)
    assert "".join(called) == "jjttff" + "jtf" + "ftj"
    assert [len(each) for each in found["losses"].values()] == [4, 4, 20]
    assert list(found["ratios"]) == ["jnst-float32 / torch-eager", "jnst-float32 / flaxmodels-scanned"]
    for key, values in found["ratios"].items():
        ours, theirs = (found["seconds"][name]["samples"] for name in key.split(" / "))
        np.testing.assert_allclose(values["samples"], np.divide(ours, theirs))
        assert values["median"] == pytest.approx(np.median(values["samples"]))


def test_seconds_are_per_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "take_turns", lambda calls, rounds: {name: [10.0] * rounds for name in calls})
    steps = {"jnst-float32": fake([3.0], [], "j"), "flaxmodels-scanned": fake([3.0] * 5, [], "f")}
    found = comparison.measure(steps, rounds=3)
    assert found["seconds"]["jnst-float32"]["samples"] == [10.0] * 3
    assert found["seconds"]["flaxmodels-scanned"]["samples"] == [2.0] * 3
    assert found["ratios"]["jnst-float32 / flaxmodels-scanned"]["median"] == 5


@pytest.mark.parametrize("losses", [[3.1], [float("nan")]])
def test_different_losses_are_an_error(losses: list[float]) -> None:
    with pytest.raises(RuntimeError, match=r"^torch-eager: "):
        comparison.measure({"jnst-float32": fake([3.0], [], "j"), "torch-eager": fake(losses, [], "t")}, rounds=1)


def test_unavailable_peers_are_left_out_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(name: str, *_: Any) -> Step:
        if name == "torch-compile":
            raise Unavailable("there is no compiler")
        return fake([1.0], [], name)

    monkeypatch.setattr(comparison.peers, "prepare", prepare)
    image = np.zeros((4, 4, 3), np.float32)
    names = ("jnst-float32", "torch-compile", "crowson")
    steps, unavailable = comparison.prepare_steps(names, image, image, Settings({}))
    assert list(steps) == ["jnst-float32"]
    assert unavailable == {"torch-compile": "there is no compiler"}


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch, shallow_network: Network) -> None:
    """Replace the network by its first two layers."""
    monkeypatch.setattr(networks, "vgg19", lambda *_: {name: shallow_network[name] for name in ("conv1_1", "conv1_2")})
    settings: Any = {"gram": lambda params: Settings(params, **LAYERS)}  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr(step, "STATISTICS", settings)
    monkeypatch.setattr(device, "STATISTICS", settings)


@pytest.mark.long
@pytest.mark.usefixtures("shallow")
def test_a_whole_benchmark(tmp_path: Path) -> None:
    names = ("jnst-float32", "flaxmodels-dispatched")
    flags = ["--sizes", "16", "32", "--rounds", "2", "--peers", *names, "--statistics", "gram", "-o", str(tmp_path)]
    for growth in ([], ["--growth"]):
        assert harness.main(["step", *flags, *growth]) == 0
        (path,) = tmp_path.glob("step-*.json")
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        results = json.loads(path.read_text())["results"]
        assert [row["size"] for row in results["comparisons"]] == [16, 32]
        for row in results["comparisons"]:
            assert (row["statistic"], row["unavailable"]) == ("gram", {})
            assert [len(row["seconds"][name]["samples"]) for name in names] == [2, 2]
            np.testing.assert_allclose(*(row["losses"][name] for name in names), rtol=1e-4)
            assert len(row["losses"][names[0]]) == comparison.WARM_UP + 2
        assert results.get("slopes", {}).keys() == (set(names) if growth else set())


def test_slopes_of_growth() -> None:
    rows = [{"size": size, "seconds": {"a": {"median": 1e-6 * size**2}}} for size in (128, 256, 1024)]
    assert step.slopes(rows) == {"a": pytest.approx(1.0)}
    with pytest.raises(RuntimeError, match="two sizes"):
        step.slopes(rows[:1])


def test_operations_of_a_step(shallow_network: Network) -> None:
    """Computed by hand for 8 x 8 pixels: positions times input and output channels, forwards and backwards."""
    params = {name: shallow_network[name] for name in ("conv1_1", "conv1_2", "conv2_1")}
    convolutions = 64 * 9 * 3 * 64 + 64 * 9 * 64 * 64 + 16 * 9 * 64 * 128
    settings = Settings(params, "relu1_2", ("relu2_1",), style_layer_weights=(1.0,))
    assert device.step_operations((8, 8), settings) == 4 * (convolutions + 16 * 128 * 128)


@pytest.mark.usefixtures("shallow")
def test_a_device_by_size_and_batch() -> None:
    options = argparse.Namespace(
        shared=None, weights=None, sizes=[16], batches=[1, 2], rounds=1, product_side=64, peers=["jnst-float32"]
    )
    results = device.measure(options)
    assert results["products"].keys() == {"float32", "bfloat16"}
    assert [(row["size"], row["batch"]) for row in results["comparisons"]] == [(16, 1), (16, 2)]
    rate = results["products"]["float32"]["median"]
    for row in results["comparisons"]:
        seconds = row["seconds"]["jnst-float32"]["median"]
        settings = Settings(networks.vgg19(None, None), **LAYERS)  # pyright: ignore[reportArgumentType]
        expected = row["batch"] * device.step_operations((16, 16), settings) / seconds / rate
        assert row["share"]["jnst-float32"] == pytest.approx(expected)
    assert len(device.plot(results).axes) == 1


def test_images_of_a_batch_differ(pair: tuple[np.ndarray, np.ndarray]) -> None:
    contents, styles = device.batched(pair, 4)
    assert contents.shape == styles.shape == (4, *pair[0].shape)
    assert len({image.tobytes() for image in (*contents, *styles)}) == 8
    assert {name for name in device.NAMES if device.precision(name) == "bfloat16"} == {
        name for name in PEERS if "bfloat16" in name
    }
