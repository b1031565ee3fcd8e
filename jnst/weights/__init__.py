"""Published weights, read from their own formats and converted to parameters."""

import os

from jnst.weights.convert import Weights, convert
from jnst.weights.formats import read_tensors
from jnst.weights.layouts import used_tensors
from jnst.weights.native import save_weights

__all__ = ["Weights", "convert", "read_weights", "save_weights"]


def read_weights(path: str | os.PathLike[str], architecture: str | None = None) -> Weights:
    """Read a checkpoint in any known format and layout.

    Args:
        path: A ``.h5``, ``.pth``, ``.npz`` or ``.safetensors`` file, or the ``model.json`` of a TensorFlow.js model.
            The format is recognised by the content, not by the name.
        architecture: A key of `jnst.backbones.BACKBONES`; only needed if the file fits several of them.

    Returns:
        The weights.

    Raises:
        ArgumentError: The architecture is unknown.
        WeightsError: The file cannot be read, or its content is wrong. The message names the file and the tensor.
    """
    return convert(read_tensors(path, used_tensors), architecture)
