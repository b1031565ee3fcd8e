"""States as flat arrays by name, in the form in which they are saved."""

import dataclasses
from collections.abc import Container, Iterable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jnst.errors import ArgumentError

Tree = TypeVar("Tree")

MAX_NAMED = 2
"""How many arrays a message names."""


@dataclasses.dataclass(frozen=True, eq=False)
class SavedState:
    """What `jnst.load_state` returns: pass it to `jnst.stylize` or its relatives as ``state``.

    Attributes:
        leaves: The state's arrays by their paths in it, such as ``.image`` and ``.step``.
        about: What `jnst.save_state` was told about the run: JSON values by name.
        records: Further arrays that were saved with it, by name.
    """

    leaves: Mapping[str, Any]
    about: Mapping[str, Any]
    records: Mapping[str, np.ndarray]


def leaves_of(state: Any) -> dict[str, Any]:
    """The arrays of a state by their paths in it."""
    if isinstance(state, SavedState):
        return dict(state.leaves)
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def restore(leaves: Mapping[str, Any], like: Tree) -> Tree:
    """Put arrays into the structure of a state.

    Args:
        leaves: From `leaves_of`.
        like: A pytree of arrays or of `jax.ShapeDtypeStruct`.

    Raises:
        ArgumentError: An array is missing, left over, or of another shape or dtype.
    """
    wanted = leaves_of(like)
    advice = "continue with the same images, settings and optimizer"
    missing, extra = _some(wanted, leaves), _some(leaves, wanted)
    if missing or extra:
        found = [f"it lacks {missing}"] * bool(missing) + [f"this run has no {extra}"] * bool(extra)
        raise ArgumentError(f"`state` belongs to another run ({'; '.join(found)}): {advice}")
    for name, want in wanted.items():
        found = leaves[name]
        if (found.shape, found.dtype) != (want.shape, want.dtype):
            raise ArgumentError(
                f"`state` belongs to another run (`{name}` is {found.dtype} {found.shape}, expected {want.dtype} "
                f"{want.shape}): {advice}"
            )
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(leaves[name]) for name in wanted])


def _some(names: Iterable[str], others: Container[str]) -> str:
    """The first of the names that are not among others."""
    return ", ".join(f"`{name}`" for name in [name for name in names if name not in others][:MAX_NAMED])
