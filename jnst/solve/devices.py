"""Devices: which there are, what they can hold, and where arrays are put. No mathematics."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jnst.errors import ArgumentError

RESERVE = 0.9
"""The share of a device's free memory that is used: fragmentation needs the rest."""


def local_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of one axis over this process' devices, or over those given."""
    return Mesh(np.asarray(jax.local_devices() if devices is None else devices), ("devices",))


def check_mesh(mesh: Mesh) -> Mesh:
    """Return ``mesh`` if this process owns all its devices.

    Raises:
        ArgumentError: It does not: processes share catalogues (`jnst grid --distributed`), not arrays.
    """
    foreign = [device for device in mesh.devices.flat if device.process_index != jax.process_index()]
    if foreign:
        raise ArgumentError(
            f"`mesh` has {len(foreign)} devices of other processes: build it over jax.local_devices(), "
            "as jnst.local_mesh() does"
        )
    return mesh


def place(tree: Any, mesh: Mesh, divided: bool) -> Any:
    """Put arrays on all devices: their leading axis divided among them, or copies on each."""
    spec = PartitionSpec(mesh.axis_names) if divided else PartitionSpec()
    return jax.device_put(tree, NamedSharding(mesh, spec))


def rows(mesh: Mesh, before: int = 0) -> NamedSharding:
    """The axis of rows, behind ``before`` others, divided among all devices."""
    return NamedSharding(mesh, PartitionSpec(*[None] * before, mesh.axis_names))


def split_images(tree: Any, mesh: Mesh) -> Any:
    """Put arrays on all devices: images ``(..., h, w, 3)`` by their rows, everything else as copies on each.

    Only even parts can be stored: an image whose height the number of devices does not divide is copied too, and
    divided within the compiled programs alone.
    """

    def put(leaf: Any) -> Any:
        is_image = leaf.ndim >= 3 and leaf.shape[-1] == 3 and leaf.shape[-3] % mesh.size == 0
        sharding = rows(mesh, leaf.ndim - 3) if is_image else NamedSharding(mesh, PartitionSpec())
        return jax.device_put(leaf, sharding)

    return jax.tree.map(put, tree)


def free_bytes(device: Any) -> int | None:
    """What can be allocated on a device; None where it does not say (CPUs)."""
    statistics = device.memory_stats() or {}
    limit = statistics.get("bytes_limit")
    return None if limit is None else int(RESERVE * (limit - statistics.get("bytes_in_use", 0)))


def needed_bytes(compiled: Any) -> int:
    """What a compiled program needs on each device: its arguments, results and temporary buffers, donated ones once."""
    memory = compiled.memory_analysis()
    return (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes
    )
