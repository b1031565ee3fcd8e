"""Style networks as StableHLO programs, by `jax.export`."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jnst.errors import ArgumentError
from jnst.transfer.network import SMALLEST_SIDE, STRIDE, StyleNetwork
from jnst.types import Array, Image, Params

LARGEST_SIDE = 2**15
"""Far more than fits into memory."""


def _serialized(exported: export.Exported) -> bytes:
    try:
        return bytes(exported.serialize())
    except ImportError:
        raise ArgumentError(
            "the form of jax.export needs flatbuffers, which is not installed: pip install flatbuffers, "
            f"or choose another form ({', '.join(list(EXPORTS)[1:])})"
        ) from None


EXPORTS: dict[str, Callable[[export.Exported], bytes]] = {
    ".jax": _serialized,
    ".stablehlo": lambda exported: bytes(exported.mlir_module_serialized),
    ".mlir": lambda exported: exported.mlir_module().encode(),
}
"""How a program is written, by the suffix of the file: for `jax.export.deserialize`, as portable bytecode, as text."""

PORTABLE = ".jax"
"""The form that can be for several platforms. The others would take the platform's index as their first argument."""


def export_style_network(
    network: StyleNetwork,
    params: Params,
    *,
    size: tuple[int, int] | None = None,
    style_weights: Array | np.ndarray | Sequence[float] | None = None,
    platforms: Sequence[str] = ("cpu",),
) -> export.Exported:
    """Export a style network with its parameters.

    Args:
        network: The network.
        params: Its parameters, which become constants of the program.
        size: Height and width; None: any that are multiples of 4, as no border is added then, and at least 20.
        style_weights: ``(S,)``, built in; None: the program takes them as its second argument.
        platforms: Where it will run: "cpu", "cuda", "rocm", "tpu". With several, the function ``main`` of the StableHLO
            takes an index into them as its first argument, which JAX passes itself.

    Returns:
        The program of images ``(n, h, w, 3)`` for any n, as `jax.export.export` returns it.

    Raises:
        ArgumentError: Sides below 20 or above 32768, no platform, or wrong weights.

    Examples:
        >>> import jax, jnst
        >>> from jnst.transfer.network_export import export_style_network
        >>> network = jnst.StyleNetwork(("night",), widths=(4, 4, 4), blocks=0)
        >>> program = export_style_network(network, network.init(jax.random.key(0)), style_weights=[1.0])
        >>> program.call(jax.numpy.zeros((2, 20, 24, 3))).shape
        (2, 20, 24, 3)
    """
    if size is not None and min(size) < SMALLEST_SIDE:
        raise ArgumentError(f"size {size[1]}x{size[0]}: expected at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels")
    if size is not None and max(size) > LARGEST_SIDE:
        raise ArgumentError(f"size {size[1]}x{size[0]}: expected at most {LARGEST_SIDE} pixels on a side")
    if not platforms:
        raise ArgumentError("no platforms: expected one or more, such as cpu")
    sides = f"{STRIDE}*h, {STRIDE}*w" if size is None else f"{size[0]}, {size[1]}"
    least = SMALLEST_SIDE // STRIDE
    constraints = [f"h >= {least}", f"w >= {least}"] if size is None else []
    shape = export.symbolic_shape(f"n, {sides}, 3", constraints=constraints)
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    if style_weights is None:
        weights = jax.ShapeDtypeStruct((len(network.styles),), np.float32)
        take_both = jax.jit(lambda image, weights: _apply(network, params, image, weights))
        return export.export(take_both, platforms=platforms)(image, weights)
    fixed = np.asarray(style_weights, np.float32)
    return export.export(jax.jit(lambda image: _apply(network, params, image, fixed)), platforms=platforms)(image)


def _apply(network: StyleNetwork, params: Params, image: Image, weights: Array | np.ndarray) -> Image:
    return network.apply(params, image, weights)
