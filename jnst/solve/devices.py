"""Devices: where arrays are, what a device can hold, and how arrays are divided among several."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jnst.errors import ArgumentError

USABLE = 0.9
"""The share of a device's free memory that is used: fragmentation takes the rest."""


def platform_of(tree: Any) -> str:
    """The platform of a pytree's first JAX array ("cpu", "gpu", "tpu"); without one, the default platform."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer):
            return next(iter(leaf.devices())).platform
    return jax.default_backend()


def local_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A one-dimensional mesh over ``devices``; None: over all devices of this process."""
    return Mesh(np.asarray(jax.local_devices() if devices is None else devices), ("devices",))


def check_mesh(mesh: Mesh) -> Mesh:
    """Return ``mesh`` if all its devices belong to this process.

    Raises:
        ArgumentError: It has devices of other processes.
    """
    foreign = [device for device in mesh.devices.flat if device.process_index != jax.process_index()]
    if foreign:
        raise ArgumentError(
            f"`mesh` has {len(foreign)} devices of other processes: build it over jax.local_devices(), "
            "as jnst.local_mesh() does"
        )
    return mesh


def place(tree: Any, mesh: Mesh, *, divided: bool) -> Any:
    """Put arrays on all devices of a mesh: divided along their leading axis, or as copies."""
    spec = PartitionSpec(mesh.axis_names) if divided else PartitionSpec()
    return jax.device_put(tree, NamedSharding(mesh, spec))


def row_sharding(mesh: Mesh, leading_axes: int = 0) -> NamedSharding:
    """A sharding that divides the rows of images ``(..., h, w, 3)`` among all devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * leading_axes, mesh.axis_names))


def shard_rows(tree: Any, mesh: Mesh) -> Any:
    """Divide the rows of all images ``(..., h, w, 3)`` in a pytree among the devices, and copy everything else to each.

    Only even shards can be stored: an image whose height is not a multiple of the number of devices is copied too, and
    divided within compiled programs only.
    """

    def put(leaf: Any) -> Any:
        is_image = leaf.ndim >= 3 and leaf.shape[-1] == 3 and leaf.shape[-3] % mesh.size == 0
        sharding = row_sharding(mesh, leaf.ndim - 3) if is_image else NamedSharding(mesh, PartitionSpec())
        return jax.device_put(leaf, sharding)

    return jax.tree.map(put, tree)


def free_bytes(device: Any) -> int | None:
    """The memory that can still be allocated on a device, in bytes; None where it does not say (CPUs)."""
    statistics = device.memory_stats() or {}
    limit = statistics.get("bytes_limit")
    return None if limit is None else int(USABLE * (limit - statistics.get("bytes_in_use", 0)))


def needed_bytes(compiled: Any) -> int:
    """The memory a compiled program needs on each device, in bytes: arguments, results and temporary buffers."""
    memory = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
