"""Damaged and hostile files: always a `WeightsError` in one line that names the file."""

import io
import json
import os
import pickle
import re
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import writers

from jnst.errors import WeightsError
from jnst.weights.formats import FORMATS, read_tensors
from jnst.weights.formats.tensors import MAX_BYTES

ARRAYS = {"conv/kernel": np.arange(54, dtype=np.float32).reshape(3, 3, 2, 3), "conv/bias": np.ones(3, np.float32)}

QUANTIZED = {"name": "a", "shape": [4], "dtype": "float32", "quantization": {"dtype": "uint8"}}


def refusal(path: Path) -> str:
    """Return the error message for a file without its name, or an empty string if it is read."""
    try:
        read_tensors(path)
    except WeightsError as error:
        message = str(error)
        assert str(path) in message
        assert "\n" not in message
        return message.replace(str(path), "")
    return ""


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("tenths", range(10))
def test_truncated_files(name: str, tenths: int, tmp_path: Path) -> None:
    path = writers.WRITERS[name](tmp_path / "weights", ARRAYS)
    data = path.read_bytes()
    for cut in {len(data) * tenths // 10, len(data) * tenths // 10 + 7, len(data) - 1 - tenths}:
        path.write_bytes(data[:cut])
        assert re.search("is empty|damaged|truncated|no known format|pickle", refusal(path))


@pytest.mark.parametrize("name", ["torch-zip", "torch-legacy", "npz", "safetensors", "tfjs"])
def test_a_changed_byte_gives_weights_or_an_error(name: str, tmp_path: Path) -> None:
    path = writers.WRITERS[name](tmp_path / "weights", ARRAYS)
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for place in rng.integers(len(data), size=150):
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        if refusal(path):
            refused += 1
            continue
        arrays = read_tensors(path).arrays
        assert len(arrays) <= len(ARRAYS)
        assert sum(array.size for array in arrays.values()) <= sum(array.size for array in ARRAYS.values())
    assert 0 < refused < 150


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"404: Not Found", "is text"),
        (b"<!DOCTYPE html><html><title>404</title></html>", "web page"),
        (b"\n<html>", "web page"),
        (b"\x00" * 100, "begins with the bytes"),
        (b"{}", "weightsManifest"),
        (b"[1, 2]", "is text"),
        (b"{" * 100_000, "tfjs|TensorFlow"),
        (pickle.dumps({"a": 1}), "pickle"),
        (b"PK\x05\x06" + b"\0" * 18, "zip archive"),
    ],
)
def test_files_that_are_no_weights(content: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "vgg19.h5"
    path.write_bytes(content)
    assert re.search(match, refusal(path))


def test_missing_folder_fifo_and_nul(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "nothing.h5")
    assert "is a folder" in refusal(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in refusal(tmp_path / "fifo")
    with pytest.raises(WeightsError, match="cannot be opened"):
        read_tensors("a\0b")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "zip archive" in refusal(tmp_path / "other.zip")


@pytest.mark.parametrize("module", ["posix", "os", "builtins", "torch.nn.modules.conv", "collections"])
def test_pickles_are_not_executed(module: str, tmp_path: Path) -> None:
    target = tmp_path / "executed"
    call = writers.op_global(module, "system") + writers.op_tuple(writers.op_text(f"touch {target}")) + b"R"
    content = writers.op_dict({"a": call})
    assert f"{module}.system" in refusal(writers.zip_around(tmp_path / "zip.pth", content, {}))
    assert f"{module}.system" in refusal(writers.legacy_around(tmp_path / "legacy.pth", content, {}))
    (tmp_path / "plain.ckpt").write_bytes(writers.PROTO + content + b".")
    assert f"{module}.system" in refusal(tmp_path / "plain.ckpt")
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"(i__builtin__\nlist\n", id="INST"),
        pytest.param(writers.op_global("collections", "OrderedDict") + b")\x81", id="NEWOBJ"),
        pytest.param(b"\x82\x01", id="EXT1"),
        pytest.param(b"}r\xff\xff\xff\xff", id="a huge memo index"),
        pytest.param(b"\x96" + bytes([0, 0, 0, 0, 0, 1, 0, 0]), id="a terabyte of bytes"),
        pytest.param(b"\x8f(J\x00\x00\x00\x00\x90", id="a set"),
        pytest.param(b"N" + b"\x86" * 3, id="stack underflow"),
        pytest.param(b"(" * 100_000 + b"t" * 100_000, id="deep nesting"),
        pytest.param(b")" + b"q\x01h\x01\x86" * 60 + b"q\x02}h\x02Ns", id="an exponential key"),
        pytest.param(b")" + b"q\x01h\x01\x86" * 60 + b"Q", id="an exponential storage"),
    ],
)
def test_odd_pickles(content: bytes, tmp_path: Path) -> None:
    for path in (
        writers.zip_around(tmp_path / "x.pth", content, {}),
        writers.legacy_around(tmp_path / "y.pth", content, {}),
    ):
        assert re.search("damaged|contains no state dict", refusal(path))


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((13,), (1,), 0),
        ((4,), (1,), 9),
        ((4,), (4,), 0),
        ((2, 2), (-1, 1), 4),
        ((2,), (1,), -1),
        ((-1,), (1,), 0),
        ((2,), (1, 1), 0),
        ((1 << 30,), (0,), 0),
        ((0,), (1,), 13),
    ],
)
def test_torch_tensors_outside_their_storage(
    size: tuple[int, ...], stride: tuple[int, ...], offset: int, tmp_path: Path
) -> None:
    content = writers.op_state_dict({"evil": writers.op_tensor("FloatStorage", "0", 12, size, stride, offset)})
    data = np.zeros(12, np.float32).tobytes()
    assert "`evil`" in refusal(writers.zip_around(tmp_path / "x.pth", content, {"0": data}))
    assert "`evil`" in refusal(writers.legacy_around(tmp_path / "y.pth", content, {"0": (12, data)}))


