"""Checkpoint files: arrays and JSON in the safetensors format, with a checksum; the previous file is kept.

Any safetensors reader can read them. They are written array by array, so that a state of hundreds of megabytes is not
in memory twice. The metadata entry ``sha256`` is the checksum of the header without that entry, as JSON with sorted
keys and no spaces, followed by all bytes after the header.

References:
    https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jnst.errors import ArgumentError
from jnst.weights.files import shown, write_atomically

PREVIOUS = ".previous"
"""Appended to a checkpoint's name for the checkpoint before it."""

_TYPES = {
    "BOOL": np.dtype(bool),
    **{f"{letter}{8 * size}": np.dtype(f"{letter.lower()}{size}") for letter in "UI" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
    "C64": np.dtype(np.complex64),
    "BF16": np.dtype(jnp.bfloat16),
    "F8_E4M3": np.dtype(jnp.float8_e4m3fn),
    "F8_E5M2": np.dtype(jnp.float8_e5m2),
}
_CODES = {dtype: code for code, dtype in _TYPES.items()}
_PLAIN = ("format", "version", "sha256")
"""Metadata that are plain text. All other metadata are JSON."""
_MAX_REASON = 240


class Contents(NamedTuple):
    """The contents of a checkpoint.

    Attributes:
        arrays: Arrays by name.
        metadata: JSON values by name.
        path: The file that was read.
    """

    arrays: dict[str, np.ndarray]
    metadata: dict[str, Any]
    path: Path


def previous_of(path: str | os.PathLike[str]) -> Path:
    """The path of the previous checkpoint: in the folder of the file itself, even if a symbolic link leads to it."""
    return Path(f"{os.path.realpath(path)}{PREVIOUS}")


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether there is a checkpoint or a previous one."""
    return Path(path).exists() or previous_of(path).exists()


def write_contents(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint, and keep the existing one under its name with `PREVIOUS` appended.

    The file is replaced atomically: if there was a file, there is a complete one at every moment.

    Args:
        path: The file.
        arrays: Arrays by name.
        metadata: JSON values by name; ``format`` and ``version`` are strings.

    Raises:
        ArgumentError: The file cannot be written, or the format does not support an array's type.
        ResourceError: The disk is full.
    """
    header: dict[str, Any] = {
        "__metadata__": {name: value if name in _PLAIN else json.dumps(value) for name, value in metadata.items()}
    }
    end, parts = 0, []
    # Larger types first, so that every array is aligned.
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        if array.dtype not in _CODES:
            raise ArgumentError(f"`{name}` has type {array.dtype}: expected one of {', '.join(map(str, _CODES))}")
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": _CODES[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
        parts.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    header["__metadata__"]["sha256"] = _checksum(header, parts)
    text = _json(header)
    text += b" " * (-len(text) % 8)
    write_atomically(path, [len(text).to_bytes(8, "little"), text, *parts], previous=previous_of(path))


def read_contents(path: str | os.PathLike[str], kind: tuple[str, str]) -> Contents:
    """Read a checkpoint; if it is damaged or missing, the previous one.

    Args:
        path: The file.
        kind: The expected ``format`` and ``version``.

    Raises:
        ArgumentError: The file is missing or damaged, and so is the previous one; or it is of another kind.

    Warns:
        UserWarning: The file is damaged or missing, and the previous one was read.
    """
    try:
        return _read(Path(path), kind)
    except _DamagedError as error:
        previous = previous_of(path)
        if not previous.exists():
            raise
        try:
            contents = _read(previous, kind)
        except ArgumentError as another:
            raise ArgumentError(f"{error}, and neither can the one before ({another}): start again") from another
        warnings.warn(f"{error}; continuing from the one before, {shown(previous)}", stacklevel=3)
        return contents


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Describe how two JSON objects differ, such as ``["optimizer.learning_rate was 1.0, is now 2.0"]``."""
    found = list[str]()
    for name in {**old, **new}:
        # Through JSON, so that tuples equal lists.
        before, after = (json.loads(json.dumps(side.get(name))) for side in (old, new))
        if isinstance(before, dict) and isinstance(after, dict) and before.get("class") == after.get("class"):
            found += [f"{name}.{line}" for line in differences(before, after)]
        elif before != after:
            found.append(f"{name} was {_short(before)}, is now {_short(after)}")
    return found


class _DamagedError(ArgumentError):
    """A file that is missing or incomplete. The previous one may be intact."""


def _read(path: Path, kind: tuple[str, str]) -> Contents:
    if not path.exists():
        raise _DamagedError(f"checkpoint {shown(path)} cannot be read: there is no such file, check the name")
    if not path.is_file():
        raise ArgumentError(f"checkpoint {shown(path)} is not a regular file: choose another")
    try:
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header, data = json.loads(content[8 : 8 + length]), memoryview(content)[8 + length :]
        metadata = dict(header.pop("__metadata__"))
        if _checksum({"__metadata__": metadata, **header}, [data]) != metadata["sha256"]:
            raise ValueError("the checksum does not match")
        arrays = {name: _array(data, **entry) for name, entry in header.items()}
        values = {name: text if name in _PLAIN else json.loads(text) for name, text in metadata.items()}
    except OSError as error:
        raise ArgumentError(
            f"checkpoint {shown(path)} cannot be read ({error.strerror}): check its permissions"
        ) from error
    except Exception as error:  # damaged bytes can cause any error
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_REASON]
        raise _DamagedError(f"checkpoint {shown(path)} cannot be read ({reason})") from error
    found = values.pop("format", ""), values.pop("version", "")
    if found != kind:
        advice = "another version of jnst wrote it, start again" if found[0] == kind[0] else "choose another file"
        raise ArgumentError(
            f"checkpoint {shown(path)} has format {' '.join(found)}, expected {' '.join(kind)}: {advice}"
        )
    return Contents(arrays, values, path)


def _array(data: memoryview, dtype: str, shape: list[int], data_offsets: tuple[int, int]) -> np.ndarray:
    return np.frombuffer(data[slice(*data_offsets)], _TYPES[dtype]).reshape(shape)


def _checksum(header: Mapping[str, Any], parts: Iterable[memoryview]) -> str:
    metadata = {name: text for name, text in header["__metadata__"].items() if name != "sha256"}
    digest = hashlib.sha256(_json({**header, "__metadata__": metadata}))
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
