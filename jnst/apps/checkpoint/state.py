"""Save and load the state of a run."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnst.apps.checkpoint.container import read_contents, write_contents
from jnst.errors import ArgumentError
from jnst.solve.saved import SavedState, leaves_of
from jnst.weights.files import shown

KIND = ("jnst-state", "2")
"""The metadata ``format`` and ``version`` of these files."""

_STATE, _RECORDS = "state", "records/"
"""Prefixes of the arrays' names."""


def save_state(
    path: str | os.PathLike[str],
    state: Any,
    *,
    about: Mapping[str, Any] | None = None,
    records: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Save the state of a run, so that it can continue as if it had never stopped.

    The file is in the safetensors format. It contains every leaf of the state, bit for bit, under ``state`` and the
    leaf's path. It is replaced atomically, and the previous file is kept as ``NAME.previous``.

    Args:
        path: The file.
        state: `jnst.Solution.state`; `jnst.Report.state`, during the callback; or any pytree of arrays and random keys.
        about: What should be known about the run when it is loaded: JSON values by name.
        records: Further arrays to save, such as the losses so far.

    Raises:
        ArgumentError: The file cannot be written.
        ResourceError: The disk is full. The old file is intact.
    """
    leaves = leaves_of(state)
    keys = {name: str(jax.random.key_impl(leaf)) for name, leaf in leaves.items() if _is_key(leaf)}
    metadata = {
        "format": KIND[0],
        "version": KIND[1],
        "about": dict(about or {}),
        "keys": keys,
        # A weakly typed number must stay so: it takes the type of the arrays that it is combined with.
        "weak": [name for name, leaf in leaves.items() if getattr(leaf, "weak_type", False)],
    }
    arrays = {f"{_STATE}{name}": jax.random.key_data(leaf) if name in keys else leaf for name, leaf in leaves.items()}
    arrays |= {f"{_RECORDS}{name}": array for name, array in (records or {}).items()}
    write_contents(path, {name: np.asarray(array) for name, array in arrays.items()}, metadata)


def load_state(path: str | os.PathLike[str]) -> SavedState:
    """Load a file of `save_state`, bit for bit.

    Args:
        path: The file.

    Returns:
        What `jnst.stylize` and its relatives take as ``state``, in this process or another, on any device.

    Raises:
        ArgumentError: The file is missing or damaged, and so is the previous one; or `save_state` did not write it.

    Warns:
        UserWarning: The file is damaged or missing, and the previous one was loaded.
    """
    contents = read_contents(path, KIND)
    try:
        metadata = contents.metadata
        about, keys, weak = dict(metadata["about"]), dict(metadata["keys"]), set(metadata["weak"])
        leaves, records = dict[str, Any](), dict[str, np.ndarray]()
        for name, array in contents.arrays.items():
            if name.startswith(_RECORDS):
                records[name.removeprefix(_RECORDS)] = array
            else:
                leaf = name.removeprefix(_STATE)
                leaves[leaf] = _restored(array, keys.get(leaf), leaf in weak)
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ArgumentError(
            f"{shown(contents.path)} is not a state saved by jnst ({reason}): choose another"
        ) from error
    return SavedState(leaves, about, records)


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _restored(array: np.ndarray, key: str | None, weak: bool) -> Any:
    if key is not None:
        return jax.random.wrap_key_data(jnp.asarray(array), impl=key)
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        return array  # 64 bits, which JAX may be configured not to have
    if weak:
        zeros = jnp.broadcast_to(jnp.asarray(array.dtype.type(0).item()), array.shape)
        if zeros.dtype == array.dtype:
            return zeros.at[...].set(array)
    return jnp.asarray(array)
