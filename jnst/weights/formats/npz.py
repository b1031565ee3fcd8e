"""NumPy's ``.npz``: a zip archive of ``.npy`` arrays.

NumPy parses the headers. Unlike `numpy.load`, this reader compares them with the size of the data before it allocates
memory, and reads only what it is asked for.
"""

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from jnst.errors import WeightsError
from jnst.weights.formats.archive import entries_of
from jnst.weights.formats.tensors import Keep, Tensors, check_size, keep_all

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""The versions of ``.npy`` that can contain plain numbers."""


def read_npz(path: Path, keep: Keep = keep_all) -> Tensors:
    """Read an ``.npz`` archive.

    Args:
        path: The archive, compressed or not.
        keep: Which arrays to read.

    Returns:
        The arrays, named without ``.npy``.

    Raises:
        WeightsError: The archive contains an array of objects, two arrays of the same name, a header that disagrees
            with the size of its entry, or a compression that NumPy does not use; or it declares more bytes than
            `check_size` allows.

    References:
        https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
    """
    with zipfile.ZipFile(path) as archive:
        entries = {name.removesuffix(".npy"): info for name, info in entries_of(path, archive).items()}
        if not {info.compress_type for info in entries.values()} <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise WeightsError(f"{path}: has a compression that NumPy does not use: save it again with NumPy")
        check_size(path, sum(info.file_size for info in entries.values()))
        kept = keep(entries, {})
        arrays = {}
        for name, info in entries.items():
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
            f"{path}: array `{name}` contains {dtype}, expected plain numbers: save it without pickled objects"
        )
    expected = math.prod(shape) * dtype.itemsize
    if expected != size - entry.tell():
        raise WeightsError(
            f"{path}: array `{name}` of shape {shape} takes {expected} bytes, but its entry has {size - entry.tell()}: "
            "get the file again"
        )
    return np.frombuffer(entry.read(), dtype).reshape(shape, order="F" if fortran else "C")
