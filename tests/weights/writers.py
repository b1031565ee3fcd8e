"""Writers of every format, written from the specifications and independent of the readers under test."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np

Arrays = Mapping[str, np.ndarray]

STORAGE_NAMES = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "float64": "DoubleStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}

PROTO = b"\x80\x02"
LEGACY_HEAD = (
    PROTO
    + b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
    + PROTO
    + b"M\xe9\x03."
    + PROTO
    + b"}(X\r\x00\x00\x00little_endian\x88u."
)


def op_global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def op_text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def op_int(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def op_tuple(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def op_dict(items: Mapping[str, bytes]) -> bytes:
    return b"}(" + b"".join(op_text(key) + value for key, value in items.items()) + b"u"


def op_tensor(
    storage: str,
    key: str,
    numel: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int = 0,
    view: bytes = b"",
) -> bytes:
    kind = op_global("torch", storage)
    stored = op_tuple(op_text("storage"), kind, op_text(key), op_text("cuda:0"), op_int(numel), view) + b"Q"
    sizes, strides = op_tuple(*map(op_int, size)), op_tuple(*map(op_int, stride))
    hooks = op_global("collections", "OrderedDict") + b")R"
    arguments = op_tuple(stored, op_int(offset), sizes, strides, b"\x89", hooks)
    return op_global("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def op_state_dict(tensors: Mapping[str, bytes]) -> bytes:
    """An OrderedDict with the attribute ``_metadata``, as PyTorch writes it."""
    items = b"".join(op_text(name) + tensor for name, tensor in tensors.items())
    attributes = op_dict({"_metadata": b"}"})
    return op_global("collections", "OrderedDict") + b")R(" + items + b"u" + attributes + b"b"


def state_dict_pickle(arrays: Arrays) -> bytes:
    return op_state_dict(
        {
            name: op_tensor(
                STORAGE_NAMES[array.dtype.name],
                str(index),
                array.size,
                array.shape,
                tuple(step // array.itemsize for step in array.strides),
            )
            for index, (name, array) in enumerate(arrays.items())
        }
    )


def zip_around(path: Path, content: bytes, storages: Mapping[str, bytes], **extra: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", PROTO + content + b".")
        for name, data in extra.items():
            archive.writestr(f"archive/{name}", data)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return path


def legacy_around(path: Path, content: bytes, storages: Mapping[str, tuple[int, bytes]]) -> Path:
    keys = PROTO + b"](" + b"".join(map(op_text, storages)) + b"e."
    data = b"".join(struct.pack("<q", count) + raw for count, raw in storages.values())
    path.write_bytes(LEGACY_HEAD + PROTO + content + b"." + keys + data)
    return path


def write_torch_zip(path: Path, arrays: Arrays) -> Path:
    storages = {str(index): array.tobytes() for index, array in enumerate(arrays.values())}
    return zip_around(path, state_dict_pickle(arrays), storages, byteorder=b"little", version=b"3\n")


def write_torch_legacy(path: Path, arrays: Arrays) -> Path:
    content = op_dict({"epoch": op_int(20), "model": state_dict_pickle(arrays)})
    storages = {str(index): (array.size, array.tobytes()) for index, array in enumerate(arrays.values())}
    return legacy_around(path, content, storages)


def write_safetensors(path: Path, arrays: Arrays, metadata: Mapping[str, str] | None = None) -> Path:
    codes = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float64": "F64", "int64": "I64", "bool": "BOOL"}
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": codes[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for array in arrays.values()))
    return path


def write_npz(path: Path, arrays: Arrays) -> Path:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return path


def write_hdf5(path: Path, arrays: Arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def write_keras(path: Path, arrays: Arrays, suffix: str = ":0") -> Path:
    """Write ``layer/kernel`` and ``layer/bias`` under their names in Keras 1."""
    layers = list(dict.fromkeys(name.rpartition("/")[0] for name in arrays))
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.encode() for layer in ("input_1", *layers)]
        file.create_group("input_1").attrs["weight_names"] = np.zeros(0, "S1")
        for layer in layers:
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}_W_1{suffix}".encode(), f"{layer}_b_1{suffix}".encode()]
            group[f"{layer}_W_1{suffix}"] = arrays[f"{layer}/kernel"]
            group[f"{layer}_b_1{suffix}"] = arrays[f"{layer}/bias"]
    return path


def write_keras_3(path: Path, arrays: Arrays) -> Path:
    """Write a ``.keras`` archive."""
    weights = write_hdf5(path.with_name(f"{path.name}.h5"), arrays)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.11.0"}')
        archive.writestr("config.json", "{}")
        archive.write(weights, "model.weights.h5")
    weights.unlink()
    return path


def write_pickle(path: Path, arrays: Arrays, protocol: int = 4) -> Path:
    """Write nested dictionaries, as Flax has them."""
    tree: dict[str, object] = {}
    for name, array in arrays.items():
        *outer, last = name.split("/")
        branch: dict = tree
        for key in outer:
            branch = branch.setdefault(key, {})
        branch[last] = np.asarray(array)
    path.write_bytes(pickle.dumps(tree, protocol))
    return path


def write_tfjs(path: Path, arrays: Arrays) -> Path:
    """Write all tensors in one group with two shards."""
    data = b"".join(array.tobytes() for array in arrays.values())
    weights = [{"name": name, "shape": list(array.shape), "dtype": array.dtype.name} for name, array in arrays.items()]
    shards = [f"{path.name}.shard1of2", f"{path.name}.shard2of2"]
    cut = len(data) // 3
    (path.parent / shards[0]).write_bytes(data[:cut])
    (path.parent / shards[1]).write_bytes(data[cut:])
    path.write_text(json.dumps({"modelTopology": {}, "weightsManifest": [{"paths": shards, "weights": weights}]}))
    return path


WRITERS: dict[str, Callable[[Path, Arrays], Path]] = {
    "hdf5": write_hdf5,
    "torch-zip": write_torch_zip,
    "torch-legacy": write_torch_legacy,
    "npz": write_npz,
    "keras": write_keras_3,
    "pickle": write_pickle,
    "safetensors": write_safetensors,
    "tfjs": write_tfjs,
}
