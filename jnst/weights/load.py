"""From a name and a file to a network that is ready to use."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jnst.backbones import Backbone, find, make_backbone
from jnst.errors import WeightsError
from jnst.types import Params
from jnst.weights import read_weights
from jnst.weights.convert import nested
from jnst.weights.registry import SOURCES, where_to_get
from jnst.weights.store import fetch

EMBEDDED_NAME = "mini"
EMBEDDED = Path(__file__).with_name("embedded") / "mini.safetensors"
"""The weights that come with the package; their model card lies beside them."""


def load_backbone(
    name: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    dtype: DTypeLike = jnp.float32,
    offline: bool | None = None,
    **options: str | bool,
) -> tuple[Backbone, Params]:
    """Read pretrained weights and build the network that they belong to.

    Without arguments it is the embedded network, which comes with the package. Published weights are downloaded on
    first use, after a line on standard error that says what, how large, and where from and to; later they are read
    from the cache (`jnst.weights.store`), and no network is touched.

    Args:
        name: The architecture (a key of `jnst.BACKBONES`); None: what the file holds.
        weights: A weights file of any known format: the ``model.json`` of a TensorFlow.js model, Keras or flaxmodels
            ``.h5``, a torch ``.pth``, ``.safetensors``, ``.npz``. A VGG may be partial. Or published ones: who trained
            them (``"oxford"``, ``"torchvision"``), or a key of `jnst.weights.registry.SOURCES`. None: the embedded
            weights, of ``"mini"``; of another network those that are published first in that table.
        dtype: Of the parameters, and so of the features; `jnp.bfloat16` halves their memory.
        offline: Whether downloads are forbidden; None: what the environment variable ``JNST_OFFLINE`` says.
        **options: ``pooling``, ``rescale_pooling``, ``padding``, ``input_padding``, ``remat``: see
            `jnst.make_backbone`. They go before what the file says.

    Returns:
        The backbone (hashable, without arrays) and its parameters, nested as flaxmodels nests them
        (``params["conv4_2"]["kernel"]``).

    Raises:
        ArgumentError: An unknown name or option.
        WeightsError: No file, one that cannot be read or does not fit, or a download that failed; the message says what
            to do.
        ResourceError: The disk is full.
    """
    if name is not None:
        find(name)
    path, row = _find(name, weights, offline)
    try:
        read = read_weights(path, name)
    except WeightsError as error:
        if row is None:
            raise
        raise WeightsError(f"{error}; `jnst weights fetch {row} --force` does") from error
    backbone = make_backbone(
        read.architecture,
        preprocessing=read.preprocessing,
        training=read.training,
        held=read.params,
        **{**read.options, **options},
    )
    params = nested({key: jnp.asarray(array, dtype) for key, array in read.params.items()})
    return backbone, jax.block_until_ready(params)


def _find(name: str | None, weights: str | os.PathLike[str] | None, offline: bool | None) -> tuple[Path, str | None]:
    """The file to read, and the row of the registry from which it came, if it did."""
    if weights is None and name in (None, EMBEDDED_NAME):
        return EMBEDDED, None
    if weights is not None and Path(weights).is_file():
        return Path(weights), None
    if row := _published(name, weights):
        try:
            return fetch(row, offline=offline), row
        except WeightsError as error:
            raise WeightsError(f"{name or row} needs a weights file: {error}") from error
    if weights is None:
        raise WeightsError(f"{name} needs a weights file: {where_to_get(str(name))}")
    path = Path(weights)
    if path.exists():
        return path, None
    advice = "check the path, or pass the backbone's name to learn where to get its weights"
    raise WeightsError(f"{path}: there is no such file: {where_to_get(name) if name else advice}")


def _published(name: str | None, weights: str | os.PathLike[str] | None) -> str | None:
    """The row of published weights that is meant, if one is."""
    if weights is None:
        return next((row for row, source in SOURCES.items() if source.architecture == name), None)
    for row in (f"{name}/{weights}", str(weights)):
        if row in SOURCES and SOURCES[row].architecture == (name or SOURCES[row].architecture):
            return row
    return None
