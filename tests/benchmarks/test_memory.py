"""The benchmark of memory, on a small network at the smallest sizes. Times are not tested."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import memory, networks, peers
from benchmarks.children import divided_memory, resident_memory
from benchmarks.networks import ImageArray, Network
from benchmarks.peers import Settings

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.mark.long
def test_steps_in_every_variant() -> None:
    rows = memory.measure_compiled("convnet", 32, rounds=2)
    assert [row["variant"] for row in rows] == list(memory.variants())
    for row in rows:
        assert (row["backbone"], row["size"], len(row["seconds"])) == ("convnet", 32, 2)
        # More than the image and its gradient.
        assert row["total_bytes"] > row["temporary_bytes"] > 2 * 4 * 32 * 32 * 3
    parts = [divided_memory.measure_case("convnet", 32, 1, remat) for remat in (False, True)]
    assert len(memory.plot({"steps": rows, "divided": parts}).axes) == 2


@pytest.mark.parametrize(("value", "change"), [(1.001, 0.0), (1.0, 0.01), (np.nan, 0.0), (1.0, np.nan)])
def test_a_variant_with_another_result_is_an_error(value: float, change: float) -> None:
    gradient = np.linspace(-1, 1, 12)
    plain = ((np.float32(1), {}), gradient)
    memory.check_equal({"plain": plain, "remat": plain})
    with pytest.raises(RuntimeError, match="remat differs from plain"):
        memory.check_equal({"plain": plain, "remat": ((np.float32(value), {}), gradient + change)})


@pytest.mark.long
def test_eight_devices_need_less_each_than_one() -> None:
    rows = memory.measure_divided(["convnet"], [64], [1, 8])
    needed = {(row["devices"], row["remat"]): row["temporary_bytes"] for row in rows}
    assert needed.keys() == {(1, False), (1, True), (8, False), (8, True)}
    assert needed[8, False] < needed[1, False]


def test_inputs_are_read_as_written(
    tmp_path: Path, shallow_network: Network, pair: tuple[ImageArray, ImageArray]
) -> None:
    networks.write_inputs(tmp_path / "inputs.npz", shallow_network, *pair)
    params, *images = networks.read_inputs(tmp_path / "inputs.npz")
    assert list(params) == list(shallow_network)
    np.testing.assert_array_equal(params["conv3_2"]["kernel"], shallow_network["conv3_2"]["kernel"])
    np.testing.assert_array_equal(images, pair)


def test_a_process_that_measures_itself(
    tmp_path: Path,
    shallow_network: Network,
    pair: tuple[ImageArray, ImageArray],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    inputs = tmp_path / "inputs.npz"
    networks.write_inputs(inputs, {"conv1_1": shallow_network["conv1_1"]}, *pair)
    settings: Any = {"gram": lambda params: Settings(params, "relu1_1", ("relu1_1",), style_layer_weights=(1.0,))}
    monkeypatch.setattr(resident_memory, "STATISTICS", settings)
    assert resident_memory.main(["jnst-float32", str(inputs)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["peak_bytes"] >= found["before_bytes"] > 2**24
    assert len(found["losses"]) == resident_memory.STEPS
    assert found["losses"][-1] < found["losses"][0]
    monkeypatch.setitem(peers.PEERS, "absent", peers.Peer("nothing_of_this_name"))
    assert resident_memory.main(["absent", str(inputs)]) == 0
    assert "nothing_of_this_name is not installed" in json.loads(capsys.readouterr().out)["unavailable"]


def test_processes_of_torch_do_not_import_jax() -> None:
    """JAX's memory would count as PyTorch's."""
    code = "import importlib, sys; sys.path.append(sys.argv[1]); importlib.import_module(sys.argv[2])"
    command = [sys.executable, "-c", f"{code}; print('jax' in sys.modules)"]
    root = str(Path(networks.__file__).parents[1])
    output = subprocess.run([*command, root, resident_memory.__name__], capture_output=True, text=True, check=True)
    assert output.stdout == "False\n"


def reports(peak: int, loss: float, device: int | None = None) -> list[dict[str, Any]]:
    return [
        {"peak_bytes": each, "before_bytes": peak // 2, "device_bytes": device, "losses": [loss, 0.9 * loss]}
        for each in (peak, 2 * peak, 3 * peak)
    ]


def test_summaries_of_reports() -> None:
    given = {"jnst-float32": reports(30, 7.0, 800), "torch-eager": reports(40, 7.0)}
    given["torch-compile"] = [{"unavailable": "no"}]
    found = memory.summarize(4, given)
    assert found["peak_bytes"]["jnst-float32"]["median"] == 60
    assert found["ratios"]["jnst-float32 / torch-eager"]["samples"] == [0.75] * 3
    assert found["unavailable"] == {"torch-compile": "no"}
    assert found["device_bytes_per_pixel"].keys() == {"jnst-float32"}
    assert found["device_bytes_per_pixel"]["jnst-float32"]["median"] == 50
    assert len(memory.plot({"resident": [{"size": 4, **found}]}).axes) == 1
    with pytest.raises(RuntimeError, match="torch-eager"):
        memory.summarize(4, {"jnst-float32": reports(30, 7.0), "torch-eager": reports(40, 8.0)})
