"""Readers of the file formats in which weights are published. A file's content decides the format, not its name."""

import dataclasses
import os
import re
import stat
import zipfile
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from jnst.errors import ResourceError, WeightsError
from jnst.weights.formats.codebook import expand_codebooks
from jnst.weights.formats.hdf5 import read_hdf5
from jnst.weights.formats.keras_archive import WEIGHTS, read_keras
from jnst.weights.formats.npz import read_npz
from jnst.weights.formats.pickled import read_pickle
from jnst.weights.formats.safetensors_file import read_safetensors
from jnst.weights.formats.state_dict import LEGACY_MAGIC, is_state_dict_entry, read_torch_legacy, read_torch_zip
from jnst.weights.formats.tensors import Keep, Tensors, keep_all, one_line
from jnst.weights.formats.tfjs import read_tfjs

__all__ = ["FORMATS", "Format", "Tensors", "read_tensors"]

HEAD_BYTES = 64


@dataclasses.dataclass(frozen=True)
class Format:
    """A row of `FORMATS`.

    Attributes:
        title: The name of the format in messages.
        recognise: Tells from the first `HEAD_BYTES` bytes and the path of a file whether it has this format.
        read: The reader, which takes the path and which tensors to keep.
    """

    title: str
    recognise: Callable[[bytes, Path], bool]
    read: Callable[[Path, Keep], Tensors]


def _zip_names(head: bytes, path: Path) -> list[str]:
    if not head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return []
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def _is_npz(head: bytes, path: Path) -> bool:
    names = _zip_names(head, path)
    return bool(names) and all(name.endswith(".npy") for name in names)


FORMATS: dict[str, Format] = {
    "hdf5": Format("HDF5 (.h5)", lambda head, path: head.startswith(b"\x89HDF\r\n\x1a\n"), read_hdf5),
    "torch-zip": Format(
        "PyTorch state dict (.pth)",
        lambda head, path: any(map(is_state_dict_entry, _zip_names(head, path))),
        read_torch_zip,
    ),
    "torch-legacy": Format(
        "older PyTorch state dict (.pth)", lambda head, path: head[2:].startswith(LEGACY_MAGIC), read_torch_legacy
    ),
    "npz": Format("NumPy archive (.npz)", _is_npz, read_npz),
    "keras": Format("Keras model (.keras)", lambda head, path: WEIGHTS in _zip_names(head, path), read_keras),
    "safetensors": Format("safetensors", lambda head, path: head[6:9] == b"\0\0{", read_safetensors),
    "pickle": Format(
        "pickled NumPy arrays", lambda head, path: re.match(rb"\x80[\x02-\x05]", head) is not None, read_pickle
    ),
    "tfjs": Format("TensorFlow.js (model.json)", lambda head, path: head.lstrip().startswith(b"{"), read_tfjs),
}
"""The formats that can be read."""


def read_tensors(path: str | os.PathLike[str], keep: Keep = keep_all) -> Tensors:
    """Read a checkpoint in any of `FORMATS`.

    Args:
        path: The file; for a TensorFlow.js model, its ``model.json``.
        keep: Which tensors to read.

    Returns:
        The tensors, as published, except that codebooks are expanded (see `expand_codebooks`).

    Raises:
        WeightsError: The file is missing, not a regular file, damaged, hostile, or has an unknown format.
        ResourceError: There is not enough memory.
    """
    path, title = Path(path), "weights"
    head = _read_head(path)
    try:
        row = _recognise(head, path)
        title = row.title
        tensors = row.read(path, _guarded(keep))
        return dataclasses.replace(tensors, arrays=expand_codebooks(path, dict(tensors.arrays)))
    except WeightsError as error:
        raise WeightsError(one_line(str(error))) from error.__cause__
    except _NotTheFile as error:
        raise error.reason from None
    except ImportError:
        raise
    except MemoryError as error:
        raise ResourceError(f"{path}: there is not enough memory to read it: close other programs") from error
    except Exception as error:
        # For damaged files, the libraries raise almost any exception.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        message = f"{path}: not readable as {title} ({reason}): it is damaged or truncated, get it again"
        raise WeightsError(one_line(message)) from error


class _NotTheFile(Exception):
    """Carries an error of `Keep` out of a reader, so that it is not taken for one of the file."""

    def __init__(self, reason: Exception) -> None:
        self.reason = reason


def _guarded(keep: Keep) -> Keep:
    def guarded(names: Iterable[str], metadata: Mapping[str, str]) -> Collection[str]:
        try:
            return keep(names, metadata)
        except Exception as error:
            raise _NotTheFile(error) from error

    return guarded


def _read_head(path: Path) -> bytes:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise WeightsError(f"{path}: is a folder, expected a file: pass a file in it, for example model.json")
        if not stat.S_ISREG(mode):
            raise WeightsError(f"{path}: is not a regular file: copy the weights to a regular file")
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except FileNotFoundError:
        raise WeightsError(f"{str(path)!r}: no such file, expected a weights file: check the path") from None
    except WeightsError:
        raise
    except (OSError, ValueError) as error:
        raise WeightsError(f"{str(path)!r}: cannot be opened ({error}): check the path and its permissions") from error


def _recognise(head: bytes, path: Path) -> Format:
    for row in FORMATS.values():
        if row.recognise(head, path):
            return row
    known = ", ".join(row.title for row in FORMATS.values())
    raise WeightsError(f"{path}: {_describe(head)}, expected one of: {known}: get the file again or check the path")


def _describe(head: bytes) -> str:
    start = head.lstrip().lower()
    if not head:
        return "is empty"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page (a failed download?)"
    if head.startswith(b"PK"):
        return "is a zip archive, but was not written by PyTorch, NumPy or Keras"
    if head.startswith(b"MATLAB"):
        return "is a MATLAB file (MatConvNet's networks are), which jnst does not read"
    if head.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return f"is text ({head[:40].decode()!r})"
    return f"begins with the bytes {head[:8].hex(' ')}, which match no known format"
