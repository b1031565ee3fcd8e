"""Published weights, read from their own formats and turned into parameters."""

import os

from jnst.weights.convert import Weights, convert
from jnst.weights.formats import read_tensors
from jnst.weights.layouts import used_tensors
from jnst.weights.native import save_weights

__all__ = ["Weights", "convert", "read_weights", "save_weights"]


def read_weights(path: str | os.PathLike[str], architecture: str | None = None) -> Weights:
    """Read a checkpoint of any known format and layout.

    Args:
        path: A ``.h5``, ``.pth``, ``.npz`` or ``.safetensors`` file, or the ``model.json`` of a TensorFlow.js model;
            what it is, is told from its content.
        architecture: A key of `jnst.backbones.BACKBONES`; needed only where the file fits several.

    Returns:
        The weights.

    Raises:
        ArgumentError: ``architecture`` is unknown.
        WeightsError: The file cannot be read, or does not hold what it should; the message names file and tensor.
    """
    return convert(read_tensors(path, used_tensors), architecture)
