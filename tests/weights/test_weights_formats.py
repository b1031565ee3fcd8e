"""Readers against files written from the formats' specifications, and against the raw bytes of real files."""

import json
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
import writers

from jnst.errors import WeightsError
from jnst.weights import read_weights
from jnst.weights.formats import FORMATS, Tensors, read_tensors
from jnst.weights.layouts import used_tensors

RNG = np.random.default_rng(0)
KERNEL = RNG.standard_normal((3, 3, 2, 4)).astype(np.float32)
BIAS = RNG.standard_normal(4).astype(np.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    arrays = {
        "a/kernel": KERNEL,
        "a/bias": BIAS,
        "half": BIAS.astype(np.float16),
        "scalar": np.float32(3.5).reshape(()),
    }
    tensors = read_tensors(writers.WRITERS[name](tmp_path / "misnamed.dat", arrays))
    assert tensors.format == name
    assert set(tensors.arrays) == set(arrays)
    for key, array in arrays.items():
        assert tensors.arrays[key].dtype == array.dtype
        assert tensors.arrays[key].shape == array.shape
        np.testing.assert_array_equal(tensors.arrays[key], array)


@pytest.mark.parametrize("name", ["torch-zip", "torch-legacy", "safetensors"])
def test_bfloat16_becomes_float32(name: str, tmp_path: Path) -> None:
    values = np.array([1.5, -2.0, 2.0**-100, 3e38], np.float32).astype(ml_dtypes.bfloat16)
    read = read_tensors(writers.WRITERS[name](tmp_path / "x", {"a": values})).arrays["a"]
    assert read.dtype == np.float32
    # bfloat16 is the upper half of a float32.
    np.testing.assert_array_equal(read.view(np.uint32), values.view(np.uint16).astype(np.uint32) << 16)


@pytest.mark.parametrize("dtype", ["float64", "int64", "int32", "int16", "int8", "uint8", "bool"])
def test_torch_storage_classes(dtype: str, tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [3, 100, 0]]).astype(dtype)
    for name in ("torch-zip", "torch-legacy"):
        read = read_tensors(writers.WRITERS[name](tmp_path / name, {"a": values})).arrays["a"]
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read, values)


def test_torch_strides_offsets_and_shared_storages(tmp_path: Path) -> None:
    data = np.arange(12, dtype=np.float32)
    tensors = {
        "transposed": writers.op_tensor("FloatStorage", "0", 12, (2, 3), (1, 2), offset=4),
        "column": writers.op_tensor("FloatStorage", "0", 12, (4,), (3,), offset=2),
        "empty": writers.op_tensor("FloatStorage", "0", 12, (0, 5), (5, 1), offset=12),
    }
    content = writers.op_state_dict(tensors)
    for path in (
        writers.zip_around(tmp_path / "zip", content, {"0": data.tobytes()}),
        writers.legacy_around(tmp_path / "legacy", content, {"0": (12, data.tobytes())}),
    ):
        arrays = read_tensors(path).arrays
        np.testing.assert_array_equal(arrays["transposed"], [[4, 6, 8], [5, 7, 9]])
        np.testing.assert_array_equal(arrays["column"], [2, 5, 8, 11])
        assert arrays["empty"].shape == (0, 5)


def test_torch_parameters(tmp_path: Path) -> None:
    tensor = writers.op_tensor("FloatStorage", "0", 4, (4,), (1,))
    hooks = writers.op_global("collections", "OrderedDict") + b")R"
    parameter = (
        writers.op_global("torch._utils", "_rebuild_parameter") + writers.op_tuple(tensor, b"\x88", hooks) + b"R"
    )
    content = writers.op_dict({"state_dict": writers.op_state_dict({"a": parameter}), "lr": writers.op_int(1)})
    path = writers.zip_around(tmp_path / "x.pth", content, {"0": BIAS.tobytes()})
    np.testing.assert_array_equal(read_tensors(path).arrays["a"], BIAS)


@pytest.mark.parametrize("suffix", [":0", ""])
def test_keras_weights_are_named_kernel_and_bias(suffix: str, tmp_path: Path) -> None:
    arrays = {
        "fire2/squeeze1x1/kernel": KERNEL,
        "fire2/squeeze1x1/bias": BIAS,
        "conv1/kernel": KERNEL,
        "conv1/bias": -BIAS,
    }
    read = read_tensors(writers.write_keras(tmp_path / "x.h5", arrays, suffix)).arrays
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


