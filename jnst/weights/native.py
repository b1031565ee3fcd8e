"""jnst's own weights files: safetensors whose metadata say everything that is needed to build the network."""

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from jnst.backbones import param_shapes
from jnst.errors import ArgumentError, WeightsError
from jnst.weights.checksum import KEY, checksum
from jnst.weights.convert import Weights, check_finite, missing_params
from jnst.weights.files import write_atomically
from jnst.weights.layouts import NATIVE_FORMAT, NATIVE_VERSION

DTYPES = ("float32", "float16")


def save_weights(path: str | os.PathLike[str], weights: Weights, *, dtype: str = "float32") -> None:
    """Write weights to a safetensors file, which `jnst.weights.read_weights` reads.

    The tensors have flat names, and kernels are in HWIO order. The metadata are format, version, architecture,
    training, preprocessing (JSON), options (JSON), source, licence, and the sha256 of everything
    (`jnst.weights.checksum`). An existing file is replaced atomically. The same weights give the same bytes.

    Args:
        path: The file to write.
        weights: The weights to write.
        dtype: "float32", or "float16" for half the size and a relative error of up to 2^-11.

    Raises:
        ArgumentError: The data type or the architecture is unknown, the widths cannot be read, or the file cannot be
            written.
        WeightsError: Parameters are missing, unknown, not finite or too large for the data type, or have the wrong
            shape.
        ResourceError: The disk is full.
    """
    arrays = cast_tensors(weights.params, dtype)
    _check(weights, arrays)
    metadata = {
        "format": NATIVE_FORMAT,
        "version": NATIVE_VERSION,
        "architecture": weights.architecture,
        "training": weights.training,
        "preprocessing": weights.preprocessing.to_json(),
        "options": json.dumps(dict(weights.options)),
        "source": weights.source,
        "licence": weights.licence,
    }
    write_tensors(path, arrays, metadata)


def cast_tensors(arrays: Mapping[str, Any], dtype: str) -> dict[str, np.ndarray]:
    """Cast tensors to the data type of a file. Values that are too large for it become infinite.

    Args:
        arrays: The tensors by name.
        dtype: One of `DTYPES`.

    Raises:
        ArgumentError: The data type is unknown.
    """
    if dtype not in DTYPES:
        raise ArgumentError(f"dtype {dtype!r} is unknown: choose one of {', '.join(DTYPES)}")
    with np.errstate(over="ignore"):
        return {name: np.ascontiguousarray(array, dtype=dtype) for name, array in arrays.items()}


def write_tensors(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata, with their sha256 among these, to a safetensors file, atomically.

    Args:
        path: The file to write.
        arrays: The tensors by name.
        metadata: Texts by name.

    Raises:
        ArgumentError: The file cannot be written.
        ResourceError: The disk is full.
    """
    from safetensors.numpy import save

    complete = {**metadata, KEY: checksum(arrays, metadata)}
    write_atomically(path, _with_sorted_metadata(save(dict(arrays), complete)))


def _with_sorted_metadata(content: bytes) -> bytes:
    """Sort the metadata of a safetensors file, which the library writes in random order."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    ordered = json.dumps(header, separators=(",", ":")).encode()
    # Spaces after the header align the tensors to 8 bytes.
    ordered += b" " * (-len(ordered) % 8)
    return len(ordered).to_bytes(8, "little") + ordered + content[8 + length :]


def _check(weights: Weights, arrays: Mapping[str, np.ndarray]) -> None:
    shapes = param_shapes(weights.architecture, weights.options.get("widths"))
    faults = [name for name in weights.params if name not in shapes] or missing_params(
        weights.architecture, weights.params, weights.options
    )
    if faults or not weights.params:
        raise WeightsError(
            f"weights for {weights.architecture}: the parameter `{(faults or list(shapes))[0]}` is missing or unknown, "
            "expected all parameters up to the last layer: save those"
        )
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise WeightsError(
                f"parameter `{name}` has shape {array.shape}, expected {shapes[name]}: save it in HWIO order"
            )
        check_finite(name, array)
