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

EMBEDDED_NAME = "mini"
EMBEDDED = Path(__file__).with_name("embedded") / "mini.safetensors"
"""The weights that come with the package; their model card lies beside them."""


def load_backbone(
    name: str | None = None,
    weights: str | os.PathLike[str] | None = None,
    *,
    dtype: DTypeLike = jnp.float32,
    **options: str | bool,
) -> tuple[Backbone, Params]:
    """Read pretrained weights and build the network that they belong to.

    Without arguments it is the embedded network, which comes with the package.

    Args:
        name: The architecture (a key of `jnst.BACKBONES`); None: what the file holds.
        weights: A weights file of any known format: the ``model.json`` of a TensorFlow.js model, Keras or flaxmodels
            ``.h5``, a torch ``.pth``, ``.safetensors``, ``.npz``. A VGG may be partial. None: the embedded weights, of
            ``"mini"``.
        dtype: Of the parameters, and so of the features; `jnp.bfloat16` halves their memory.
        **options: ``pooling``, ``rescale_pooling``, ``padding``, ``input_padding``, ``remat``: see
            `jnst.make_backbone`. They go before what the file says.

    Returns:
        The backbone (hashable, without arrays) and its parameters, nested as flaxmodels nests them
        (``params["conv4_2"]["kernel"]``).

    Raises:
        JnstError: An unknown name or option.
        WeightsError: No file, or one that cannot be read or does not fit; the message says what to do.
    """
    if name is not None:
        find(name)
    path = _path(name, weights)
    read = read_weights(path, name)
    backbone = make_backbone(
        read.architecture,
        preprocessing=read.preprocessing,
        training=read.training,
        held=read.params,
        **{**read.options, **options},
    )
    params = nested({key: jnp.asarray(array, dtype) for key, array in read.params.items()})
    return backbone, jax.block_until_ready(params)


def _path(name: str | None, weights: str | os.PathLike[str] | None) -> Path:
    if weights is None:
        if name in (None, EMBEDDED_NAME):
            return EMBEDDED
        raise WeightsError(f"{name} needs a weights file: {where_to_get(name)}")
    path = Path(weights)
    if path.exists():
        return path
    if name is None:
        raise WeightsError(
            f"{path}: there is no such file: check the path, or pass the backbone's name to learn where to get "
            "its weights"
        )
    if any(source.architecture == name and source.training == str(path) for source in SOURCES.values()):
        raise WeightsError(f"{name} needs a weights file: {where_to_get(name, str(path))}")
    raise WeightsError(f"{path}: there is no such file: {where_to_get(name)}")
