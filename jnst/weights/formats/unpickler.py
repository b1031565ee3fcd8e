"""The pickles inside PyTorch's files, read without executing any: only what a state dict is made of is understood."""

import pickle
import reprlib
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from jnst.errors import WeightsError

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


class StorageType(NamedTuple):
    """A storage class, which says of what data type its elements are."""

    dtype: str


class Storage(NamedTuple):
    """Elements in a row, kept elsewhere in the file under a key."""

    dtype: np.dtype
    key: str
    numel: int


class Tensor(NamedTuple):
    """A view into a storage, in elements; nothing in it has been checked."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _rebuild_tensor(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    return Tensor(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(data: Tensor, *_: object) -> Tensor:
    return data


def _checked_items(items: Iterable[tuple[object, object]] = ()) -> OrderedDict[object, object]:
    """Dictionaries with plain keys only, each once: hashing nested tuples can take for ever."""
    checked: OrderedDict[object, object] = OrderedDict()
    for key, value in items:
        if isinstance(key, str | int):
            if key in checked:
                raise ValueError(f"key {reprlib.repr(key)} is there twice")
            checked[key] = value
    return checked


GLOBALS: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): _checked_items,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): StorageType(dtype) for name, dtype in STORAGES.items()},
}
"""All that a pickle may name, and what stands for it here."""


def _discard_state(unpickler: Any) -> None:
    unpickler.stack.pop()


def _set_item(unpickler: Any) -> None:
    value, key = unpickler.stack.pop(), unpickler.stack.pop()
    _add(unpickler.stack[-1], [(key, value)])


def _set_items(unpickler: Any) -> None:
    items = unpickler.pop_mark()
    _add(unpickler.stack[-1], zip(items[::2], items[1::2], strict=True))


def _add(target: Any, items: Iterable[tuple[object, object]]) -> None:
    checked = _checked_items(items)
    if twice := target.keys() & checked.keys():
        raise ValueError(f"key {reprlib.repr(min(map(str, twice)))} is there twice")
    target.update(checked)


class _Bounded(NamedTuple):
    """A file of which no more is asked for than it has: the lengths in a pickle may lie."""

    file: IO[bytes]
    size: int

    def read(self, count: int) -> bytes:
        left = self.size - self.file.tell()
        if count > left:
            raise EOFError(f"{count} bytes wanted, {left} left")
        return self.file.read(count)

    def readline(self) -> bytes:
        return self.file.readline()


_REFUSED = (
    pickle.INST + pickle.OBJ + pickle.NEWOBJ + pickle.NEWOBJ_EX + pickle.EXT1 + pickle.EXT2 + pickle.EXT4
    + pickle.DICT + pickle.EMPTY_SET + pickle.ADDITEMS + pickle.FROZENSET
    + pickle.BYTEARRAY8 + pickle.NEXT_BUFFER + pickle.READONLY_BUFFER
)  # fmt: skip
"""Opcodes that no state dict needs: instances, registered extensions, sets, buffers."""


# The unpickler written in Python, because the one in C allocates whatever memo index a hostile file names.
class StateDictUnpickler(pickle._Unpickler):
    """Knows `GLOBALS` and nothing else; makes no instances but by calling those, and sets no attributes."""

    dispatch = {code: load for code, load in pickle._Unpickler.dispatch.items() if code not in _REFUSED} | {
        pickle.BUILD[0]: _discard_state,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
    }

    def __init__(self, file: IO[bytes], size: int, path: Path) -> None:
        super().__init__(_Bounded(file, size), encoding="utf-8")
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name in `GLOBALS`; a `WeightsError` for any other."""
        if (module, name) not in GLOBALS:
            raise WeightsError(
                f"{self.path}: its pickle asks for {f'{module}.{name}'[:100]!r}, which no state dict needs; "
                "it was not executed: do not trust this file, or save `model.state_dict()` alone"
            )
        return GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that a persistent id describes; a `WeightsError` where it makes no sense."""
        kind, storage_type, key, _location, numel, *view = pid
        if kind != "storage" or not isinstance(storage_type, StorageType) or not isinstance(key, str) or any(view):
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
        return Storage(np.dtype(dtype), key, numel)
