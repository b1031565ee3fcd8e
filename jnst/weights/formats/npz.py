"""NumPy's ``.npz``: a zip archive of ``.npy`` arrays; pickled objects are refused."""

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from jnst.errors import WeightsError
from jnst.weights.formats.tensors import Keep, Tensors, check_size, keep_all

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""The versions of ``.npy`` that can hold plain numbers."""


def read_npz(path: Path, keep: Keep = keep_all) -> Tensors:
    """Read an ``.npz`` archive.

    Args:
        path: The archive, compressed or not.
        keep: Which arrays are read.

    Returns:
        Its arrays, named without the ``.npy``.

    Raises:
        WeightsError: An array of objects, a header that disagrees with the length of its entry, more bytes declared
            than `check_size` allows.

    References:
        https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    with zipfile.ZipFile(path) as archive:
        entries = [info for info in archive.infolist() if not info.is_dir()]
        check_size(path, sum(info.file_size for info in entries))
        names = [info.filename.removesuffix(".npy") for info in entries]
        kept = keep(names, {})
        arrays = {}
        for name, info in zip(names, entries, strict=True):
            if name in kept:
                with archive.open(info) as entry:
                    arrays[name] = _read_array(path, name, entry, info.file_size)
    return Tensors(arrays, {}, "npz", str(path))


def _read_array(path: Path, name: str, entry: IO[bytes], size: int) -> np.ndarray:
    version = np.lib.format.read_magic(entry)
    if version not in HEADERS:
        raise WeightsError(
            f"{path}: array `{name}` has .npy version {version}, expected {', '.join(map(str, HEADERS))}"
        )
    shape, fortran, dtype = HEADERS[version](entry)
    if dtype.hasobject or dtype.names is not None:
        raise WeightsError(
            f"{path}: array `{name}` holds {dtype}, expected plain numbers: save it without pickled objects"
        )
    expected = math.prod(shape) * dtype.itemsize
    if expected != size - entry.tell():
        raise WeightsError(
            f"{path}: array `{name}` of shape {shape} takes {expected} bytes, but its entry has {size - entry.tell()}: "
            "get the file again"
        )
    return np.frombuffer(entry.read(), dtype).reshape(shape, order="F" if fortran else "C")
