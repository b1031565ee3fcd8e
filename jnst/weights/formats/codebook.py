"""Codebook quantisation: a tensor stored as 8-bit indices ``NAME_q`` into a table of values ``NAME_table``."""

from pathlib import Path

import numpy as np

from jnst.errors import WeightsError
from jnst.weights.formats.tensors import check_size

INDICES, TABLE = "_q", "_table"


def expand_codebooks(path: Path, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Replace the indices and the table of each quantised tensor by its values.

    Args:
        path: The file that the tensors come from.
        arrays: The tensors by name. A tensor is quantised if its name ends in `INDICES` and its type is uint8.

    Returns:
        The tensors, under names without `INDICES`. Those that are not quantised stay the same.

    Raises:
        WeightsError: Indices without a table, a table that is no list of floating-point numbers, an index beyond its
            end, or more bytes than `check_size` allows.
    """
    quantised = {name for name, array in arrays.items() if name.endswith(INDICES) and array.dtype == np.uint8}
    tables = {name: _find_table(path, name, arrays) for name in quantised}
    check_size(path, sum(arrays[name].size * table.itemsize for name, table in tables.items()))
    used = {_table_name(name) for name in quantised}
    return {
        name.removesuffix(INDICES) if name in tables else name: tables[name][array] if name in tables else array
        for name, array in arrays.items()
        if name not in used
    }


def _table_name(indices: str) -> str:
    return indices.removesuffix(INDICES) + TABLE


def _find_table(path: Path, name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Return the table of the indices ``name``, checked against them."""
    table = arrays.get(_table_name(name))
    if table is None:
        raise WeightsError(f"{path}: `{_table_name(name)}` is missing, the table of `{name}`: get the file again")
    if table.ndim != 1 or table.dtype.kind != "f":
        raise WeightsError(
            f"{path}: `{_table_name(name)}` is {table.dtype} of shape {table.shape}, expected a list of floating-point "
            "numbers: get the file again"
        )
    largest = int(arrays[name].max(initial=0))
    if largest >= len(table):
        raise WeightsError(
            f"{path}: `{name}` contains index {largest}, but `{_table_name(name)}` has only {len(table)} values: get "
            "the file again"
        )
    return table
