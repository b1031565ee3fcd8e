"""A training run as a file: its state, a pytree of arrays; its history; and whose they are."""

import dataclasses
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jnst.errors import JnstError
from jnst.files import write_atomically

FORMAT, VERSION = "jnst-training", "1"
"""What the metadata of these files say under ``format`` and ``version``."""

BEFORE = ".before"
"""What is put behind a checkpoint's name for the checkpoint before it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
    """A moment between two epochs, or however a run counts.

    Attributes:
        state: A pytree of arrays: parameters, the optimiser's state.
        history: What each epoch came to, as JSON objects.
    """

    state: Any
    history: tuple[Mapping[str, Any], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class _File:
    arrays: dict[str, np.ndarray]
    about: dict[str, Any]
    history: tuple[Mapping[str, Any], ...]


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint, about: Mapping[str, Any]) -> None:
    """Write a checkpoint; the one that was there is kept under the name with `BEFORE` behind it.

    The file is in the safetensors format: an array for each leaf of the state, by its path in the tree, and metadata
    ``format``, ``version``, ``about`` and ``history`` (JSON). At every moment there is a whole file under the name.

    Args:
        path: The file.
        checkpoint: What to write.
        about: What must be the same in a run that continues from here: JSON values by name.

    Raises:
        JnstError: The file cannot be written.
        ResourceError: The disk is full.
    """
    from safetensors.numpy import save

    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "about": json.dumps(dict(about)),
        "history": json.dumps(list(checkpoint.history)),
    }
    content = save({name: np.asarray(leaf) for name, leaf in _named_leaves(checkpoint.state)}, metadata)
    path = Path(path)
    if path.exists():
        write_atomically(_before(path), path.read_bytes())
    write_atomically(path, content)


def load_checkpoint(path: str | os.PathLike[str], template: Any, about: Mapping[str, Any], most: int) -> Checkpoint:
    """Read what `save_checkpoint` wrote, every bit.

    Args:
        path: The file. If it is damaged, the one before is taken, with a warning.
        template: A state of the same structure, of arrays or of their shapes.
        about: As it was given to `save_checkpoint`.
        most: How long the history may be.

    Raises:
        JnstError: The file is missing or unreadable, ``about`` differs (the message names each difference), or there
            is more history than asked for.

    Warns:
        UserWarning: The file is damaged and the one before was taken.
    """
    path = Path(path)
    file = _read_or_before(path)
    here = json.loads(json.dumps(dict(about)))
    differences = [
        f"{name} {_short(file.about.get(name))} there, {_short(here.get(name))} here"
        for name in {**file.about, **here}
        if file.about.get(name) != here.get(name)
    ]
    if differences:
        raise JnstError(
            f"checkpoint '{path}' is of another run ({'; '.join(differences)}): "
            "give what it was made with, or start anew with another file"
        )
    if len(file.history) > most:
        raise JnstError(
            f"checkpoint '{path}' holds {len(file.history)} entries, but only {most} are asked for: ask for more"
        )
    names = [name for name, _ in _named_leaves(template)]
    return Checkpoint(
        jax.tree.unflatten(jax.tree.structure(template), [file.arrays[name] for name in names]), file.history
    )


def _named_leaves(state: Any) -> Sequence[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(state)]


def _before(path: Path) -> Path:
    return path.with_name(path.name + BEFORE)


def _read_or_before(path: Path) -> _File:
    try:
        return _read(path)
    except JnstError as damage:
        if not path.exists() or not _before(path).exists():
            raise
        file = _read(_before(path))
        warnings.warn(f"{damage}; continuing from the one before, with {len(file.history)} entries", stacklevel=3)
        return file


def _read(path: Path) -> _File:
    from safetensors import safe_open

    if not path.is_file():
        raise JnstError(f"checkpoint '{path}': there is no such file: check the name, or start without resuming")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        kind = (metadata["format"], metadata["version"])
        about, history = json.loads(metadata["about"]), tuple(json.loads(metadata["history"]))
    except Exception as error:  # safetensors raises a class of its own, and others, over damaged bytes
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise JnstError(f"checkpoint '{path}' cannot be read ({reason}): expected one that training wrote") from error
    if kind != (FORMAT, VERSION):
        raise JnstError(f"checkpoint '{path}' is of kind {' '.join(kind)}, expected {FORMAT} {VERSION}: name another")
    return _File(arrays, about, history)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
