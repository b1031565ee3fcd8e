"""States whose arrays are divided among several processes: folders into which each writes its part, by Orbax.

Beside Orbax's own files stands ``jnst.json``: the metadata, and the checksum of every other file, written last.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jnst.checkpoint.container import Contents, or_the_one_before, previous_of
from jnst.errors import JnstError, ResourceError
from jnst.files import shown, sync_folder, write_atomically

CONTENTS = "jnst.json"
_FULL = "No space left"


def is_divided(leaves: Iterable[Any]) -> bool:
    """Whether some array is in part, or as a copy, at other processes."""
    return any(isinstance(leaf, jax.Array) and not leaf.is_fully_addressable for leaf in leaves)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether `write_folder` made this, or the one before it where this is gone."""
    return os.path.isdir(path) or (not os.path.exists(path) and previous_of(path).is_dir())


def write_folder(path: str | os.PathLike[str], leaves: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Write arrays as a folder, all processes together; the folder that was there is kept with ``.previous`` behind it.

    At every moment there is a whole folder under one of the two names.

    Args:
        path: The folder, which all processes reach.
        leaves: Arrays by name. Those that a process has for itself alone are the same everywhere.
        metadata: JSON values by name.

    Raises:
        JnstError: It cannot be written.
        ResourceError: The disk is full.
    """
    import orbax.checkpoint as ocp

    path = Path(os.path.realpath(path))
    new = path.with_name(f".{path.name}.new")
    # By number: Orbax makes file names of the names.
    numbered = {str(number): _shared(leaf) for number, leaf in enumerate(leaves.values())}
    with _said(path), ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as writer:
        if path.exists() and not path.is_dir():
            raise JnstError(f"checkpoint {shown(path)} is not a folder, as several processes write one: name another")
        writer.save(new, args=ocp.args.PyTreeSave(numbered), force=True)
        if jax.process_index() == 0:
            # Flushed and named by one process: Orbax has waited for all.
            about = {"metadata": dict(metadata), "names": list(leaves), "sha256": _checksums(new, flush=True)}
            write_atomically(new / CONTENTS, json.dumps(about).encode())
            _take_place(new, path)
        _wait_for_all(path)


def read_folder(path: str | os.PathLike[str], kind: tuple[str, str]) -> Contents:
    """Read what `write_folder` wrote, whole in every process; if it is damaged, the one before, with a warning.

    Where there are several processes, all of them call this.

    Args:
        path: The folder.
        kind: What ``format`` and ``version`` have to be.

    Raises:
        JnstError: It is another kind of folder, or it is damaged and so is the one before.

    Warns:
        UserWarning: The folder is damaged or gone, and the one before was taken.
    """
    path = Path(os.path.realpath(path))
    return or_the_one_before(path, lambda path: _read(path, kind), JnstError)


def _read(path: Path, kind: tuple[str, str]) -> Contents:
    import orbax.checkpoint as ocp

    try:
        about = json.loads((path / CONTENTS).read_bytes())
        metadata, names, expected = about["metadata"], about["names"], about["sha256"]
        if (metadata["format"], metadata["version"]) != kind:
            raise ValueError(f"expected {' '.join(kind)}")
        if _checksums(path) != expected:
            raise ValueError("its checksums are not those of its files")
        wanted = {str(number): ocp.RestoreArgs(restore_type=np.ndarray) for number in range(len(names))}
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            found = reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=wanted))
        arrays = {name: np.asarray(found[str(number)]) for number, name in enumerate(names)}
    except Exception as error:  # damaged files can be anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:240]
        raise JnstError(f"checkpoint {shown(path)} cannot be read ({reason}): name one that jnst wrote") from error
    return Contents(arrays, metadata, path)


def _shared(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable else np.asarray(leaf)


def _checksums(folder: Path, flush: bool = False) -> dict[str, str]:
    """Of every file but `CONTENTS`."""
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / CONTENTS:
            with path.open("rb") as file:
                found[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
                if flush:
                    os.fsync(file.fileno())
        elif flush and path.is_dir():
            sync_folder(str(path))
    return found


def _take_place(new: Path, path: Path) -> None:
    before = previous_of(path)
    if path.exists():
        shutil.rmtree(before, ignore_errors=True)
        path.rename(before)
    new.rename(path)
    sync_folder(str(path.parent))


def _wait_for_all(path: Path) -> None:
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(f"saved {path}")


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """Errors of the disk in our words."""
    try:
        yield
    except JnstError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:240]
        with suppress(OSError):
            shutil.rmtree(path.with_name(f".{path.name}.new"), ignore_errors=True)
        if _FULL in said:
            raise ResourceError(f"checkpoint {shown(path)} could not be written ({said}): free some space") from error
        raise JnstError(f"checkpoint {shown(path)} could not be written ({said}): check the folder") from error
