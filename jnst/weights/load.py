"""Loading a network with its pretrained weights."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jnst.backbones import Backbone, Preprocessing, find, make_backbone
from jnst.errors import WeightsError
from jnst.solve.compilation import on_host
from jnst.types import Params
from jnst.weights import read_weights
from jnst.weights.convert import nested
from jnst.weights.registry import SOURCES, where_to_get
from jnst.weights.store import fetch, usable

EMBEDDED_NAME = "mini"
EMBEDDED = Path(__file__).with_name("embedded") / "mini.safetensors"
"""The weights that are part of the package, described by the model card next to them."""


@on_host
def load_backbone(
    name: str | None = None,
    weights: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    *,
    preprocessing: str | Preprocessing | None = None,
    training: str | None = None,
    dtype: DTypeLike = jnp.float32,
    offline: bool | None = None,
    **options: str | bool,
) -> tuple[Backbone, Params]:
    """Load a pretrained network.

    Without arguments, this is the small network that is part of the package. Published weights are downloaded when they
    are first used. Before a download, a line on standard error says what is downloaded, its size, where it comes from
    and where it goes. Afterwards the weights are read from the cache without any network (see `jnst.weights.store`).

    Args:
        name: The architecture, a key of `jnst.BACKBONES`. None: the architecture that the weights are for.
        weights: Where the weights come from.

            - None: the embedded weights for ``"mini"``, otherwise the recommended published weights of the
              architecture.
            - The path of a weights file in any known format: the ``model.json`` of a TensorFlow.js model, a Keras or
              flaxmodels ``.h5``, ``.keras``, a PyTorch ``.pth``, ``.safetensors``, ``.npz`` or pickled NumPy arrays.
              VGG weights may end after any layer.
            - Published weights: who trained them (``"oxford"``, ``"torchvision"``), or a key of
              `jnst.weights.registry.SOURCES` (``"vgg19/oxford"``).
            - Several of these: each layer comes from the first that has it.
        preprocessing: The input that the network expects: "oxford" (BGR 0-255), "imagenet" (RGB, torchvision), "lpips",
            "identity", or a `jnst.Preprocessing`. None: as recognised by the values of the first convolution. If they
            match no known network, a warning says what is assumed. jnst's own files say it themselves.
        training: Who trained the network, such as "oxford" or "torchvision", whose preprocessing is then the default.
            None: as recognised.
        dtype: The data type of the parameters and thereby of the features. `jnp.bfloat16` halves their memory.
        offline: Whether downloads are disabled. None: they are if the environment variable ``JNST_OFFLINE`` is set.
        **options: Options of the architecture, such as ``pooling="avg"`` or ``padding="reflect"``: see
            `jnst.make_backbone`. They override the options stored in the weights file.

    Returns:
        The backbone, which is hashable and contains no arrays, and its parameters, nested as in flaxmodels
        (``params["conv4_2"]["kernel"]`` of shape ``(3, 3, in, out)``).

    Raises:
        ArgumentError: The name, the preprocessing or an option is unknown.
        WeightsError: There is no such file, it cannot be read or does not fit the architecture, or the download failed.
            The message says what to do.
        ResourceError: The disk is full.

    Example:
        >>> import jnst
        >>> backbone, params = jnst.load_backbone()
        >>> backbone.name
        'mini'
        >>> backbone, params = jnst.load_backbone("vgg19", pooling="avg")  # doctest: +SKIP
        >>> backbone, params = jnst.load_backbone("vgg19", "vgg19-dcbb9e9d.pth")  # doctest: +SKIP
    """
    if name is not None:
        find(name)
    given = [weights] if weights is None or isinstance(weights, str | os.PathLike) else weights
    found = [_find_file(name, each, offline) for each in given]
    try:
        read = read_weights([path for path, _ in found], name, preprocessing=preprocessing, training=training)
    except WeightsError as error:
        rows = " and ".join(row for _, row in found if row)
        if not rows:
            raise
        raise WeightsError(f"{error}; if you delete this file, {rows} is downloaded again") from error
    if read.assumed:
        warnings.warn(f"{read.source}: {read.assumed}", stacklevel=3)  # beyond the wrapper of `on_host`
    backbone = make_backbone(
        read.architecture,
        preprocessing=read.preprocessing,
        training=read.training,
        available=read.params,
        **{**read.options, **options},
    )
    params = nested({key: jnp.asarray(array, dtype) for key, array in read.params.items()})
    return backbone, jax.block_until_ready(params)


def _find_file(
    name: str | None, weights: str | os.PathLike[str] | None, offline: bool | None
) -> tuple[Path, str | None]:
    """Return the file to read and, if it is in the cache, the row of the registry that it belongs to."""
    if weights is None and name in (None, EMBEDDED_NAME):
        return EMBEDDED, None
    if weights is not None and Path(weights).is_file():
        return Path(weights), None
    if row := _find_row(name, weights):
        try:
            return fetch(row, offline=offline), row
        except WeightsError as error:
            raise WeightsError(f"{name or row} needs a weights file: {error}") from error
    if weights is None:
        raise WeightsError(f"{name} needs a weights file: {where_to_get(str(name))}")
    path = Path(weights)
    if path.exists():
        return path, None
    advice = where_to_get(name) if name else "check the path, or pass the backbone's name to learn where to get weights"
    raise WeightsError(f"{path}: there is no such file: {advice}")


def _find_row(name: str | None, weights: str | os.PathLike[str] | None) -> str | None:
    """Return the row of published weights that the arguments name, if any."""
    for row in (f"{name}/{weights}", str(weights)):
        if row in SOURCES and SOURCES[row].architecture == (name or SOURCES[row].architecture):
            return row
    rows = (row for row, source in SOURCES.items() if source.architecture == name)
    found = next((row for row in rows if weights in (None, SOURCES[row].training)), None)
    return found and usable(found)
