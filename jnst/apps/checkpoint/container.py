"""Checkpoint files: arrays and JSON in the safetensors format, with a checksum, and the file before kept beside it.

Written part by part, so that a state of some hundred megabytes is not in memory twice; any reader of safetensors can
read them. The checksum stands in the metadata under ``sha256``: of the header without it, as JSON with sorted keys and
no spaces, and of all bytes behind the header.

References:
    https://github.com/huggingface/safetensors#format
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jnst.errors import ArgumentError, JnstError
from jnst.weights.files import shown, write_atomically

PREVIOUS = ".previous"
"""What is put behind a checkpoint's name for the checkpoint before it."""

_TYPES = {
    "BOOL": np.bool_,
    **{f"U{8 * size}": np.dtype(f"u{size}") for size in (1, 2, 4, 8)},
    **{f"I{8 * size}": np.dtype(f"i{size}") for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"f{size}") for size in (2, 4, 8)},
    "C64": np.complex64,
    "BF16": jnp.bfloat16,
    "F8_E4M3": jnp.float8_e4m3fn,
    "F8_E5M2": jnp.float8_e5m2,
}
_CODES = {np.dtype(kind): code for code, kind in _TYPES.items()}
_TEXTS = ("format", "version", "sha256")
"""What the metadata have as it stands; everything else is JSON."""
_LONGEST = 240


class Contents(NamedTuple):
    """What is in a checkpoint: arrays by name, and JSON values by name; ``path`` is where it was read from."""

    arrays: dict[str, np.ndarray]
    metadata: dict[str, Any]
    path: Path


def previous_of(path: str | os.PathLike[str]) -> Path:
    """Where the checkpoint before this one is kept: beside the file itself, also where a symbolic link leads to it."""
    return Path(f"{os.path.realpath(path)}{PREVIOUS}")


def is_there(path: str | os.PathLike[str]) -> bool:
    """Whether there is a checkpoint, or the one before it."""
    return Path(path).exists() or previous_of(path).exists()


def write_contents(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint; the one that was there is kept under the name with `PREVIOUS` behind it.

    At every moment there is a whole file under the name, if there was one.

    Args:
        path: The file.
        arrays: By name.
        metadata: JSON values by name; "format" and "version" are strings.

    Raises:
        ArgumentError: The file cannot be written, or an array's type has no place in it.
        ResourceError: The disk is full.
    """
    # The larger the type the earlier, so that all arrays lie where their type may.
    ordered = sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0]))
    header: dict[str, Any] = {"__metadata__": {name: _text(name, value) for name, value in metadata.items()}}
    position, parts = 0, []
    for name, array in ordered:
        if array.dtype not in _CODES:
            raise ArgumentError(f"`{name}` is of type {array.dtype}: expected one of {', '.join(map(str, _CODES))}")
        header[name] = {
            "dtype": _CODES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [position, position + array.nbytes],
        }
        position += array.nbytes
        parts.append(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    header["__metadata__"]["sha256"] = _checksum(header, parts)
    text = _json(header)
    text += b" " * (-len(text) % 8)
    write_atomically(path, [len(text).to_bytes(8, "little"), text, *parts], previous=previous_of(path))


def read_contents(path: str | os.PathLike[str], kind: tuple[str, str]) -> Contents:
    """Read what `write_contents` wrote; if it is damaged, the one before, with a warning.

    Args:
        path: The file.
        kind: What ``format`` and ``version`` have to be.

    Raises:
        ArgumentError: There is no such file, it is of another kind, or it is damaged and so is the one before.

    Warns:
        UserWarning: The file is damaged or gone, and the one before was taken.
    """
    return or_the_one_before(Path(path), lambda path: _checked(path, kind), _DamagedError)


def or_the_one_before(path: Path, read: Callable[[Path], Contents], damage: type[JnstError]) -> Contents:
    """What ``read`` makes of a checkpoint; where it raises ``damage``, of the one before, with a warning.

    Raises:
        ArgumentError: As ``read`` if there is none before; or both are damaged.
    """
    try:
        return read(path)
    except damage as error:
        before = previous_of(path)
        if not before.exists():
            raise
        try:
            contents = read(before)
        except JnstError as another:
            raise ArgumentError(f"{error}; nor can the one before be used ({another}): begin anew") from another
        warnings.warn(f"{error}; continuing from the one before, {shown(before)}", stacklevel=4)
        return contents


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two objects of JSON values, in words: ``optimizer.learning_rate 1.0 there, 2.0 here``."""
    found = list[str]()
    for name in {**there, **here}:
        old, new = (_plain(side.get(name)) for side in (there, here))
        if isinstance(old, dict) and isinstance(new, dict) and old.get("class") == new.get("class"):
            found += [f"{name}.{line}" for line in differences(old, new)]
        elif old != new:
            found.append(f"{name} {_short(old)} there, {_short(new)} here")
    return found


class _DamagedError(JnstError):
    """A file that is not whole, or not there: the one before may be."""


def _checked(path: Path, kind: tuple[str, str]) -> Contents:
    found, contents = _read(path)
    if found != kind:
        raise ArgumentError(
            f"checkpoint {shown(path)} is of kind {' '.join(found)}, expected {' '.join(kind)}: name another"
        )
    return contents


def _read(path: Path) -> tuple[tuple[str, str], Contents]:
    if not path.exists():
        raise _DamagedError(
            f"checkpoint {shown(path)}: there is no such file: check the name, or start without resuming"
        )
    if not path.is_file():
        raise ArgumentError(f"checkpoint {shown(path)} is not a regular file: name another")
    try:
        header, data = _split(path.read_bytes())
        metadata = dict(header["__metadata__"])
        kind = str(metadata["format"]), str(metadata["version"])
        if _checksum(header, [data]) != metadata["sha256"]:
            raise ValueError("its checksum is not that of its content")
        arrays = {name: _array(entry, data) for name, entry in header.items() if name != "__metadata__"}
        values = {name: json.loads(text) for name, text in metadata.items() if name not in _TEXTS}
    except OSError as error:
        raise ArgumentError(f"checkpoint {shown(path)} cannot be read ({error.strerror}): check its permissions") from error
    except Exception as error:  # damaged bytes can be anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]
        raise _DamagedError(f"checkpoint {shown(path)} cannot be read ({reason})") from error
    return kind, Contents(arrays, values, path)


def _text(name: str, value: Any) -> str:
    return value if name in _TEXTS else json.dumps(value)


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise ValueError("it ends too early")
    return json.loads(content[8 : 8 + length]), memoryview(content)[8 + length :]


def _array(entry: Mapping[str, Any], data: memoryview) -> np.ndarray:
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(data):
        raise ValueError("it ends too early")
    return np.frombuffer(data[begin:end], np.dtype(_TYPES[entry["dtype"]])).reshape(entry["shape"])


def _checksum(header: Mapping[str, Any], parts: list[memoryview]) -> str:
    metadata = {name: text for name, text in header["__metadata__"].items() if name != "sha256"}
    digest = hashlib.sha256(_json({**header, "__metadata__": metadata}))
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    """As JSON has it: no tuples."""
    return json.loads(json.dumps(value))


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
