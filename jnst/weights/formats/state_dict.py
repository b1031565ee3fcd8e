"""PyTorch's state dicts, as zip archives and in the older format, read without PyTorch; no pickle is executed."""

import math
import os
import pickle
import reprlib
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from jnst.errors import WeightsError
from jnst.weights.formats.tensors import Keep, Tensors, check_size, keep_all

LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""PyTorch's magic number 0x1950a86a20f9469cfc6c, pickled, behind two bytes that name the pickle protocol."""

STORAGES: dict[str, str] = {
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "<f8",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
"""PyTorch's storage classes and their data types."""

NESTED = ("state_dict", "model")
"""The keys under which training scripts keep a state dict beside other things."""


class _StorageType(NamedTuple):
    dtype: str


class _Storage(NamedTuple):
    dtype: np.dtype
    key: str
    numel: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(data: _Tensor, *_: object) -> _Tensor:
    return data


def _checked_items(items: Iterable[tuple[object, object]] = ()) -> OrderedDict[object, object]:
    """Dictionaries with plain keys only: hashing nested tuples can take for ever."""
    pairs = [(key, value) for key, value in items if isinstance(key, str | int)]
    return OrderedDict(pairs)


GLOBALS: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): _checked_items,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): _StorageType(dtype) for name, dtype in STORAGES.items()},
}
"""All that a pickle may name, and what stands for it here."""


def _discard_state(unpickler: Any) -> None:
    unpickler.stack.pop()


def _set_item(unpickler: Any) -> None:
    value, key = unpickler.stack.pop(), unpickler.stack.pop()
    unpickler.stack[-1].update(_checked_items([(key, value)]))


def _set_items(unpickler: Any) -> None:
    items = unpickler.pop_mark()
    unpickler.stack[-1].update(_checked_items(zip(items[::2], items[1::2], strict=True)))


_REFUSED = (
    pickle.INST + pickle.OBJ + pickle.NEWOBJ + pickle.NEWOBJ_EX + pickle.EXT1 + pickle.EXT2 + pickle.EXT4
    + pickle.DICT + pickle.EMPTY_SET + pickle.ADDITEMS + pickle.FROZENSET
    + pickle.BYTEARRAY8 + pickle.NEXT_BUFFER + pickle.READONLY_BUFFER
)  # fmt: skip
"""Opcodes that no state dict needs: instances, registered extensions, sets, buffers."""


# The unpickler written in Python, because the one in C allocates whatever memo index a hostile file names.
class _StateDictUnpickler(pickle._Unpickler):
    """Knows `GLOBALS` and nothing else; makes no instances but by calling those, and sets no attributes."""

    dispatch = {code: load for code, load in pickle._Unpickler.dispatch.items() if code not in _REFUSED} | {
        pickle.BUILD[0]: _discard_state,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
    }

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file, encoding="utf-8")
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in GLOBALS:
            raise WeightsError(
                f"{self.path}: its pickle asks for {f'{module}.{name}'[:100]!r}, which no state dict needs; "
                "it was not executed: do not trust this file, or save `model.state_dict()` alone"
            )
        return GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _location, numel, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType) or not isinstance(key, str) or any(view):
            raise WeightsError(
                f"{self.path}: has a storage {reprlib.repr(pid)}, unknown here: save it again with a newer torch"
            )
        dtype = storage_type.dtype
        if dtype == "bfloat16":
            import ml_dtypes

            dtype = ml_dtypes.bfloat16
        if type(numel) is not int or numel < 0:
            raise WeightsError(
                f"{self.path}: storage {key} has {reprlib.repr(numel)} elements, expected a count: get the file again"
            )
        return _Storage(np.dtype(dtype), key, numel)


def read_torch_zip(path: Path, keep: Keep = keep_all) -> Tensors:
    """Read a state dict that `torch.save` wrote as a zip archive (PyTorch 1.6 and later).

    Args:
        path: The file. The state dict may be nested under one of `NESTED`.
        keep: Which tensors are read; the storages of the others are not touched.

    Returns:
        The tensors; bfloat16 becomes float32.

    Raises:
        WeightsError: Not such an archive, compressed entries, globals beyond `GLOBALS`, a tensor outside its storage.
    """
    with zipfile.ZipFile(path) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
            raise WeightsError(
                f"{path}: has compressed entries, which torch.save never writes: save it again with torch"
            )
        if sum(info.file_size for info in entries.values()) > path.stat().st_size:
            raise WeightsError(
                f"{path}: its entries are longer than the file: do not trust it, get it from its publisher"
            )
        check_size(path, path.stat().st_size)
        (pickled,) = (name for name in entries if is_state_dict_entry(name))
        prefix = pickled.removesuffix("data.pkl")
        if f"{prefix}byteorder" in entries and archive.read(f"{prefix}byteorder") != b"little":
            raise WeightsError(f"{path}: was written on a big-endian machine: save it again on another")
        with archive.open(pickled) as file:
            found = _kept(_find_tensors(path, _StateDictUnpickler(file, path).load()), keep)
        storages = {tensor.storage.key: tensor.storage for tensor in found.values()}
        data = {key: archive.read(f"{prefix}data/{key}") for key in storages}
    return Tensors(_resolve(path, found, data), {}, "torch-zip", str(path))


