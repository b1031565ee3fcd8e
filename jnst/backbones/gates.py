"""Gates: what a gradient needs to know of the activations of a network.

The gate of a ReLU tells which outputs are positive, that of a max pooling which element of each window is the largest.
With known gates, a network of convolutions, ReLUs and max or average poolings is affine: its gradient needs neither
activations nor the pass that computes them. Gates take one bit for each activation, and two for each maximum of four.

They are kept in a Flax variable collection. A network that may change the collection notes its gates; one that is given
it follows them. `relu` and `pool` stand for those of `jnst.backbones.ops` wherever a network calls them.
"""

from collections.abc import Mapping
from functools import partial, reduce
from typing import Any, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jax import lax

from jnst.backbones import ops
from jnst.backbones.windows import Window
from jnst.types import Array

GATES = "gates"
"""The variable collection."""

AFFINE_POOLINGS = ("max", "avg")
"""The poolings that are affine once their gates are known. Others are roots, whose gradient needs their input."""

Gates: TypeAlias = Mapping[str, Any]
"""What the collection holds: a pytree of bits, by the names of ReLUs and poolings."""


def relu(module: nn.Module, name: str, x: ops.Map, output_is_kept: bool = True) -> ops.Map:
    """`ops.relu`, with the gate ``name`` of a module."""
    if module.has_variable(GATES, name):
        (positive,) = _read(module, name, x)
        # As in `ops.relu`, the output is computed once.
        passed = lax.optimization_barrier(jnp.where(positive != 0, _values(x), 0))
        return x.with_values(passed) if isinstance(x, Window) else passed
    y = ops.relu(x, output_is_kept)
    if _is_noting(module):
        _write(module, name, _values(y) > 0)
    return y


def pool(
    module: nn.Module,
    name: str,
    x: ops.Map,
    pooling: str,
    *,
    rescale: bool = False,
    window: int = 2,
    stride: int = 2,
    ceil: bool = False,
    padding: ops.Padding = "zero",
) -> ops.Map:
    """`ops.pool`, with the gate ``name`` of a module if it is a max pooling, which is not rescaled."""
    by = partial(ops.pool_by, x, window=window, stride=stride, ceil=ceil, padding=padding)
    if pooling == "max" and module.has_variable(GATES, name):
        bits = [plane << bit for bit, plane in enumerate(_read(module, name, x))]
        return by(partial(ops.choose, index=reduce(jnp.bitwise_or, bits)))
    if pooling == "max" and _is_noting(module):
        index = _values(by(ops.max_index))
        _write(module, name, *(index >> bit & 1 for bit in range((window**2 - 1).bit_length())))
    return ops.pool(x, pooling, rescale=rescale, window=window, stride=stride, ceil=ceil, padding=padding)


def _is_noting(module: nn.Module) -> bool:
    return module.is_mutable_collection(GATES) and not module.is_initializing()


def _write(module: nn.Module, name: str, *planes: Array) -> None:
    module.put_variable(GATES, name, tuple(jnp.packbits(plane, axis=-1) for plane in planes))


def _read(module: nn.Module, name: str, x: ops.Map) -> list[Array]:
    channels = _values(x).shape[-1]
    return [jnp.unpackbits(packed, axis=-1, count=channels) for packed in module.get_variable(GATES, name)]


def _values(x: ops.Map) -> Array:
    return x.values if isinstance(x, Window) else x
