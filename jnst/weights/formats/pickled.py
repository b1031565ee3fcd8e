"""Nested dictionaries of NumPy arrays in a pickle, as Flax programs save parameters. No pickle is executed."""

import math
import re
from pathlib import Path

import numpy as np

from jnst.errors import WeightsError
from jnst.weights.formats.tensors import Keep, Tensors, check_size, keep_all
from jnst.weights.formats.unpickler import DataType, LatinText, PickledArray, StateDictUnpickler, leaves


def read_pickle(path: Path, keep: Keep = keep_all) -> Tensors:
    """Read a pickle of nested dictionaries of NumPy arrays (protocols 2 to 5).

    Args:
        path: The file.
        keep: Which arrays to return. The others are read too.

    Returns:
        The arrays, named by their keys joined with slashes.

    Raises:
        WeightsError: The pickle uses globals other than `GLOBALS`, contains no arrays or one that is not plain numbers,
            or whose bytes do not fit its shape.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        content = StateDictUnpickler(file, size, path).load()
    found = {"/".join(names): array for names, array in leaves(content, PickledArray).items()}
    if not found:
        raise WeightsError(f"{path}: is a pickle without NumPy arrays in dictionaries: save those, or an .npz")
    kept = keep(found, {})
    found = {name: array for name, array in found.items() if name in kept}
    # The same bytes may occur under many names.
    check_size(path, sum(len(array.data) for array in found.values() if isinstance(array.data, bytes | LatinText)))
    return Tensors({name: _view(path, name, array) for name, array in found.items()}, {}, "pickle", str(path))


def _view(path: Path, name: str, array: PickledArray) -> np.ndarray:
    dtype = _data_type(array.dtype)
    if dtype is None or not _fits(array, dtype):
        raise WeightsError(
            f"{path}: array `{name}` is not one of plain numbers, or its bytes do not fit its shape: save it as .npz"
        )
    data = array.data.text.encode("latin1") if isinstance(array.data, LatinText) else array.data
    view = np.frombuffer(data, dtype).reshape(array.shape, order="F" if array.fortran else "C")
    return view if array.axes is None else view.transpose(array.axes)


def _data_type(pickled: object) -> np.dtype | None:
    if isinstance(pickled, DataType) and isinstance(pickled.order, str) and isinstance(pickled.code, str):
        code = pickled.order + pickled.code
        return np.dtype(code) if re.fullmatch(r"[<>|=]?(f[248]|[iu][1248]|b1)", code) else None
    return None


def _is_permutation(axes: object, count: int) -> bool:
    return isinstance(axes, tuple) and all(type(axis) is int for axis in axes) and sorted(axes) == list(range(count))


def _fits(array: PickledArray, dtype: np.dtype) -> bool:
    return (
        isinstance(array.data, bytes | LatinText)
        and isinstance(array.shape, tuple)
        and len(array.shape) < 8
        and all(type(side) is int and 0 <= side < 1 << 40 for side in array.shape)
        and len(array.data) == math.prod(array.shape) * dtype.itemsize
        and (array.axes is None or _is_permutation(array.axes, len(array.shape)))
    )