def is_state_dict_entry(name: str) -> bool:
    """Whether an entry of a zip archive holds the pickle of a PyTorch file."""
    return name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)


def read_torch_legacy(path: Path, keep: Keep = keep_all) -> Tensors:
    """Read a state dict in the format of PyTorch before 1.6.

    Five pickles (magic number, protocol version, system, object, storage keys), then for each key the
    storage: its element count as a little-endian int64, and the elements.

    Args:
        path: The file. The state dict may be nested under one of `NESTED`.
        keep: Which tensors are read; the storages of the others are skipped.

    Returns:
        The tensors; bfloat16 becomes float32.

    Raises:
        WeightsError: Not such a file, globals beyond `GLOBALS`, a tensor outside its storage.
    """
    check_size(path, path.stat().st_size)
    with path.open("rb") as file:
        _magic, version, system, content, keys = (_StateDictUnpickler(file, path).load() for _ in range(5))
        if version != 1001 or system.get("little_endian") is not True:
            raise WeightsError(
                f"{path}: version {reprlib.repr(version)} or big-endian, expected 1001, little-endian: save it again"
            )
        found = _find_tensors(path, content)
        itemsizes = {tensor.storage.key: tensor.storage.dtype.itemsize for tensor in found.values()}
        numels = {tensor.storage.key: tensor.storage.numel for tensor in found.values()}
        kept = _kept(found, keep)
        wanted = {tensor.storage.key for tensor in kept.values()}
        data: dict[str, bytes] = {}
        for key in keys:
            if key not in itemsizes:
                raise WeightsError(
                    f"{path}: storage {reprlib.repr(key)} belongs to no tensor of the state dict: save that alone"
                )
            (numel,) = struct.unpack("<q", file.read(8))
            if numel != numels[key]:
                raise WeightsError(f"{path}: storage {key} has {numel} elements, expected {numels[key]}: get it again")
            if key in wanted:
                data[key] = file.read(numel * itemsizes[key])
            else:
                file.seek(numel * itemsizes[key], os.SEEK_CUR)
        if file.tell() > path.stat().st_size:
            raise WeightsError(f"{path}: ends before its last storage does: it is cut short, get it again")
    return Tensors(_resolve(path, kept, data), {}, "torch-legacy", str(path))


def _find_tensors(path: Path, content: object) -> dict[str, _Tensor]:
    if isinstance(content, Mapping):
        for candidate in (content, *(content.get(key) for key in NESTED)):
            if isinstance(candidate, Mapping):
                found = {name: value for name, value in candidate.items() if isinstance(value, _Tensor)}
                if found and all(isinstance(name, str) for name in found):
                    return found
    raise WeightsError(
        f"{path}: holds no state dict, at the top or under {' or '.join(NESTED)}: "
        "save `model.state_dict()` with torch.save"
    )


def _kept(found: Mapping[str, _Tensor], keep: Keep) -> dict[str, _Tensor]:
    kept = keep(found, {})
    return {name: tensor for name, tensor in found.items() if name in kept}


def _resolve(path: Path, found: Mapping[str, _Tensor], data: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    for name, tensor in found.items():
        _check_tensor(path, name, tensor, data)
    # Views share memory, but what becomes of them later does not.
    check_size(path, sum(math.prod(tensor.size) * tensor.storage.dtype.itemsize for tensor in found.values()))
    return {name: _view(tensor, data[tensor.storage.key]) for name, tensor in found.items()}


def _check_tensor(path: Path, name: str, tensor: _Tensor, data: Mapping[str, bytes]) -> None:
    storage, offset, size, stride = tensor
    numbers = (offset, *size, *stride)
    sound = (
        all(type(number) is int and number >= 0 for number in numbers)
        and len(size) == len(stride)
        and len(data.get(storage.key, b"")) == storage.numel * storage.dtype.itemsize
        and offset + math.prod(size) <= storage.numel
        and (0 in size or offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) < storage.numel)
    )
    if not sound:
        raise WeightsError(
            f"{path}: tensor `{name}` (offset, size, stride {reprlib.repr(tensor[1:])}) is not inside its storage of "
            f"{storage.numel} elements, or the storage is cut short: get the file again"
        )


def _view(tensor: _Tensor, data: bytes) -> np.ndarray:
    itemsize = tensor.storage.dtype.itemsize
    strides = tuple(step * itemsize for step in tensor.stride)
    # numpy.ndarray checks the bounds once more.
    array = np.ndarray(tensor.size, tensor.storage.dtype, data, tensor.offset * itemsize, strides)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
