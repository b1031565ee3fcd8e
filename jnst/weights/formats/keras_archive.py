"""Keras 3 models (``.keras``): zip archives with the weights as HDF5."""

import dataclasses
import shutil
import tempfile
import zipfile
from pathlib import Path

from jnst.errors import WeightsError
from jnst.weights.formats.archive import entries_of
from jnst.weights.formats.hdf5 import read_hdf5
from jnst.weights.formats.tensors import Keep, Tensors, check_size, keep_all

WEIGHTS = "model.weights.h5"
"""The entry with the weights."""


def read_keras(path: Path, keep: Keep = keep_all) -> Tensors:
    """Read the weights of a ``.keras`` archive. Neither its configuration nor any code in it is read.

    Args:
        path: The file.
        keep: Which tensors to read.

    Returns:
        The tensors, named by their paths in the HDF5 file (``layers/conv2d_7/vars/0``).

    Raises:
        WeightsError: As for `read_hdf5`, or the archive is damaged or declares more bytes than `check_size` allows.

    References:
        ``keras/src/saving/saving_lib.py``.
    """
    with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as folder:
        entry = entries_of(path, archive)[WEIGHTS]
        check_size(path, entry.file_size)
        unpacked = Path(folder, WEIGHTS)
        with archive.open(entry) as source, unpacked.open("wb") as target:
            shutil.copyfileobj(source, target)
        try:
            tensors = read_hdf5(unpacked, keep)
        except WeightsError as error:
            raise WeightsError(str(error).replace(str(unpacked), str(path))) from error
    return dataclasses.replace(tensors, format="keras", source=str(path))
