"""Reading the weights of channels that learned metrics publish."""

import numpy as np

from jnst.errors import WeightsError
from jnst.weights.convert import check_finite
from jnst.weights.formats import Tensors


def read_head(tensors: Tensors, name: str, channels: int, advice: str) -> np.ndarray:
    """The tensor ``name`` of shape ``(1, channels, 1, 1)`` as float32 of shape ``(channels,)``.

    Args:
        tensors: A file.
        name: The tensor.
        channels: The expected number of channels.
        advice: What to do if it is wrong, the end of error messages.

    Raises:
        WeightsError: The tensor is missing, of another shape or dtype, negative or not finite.
    """
    if name not in tensors.arrays:
        raise WeightsError(f"{tensors.source}: tensor `{name}` is missing: {advice}")
    head = np.asarray(tensors.arrays[name])
    if head.shape != (1, channels, 1, 1) or head.dtype.kind != "f":
        raise WeightsError(
            f"{tensors.source}: tensor `{name}` is {head.dtype} of shape {head.shape}, expected floats of shape "
            f"{(1, channels, 1, 1)}: {advice}"
        )
    try:
        check_finite(name, head)
    except WeightsError as error:
        raise WeightsError(f"{tensors.source}: {error}") from error
    if head.min() < 0:
        raise WeightsError(
            f"{tensors.source}: tensor `{name}` has a minimum of {head.min():g}, expected at least 0: {advice}"
        )
    return head.reshape(channels).astype(np.float32)
