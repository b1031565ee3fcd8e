"""The systems that are compared: jnst and others, each written from its description.

Every module has a function ``prepare(content, style, settings, **options) -> Step``.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.networks import ImageArray
from benchmarks.peers.interface import STATISTICS, Settings, Step, Unavailable
from benchmarks.samples import BFLOAT16, FLOAT32

__all__ = ["PEERS", "STATISTICS", "Peer", "Settings", "Step", "Unavailable", "load", "prepare", "run"]


@dataclasses.dataclass(frozen=True)
class Peer:
    """A row of `PEERS`.

    Attributes:
        module: Its module in this folder.
        statistics: The style statistics that it has.
        tolerance: The largest relative difference between its first loss and that in float32.
        options: Further arguments of its ``prepare``.
    """

    module: str
    statistics: tuple[str, ...] = ("gram",)
    tolerance: float = FLOAT32
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


BOTH = ("gram", "wasserstein")
COMPILED = {"compiled": True, "channels_last": True, "tf32": True}

PEERS: dict[str, Peer] = {
    "jnst-float32": Peer("jnst_peer", BOTH, options={"precision": "float32"}),
    "jnst-auto": Peer("jnst_peer", BOTH, BFLOAT16, {"precision": "auto"}),
    "jnst-bfloat16": Peer("jnst_peer", BOTH, BFLOAT16, {"precision": "bfloat16"}),
    "jnst-fourier": Peer("jnst_peer", tolerance=BFLOAT16, options={"precision": "auto", "optimizer": "lbfgs-fourier"}),
    "torch-eager": Peer("torch_neural_style"),
    "torch-channels-last": Peer("torch_neural_style", options={"channels_last": True, "tf32": True}),
    "torch-bfloat16": Peer("torch_neural_style", ("gram",), BFLOAT16, {"dtype": "bfloat16", "channels_last": True}),
    "torch-compile": Peer("torch_neural_style", options=COMPILED),
    "torch-compile-bfloat16": Peer("torch_neural_style", ("gram",), BFLOAT16, {**COMPILED, "dtype": "bfloat16"}),
    "crowson": Peer("crowson", ("wasserstein",)),
    "flaxmodels-dispatched": Peer("flaxmodels_naive", options={"length": 1}),
    "flaxmodels-scanned": Peer("flaxmodels_naive", options={"length": 5}),
}
"""Every configuration by name. Losses are compared with those of the first one in a measurement."""


def load(name: str) -> ModuleType:
    """Import the module of a peer.

    Raises:
        Unavailable: A package that it needs is missing.
    """
    try:
        return importlib.import_module(f"{__name__}.{PEERS[name].module}")
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed") from error


def prepare(name: str, content: ImageArray, style: ImageArray, settings: Settings) -> Step:
    """Prepare the steps of a peer.

    Args:
        name: A key of `PEERS`.
        content: ``(h, w, 3)`` in [0, 1], or a batch of such images.
        style: Likewise.
        settings: What to minimise, and how.

    Raises:
        Unavailable: The peer does not work here, or does not support the settings.
    """
    if settings.statistic not in PEERS[name].statistics:
        raise Unavailable(f"it does not have the statistic {settings.statistic!r}")
    return load(name).prepare(content, style, settings, **PEERS[name].options)


def run(name: str, content: ImageArray, style: ImageArray, settings: Settings) -> tuple[ImageArray, list[float]]:
    """Let a peer make `Settings.steps` steps; arguments and errors as for `prepare`.

    Returns:
        The image in [0, 1], and the loss at each step.
    """
    step = prepare(name, content, style, settings)
    losses: list[float] = []
    while len(losses) < settings.steps:
        losses += step.advance()
    return np.clip(step.image(), 0.0, 1.0).astype(np.float32), losses[: settings.steps]
