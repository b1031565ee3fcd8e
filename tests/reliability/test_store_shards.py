"""TensorFlow.js models from a server: shards one by one, the classifier's never, none from outside the folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

import liar
import numpy as np
import pytest
from liar import serving
from published import FOLDER, NAME, Publish, kernels, row

from jnst import WeightsError
from jnst.weights import read_weights, store

Files = dict[str, bytes]


def model(**paths: list[str]) -> Files:
    """A model of two convolutions and a classifier, a group each; the second has two shards."""
    arrays = {name.replace("conv1_", "block1_conv"): array for name, array in kernels().items()}
    groups: dict[str, dict[str, np.ndarray]] = {}
    for name, array in (*arrays.items(), ("fc1/kernel", np.zeros((500, 1000), np.float32))):
        groups.setdefault(name.partition("/")[0], {})[name] = array
    files: Files = {}
    manifest: list[dict[str, Any]] = []
    for layer, weights in groups.items():
        data = b"".join(array.tobytes() for array in weights.values())
        names = paths.get(layer, [f"{layer}-1", f"{layer}-2"] if layer == "block1_conv2" else [f"{layer}-1"])
        cut = len(data) // len(names)
        files |= {name: data[index * cut : (index + 1) * cut] for index, name in enumerate(names)}
        entries = [{"name": name, "shape": list(array.shape), "dtype": "float32"} for name, array in weights.items()]
        manifest.append({"paths": names, "weights": entries})
    return files | {"model.json": json.dumps({"weightsManifest": manifest}).encode()}


def published(address: str, files: Files, **changes: Any):
    shards = {"block1_conv1-1": hashlib.sha256(files["block1_conv1-1"]).hexdigest()}
    return row(f"{address}/m/model.json", files["model.json"], megabytes=0.16, shards=shards, **changes)


def test_a_model_and_the_shards_that_are_used(publish: Publish, tmp_path: Path) -> None:
    files = model()
    with serving(files, liar.first(liar.honest, liar.half)) as server:
        publish(published(server.address, files))
        read = read_weights(store.fetch(NAME))
        asked = [request.path for request in server.asked]
    for name, array in kernels().items():
        np.testing.assert_array_equal(read.params[name], array)
    shards = ["/m/block1_conv1-1", "/m/block1_conv1-1", "/m/block1_conv2-1", "/m/block1_conv2-2"]
    assert asked == ["/m/model.json", *shards]
    record = json.loads((tmp_path / FOLDER / "record.json").read_text())
    used = {name: hashlib.sha256(data).hexdigest() for name, data in files.items() if "fc1" not in name}
    assert record["files"] == used


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("model.json", r"model.json has sha256 .* documented is"),
        ("block1_conv1-1", r"block1_conv1-1 has sha256 .* documented is"),
    ],
)
def test_documented_hashes_of_all_files(changed: str, words: str, publish: Publish, tmp_path: Path) -> None:
    files = model()
    with serving({**files, changed: files[changed][:-1] + b" "}) as server:
        publish(published(server.address, files))
        with pytest.raises(WeightsError, match=words):
            store.fetch(NAME)
    assert [file.name for file in (tmp_path / FOLDER).rglob("*")] == ["lock"]


def test_a_shard_without_a_documented_hash_is_remembered(publish: Publish) -> None:
    files = model()
    with serving(files) as server:
        publish(published(server.address, files))
        store.fetch(NAME)
        data = files["block1_conv2-2"]
        server.files["block1_conv2-2"] = data[:-4] + bytes(4)
        with pytest.raises(WeightsError, match=r"block1_conv2-2 has sha256 .*, but on "):
            store.fetch(NAME, force=True)


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "C:\\outside"])
def test_shards_outside_the_folder_are_not_asked_for(name: str, publish: Publish, tmp_path: Path) -> None:
    files = model(block1_conv2=[name])
    with serving(files) as server:
        publish(published(server.address, files))
        with pytest.raises(WeightsError, match="outside the model's folder"):
            store.fetch(NAME)
        assert [request.path for request in server.asked] == ["/m/model.json"]
    assert [file.name for file in (tmp_path / FOLDER).rglob("*")] == ["lock"]


def test_a_model_that_declares_too_much(publish: Publish) -> None:
    files = model()
    files["model.json"] = files["model.json"].replace(b"[3, 3, 64, 64]", b"[3, 3, 64, 64000]")
    with serving(files) as server:
        publish(published(server.address, files))
        with pytest.raises(WeightsError, match=r"declares 147\d+ bytes, expected at most"):
            store.fetch(NAME)


def test_a_model_put_there_by_hand_needs_its_shards(publish: Publish, tmp_path: Path) -> None:
    files = model()
    publish(published("http://127.0.0.1:9", files))
    folder = tmp_path / FOLDER
    folder.mkdir(mode=0o700, parents=True)
    for name in ("model.json", "block1_conv1-1", "block1_conv2-1"):
        (folder / name).write_bytes(files[name])
    with pytest.raises(WeightsError, match=r"block1_conv2-2: no such file, expected a shard"):
        store.fetch(NAME, offline=True)
    (folder / "block1_conv2-2").write_bytes(files["block1_conv2-2"])
    assert list(read_weights(store.fetch(NAME, offline=True)).params) == list(kernels())
