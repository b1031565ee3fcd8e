"""Published weights, read from their own formats and converted to parameters."""

import os
from collections.abc import Sequence

from jnst.backbones import Preprocessing
from jnst.errors import ArgumentError
from jnst.weights.convert import Weights, combine, convert
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
            several files, each layer is taken from the first that has it.
        architecture: A key of `jnst.backbones.BACKBONES`; only needed if the file fits several of them.
        preprocessing: What the network takes, a key of `jnst.weights.trainings.PREPROCESSINGS` or a `Preprocessing`;
            None: as recognised by the values of its first convolution, or as the file's metadata say.
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
    parts: list[Weights] = []
    for each in paths:
        tensors = read_tensors(each, used_tensors)
        parts.append(
            convert(tensors, architecture, preprocessing=preprocessing, training=training, gaps=len(paths) > 1)
        )
        architecture = parts[0].architecture
    return combine(parts)