def op_array(shape: bytes, code: bytes, data: bytes, order: bytes = writers.op_text("<")) -> bytes:
    """A NumPy array as NumPy pickles it."""
    kind = writers.op_global("numpy", "ndarray")
    made = (
        writers.op_global("numpy._core.multiarray", "_reconstruct") + writers.op_tuple(kind, b"K\x00\x85", b"N") + b"R"
    )
    dtype = writers.op_global("numpy", "dtype") + writers.op_tuple(code, b"\x89\x88") + b"R"
    dtype += writers.op_tuple(b"K\x03", order, b"NNN", b"J\xff\xff\xff\xff", b"J\xff\xff\xff\xff", b"K\x00") + b"b"
    raw = b"B" + struct.pack("<I", len(data)) + data
    return made + writers.op_tuple(b"K\x01", shape, dtype, b"\x89", raw) + b"b"


SOUND_SHAPE, SOUND_CODE = b"K\x03\x85", writers.op_text("f4")


@pytest.mark.parametrize(
    ("shape", "code", "data", "order"),
    [
        pytest.param(b"K\x04\x85", SOUND_CODE, bytes(12), writers.op_text("<"), id="too few bytes"),
        pytest.param(b"K\x03", SOUND_CODE, bytes(12), writers.op_text("<"), id="a shape that is a number"),
        pytest.param(b"J\xff\xff\xff\xff\x85", SOUND_CODE, bytes(12), writers.op_text("<"), id="a negative side"),
        pytest.param(
            b"(" + b"K\x00" + b"J\xff\xff\xff\x7f" * 40 + b"t", SOUND_CODE, b"", writers.op_text("<"), id="many"
        ),
        pytest.param(SOUND_SHAPE, writers.op_text("O8"), bytes(24), writers.op_text("|"), id="objects"),
        pytest.param(SOUND_SHAPE, writers.op_text("V4"), bytes(12), writers.op_text("|"), id="records"),
        pytest.param(SOUND_SHAPE, writers.op_text("f4,f4"), bytes(24), writers.op_text("<"), id="several types"),
        pytest.param(
            SOUND_SHAPE, b")" + b"q\x01h\x01\x86" * 60, bytes(12), writers.op_text("<"), id="an exponential code"
        ),
        pytest.param(SOUND_SHAPE, SOUND_CODE, bytes(12), b")" + b"q\x01h\x01\x86" * 60, id="an exponential order"),
    ],
)
def test_odd_pickled_arrays(shape: bytes, code: bytes, data: bytes, order: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    path.write_bytes(writers.PROTO + writers.op_dict({"a": op_array(SOUND_SHAPE, SOUND_CODE, bytes(12))}) + b".")
    np.testing.assert_array_equal(read_tensors(path).arrays["a"], np.zeros(3, np.float32))
    path.write_bytes(writers.PROTO + writers.op_dict({"evil": op_array(shape, code, data, order)}) + b".")
    assert re.search("`evil` is not one of plain numbers|damaged", refusal(path))


def op_from_buffer(shape: bytes, data: bytes, *order: bytes) -> bytes:
    """A NumPy array as NumPy pickles it in protocol 5."""
    dtype = writers.op_global("numpy", "dtype") + writers.op_tuple(SOUND_CODE, b"\x89\x88") + b"R"
    dtype += writers.op_tuple(b"K\x03", writers.op_text("<")) + b"b"
    raw = b"\x96" + struct.pack("<Q", len(data)) + data
    return writers.op_global("numpy._core.numeric", "_frombuffer") + writers.op_tuple(raw, dtype, shape, *order) + b"R"


TWO_BY_THREE = b"K\x02K\x03\x86"


@pytest.mark.parametrize(
    "axes",
    [
        pytest.param(b"K\x01K\x01\x86", id="an axis twice"),
        pytest.param(b"K\x01K\x02\x86", id="an axis too far"),
        pytest.param(b"K\x00\x85", id="too few axes"),
        pytest.param(b"K\x00", id="a number"),
        pytest.param(b")" + b"q\x01h\x01\x86" * 60, id="exponential axes"),
    ],
)
def test_odd_axes_of_pickled_arrays(axes: bytes, tmp_path: Path) -> None:
    path, data = tmp_path / "x.ckpt", np.arange(6, dtype=np.float32).tobytes()
    sound = op_from_buffer(TWO_BY_THREE, data, writers.op_text("K"), b"K\x01K\x00\x86")
    path.write_bytes(writers.PROTO + writers.op_dict({"a": sound}) + b".")
    np.testing.assert_array_equal(read_tensors(path).arrays["a"], [[0, 3], [1, 4], [2, 5]])
    path.write_bytes(
        writers.PROTO + writers.op_dict({"evil": op_from_buffer(TWO_BY_THREE, data, writers.op_text("K"), axes)}) + b"."
    )
    assert "`evil` is not one of plain numbers" in refusal(path)


def test_one_text_for_many_arrays_is_a_bomb(tmp_path: Path) -> None:
    """Protocol 2 keeps bytes as text, which is encoded for each array: here 500 times 40 kB in a file of 120 kB."""
    text = b"X" + struct.pack("<I", 40_000) + bytes(40_000) + b"q\x01"
    dtype = writers.op_global("numpy", "dtype") + writers.op_tuple(SOUND_CODE, b"\x89\x88") + b"R"
    dtype += writers.op_tuple(b"K\x03", writers.op_text("<")) + b"b"
    encoded = writers.op_global("_codecs", "encode") + writers.op_tuple(b"h\x01", writers.op_text("latin1")) + b"R"
    kind = writers.op_global("numpy", "ndarray")
    made = writers.op_global("numpy._core.multiarray", "_reconstruct") + writers.op_tuple(kind) + b"R"
    array = made + writers.op_tuple(b"K\x01", b"M\x10\x27\x85", dtype, b"\x89", encoded) + b"b"
    path = tmp_path / "x.ckpt"
    for count in (1, 500):
        content = writers.op_dict({f"a{index}": array for index in range(count)})
        path.write_bytes(writers.PROTO + text + b"0" + content + b".")
        if count == 1:
            np.testing.assert_array_equal(read_tensors(path).arrays["a0"], np.zeros(10_000, np.float32))
    assert re.search(r"declares 20000000 bytes of tensors in a file of \d{6} bytes", refusal(path))


def test_dictionaries_in_dictionaries_end(tmp_path: Path) -> None:
    """One that contains itself, many in each other, and the same one under exponentially many names."""
    array = op_array(SOUND_SHAPE, SOUND_CODE, bytes(12))
    itself = b"}q\x01(" + writers.op_text("a") + array + writers.op_text("b") + b"h\x01u"
    deep = (b"}" + writers.op_text("a")) * 10_000 + array + b"s" * 10_000
    wide = b"}q\x00"
    for level in range(1, 100):
        wide += bytes([*b"0}q", level]) + b"(" + writers.op_text("a") + bytes([*b"h", level - 1])
        wide += writers.op_text("b") + bytes([*b"h", level - 1]) + b"u"
    path = tmp_path / "x.ckpt"
    path.write_bytes(writers.PROTO + itself + b".")
    assert list(read_tensors(path).arrays) == ["a"]
    for content in (deep, wide):
        path.write_bytes(writers.PROTO + content + b".")
        assert "without NumPy arrays" in refusal(path)


def test_invalid_torch_storages(tmp_path: Path) -> None:
    content = writers.op_state_dict({"a": writers.op_tensor("FloatStorage", "0", 4, (4,), (1,))})
    assert "`a`" in refusal(writers.zip_around(tmp_path / "x.pth", content, {"0": b"\0" * 12}))
    assert "archive/data/0" in refusal(writers.zip_around(tmp_path / "x.pth", content, {}))
    assert "big-endian" in refusal(writers.zip_around(tmp_path / "x.pth", content, {"0": b"\0" * 16}, byteorder=b"big"))
    assert "storage 0" in refusal(writers.legacy_around(tmp_path / "y.pth", content, {"0": (1 << 40, b"\0" * 16)}))
    assert "other" in refusal(writers.legacy_around(tmp_path / "y.pth", content, {"other": (4, b"\0" * 16)}))
    view = writers.op_tuple(writers.op_text("v"), writers.op_int(0), writers.op_int(4))
    content = writers.op_state_dict({"a": writers.op_tensor("FloatStorage", "0", 4, (4,), (1,), view=view)})
    assert "newer torch" in refusal(writers.legacy_around(tmp_path / "y.pth", content, {"0": (4, b"\0" * 16)}))
    assert "no state dict" in refusal(
        writers.zip_around(tmp_path / "x.pth", writers.op_dict({"lr": writers.op_int(1)}), {})
    )


def test_torch_zip_with_compressed_entries(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000_000)
    assert "compressed" in refusal(tmp_path / "x.pth")


def test_npz_objects_bombs_and_false_headers(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([{"an": "object"}], dtype=object))
    assert "`a`" in refusal(path)
    np.savez_compressed(path, a=np.zeros(20_000_000, np.uint8))
    assert "declares" in refusal(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + b"\0" * 64)
    assert "`a`" in refusal(path)


def test_hdf5_links_virtual_datasets_storage_and_bombs(tmp_path: Path) -> None:
    writers.write_hdf5(tmp_path / "secret.h5", {"a": np.ones(4, np.float32)})
    (tmp_path / "raw").write_bytes(b"\0" * 16)

    def crafted(name: str) -> h5py.File:
        return h5py.File(tmp_path / name, "w")

    with crafted("external.h5") as file:
        file["conv1_1"] = h5py.ExternalLink("secret.h5", "/a")
    with crafted("soft.h5") as file:
        file["g/a"] = np.ones(3)
        file["b"] = h5py.SoftLink("/g/a")
    with crafted("loop.h5") as file:
        file.create_group("g")["up"] = file["/"]
    with crafted("storage.h5") as file:
        file.create_dataset("a", (4,), "f4", external=[("raw", 0, 16)])
    with crafted("virtual.h5") as file:
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource("secret.h5", "a", (4,))
        file.create_virtual_dataset("a", layout)
    with crafted("bomb.h5") as file:
        file.create_dataset("a", (1 << 40,), "f4", chunks=(1 << 20,))
    with crafted("text.h5") as file:
        file["a"] = "words"
    expected = {
        "external": r"`conv1_1` is a link \(ExternalLink\)",
        "soft": r"`b` is a link \(SoftLink\)",
        "loop": "inside itself",
        "storage": "another file",
        "virtual": "virtual",
        "bomb": "declares",
        "text": "not of numbers",
    }
    for name, match in expected.items():
        assert re.search(match, refusal(tmp_path / f"{name}.h5")), name


@pytest.mark.parametrize(
    "shard", ["../secret", "/etc/hostname", "a/../../secret", "..\\secret", "C:\\secret", "C:secret"]
)
def test_tfjs_shards_stay_in_the_folder(shard: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 4)
    weights = [{"name": "a", "shape": [1], "dtype": "float32"}]
    (folder / "model.json").write_text(json.dumps({"weightsManifest": [{"paths": [shard], "weights": weights}]}))
    assert "outside" in refusal(folder / "model.json")


@pytest.mark.parametrize(
    ("manifest", "match"),
    [
        ({}, "weightsManifest"),
        ([{"paths": "s", "weights": []}], "lists"),
        ([{"paths": ["s"]}], "not readable"),
        ([{"paths": ["s"], "weights": [{"name": "a", "shape": [1], "dtype": "string"}]}], "'string'"),
        ([{"paths": ["s"], "weights": [{"name": "a", "shape": [-1], "dtype": "float32"}]}], "shape"),
        ([{"paths": ["s"], "weights": [{"name": "a", "shape": [1 << 40], "dtype": "float32"}]}], str(MAX_BYTES)),
        ([{"paths": ["s"], "weights": [{"name": "a", "shape": [2], "dtype": "uint8"}] * 2}], "twice"),
        ([{"paths": ["s"], "weights": [QUANTIZED]}], "`scale`"),
    ],
)  # fmt: skip
def test_invalid_tfjs_manifests(manifest: object, match: str, tmp_path: Path) -> None:
    (tmp_path / "s").write_bytes(b"\0" * 4)
    (tmp_path / "model.json").write_text(json.dumps({"weightsManifest": manifest}))
    assert re.search(match, refusal(tmp_path / "model.json"))


def test_safetensors_overlaps_and_long_headers(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    path = tmp_path / "x.safetensors"
    for header, length in (
        ({"a": entry, "b": entry}, None),
        ({"a": entry}, 1 << 40),
        ({"a": {**entry, "dtype": "X"}}, None),
    ):
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", length or len(text)) + text + b"\0" * 8)
        assert "not readable as safetensors" in refusal(path)
