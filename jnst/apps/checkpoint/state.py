"""A run's state, saved and loaded."""

import dataclasses
import os
from collections.abc import Container, Iterable, Mapping
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jnst.apps.checkpoint.container import read_contents, write_contents
from jnst.errors import ArgumentError
from jnst.solve.run import Report

KIND = ("jnst-state", "1")
"""What the metadata of these files say under ``format`` and ``version``."""

Leaf: TypeAlias = Any
"""An array, of JAX or of NumPy, or a random key."""
Tree = TypeVar("Tree")

_STATE, _RECORDS = "state", "records/"
_MOST_NAMED = 2


@dataclasses.dataclass(frozen=True, eq=False)
class SavedState:
    """What `load_state` found: to be handed to `jnst.transfer.stylize` or another function as ``state``.

    Attributes:
        leaves: The state's arrays by their paths in it, such as ``.run.image`` and ``.run.step``.
        about: What `save_state` was told about the run: JSON values by name.
        records: Further arrays that were saved with it, by name.
    """

    leaves: Mapping[str, Leaf]
    about: Mapping[str, Any]
    records: Mapping[str, np.ndarray]


def save_state(
    path: str | os.PathLike[str],
    state: Any,
    *,
    about: Mapping[str, Any] | None = None,
    records: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Save where a run stands, so that it can go on as if it had never stopped.

    A safetensors file with every leaf of the state under ``state`` and its path, exactly as it is. At every moment
    there is a whole file under the name; the one before is kept as ``NAME.previous``. Where arrays are divided among
    several processes, all of them call this, each writes its own part, and ``path`` becomes a folder (Orbax).

    Args:
        path: The file.
        state: `Solution.state`; what a callback is given, within the callback; or any pytree of arrays and random keys.
        about: What should be known of the run when it is loaded: JSON values by name.
        records: Further arrays to keep with it, such as losses so far.

    Raises:
        ArgumentError: The file cannot be written.
        ResourceError: The disk is full. What was there is intact.
    """
    leaves = leaves_of(state.run_state if isinstance(state, Report) else state)
    keys = {name: str(jax.random.key_impl(leaf)) for name, leaf in leaves.items() if _is_key(leaf)}
    metadata = {
        "format": KIND[0],
        "version": KIND[1],
        "about": dict(about or {}),
        "keys": keys,
        # Beside such a number other arrays keep their own type: it has to stay one.
        "weak": [name for name, leaf in leaves.items() if getattr(leaf, "weak_type", False)],
    }
    plain = {f"{_STATE}{name}": jax.random.key_data(leaf) if name in keys else leaf for name, leaf in leaves.items()}
    plain |= {f"{_RECORDS}{name}": np.asarray(array) for name, array in (records or {}).items()}
    write_contents(path, {name: np.asarray(leaf) for name, leaf in plain.items()}, metadata)


def load_state(path: str | os.PathLike[str]) -> SavedState:
    """Load what `save_state` saved, every bit.

    Args:
        path: The file, or the folder that several processes wrote.

    Returns:
        What can be handed on as ``state``, in this process or another, on the same devices or others.

    Raises:
        ArgumentError: There is no such file, it is no state that jnst saved, or it is damaged and so is the one before it.

    Warns:
        UserWarning: The file is damaged and the one before it was taken.
    """
    contents = read_contents(path, KIND)
    try:
        metadata = contents.metadata
        about, keys, weak = dict(metadata["about"]), dict(metadata["keys"]), set(metadata["weak"])
        leaves, records = dict[str, Leaf](), dict[str, np.ndarray]()
        for name, array in contents.arrays.items():
            if name.startswith(_RECORDS):
                records[name.removeprefix(_RECORDS)] = array
            else:
                path_in_state = name.removeprefix(_STATE)
                leaves[path_in_state] = _restored(array, keys.get(path_in_state), path_in_state in weak)
    except (KeyError, TypeError, ValueError) as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ArgumentError(f"{str(contents.path)!r} is no state that jnst saved ({said}): name another") from error
    return SavedState(leaves, about, records)


def leaves_of(state: Any) -> dict[str, Leaf]:
    """The arrays of a state by their paths in it."""
    if isinstance(state, SavedState):
        return dict(state.leaves)
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def fitted(leaves: Mapping[str, Leaf], like: Tree) -> Tree:
    """Arrays put into a structure.

    Args:
        leaves: From `leaves_of`.
        like: A pytree of arrays or of `jax.ShapeDtypeStruct`.

    Raises:
        ArgumentError: One is missing, one is left over, or one has another shape or type.
    """
    wanted = leaves_of(like)
    what = "continue with the same images, settings and optimiser"
    lacking, odd = (_some(some, others) for some, others in ((wanted, leaves), (leaves, wanted)))
    if lacking or odd:
        said = "; ".join([f"it lacks {lacking}"] * bool(lacking) + [f"this run has no {odd}"] * bool(odd))
        raise ArgumentError(f"`state` is of another run ({said}): {what}")
    for name, want in wanted.items():
        found = leaves[name]
        if (found.shape, found.dtype) != (want.shape, want.dtype):
            raise ArgumentError(
                f"`state` is of another run (`{name}` is {found.dtype} {found.shape}, expected {want.dtype} "
                f"{want.shape}): {what}"
            )
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(leaves[name]) for name in wanted])


def _some(names: Iterable[str], others: Container[str]) -> str:
    """The first of the names that are not among others."""
    return ", ".join(f"`{name}`" for name in [name for name in names if name not in others][:_MOST_NAMED])


def _is_key(leaf: Leaf) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _restored(array: np.ndarray, key: str | None, weak: bool) -> Leaf:
    if key is not None:
        return jax.random.wrap_key_data(jnp.asarray(array), impl=key)
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        return array  # of 64 bits, which JAX has only if told so: `fitted` says what does not fit
    return _weak(array) if weak else jnp.asarray(array)


def _weak(array: np.ndarray) -> Leaf:
    """The same values as JAX has numbers that Python gave it: other arrays' types count, not theirs."""
    zeros = jnp.broadcast_to(jnp.asarray(array.dtype.type(0).item()), array.shape)
    return zeros.at[...].set(array) if zeros.dtype == array.dtype else jnp.asarray(array)
