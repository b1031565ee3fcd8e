"""PyTorch's state dicts, as zip archives and in the older format, read without PyTorch. No pickle is executed."""

import io
import itertools
import math
import os
import reprlib
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jnst.errors import WeightsError
from jnst.weights.formats.archive import entries_of
from jnst.weights.formats.tensors import Keep, Tensors, check_size, keep_all
from jnst.weights.formats.unpickler import StateDictUnpickler, Tensor, leaves

LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""PyTorch's pickled magic number 0x1950a86a20f9469cfc6c. It follows two bytes with the pickle protocol."""


def read_torch_zip(path: Path, keep: Keep = keep_all) -> Tensors:
    """Read a state dict that `torch.save` wrote as a zip archive (PyTorch 1.6 and later).

    Args:
        path: The file. The state dict may be nested in other dictionaries, next to other things.
        keep: Which tensors to read. The storages of the others are not touched.

    Returns:
        The tensors; bfloat16 becomes float32.

    Raises:
        WeightsError: The file is not such an archive, has compressed entries or two of the same name, uses globals
            other than `GLOBALS`, or contains a tensor that exceeds its storage.
    """
    with zipfile.ZipFile(path) as archive:
        entries = entries_of(path, archive)
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
            raise WeightsError(
                f"{path}: has compressed entries, which torch.save never writes: save it again with torch"
            )
        if sum(info.file_size for info in entries.values()) > path.stat().st_size:
            raise WeightsError(
                f"{path}: its entries are larger than the file: do not trust it, get it from its publisher"
            )
        check_size(path, path.stat().st_size)
        (pickled,) = (name for name in entries if is_state_dict_entry(name))
        prefix = pickled.removesuffix("data.pkl")
        if f"{prefix}byteorder" in entries and archive.read(f"{prefix}byteorder") != b"little":
            raise WeightsError(f"{path}: was written on a big-endian machine: save it again on a little-endian one")
        # zipfile compares the checksum when it has read the whole entry, which must come before the parsing.
        content = archive.read(pickled)
        found = _find_tensors(path, StateDictUnpickler(io.BytesIO(content), len(content), path).load())
        found = _kept(found, keep)
        storages = {tensor.storage.key: tensor.storage for tensor in found.values()}
        data = {key: archive.read(f"{prefix}data/{key}") for key in storages}
    return Tensors(_resolve(path, found, data), {}, "torch-zip", str(path))


def is_state_dict_entry(name: str) -> bool:
    """Whether an entry of a zip archive is the pickle of a PyTorch file."""
    return name == "data.pkl" or (name.endswith("/data.pkl") and name.count("/") == 1)


def read_torch_legacy(path: Path, keep: Keep = keep_all) -> Tensors:
    """Read a state dict in the format of PyTorch before 1.6.

    Such a file contains five pickles (magic number, protocol version, system, object, storage keys). They are followed
    by a storage for each key: its number of elements as a little-endian int64, and the elements.

    Args:
        path: The file. The state dict may be nested in other dictionaries, next to other things.
        keep: Which tensors to read. The storages of the others are skipped.

    Returns:
        The tensors; bfloat16 becomes float32.

    Raises:
        WeightsError: The file has another format, uses globals other than `GLOBALS`, or contains a tensor that exceeds
            its storage.
    """
    size = path.stat().st_size
    check_size(path, size)
    with path.open("rb") as file:
        _magic, version, system, content, keys = (StateDictUnpickler(file, size, path).load() for _ in range(5))
        if version != 1001 or system.get("little_endian") is not True:
            raise WeightsError(
                f"{path}: version {reprlib.repr(version)} or big-endian, expected 1001 and little-endian: save it again"
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
                    f"{path}: storage {reprlib.repr(key)} belongs to no tensor: save only the state dict"
                )
            (numel,) = struct.unpack("<q", file.read(8))
            if numel != numels[key]:
                raise WeightsError(f"{path}: storage {key} has {numel} elements, expected {numels[key]}: get it again")
            length = numel * itemsizes[key]
            if length > size - file.tell():
                raise WeightsError(f"{path}: ends inside its storage {key}: it is truncated, get it again")
            if key in wanted:
                data[key] = file.read(length)
            else:
                file.seek(length, os.SEEK_CUR)
    return Tensors(_resolve(path, kept, data), {}, "torch-legacy", str(path))


def _find_tensors(path: Path, content: object) -> dict[str, Tensor]:
    """Return all tensors, named by their keys; by ``outer/key`` if they lie in several dictionaries."""
    found = leaves(content, Tensor)
    if not found or () in found:
        raise WeightsError(f"{path}: contains no state dict: save `model.state_dict()` with torch.save")
    outer = zip(*(names[:-1] for names in found), strict=False)
    common = len(list(itertools.takewhile(lambda names: len(set(names)) == 1, outer)))
    return {"/".join(names[common:]): tensor for names, tensor in found.items()}


def _kept(found: Mapping[str, Tensor], keep: Keep) -> dict[str, Tensor]:
    kept = keep(found, {})
    return {name: tensor for name, tensor in found.items() if name in kept}


def _resolve(path: Path, found: Mapping[str, Tensor], data: Mapping[str, bytes]) -> dict[str, np.ndarray]:
    for name, tensor in found.items():
        _check_tensor(path, name, tensor, data)
    # Views share memory, but the arrays that are made from them later do not.
    check_size(path, sum(math.prod(tensor.size) * tensor.storage.dtype.itemsize for tensor in found.values()))
    return {name: _view(tensor, data[tensor.storage.key]) for name, tensor in found.items()}


def _check_tensor(path: Path, name: str, tensor: Tensor, data: Mapping[str, bytes]) -> None:
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
            f"{path}: tensor `{name}` (offset, size, stride {reprlib.repr(tensor[1:])}) exceeds its storage of "
            f"{storage.numel} elements, or the storage is truncated: get the file again"
        )


def _view(tensor: Tensor, data: bytes) -> np.ndarray:
    itemsize = tensor.storage.dtype.itemsize
    strides = tuple(step * itemsize for step in tensor.stride)
    # numpy.ndarray checks the bounds again.
    array = np.ndarray(tensor.size, tensor.storage.dtype, data, tensor.offset * itemsize, strides)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
