"""The systems that are measured: ours and others, each written from its description, a file each.

A file has ``prepare(content, style, settings) -> Step`` and ``run(content, style, settings) -> (image, losses)``.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from benchmarks.networks import ImageArray
from benchmarks.peers.settings import STATISTICS, Settings, Step, Unavailable
from benchmarks.samples import BFLOAT16, FLOAT32

__all__ = ["PEERS", "STATISTICS", "Peer", "Settings", "Step", "Unavailable", "load", "prepare"]


@dataclasses.dataclass(frozen=True)
class Peer:
    """A row of `PEERS`.

    Attributes:
        module: In this folder.
        statistics: What it can minimise.
        tolerance: How far its first loss may lie from float32's, relative.
        options: Further arguments of its ``prepare``.
    """

    module: str
    statistics: tuple[str, ...] = ("gram",)
    tolerance: float = FLOAT32
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


BOTH = ("gram", "wasserstein")

PEERS: dict[str, Peer] = {
    "jnst-float32": Peer("jnst_peer", BOTH, options={"precision": "float32"}),
    "jnst-auto": Peer("jnst_peer", BOTH, BFLOAT16, {"precision": "auto"}),
    "jnst-bfloat16": Peer("jnst_peer", BOTH, BFLOAT16, {"precision": "bfloat16"}),
    "jnst-waves": Peer("jnst_peer", tolerance=BFLOAT16, options={"precision": "auto", "optimizer": "lbfgs-waves"}),
    "torch-eager": Peer("torch_eager"),
    "torch-channels-last": Peer("torch_channels_last"),
    "torch-bfloat16": Peer("torch_bfloat16", tolerance=BFLOAT16),
    "torch-compile": Peer("torch_compile", options={"precision": "float32"}),
    "torch-compile-bfloat16": Peer("torch_compile", tolerance=BFLOAT16, options={"precision": "bfloat16"}),
    "crowson": Peer("crowson", ("wasserstein",)),
    "flaxmodels-dispatched": Peer("flaxmodels_naive", options={"length": 1}),
    "flaxmodels-scanned": Peer("flaxmodels_naive", options={"length": 5}),
}
"""Every configuration by name; the first that is asked for is what the others' losses are compared with."""


def load(name: str) -> ModuleType:
    """The module of a row of `PEERS`.

    Raises:
        Unavailable: A package that it needs is missing.
    """
    try:
        return importlib.import_module(f"{__name__}.{PEERS[name].module}")
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed") from error


def prepare(name: str, content: ImageArray, style: ImageArray, settings: Settings) -> Step:
    """The step of a row of `PEERS`.

    Raises:
        Unavailable: It does not work here, or does not know what the settings ask for.
    """
    if settings.statistic not in PEERS[name].statistics:
        raise Unavailable(f"it does not know the statistic {settings.statistic!r}")
    return load(name).prepare(content, style, settings, **PEERS[name].options)
