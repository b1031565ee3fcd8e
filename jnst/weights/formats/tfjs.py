"""TensorFlow.js layers models: ``model.json`` and its shards of raw little-endian values."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from jnst.errors import WeightsError
from jnst.weights.formats.tensors import MAX_BYTES, Keep, Tensors, keep_all

DTYPES: dict[str, str] = {"float32": "<f4", "float16": "<f2", "int32": "<i4", "uint8": "|u1", "uint16": "<u2"}
"""NumPy's names for the data types of the manifest."""

MAX_JSON_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A tensor of the manifest. ``scale`` and ``minimum`` undo an affine quantisation."""

    name: str
    shape: tuple[int, ...]
    stored: np.dtype
    restored: np.dtype
    scale: float | None
    minimum: float

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.stored.itemsize


def read_tfjs(path: Path, keep: Keep = keep_all) -> Tensors:
    """Read a TensorFlow.js layers model. Groups of weights may be absent.

    Args:
        path: The ``model.json``. The shards have the relative paths that it lists.
        keep: Which tensors to read. A group that contains none of them is not read.

    Returns:
        The tensors of the groups that are present, under their names in the manifest.

    Raises:
        WeightsError: There is no manifest, a shard lies outside the folder, a group is incomplete or has another size
            than the manifest says, a data type is unknown, or no group is present.

    References:
        The manifest: https://www.tensorflow.org/js/guide/save_load. Values quantised to uint8 or uint16 stand for
        ``scale * q + min``.
    """
    arrays: dict[str, np.ndarray] = {}
    absent: list[str] = []
    total = 0
    for group in _kept_groups(path, keep):
        shards = [_shard(path, name) for name in group["paths"]]
        missing = [shard for shard in shards if not shard.is_file()]
        if len(missing) == len(shards):
            absent += [shard.name for shard in shards]
            continue
        if missing:
            raise WeightsError(
                f"{path}: shard {missing[0]} is missing, but others of its group are present: get it too"
            )
        entries = [_entry(path, weight) for weight in group["weights"]]
        total += sum(entry.size for entry in entries)
        if total > MAX_BYTES:
            raise WeightsError(f"{path}: declares more than {MAX_BYTES} bytes of tensors: do not trust this file")
        data = _read_group(path, shards, entries)
        for entry, array in zip(entries, data, strict=True):
            if entry.name in arrays:
                raise WeightsError(f"{path}: lists tensor `{entry.name}` twice, expected once: get the model again")
            arrays[entry.name] = array
    if not arrays:
        beside = ", ".join(absent[:3]) or "none listed"
        raise WeightsError(f"{path}: none of its shards is present ({beside} …): put them into the same folder")
    return Tensors(arrays, {}, "tfjs", str(path))


def wanted_shards(path: Path, keep: Keep) -> list[str]:
    """List the shards that are needed to read some tensors of a model.

    Args:
        path: The ``model.json``.
        keep: Which tensors to read.

    Returns:
        The paths of the shards, relative to the folder of ``path``.

    Raises:
        WeightsError: There is no manifest, or a shard lies outside the folder.
    """
    names = [name for group in _kept_groups(path, keep) for name in group["paths"]]
    for name in names:
        _shard(path, name)
    return names


def _kept_groups(path: Path, keep: Keep) -> list[dict[str, Any]]:
    groups = _manifest(path)
    kept = keep([str(weight["name"]) for group in groups for weight in group["weights"]], {})
    return [group for group in groups if any(str(weight["name"]) in kept for weight in group["weights"])]


def _manifest(path: Path) -> list[dict[str, Any]]:
    if path.stat().st_size > MAX_JSON_BYTES:
        raise WeightsError(
            f"{path}: is larger than {MAX_JSON_BYTES} bytes, which is too large for a model.json: check the path"
        )
    model = json.loads(path.read_text(encoding="utf-8"))
    groups = model.get("weightsManifest") if isinstance(model, dict) else None
    if not isinstance(groups, list):
        raise WeightsError(
            f"{path}: JSON without `weightsManifest`, expected a TensorFlow.js model.json: check the path"
        )
    for group in groups:
        if not all(isinstance(group[key], list) for key in ("paths", "weights")):
            raise WeightsError(f"{path}: `paths` and `weights` of a group must be lists: get the model again")
    return groups


def _shard(path: Path, name: str) -> Path:
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).anchor or ".." in PureWindowsPath(name).parts:
        raise WeightsError(f"{path}: lists shard {name!r}, outside the model's folder: do not trust this file")
    return path.parent / name


def _entry(path: Path, weight: Mapping[str, Any]) -> _Entry:
    quantization = weight.get("quantization") or {}
    stored = quantization.get("dtype", weight["dtype"])
    for dtype in (stored, weight["dtype"]):
        if dtype not in DTYPES:
            known = ", ".join(DTYPES)
            raise WeightsError(
                f"{path}: tensor `{weight['name']}` is {dtype!r}, expected one of {known}: export it as float32"
            )
    shape = tuple(weight["shape"])
    if not all(isinstance(side, int) and side >= 0 for side in shape):
        raise WeightsError(f"{path}: tensor `{weight['name']}` has shape {shape}, expected sizes: get the model again")
    scale = quantization.get("scale")
    if scale is None and quantization and stored != "float16":
        raise WeightsError(f"{path}: tensor `{weight['name']}` is quantised without `scale`: get the model again")
    return _Entry(
        name=str(weight["name"]),
        shape=shape,
        stored=np.dtype(DTYPES[stored]),
        restored=np.dtype(DTYPES[weight["dtype"]]),
        scale=None if scale is None else float(scale),
        minimum=float(quantization.get("min", 0.0)),
    )


def _read_group(path: Path, shards: list[Path], entries: list[_Entry]) -> list[np.ndarray]:
    found, expected = sum(shard.stat().st_size for shard in shards), sum(entry.size for entry in entries)
    if found != expected:
        names = ", ".join(str(shard) for shard in shards[:3])
        raise WeightsError(f"{names}: {found} bytes, but {path.name} says {expected}: get the shard again")
    data = b"".join(shard.read_bytes() for shard in shards)
    arrays, offset = [], 0
    for entry in entries:
        raw = np.frombuffer(data, entry.stored, math.prod(entry.shape), offset).reshape(entry.shape)
        arrays.append(_dequantize(raw, entry))
        offset += entry.size
    return arrays


def _dequantize(raw: np.ndarray, entry: _Entry) -> np.ndarray:
    if entry.scale is None:
        return raw.astype(entry.restored, copy=False)
    values = raw.astype(np.float64) * entry.scale + entry.minimum
    return (values if entry.restored.kind == "f" else np.round(values)).astype(entry.restored)
