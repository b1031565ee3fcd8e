"""Which way a convolution is computed: the ways there are, and which of them is fastest where.

A network's parameters are laid out once (`lay_out`) and then used for many steps: beside a kernel that has a faster way
on the device stands what that way needs, under the way's name (``conv4_2/winograd``). Parameters that were not laid out
are convolved by XLA's own convolution, which is differentiable in every mode and by everything.
"""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnst.backbones.kernels import shifted, winograd
from jnst.solve.compilation import platform_of
from jnst.types import Array, Params

PRECISIONS: dict[str, str] = {
    "float32": "numbers are float32 throughout, errors about 1e-5 of the largest value",
    "bfloat16": "factors of products are bfloat16, sums float32, errors about 1e-2 of the largest value",
    "auto": "whichever of both is faster on the device",
}
"""How exactly a network is computed."""


LEAST_WORK = 1e9
"""Floating-point operations of a convolution below which another way saves, in hundreds of steps, less time than it
takes to compile."""


class Formulation(NamedTuple):
    """A way to compute a 3x3 correlation with stride 1 over a zero-padded map.

    Attributes:
        lay_out: A kernel, ``(3, 3, c_in, c_out)``, as `correlate` needs it.
        correlate: ``(n, h, w, c_in)`` and the kernel laid out to ``(n, h, w, c_out)``.
    """

    lay_out: Callable[[Array], Array]
    correlate: Callable[[Array, Array], Array]


FORMULATIONS: dict[str, Formulation] = {
    "winograd": Formulation(winograd.transform_kernel, winograd.correlate),
    "shifted": Formulation(shifted.lay_out_kernel, shifted.correlate),
}
"""Every way besides XLA's own convolution."""


def fastest(platform: str, precision: str, shape: tuple[int, ...]) -> str | None:
    """The row of `FORMULATIONS` that is fastest for a kernel of this shape; None: XLA's own convolution.

    Read off measurements (`python -m benchmarks convolutions`): on CPUs Winograd's products pay from 64 x 128 channels
    on, where their transformations cost little beside them. bfloat16 pays on CPUs that have units for it.
    """
    if platform != "cpu" or len(shape) != 4 or shape[:2] != (3, 3):
        return None
    channels = shape[2] * shape[3]
    if precision == "bfloat16" or (precision == "auto" and has_bfloat16_units()):
        return "shifted" if shape[2] >= 64 and channels >= 64 * 128 else None
    return "winograd" if channels >= 64 * 128 else None


@functools.cache
def has_bfloat16_units() -> bool:
    """Whether this machine's CPU multiplies matrices of bfloat16 in hardware (Intel's AMX)."""
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def lay_out(params: Params, precision: str, platform: str | None = None) -> Params:
    """Lay a network's parameters out for a device.

    On CPUs kernels get their formulation beside them; on other devices all parameters are rounded to bfloat16, unless
    ``precision`` is "float32". Float32 kernels only; what is laid out already stays as it is.

    Args:
        params: A tree of parameters.
        precision: A key of `PRECISIONS`.
        platform: "cpu", "gpu", "tpu"; None: where the parameters are.
    """
    platform = platform or platform_of(params)
    if platform != "cpu":
        exact = precision == "float32" or all(leaf.dtype != jnp.float32 for leaf in jax.tree.leaves(params))
        return params if exact else jax.tree.map(_rounded, params)
    return _lay_out_branch(params, precision)


def _lay_out_branch(tree: Params, precision: str) -> Params:
    """The same object where nothing is added: caches know parameters by identity."""
    changed: dict[str, Any] = {
        name: _lay_out_branch(leaf, precision) for name, leaf in tree.items() if isinstance(leaf, dict)
    }
    changed = {name: leaf for name, leaf in changed.items() if leaf is not tree[name]}
    kernel = tree.get("kernel")
    if kernel is not None and kernel.dtype == jnp.float32 and not tree.keys() & FORMULATIONS.keys():
        name = fastest("cpu", precision, kernel.shape)
        if name is not None:
            changed[name] = _compiled(FORMULATIONS[name].lay_out)(kernel)
    return {**tree, **changed} if changed else tree


@functools.cache
def _compiled(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    return jax.jit(function)


def _rounded(leaf: Array) -> Array:
    return leaf.astype(jnp.bfloat16) if leaf.dtype == jnp.float32 else leaf


def laid_out(params: Params, x: Array) -> Callable[[Array], Array] | None:
    """The faster way that stands beside a convolution's kernel, for maps like ``x``; None where there is none.

    None also below `LEAST_WORK`.
    """
    name = next((name for name in FORMULATIONS if name in params), None)
    if name is None or 2 * math.prod(x.shape[:-1]) * math.prod(params["kernel"].shape) < LEAST_WORK:
        return None
    correlate, layout = FORMULATIONS[name].correlate, params[name]
    return lambda x: correlate(x, layout)
