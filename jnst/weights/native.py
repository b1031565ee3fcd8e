"""jnst's own files of weights: safetensors with metadata that say everything a network needs."""

import json
import os
from pathlib import Path

import numpy as np

from jnst.backbones import param_shapes
from jnst.errors import ArgumentError, WeightsError
from jnst.weights.checksum import KEY, checksum
from jnst.weights.convert import Weights, check_finite, missing_params
from jnst.weights.files import replace_content
from jnst.weights.layouts import NATIVE_FORMAT, NATIVE_VERSION

DTYPES = ("float32", "float16")


def save_weights(path: str | os.PathLike[str], weights: Weights, *, dtype: str = "float32") -> None:
    """Write weights as a safetensors file that `jnst.weights.read_weights` reads back.

    Tensors carry their flat names, kernels HWIO. The metadata are format, version, architecture, training,
    preprocessing (JSON), options (JSON), source, licence and the sha256 of all of it (`jnst.weights.checksum`). The
    file appears whole or not at all.

    Args:
        path: The file to write; one that is there is replaced.
        weights: What to write.
        dtype: "float32", or "float16" for half the size and a relative error of up to 2^-11.

    Raises:
        ArgumentError: An unknown ``dtype`` or architecture, or widths that are not readable.
        WeightsError: Parameters missing, unknown, misshapen, not finite or too large for ``dtype``, or the file
            cannot be written.
    """
    from safetensors.numpy import save

    if dtype not in DTYPES:
        raise ArgumentError(f"dtype {dtype!r} is unknown: choose one of {', '.join(DTYPES)}")
    arrays = _checked(weights, dtype)
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
    metadata[KEY] = checksum(arrays, metadata)
    _write(Path(path), _in_order(save(arrays, metadata)))


def _in_order(content: bytes) -> bytes:
    """The same file with sorted metadata, which safetensors writes in another order every time."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    ordered = json.dumps(header, separators=(",", ":")).encode()
    # The format aligns tensors to 8 bytes by spaces behind the header.
    ordered += b" " * (-len(ordered) % 8)
    return len(ordered).to_bytes(8, "little") + ordered + content[8 + length :]


def _checked(weights: Weights, dtype: str) -> dict[str, np.ndarray]:
    shapes = param_shapes(weights.architecture, weights.options.get("widths"))
    faults = [name for name in weights.params if name not in shapes] or missing_params(
        weights.architecture, weights.params, weights.options
    )
    if faults or not weights.params:
        raise WeightsError(
            f"weights for {weights.architecture}: `{(faults or list(shapes))[0]}` is missing or no parameter of it, "
            "expected all of them up to the last layer: save those"
        )
    arrays: dict[str, np.ndarray] = {}
    for name, param in weights.params.items():
        if param.shape != shapes[name]:
            raise WeightsError(f"parameter `{name}` has shape {param.shape}, expected {shapes[name]}: save it as HWIO")
        with np.errstate(over="ignore"):
            arrays[name] = np.ascontiguousarray(param, dtype=dtype)
        check_finite(name, arrays[name])
    return arrays


def _write(path: Path, content: bytes) -> None:
    try:
        replace_content(path, content)
    except OSError as error:
        raise WeightsError(
            f"{path}: cannot be written ({error}): check the folder and the space on its disk"
        ) from error
