"""Readers that are told which tensors to keep: the others are not read."""

import tracemalloc
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from writers import WRITERS, write_keras, write_tfjs

from jnst.errors import WeightsError
from jnst.weights import read_weights
from jnst.weights.formats import read_tensors
from jnst.weights.formats.tensors import Tensors
from jnst.weights.layouts import used_tensors

FIRST = {
    "features.0.weight": np.linspace(-1, 1, 64 * 27, dtype=np.float32).reshape(64, 3, 3, 3),
    "features.0.bias": np.arange(64, dtype=np.float32),
}
MEGABYTES = 24


def with_classifier(size: int) -> dict[str, np.ndarray]:
    heavy = np.zeros(size, np.float32)
    return {"classifier.0.weight": heavy, **FIRST, "classifier.3.weight": heavy}


def keep_features(names: Iterable[str], metadata: Mapping[str, str]) -> Collection[str]:
    return {name for name in names if name.startswith("features")}


def check_first(tensors: Tensors) -> None:
    assert set(tensors.arrays) == set(FIRST)
    for name, array in FIRST.items():
        np.testing.assert_array_equal(tensors.arrays[name], array)


@pytest.mark.parametrize("name", [name for name in WRITERS if name != "tfjs"])
def test_only_what_is_kept_is_returned_and_takes_memory(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path / "weights", with_classifier(MEGABYTES << 18))
    assert path.stat().st_size > 2 * MEGABYTES << 20
    tracemalloc.start()
    try:
        check_first(read_tensors(path, keep_features))
        kept = tracemalloc.get_traced_memory()[1]
        tracemalloc.clear_traces()
        read_tensors(path)
        everything = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept < MEGABYTES << 18
    # The measure measures; safetensors' own allocations are not seen by it, but NumPy's are.
    assert everything > MEGABYTES << 20


def test_groups_of_a_tfjs_model_that_hold_nothing_that_is_kept_may_be_absent(tmp_path: Path) -> None:
    path = write_tfjs(tmp_path / "model.json", with_classifier(9))
    check = read_tensors(path, keep_features).arrays
    # One group holds all: what is kept comes with its group.
    assert set(check) == set(with_classifier(9))
    with pytest.raises(WeightsError, match="none of its shards"):
        read_tensors(path, lambda names, metadata: ())


def test_a_legacy_file_cut_short_in_its_classifier_is_refused(tmp_path: Path) -> None:
    path = WRITERS["torch-legacy"](tmp_path / "weights", with_classifier(1000))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="ends before its storage"):
        read_tensors(path, keep_features)


def test_storages_of_a_classifier_are_not_even_looked_at(tmp_path: Path) -> None:
    path = WRITERS["torch-zip"](tmp_path / "weights", with_classifier(1000))
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("archive/data/0")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        read_tensors(path)
    check_first(read_tensors(path, keep_features))
    assert list(read_weights(path, "vgg19").params) == ["conv1_1/kernel", "conv1_1/bias"]


def test_what_layouts_use() -> None:
    names = list(with_classifier(1))
    assert used_tensors(names, {}) == set(FIRST)
    assert used_tensors(["something", "else"], {}) == {"something", "else"}
    assert used_tensors(["layer1.0.conv1.weight", "fc.weight", "bn1.num_batches_tracked"], {}) == {
        "layer1.0.conv1.weight"
    }


def test_a_keras_file_with_its_classifier(tmp_path: Path) -> None:
    arrays = {
        "block1_conv1/kernel": FIRST["features.0.weight"].transpose(2, 3, 1, 0),
        "block1_conv1/bias": FIRST["features.0.bias"],
        "fc1/kernel": np.zeros((3, 5), np.float32),
        "fc1/bias": np.zeros(5, np.float32),
    }
    path = write_keras(tmp_path / "weights.h5", arrays)
    assert set(read_tensors(path, used_tensors).arrays) == {"block1_conv1/kernel", "block1_conv1/bias"}
    assert list(read_weights(path, "vgg16").params) == ["conv1_1/kernel", "conv1_1/bias"]