def test_keras_weights_inside_a_saved_model(tmp_path: Path) -> None:
    path = writers.write_keras(tmp_path / "x.h5", {"conv1/kernel": KERNEL, "conv1/bias": BIAS})
    with h5py.File(path, "a") as file:
        inner = file.create_group("model_weights")
        inner.attrs["layer_names"] = [b"conv1"]
        file.move("conv1", "model_weights/conv1")
        del file.attrs["layer_names"]
    np.testing.assert_array_equal(read_tensors(path).arrays["conv1/kernel"], KERNEL)


def test_compressed_npz_and_hdf5_and_fortran_order(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", a=np.asfortranarray(KERNEL[0]))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", data=KERNEL[0].astype(">f4"), compression="gzip", shuffle=True, fletcher32=True)
    for name in ("x.npz", "x.h5"):
        np.testing.assert_array_equal(read_tensors(tmp_path / name).arrays["a"], KERNEL[0])


def _tfjs(folder: Path, weight: dict[str, object], data: bytes) -> np.ndarray:
    (folder / "shard").write_bytes(data)
    manifest = [{"paths": ["shard"], "weights": [{"name": "a", **weight}]}]
    (folder / "model.json").write_text(json.dumps({"weightsManifest": manifest}))
    return read_tensors(folder / "model.json").arrays["a"]


@pytest.mark.parametrize(("dtype", "numpy_dtype"), [("uint8", np.uint8), ("uint16", np.uint16)])
def test_tfjs_affine_quantisation(dtype: str, numpy_dtype: type, tmp_path: Path) -> None:
    levels = np.array([0, 1, 127, np.iinfo(numpy_dtype).max], numpy_dtype)
    quantization = {"dtype": dtype, "scale": 0.5, "min": -3.25}
    read = _tfjs(tmp_path, {"shape": [4], "dtype": "float32", "quantization": quantization}, levels.tobytes())
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, [-3.25, -2.75, 60.25, -3.25 + np.iinfo(numpy_dtype).max / 2])


def test_tfjs_float16_quantisation_and_integers(tmp_path: Path) -> None:
    halves = np.array([1.5, -0.25], np.float16)
    read = _tfjs(tmp_path, {"shape": [2], "dtype": "float32", "quantization": {"dtype": "float16"}}, halves.tobytes())
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, [1.5, -0.25])
    quantization = {"dtype": "uint8", "scale": 0.4, "min": 1.0}
    read = _tfjs(tmp_path, {"shape": [2], "dtype": "int32", "quantization": quantization}, b"\x01\x05")
    assert read.dtype == np.int32
    np.testing.assert_array_equal(read, [1, 3])


def test_tfjs_groups_that_are_absent_incomplete_or_of_the_wrong_size(tmp_path: Path) -> None:
    path = writers.write_tfjs(tmp_path / "model.json", {"a": BIAS})
    model = json.loads(path.read_text())
    model["weightsManifest"].append({"paths": ["gone"], "weights": [{"name": "b", "shape": [2], "dtype": "float32"}]})
    path.write_text(json.dumps(model))
    assert list(read_tensors(path).arrays) == ["a"]
    second = tmp_path / "model.json.shard2of2"
    data = second.read_bytes()
    for wrong in (data + b"\0", data[:-1]):
        second.write_bytes(wrong)
        with pytest.raises(WeightsError, match=r"shard2of2.* says 16"):
            read_tensors(path)
    second.unlink()
    with pytest.raises(WeightsError, match=r"shard2of2 is missing"):
        read_tensors(path)
    (tmp_path / "model.json.shard1of2").unlink()
    with pytest.raises(WeightsError, match="none of its shards"):
        read_tensors(path)


def test_real_tfjs_shards_are_read_as_raw_floats(shared: Path) -> None:
    folder = shared / "weights" / "vgg19-oxford-tfjs"
    arrays = read_tensors(folder / "model.json").arrays
    assert len(arrays) == 16
    for group, layer, shape in ((1, "block1_conv1", (3, 3, 3, 64)), (8, "block3_conv4", (3, 3, 256, 256))):
        raw = np.frombuffer((folder / f"group{group}-shard1of1").read_bytes(), "<f4")
        np.testing.assert_array_equal(arrays[f"{layer}/kernel"], raw[: -shape[-1]].reshape(shape))
        np.testing.assert_array_equal(arrays[f"{layer}/bias"], raw[-shape[-1] :])


