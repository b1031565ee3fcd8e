"""Files of style networks: what is written is read, and nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from contracts import random_image, same_trees
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import jnst
from jnst.errors import ArgumentError, WeightsError
from jnst.transfer.network_files import DEMO, DEMO_FILE, read_style_network
from jnst.weights.checksum import KEY, checksum

NETWORK = jnst.StyleNetwork(("night, starry", "wave"), widths=(2, 3, 4), blocks=1)


@pytest.fixture(scope="module")
def params() -> Any:
    return NETWORK.init(jax.random.key(0))


@pytest.fixture
def saved(params: Any, tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    jnst.save_style_network(path, NETWORK, params, about={"steps": 3})
    return path


def rewrite(path: Path, change: Callable[[dict[str, np.ndarray], dict[str, str]], None]) -> None:
    """Change tensors and metadata, and make the checksum fit."""
    arrays = load_file(path)
    with safe_open(path, framework="numpy") as file:
        metadata = dict(file.metadata())
    change(arrays, metadata)
    save_file(arrays, path, {**metadata, KEY: checksum(arrays, metadata)})


def test_a_network_is_read_as_it_was_written(params: Any, saved: Path, tmp_path: Path) -> None:
    network, read = jnst.load_style_network(saved)
    assert network == NETWORK
    assert same_trees(read, params)
    assert read_style_network(saved)[2] == {"steps": 3}
    again = tmp_path / "again.safetensors"
    jnst.save_style_network(again, NETWORK, params, about={"steps": 3})
    assert again.read_bytes() == saved.read_bytes()


def test_half_the_size_changes_images_by_less_than_a_level(params: Any, saved: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    jnst.save_style_network(half, NETWORK, params, dtype="float16")
    assert half.stat().st_size < saved.stat().st_size
    image = random_image(0, 20, 20)
    results = [NETWORK.apply(jnst.load_style_network(path)[1], image, [1, 1]) for path in (saved, half)]
    assert np.abs(results[0] - results[1]).max() < 1 / 255


def meta(**values: str) -> Callable[[dict[str, np.ndarray], dict[str, str]], None]:
    return lambda arrays, metadata: metadata.update(values)


def architecture(**values: Any) -> Callable[[dict[str, np.ndarray], dict[str, str]], None]:
    return lambda arrays, metadata: metadata.update(
        architecture=json.dumps(json.loads(metadata["architecture"]) | values)
    )


def tensor(name: str, value: Any) -> Callable[[dict[str, np.ndarray], dict[str, str]], None]:
    return lambda arrays, metadata: arrays.update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (meta(format="jnst-weights"), "holds jnst-weights, not a style network"),
        (meta(version="9"), "version 9, expected 1: update jnst"),
        (meta(architecture="{"), "metadata that cannot be read"),
        (meta(architecture="[" * 100_000), "metadata that cannot be read"),
        (meta(about="3"), "metadata that cannot be read"),
        (architecture(blocks=10**9), "metadata that cannot be read"),
        (architecture(blocks=True), "metadata that cannot be read"),
        (architecture(widths=[10**9, 1, 1]), "metadata that cannot be read"),
        (architecture(styles=["a"] * 2), "metadata that cannot be read"),
        (architecture(styles=["a\nb", "c"]), "printable characters"),
        (architecture(styles="ab"), "metadata that cannot be read"),
        (architecture(styles={"a": 1, "b": 2}), "metadata that cannot be read"),
        (architecture(widths=[2.0, 3.0, 4.0]), "metadata that cannot be read"),
        (architecture(more=1), "metadata that cannot be read"),
        (architecture(blocks=2), "`block2_1/kernel` is missing or unknown"),
        (tensor("more", np.zeros(3, np.float32)), "`more` is missing or unknown"),
        (tensor("up1/scale", np.zeros((2, 4), np.float32)), r"`up1/scale` is float32 of shape \(2, 4\)"),
        (tensor("up1/scale", np.zeros((2, 3), np.int32)), "`up1/scale` is int32"),
        (tensor("up1/scale", np.full((2, 3), np.nan, np.float32)), "not finite"),
    ],
)
def test_other_content_is_refused_in_one_line(saved: Path, change: Any, message: str) -> None:
    rewrite(saved, change)
    with pytest.raises(WeightsError, match=message) as caught:
        jnst.load_style_network(saved)
    assert "\n" not in str(caught.value)
    assert str(saved) in str(caught.value)


def test_damage_is_noticed(saved: Path) -> None:
    content = bytearray(saved.read_bytes())
    content[-5] ^= 1
    saved.write_bytes(content)
    with pytest.raises(WeightsError, match="sha256"):
        jnst.load_style_network(saved)
    saved.write_bytes(content[:200])
    with pytest.raises(WeightsError):
        jnst.load_style_network(saved)


def test_other_files_are_refused(tmp_path: Path) -> None:
    embedded = Path(jnst.__file__).parent / "weights" / "embedded" / "mini.safetensors"
    with pytest.raises(WeightsError, match="jnst-weights, not a style network"):
        jnst.load_style_network(embedded)
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": np.zeros(1, np.float32)}, foreign, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"foreign\.safetensors: is not a style network"):
        jnst.load_style_network(foreign)
    with pytest.raises(WeightsError, match="no such file"):
        jnst.load_style_network(tmp_path / "none")
    with pytest.raises(ArgumentError, match="dtype 'int8' is unknown"):
        jnst.save_style_network(tmp_path / "x", NETWORK, {}, dtype="int8")
    with pytest.raises(WeightsError, match="missing or unknown"):
        jnst.save_style_network(tmp_path / "x", NETWORK, {})


def test_the_embedded_network_is_small_and_repaints() -> None:
    network, params = jnst.load_style_network(DEMO)
    assert DEMO_FILE.stat().st_size <= 1_000_000
    image = random_image(0, 24, 24)
    results = [np.asarray(network.apply(params, image, network.style_weights(style))) for style in network.styles]
    assert np.abs(results[0] - results[1]).mean() > 0.05


def test_a_folder_does_not_hide_the_embedded_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(DEMO).mkdir()
    assert jnst.load_style_network(DEMO)[0].styles


def test_whatever_can_be_built_can_be_read(tmp_path: Path) -> None:
    given: Any = {"styles": ["é" * 100, "1, :"], "widths": [np.int64(2), 1, 1], "blocks": np.int32(0)}
    network = jnst.StyleNetwork(**given)
    jnst.save_style_network(tmp_path / "net", network, network.init(jax.random.key(0)))
    assert jnst.load_style_network(tmp_path / "net")[0] == network
