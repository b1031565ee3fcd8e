"""A restricted unpickler for PyTorch's tensors and NumPy's arrays. It knows only what dictionaries of them need."""

import dataclasses
import pickle
import reprlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

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
    """A storage class, which stands for the data type of its elements."""

    dtype: str


class Storage(NamedTuple):
    """A sequence of elements, stored elsewhere in the file under a key."""

    dtype: np.dtype
    key: str
    numel: int


class Tensor(NamedTuple):
    """A view of a storage. Offset and strides count elements. Nothing in it has been checked."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class DataType:
    """A NumPy data type as pickled: a code such as "f4", and a byte order that follows. Nothing has been checked."""

    order: object = ""

    def __init__(self, code: object, *_: object) -> None:
        self.code = code

    def set_state(self, state: Any) -> None:
        """Take the byte order from the state that NumPy pickles."""
        self.order = state[1]


@dataclasses.dataclass(frozen=True, eq=False)
class LatinText:
    """Bytes as protocol 2 has them: characters of Latin-1. One text may occur often, so it is not encoded yet."""

    text: str

    def __len__(self) -> int:
        return len(self.text)


class PickledArray:
    """A NumPy array as pickled: shape, data type and bytes, which follow. Nothing has been checked.

    The order of its axes in memory is C, Fortran (``fortran``), or that of ``axes`` after `numpy.transpose`.
    """

    shape: Any = ()
    dtype: Any = None
    fortran: Any = False
    axes: Any = None
    data: Any = b""

    def set_state(self, state: Any) -> None:
        """Take the array from the state that NumPy pickles."""
        _version, self.shape, self.dtype, self.fortran, self.data = state


_NDARRAY = object()


def _reconstruct(kind: object, *_: object) -> PickledArray:
    if kind is not _NDARRAY:
        raise TypeError("not a plain array")
    return PickledArray()


def _from_buffer(data: object, dtype: object, shape: object, order: object, axes: object = None) -> PickledArray:
    array = PickledArray()
    array.set_state((1, shape, dtype, order == "F", data))
    array.axes = axes
    return array


def _encode(text: object, encoding: object) -> LatinText:
    if not isinstance(text, str) or encoding != "latin1":
        raise TypeError("not bytes")
    return LatinText(text)


def _rebuild_tensor(
    storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    return Tensor(storage, offset, tuple(size), tuple(stride))


def _rebuild_parameter(data: Tensor, *_: object) -> Tensor:
    return data


def _checked_items(items: Iterable[tuple[object, object]] = ()) -> OrderedDict[object, object]:
    """Return a dictionary whose keys are plain and unique. Hashing nested tuples can take forever."""
    checked: OrderedDict[object, object] = OrderedDict()
    for key, value in items:
        if isinstance(key, str | int):
            if key in checked:
                raise ValueError(f"key {reprlib.repr(key)} occurs twice")
            checked[key] = value
    return checked


GLOBALS: dict[tuple[str, str], object] = {
    ("collections", "OrderedDict"): _checked_items,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): StorageType(dtype) for name, dtype in STORAGES.items()},
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): DataType,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
}
"""The globals that a pickle may use, and what each of them is replaced by."""


def _set_state(unpickler: Any) -> None:
    """Give a placeholder of NumPy its state; discard any other, such as the metadata of a state dict."""
    state = unpickler.stack.pop()
    if isinstance(unpickler.stack[-1], DataType | PickledArray):
        unpickler.stack[-1].set_state(state)


def _set_item(unpickler: Any) -> None:
    value, key = unpickler.stack.pop(), unpickler.stack.pop()
    _add(unpickler.stack[-1], [(key, value)])


def _set_items(unpickler: Any) -> None:
    items = unpickler.pop_mark()
    _add(unpickler.stack[-1], zip(items[::2], items[1::2], strict=True))


def _add(target: Any, items: Iterable[tuple[object, object]]) -> None:
    checked = _checked_items(items)
    if twice := target.keys() & checked.keys():
        raise ValueError(f"key {reprlib.repr(min(map(str, twice)))} occurs twice")
    target.update(checked)


def _bytearray8(unpickler: Any) -> None:
    """Read the bytes of an array in protocol 5. Python's own method allocates them before it reads."""
    unpickler.append(unpickler.read(int.from_bytes(unpickler.read(8), "little")))


class _Bounded(NamedTuple):
    """A file that refuses to read more than it has, because the lengths in a pickle may lie."""

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
    + pickle.NEXT_BUFFER + pickle.READONLY_BUFFER
)  # fmt: skip
"""Opcodes that no state dict needs: instances, registered extensions, sets, and buffers outside of the file."""


Leaf = TypeVar("Leaf")


MAX_DEPTH = 8
"""How many dictionaries and lists may contain each other."""


def leaves(content: object, kind: type[Leaf]) -> dict[tuple[str, ...], Leaf]:
    """Return the values of one type in nested dictionaries and lists by their paths, in order, each container once."""
    found: dict[tuple[str, ...], Leaf] = {}
    waiting: list[tuple[tuple[str, ...], object]] = [((), content)]
    seen: set[int] = set()
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, kind):
            found[path] = value
        elif isinstance(value, Mapping | list) and len(path) < MAX_DEPTH and id(value) not in seen:
            seen.add(id(value))
            items = list(value.items() if isinstance(value, Mapping) else enumerate(value))
            waiting += [((*path, str(key)), item) for key, item in reversed(items)]
    return found


# Based on Python's own unpickler, because the one in C allocates as much memory as a hostile memo index asks for.
class StateDictUnpickler(pickle._Unpickler):
    """An unpickler that calls nothing but `GLOBALS`, creates no other instances, and sets no attributes."""

    dispatch = {code: load for code, load in pickle._Unpickler.dispatch.items() if code not in _REFUSED} | {
        pickle.BUILD[0]: _set_state,
        pickle.BYTEARRAY8[0]: _bytearray8,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
    }

    def __init__(self, file: IO[bytes], size: int, path: Path) -> None:
        super().__init__(_Bounded(file, size), encoding="utf-8")
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement of a global, or raise a `WeightsError` if it is not in `GLOBALS`."""
        if (module, name) not in GLOBALS:
            raise WeightsError(
                f"{self.path}: its pickle uses {f'{module}.{name}'[:100]!r}, which weights do not need and was not "
                "executed: do not trust this file, or save only `model.state_dict()` or the arrays (.npz)"
            )
        return GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        """Return the storage that a persistent id describes, or raise a `WeightsError` if it is invalid."""
        kind, storage_type, key, _location, numel, *view = pid
        if kind != "storage" or not isinstance(storage_type, StorageType) or not isinstance(key, str) or any(view):
            raise WeightsError(
                f"{self.path}: has an unknown kind of storage {reprlib.repr(pid)}: save it again with a newer torch"
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
