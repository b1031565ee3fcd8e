"""Style networks as files: safetensors whose metadata say everything that is needed to build the network."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jnst.errors import ArgumentError, WeightsError
from jnst.solve.compilation import on_host
from jnst.transfer.network import StyleNetwork
from jnst.types import Params
from jnst.weights.checksum import KEY, checksum
from jnst.weights.convert import check_finite, flatten, nested
from jnst.weights.formats import read_tensors
from jnst.weights.formats.tensors import Tensors, one_line
from jnst.weights.native import cast_tensors, write_tensors

FORMAT, VERSION = "jnst-style-network", "1"
"""``format`` and ``version`` in the metadata."""

DEMO = "demo"
DEMO_FILE = Path(__file__).parents[1] / "weights" / "embedded" / "style_network.safetensors"
"""The network that is part of the package; see the model card beside it."""


def save_style_network(
    path: str | os.PathLike[str],
    network: StyleNetwork,
    params: Params,
    *,
    about: Mapping[str, Any] | None = None,
    dtype: str = "float32",
) -> None:
    """Write a style network to a safetensors file, which `load_style_network` reads.

    The metadata are format, version, architecture (JSON), about (JSON) and the sha256 of everything. An existing file
    is replaced atomically. The same network gives the same bytes.

    Args:
        path: The file to write.
        network: The network.
        params: Its parameters.
        about: Further facts, such as the settings of its training: JSON values by name.
        dtype: "float32", or "float16" for half the size and a relative error of up to 2^-11.

    Raises:
        ArgumentError: The data type is unknown, or the file cannot be written.
        WeightsError: A parameter is missing or unknown, or has the wrong shape, or is not finite in this data type.
        ResourceError: The disk is full.
    """
    arrays = cast_tensors(flatten(params), dtype)
    _check_params(network, arrays)
    architecture = {field.name: getattr(network, field.name) for field in dataclasses.fields(network)}
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "architecture": json.dumps(architecture),
        "about": json.dumps(dict(about or {})),
    }
    write_tensors(path, arrays, metadata)


@on_host
def load_style_network(path: str | os.PathLike[str]) -> tuple[StyleNetwork, Params]:
    """Load a style network that `jnst train style` has written.

    Args:
        path: The file; or "demo", unless there is a file of that name: the network that is part of the package.

    Returns:
        The network, which is hashable and contains no arrays, and its parameters in float32.

    Raises:
        WeightsError: There is no such file, or it is damaged or not a style network.

    Examples:
        >>> import jnst
        >>> network, params = jnst.load_style_network("net.safetensors")  # doctest: +SKIP
        >>> repainted = network.apply(params, image, network.style_weights("starry_night"))  # doctest: +SKIP
    """
    network, params, _ = read_style_network(path)
    return network, jax.block_until_ready(jax.tree.map(jnp.asarray, params))


def read_style_network(path: str | os.PathLike[str]) -> tuple[StyleNetwork, Params, dict[str, Any]]:
    """Read a style network, and what its file says about it; the arguments and errors are `load_style_network`'s."""
    tensors = read_tensors(DEMO_FILE if os.fspath(path) == DEMO and not os.path.isfile(DEMO) else path)
    try:
        network, about = _described(tensors)
        if checksum(tensors.arrays, tensors.metadata) != tensors.metadata.get(KEY):
            raise WeightsError("the tensors and metadata do not match the file's sha256: it is damaged, get it again")
        _check_params(network, tensors.arrays)
    except WeightsError as error:
        raise WeightsError(one_line(f"{tensors.source}: {error}")) from error
    arrays = {name: np.asarray(array, np.float32) for name, array in tensors.arrays.items()}
    return network, nested(arrays), about


def _described(tensors: Tensors) -> tuple[StyleNetwork, dict[str, Any]]:
    """The network that the metadata describe, and their ``about``."""
    metadata = tensors.metadata
    if metadata.get("format") != FORMAT:
        found = metadata.get("format", "")
        holds = f"holds {found}, not a style network" if found.startswith("jnst-") else "is not a style network"
        raise WeightsError(
            f"{holds}: pass a file that `jnst train style` wrote (jnst stylize --weights takes other networks)"
        )
    if metadata.get("version") != VERSION:
        raise WeightsError(f"{FORMAT} version {metadata.get('version')}, expected {VERSION}: update jnst")
    try:
        architecture, about = json.loads(metadata["architecture"]), json.loads(metadata["about"])
        styles, widths, blocks = (architecture.pop(name) for name in ("styles", "widths", "blocks"))
        if architecture or not isinstance(about, dict):
            raise ValueError("unknown or wrong values")
        return StyleNetwork(styles, widths, blocks), about
    except (ArgumentError, KeyError, TypeError, ValueError, RecursionError, AttributeError) as error:
        raise WeightsError(f"{FORMAT} metadata that cannot be read ({error}): get the file again") from error


def _check_params(network: StyleNetwork, arrays: Mapping[str, np.ndarray]) -> None:
    shapes = flatten(network.shapes)
    if odd := sorted(shapes.keys() ^ arrays.keys()):
        raise WeightsError(f"tensor `{odd[0]}` is missing or unknown: get the file again")
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind != "f":
            raise WeightsError(
                f"tensor `{name}` is {array.dtype} of shape {array.shape}, expected floats of shape {shape}: "
                "get the file again"
            )
        check_finite(name, array)
