"""Gates: what a gradient needs to know of the activations of a network.

The gate of a ReLU tells which outputs are positive, that of a max pooling which element of each window is the largest.
With known gates, a network of convolutions, ReLUs and max poolings is linear: its gradient needs neither activations
nor the pass that computes them. Gates take one bit for each activation, and two for each maximum of four.

They are kept in a Flax variable collection. A network that may change the collection notes its gates; one that is given
it follows them. `relu` and `pool` stand for those of `jnst.backbones.ops` wherever a network calls them.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from jnst.backbones import ops
from jnst.backbones.windows import Window
from jnst.types import Array

GATES = "gates"
"""The variable collection."""

Gates: TypeAlias = Mapping[str, Any]
"""What the collection holds: a pytree of bits, by the names of ReLUs and poolings."""


def relu(module: nn.Module, name: str, x: ops.Map, output_is_kept: bool = True) -> ops.Map:
    """`ops.relu`, with the gate ``name`` of a module."""
    if module.has_variable(GATES, name):
        (positive,) = _noted(module, name, x)
        # As in `ops.relu`, the output is computed once.
        passed = lax.optimization_barrier(jnp.where(positive != 0, _values(x), 0))
        return x.with_values(passed) if isinstance(x, Window) else passed
    y = ops.relu(x, output_is_kept)
    if _notes(module):
        _note(module, name, _values(y) > 0)
    return y


def pool(
    module: nn.Module, name: str, x: ops.Map, pooling: str, *, rescale: bool = False, window: int = 2, **options: Any
) -> ops.Map:
    """`ops.pool`, with the gate ``name`` of a module if it is a max pooling."""
    options["window"] = window
    if pooling == "max" and module.has_variable(GATES, name):
        bits = [plane << bit for bit, plane in enumerate(_noted(module, name, x))]
        return ops.pool_by(x, partial(ops.choose, index=sum(bits[1:], bits[0])), **options)
    if pooling == "max" and _notes(module):
        index = _values(ops.pool_by(x, ops.max_index, **options))
        _note(module, name, *(index >> bit & 1 for bit in range((window**2 - 1).bit_length())))
    return ops.pool(x, pooling, rescale=rescale, **options)


def _notes(module: nn.Module) -> bool:
    return module.is_mutable_collection(GATES) and not module.is_initializing()


def _note(module: nn.Module, name: str, *masks: Array) -> None:
    module.put_variable(GATES, name, tuple(jnp.packbits(mask, axis=-1) for mask in masks))


def _noted(module: nn.Module, name: str, x: ops.Map) -> list[Array]:
    channels = _values(x).shape[-1]
    return [jnp.unpackbits(packed, axis=-1, count=channels) for packed in module.get_variable(GATES, name)]


def _values(x: ops.Map) -> Array:
    return x.values if isinstance(x, Window) else x
