"""The algorithms for 3x3 convolutions, and the choice among them for a device.

`prepare` transforms kernels once for the algorithm that will use them, and stores the result beside the original, under
the algorithm's name (``conv4_2/winograd``). `find_correlation` looks it up. Layers without such an entry use XLA's
convolution, which supports every transformation of JAX.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnst.backbones.kernels import shifted, winograd
from jnst.solve.devices import platform_of
from jnst.types import Array, Params

PRECISIONS: dict[str, str] = {
    "float32": "float32 everywhere",
    "tf32": "float32, but products of values rounded to 11 significant bits on GPUs that have TF32",
    "bfloat16": "products of bfloat16 values, summed in float32",
    "auto": "float32 on CPUs, bfloat16 on GPUs and TPUs",
}
"""The precisions of a network; see `Backbone.prepare` for their errors."""

MATMUL_PRECISIONS: dict[str, str] = {"float32": "highest", "tf32": "tensorfloat32"}
"""What `jax.default_matmul_precision` calls a precision. Without a row, products of float32 values are up to JAX."""


def multiplying(precision: str) -> AbstractContextManager[None]:
    """A context in which networks are traced whose float32 values are multiplied in this precision."""
    name = MATMUL_PRECISIONS.get(precision)
    return nullcontext() if name is None else jax.default_matmul_precision(name)


MIN_FLOPS = 1e9
"""The smallest convolution, in floating-point operations, that uses another algorithm than XLA's.

For smaller ones, the time saved in a few hundred steps is less than the additional compilation time.
"""


class Algorithm(NamedTuple):
    """An algorithm for 3x3 cross-correlations of stride 1.

    Attributes:
        prepare_kernel: Transforms a kernel ``(3, 3, c_in, c_out)`` into what `correlate` takes.
        correlate: Maps ``(n, h, w, c_in)``, the transformed kernel, and the ``padding`` with zeros, 1 or 0, to
            ``(n, h, w, c_out)``, or without padding to ``(n, h - 2, w - 2, c_out)``.
    """

    prepare_kernel: Callable[[Array], Array]
    correlate: Callable[..., Any]


ALGORITHMS: dict[str, Algorithm] = {
    "winograd": Algorithm(winograd.prepare_kernel, winograd.correlate),
    "shifted": Algorithm(shifted.prepare_kernel, shifted.correlate),
}
"""Every algorithm besides XLA's convolution."""


def resolve_precision(precision: str, platform: str) -> str:
    """What "auto" means on a platform ("cpu", "gpu" or "tpu"); other keys of `PRECISIONS` are returned unchanged."""
    if precision != "auto":
        return precision
    return "float32" if platform == "cpu" else "bfloat16"


def select_algorithm(platform: str, precision: str, kernel_shape: tuple[int, ...]) -> str | None:
    """Select the fastest algorithm for a kernel.

    The thresholds were measured (`python -m benchmarks convolutions`): on CPUs, Winograd's transformations pay off from
    64 to 128 channels.

    Args:
        platform: "cpu", "gpu" or "tpu".
        precision: A key of `PRECISIONS`.
        kernel_shape: ``(kh, kw, c_in, c_out)``.

    Returns:
        A key of `ALGORITHMS`, or None for XLA's convolution.
    """
    if platform != "cpu" or len(kernel_shape) != 4 or kernel_shape[:2] != (3, 3):
        return None
    c_in, c_out = kernel_shape[2:]
    if c_in * c_out < 64 * 128:
        return None
    if precision == "bfloat16":
        return "shifted" if c_in >= 64 else None
    return "winograd"


def prepare(params: Params, precision: str, platform: str | None = None) -> Params:
    """Prepare a network's parameters for a device.

    On CPUs, adds transformed kernels for the selected algorithms. On GPUs and TPUs, casts all parameters to bfloat16 if
    that is the precision. Only float32 parameters are prepared. Preparing twice changes nothing.

    Args:
        params: A network's parameters.
        precision: A key of `PRECISIONS`.
        platform: "cpu", "gpu" or "tpu"; None: that of the device that holds the parameters.

    Returns:
        The prepared parameters; the same object if there is nothing to do.
    """
    platform = platform or platform_of(params)
    if platform == "cpu":
        return _add_prepared_kernels(params, precision)
    is_exact = resolve_precision(precision, platform) != "bfloat16"
    if is_exact or all(leaf.dtype != jnp.float32 for leaf in jax.tree.leaves(params)):
        return params
    return jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16) if leaf.dtype == jnp.float32 else leaf, params)


def _add_prepared_kernels(tree: Params, precision: str) -> Params:
    """Return ``tree`` itself if nothing is added: callers compare parameters by identity."""
    branches = {name: _add_prepared_kernels(leaf, precision) for name, leaf in tree.items() if isinstance(leaf, dict)}
    changed: dict[str, Any] = {name: branch for name, branch in branches.items() if branch is not tree[name]}
    kernel = tree.get("kernel")
    if kernel is not None and kernel.dtype == jnp.float32 and not tree.keys() & ALGORITHMS.keys():
        name = select_algorithm("cpu", precision, kernel.shape)
        if name is not None:
            changed[name] = ALGORITHMS[name].prepare_kernel(kernel)
    return {**tree, **changed} if changed else tree


def for_single_use(params: Params) -> Params:
    """Return the parameters without Winograd-transformed kernels.

    A program that runs once saves less time by them than their compilation takes. Values differ by rounding.
    """
    kept = {name: leaf for name, leaf in params.items() if name != "winograd"}
    return {name: for_single_use(leaf) if isinstance(leaf, dict) else leaf for name, leaf in kept.items()}


def find_correlation(params: Params, x: Array) -> Callable[[Array, int], Array] | None:
    """Return the prepared correlation for a layer, or None if XLA's convolution should be used.

    Args:
        params: The parameters of one convolution.
        x: Its input ``(n, h, w, c_in)``. Below `MIN_FLOPS`, XLA's convolution is used.
    """
    name = next((name for name in ALGORITHMS if name in params), None)
    if name is None or 2 * math.prod(x.shape[:-1]) * math.prod(params["kernel"].shape) < MIN_FLOPS:
        return None
    correlate, kernel = ALGORITHMS[name].correlate, params[name]
    return lambda x, padding: correlate(x, kernel, padding)
