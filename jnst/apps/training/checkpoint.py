"""A training run as a file: its state, a pytree of arrays; its history; and whose they are."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jnst.apps.checkpoint import Contents, differences, leaves_of, read_contents, write_contents
from jnst.errors import ArgumentError
from jnst.weights.files import shown

KIND = ("jnst-training", "2")
"""What the metadata of these files say under ``format`` and ``version``."""


@dataclasses.dataclass(frozen=True, eq=False)
class Checkpoint:
    """A moment between two epochs, or however a run counts.

    Attributes:
        state: A pytree of arrays: parameters, the optimiser's state.
        history: What each epoch came to, as JSON objects.
    """

    state: Any
    history: tuple[Mapping[str, Any], ...]


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint, about: Mapping[str, Any]) -> None:
    """Write a checkpoint; the one that was there is kept under the name with ``.previous`` behind it.

    The file is in the safetensors format: an array for each leaf of the state, by its path in the tree, and metadata
    ``format``, ``version``, ``about`` and ``history`` (JSON). At every moment there is a whole file under the name.

    Args:
        path: The file.
        checkpoint: What to write.
        about: What must be the same in a run that continues from here: JSON values by name.

    Raises:
        ArgumentError: The file cannot be written.
        ResourceError: The disk is full.
    """
    metadata = {"format": KIND[0], "version": KIND[1], "about": dict(about), "history": list(checkpoint.history)}
    arrays = {name: np.asarray(leaf) for name, leaf in leaves_of(checkpoint.state).items()}
    write_contents(path, arrays, metadata)


def load_checkpoint(path: str | os.PathLike[str], template: Any, about: Mapping[str, Any], most: int) -> Checkpoint:
    """Read what `save_checkpoint` wrote, every bit.

    Args:
        path: The file. If it is damaged, the one before is taken, with a warning.
        template: A state of the same structure, of arrays or of their shapes.
        about: As it was given to `save_checkpoint`.
        most: How long the history may be.

    Raises:
        ArgumentError: The file is missing or unreadable, ``about`` differs (the message names each difference), or there
            is more history than asked for.

    Warns:
        UserWarning: The file is damaged and the one before was taken.
    """
    file = read_contents(path, KIND)
    there, history = _told(file)
    if odd := differences(there, about):
        raise ArgumentError(
            f"checkpoint {shown(path)} is of another run ({'; '.join(odd)}): "
            "give what it was made with, or start anew with another file"
        )
    if len(history) > most:
        raise ArgumentError(
            f"checkpoint {shown(path)} holds {len(history)} entries, but only {most} are asked for: ask for more"
        )
    try:
        leaves = [file.arrays[name] for name in leaves_of(template)]
    except KeyError as error:
        raise ArgumentError(
            f"checkpoint {shown(path)} lacks {error}: expected one of this training, name another"
        ) from error
    return Checkpoint(jax.tree.unflatten(jax.tree.structure(template), leaves), history)


def _told(file: Contents) -> tuple[dict[str, Any], tuple[Mapping[str, Any], ...]]:
    try:
        return dict(file.metadata["about"]), tuple(file.metadata["history"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(f"checkpoint {shown(file.path)} is none that training wrote ({error}): name another") from error
