"""Save a training run, and load it to continue exactly where it stopped."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from jnst.apps.checkpoint import differences, leaves_of, read_contents, write_contents
from jnst.errors import ArgumentError
from jnst.weights.files import shown

KIND = ("jnst-training", "2")
"""``format`` and ``version`` in the metadata of training checkpoints."""

State = TypeVar("State")


def save_training(
    path: str | os.PathLike[str], state: Any, history: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> None:
    """Write a checkpoint, and keep the one that was there under its name with ``.previous`` appended.

    The file is in the safetensors format. It holds one array per leaf of the state, named by its path in the pytree,
    and the metadata ``format``, ``version``, ``about`` and ``history`` (JSON). An interrupted write leaves the old
    file intact.

    Args:
        path: The file.
        state: A pytree of arrays, such as parameters and the optimiser's state.
        history: The log so far, as JSON objects.
        about: What identifies the run: JSON values by name. They must be the same when it continues.

    Raises:
        ArgumentError: The file cannot be written.
        ResourceError: The disk is full.
    """
    metadata = {"format": KIND[0], "version": KIND[1], "about": dict(about), "history": list(history)}
    write_contents(path, {name: np.asarray(leaf) for name, leaf in leaves_of(state).items()}, metadata)


def load_training(
    path: str | os.PathLike[str] | None, template: State, about: Mapping[str, Any]
) -> tuple[State, tuple[dict[str, Any], ...]]:
    """Read a checkpoint of `save_training`, bit for bit.

    Args:
        path: The file. If it is damaged, the previous one is used. None, a caller without a checkpoint, is an error.
        template: A state of the same structure, of arrays or of `jax.ShapeDtypeStruct`.
        about: As passed to `save_training`.

    Returns:
        The state, with NumPy arrays as leaves, and the history.

    Raises:
        ArgumentError: There is no path, the file is missing or unreadable, or ``about`` differs. The message names
            every difference.

    Warns:
        UserWarning: The file is damaged and the previous one was used.
    """
    if path is None:
        raise ArgumentError("resume=True without a checkpoint: pass the file to continue from")
    contents = read_contents(path, KIND)
    try:
        saved_about = dict(contents.metadata["about"])
        history = tuple(dict(record) for record in contents.metadata["history"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArgumentError(
            f"checkpoint {shown(contents.path)} is not a training checkpoint ({error}): choose another file"
        ) from error
    if different := differences(saved_about, about):
        raise ArgumentError(
            f"checkpoint {shown(path)} belongs to another run ({'; '.join(different)}): "
            "use the same settings and data, or start a new run with another file"
        )
    names = leaves_of(template)
    if missing := [name for name in names if name not in contents.arrays]:
        raise ArgumentError(
            f"checkpoint {shown(path)} does not contain `{missing[0]}`: another version wrote it; start a new run"
        )
    return jax.tree.unflatten(jax.tree.structure(template), [contents.arrays[name] for name in names]), history