def test_real_keras_file_agrees_with_h5py(shared: Path) -> None:
    (path,) = (shared / "weights" / "squeezenet1.1-keras").glob("*.h5")
    arrays = read_tensors(path).arrays
    assert sum(array.size for array in arrays.values()) == 722_496
    with h5py.File(path, "r") as file:
        pairs = {
            "conv1/kernel": "conv1/uniform1",
            "fire2/squeeze1x1/kernel": "fire2/squeeze1x1/uniform2",
            "fire9/expand3x3/bias": "fire9/expand3x3/fire9/expand3x3_b",
        }
        for name, stored in pairs.items():
            dataset = file[stored]
            assert isinstance(dataset, h5py.Dataset)
            np.testing.assert_array_equal(arrays[name], dataset[()])


def test_real_legacy_torch_file_ends_with_its_last_storage(shared: Path) -> None:
    path = shared / "weights" / "vgg19-slim16x" / "encoder_relu5_1.pth"
    arrays = read_tensors(path).arrays
    assert len(arrays) == 38
    raw = path.read_bytes()
    last = max(arrays.values(), key=lambda array: raw.rfind(array.tobytes()))
    assert raw.endswith(last.tobytes())
    assert all(raw.count(array.astype("<f4").tobytes()) == 1 for array in arrays.values())


def test_real_zip_torch_file_holds_the_published_scaling(shared: Path) -> None:
    arrays = read_tensors(shared / "weights" / "lpips-squeeze" / "lpips_squeeze.pt").arrays
    np.testing.assert_allclose(arrays["scaling_layer.shift"].ravel(), [-0.030, -0.088, -0.188], rtol=1e-6)
    np.testing.assert_allclose(arrays["scaling_layer.scale"].ravel(), [0.458, 0.448, 0.450], rtol=1e-6)
    assert arrays["net.slice7.12.expand3x3.weight"].shape == (256, 64, 3, 3)


# Which tensors are read.

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


@pytest.mark.parametrize("name", [name for name in writers.WRITERS if name not in ("tfjs", "pickle")])
def test_only_the_tensors_to_keep_take_memory(name: str, tmp_path: Path) -> None:
    path = writers.WRITERS[name](tmp_path / "weights", with_classifier(MEGABYTES << 18))
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
    # tracemalloc does see NumPy's allocations.
    assert everything > MEGABYTES << 20


def test_tfjs_groups_without_tensors_to_keep_may_be_absent(tmp_path: Path) -> None:
    path = writers.write_tfjs(tmp_path / "model.json", with_classifier(9))
    # The reader reads whole groups, and this model has only one.
    assert set(read_tensors(path, keep_features).arrays) == set(with_classifier(9))
    with pytest.raises(WeightsError, match="none of its shards"):
        read_tensors(path, lambda names, metadata: ())


def test_a_legacy_file_truncated_in_its_classifier_is_refused(tmp_path: Path) -> None:
    path = writers.WRITERS["torch-legacy"](tmp_path / "weights", with_classifier(1000))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match="ends inside its storage"):
        read_tensors(path, keep_features)


def test_the_storages_of_a_classifier_are_not_read(tmp_path: Path) -> None:
    path = writers.WRITERS["torch-zip"](tmp_path / "weights", with_classifier(1000))
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("archive/data/0")
    content = bytearray(path.read_bytes())
    content[info.header_offset + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        read_tensors(path)
    check_first(read_tensors(path, keep_features))
    assert list(read_weights(path, "vgg19").params) == ["conv1_1/kernel", "conv1_1/bias"]


def test_layouts_drop_classifiers() -> None:
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
    path = writers.write_keras(tmp_path / "weights.h5", arrays)
    assert set(read_tensors(path, used_tensors).arrays) == {"block1_conv1/kernel", "block1_conv1/bias"}
    assert list(read_weights(path, "vgg16").params) == ["conv1_1/kernel", "conv1_1/bias"]


def test_importing_the_package_imports_no_file_library() -> None:
    names = ("h5py", "safetensors", "torch", "pooch", "requests")
    code = f"import sys, jnst.weights.store; sys.exit(any(name in sys.modules for name in {names}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", FORMATS)
def test_an_error_of_the_caller_is_not_taken_for_one_of_the_file(name: str, tmp_path: Path) -> None:
    def keep(names: Iterable[str], metadata: Mapping[str, str]) -> Collection[str]:
        raise ValueError("Operands could not be broadcast with rank promotion disallowed")

    path = writers.WRITERS[name](tmp_path / "weights", {"a/kernel": KERNEL, "a/bias": BIAS})
    with pytest.raises(ValueError, match=r"^Operands could not be broadcast with rank promotion disallowed$"):
        read_tensors(path, keep)
