"""What every implementation of LPIPS is given, and what it returns: a step that evaluates value and gradient."""

import dataclasses
from collections.abc import Callable

import numpy as np

from benchmarks.networks import Network

LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """LPIPS of VGG16 between two batches.

    Attributes:
        images: ``(n, h, w, 3)`` in [0, 1].
        references: Likewise.
        network: torchvision's VGG16 up to ``conv5_3``.
        heads: The weights of the channels of each of `LAYERS`.
    """

    images: np.ndarray
    references: np.ndarray
    network: Network
    heads: tuple[np.ndarray, ...]


Evaluate = Callable[[], tuple[float, np.ndarray]]
"""Computes the sum of the distances and its gradient by the images, and waits for both."""
