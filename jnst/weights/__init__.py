"""Published weights, read from their own formats and converted to parameters."""

import os
from collections.abc import Sequence

from jnst.backbones import Preprocessing
from jnst.errors import ArgumentError
from jnst.weights.convert import Weights, combine, common_architecture, convert
from jnst.weights.formats import read_tensors
from jnst.weights.layouts import used_tensors
from jnst.weights.native import save_weights

__all__ = ["Weights", "convert", "read_weights", "save_weights"]


def read_weights(
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    architecture: str | None = None,
    *,
    preprocessing: str | Preprocessing | None = None,
    training: str | None = None,
) -> Weights:
    """Read a checkpoint in any known format and layout.

    Args:
        path: A ``.h5``, ``.keras``, ``.pth``, ``.npz`` or ``.safetensors`` file, pickled NumPy arrays, or the
            ``model.json`` of a TensorFlow.js model. The format is recognised by the content, not by the name. Of
            several files, each layer comes from the first that has it.
        architecture: A key of `jnst.backbones.BACKBONES`; only needed if the files fit several of them.
        preprocessing: The input that the network expects, a key of `jnst.weights.trainings.PREPROCESSINGS` or a
            `Preprocessing`; None: as recognised by the values of its first convolution, or as the file's metadata say.
        training: Who trained the network, for example a key of `jnst.weights.trainings.TRAININGS`, whose preprocessing
            is then the default; None: as recognised.

    Returns:
        The weights. If neither the values nor the arguments tell the preprocessing, ``assumed`` says so.

    Raises:
        ArgumentError: The architecture or the preprocessing is unknown, or there is no path.
        WeightsError: A file cannot be read, or its content is wrong. The message names the file and the tensor. Or
            several files are not of one network, or have a gap in common.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise ArgumentError("no weights files were given, expected at least one")
    files = [read_tensors(each, used_tensors) for each in paths]
    if architecture is None and len(files) > 1:
        architecture = common_architecture(files)
    several = len(files) > 1
    return combine(
        [convert(each, architecture, preprocessing=preprocessing, training=training, gaps=several) for each in files]
    )
