"""Small files as publishers lay them out, and rows of the registry for a local server."""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from safetensors.numpy import save

from jnst.backbones import OXFORD
from jnst.weights.registry import Source

NAME = "vgg19/test"
FOLDER = "cache/weights/vgg19-test"
"""The row that the tests download, and its cache folder below a test's temporary folder."""

Publish = Callable[[Source], None]

SHAPES = {"1_1": (3, 3, 3, 64), "1_2": (3, 3, 64, 64)}


def kernels() -> dict[str, np.ndarray]:
    """The first two convolutions of VGG19 by flat name, HWIO."""
    generator = np.random.default_rng(0)
    arrays = {}
    for layer, shape in SHAPES.items():
        arrays[f"conv{layer}/kernel"] = generator.normal(0, 0.05, shape).astype(np.float32)
        arrays[f"conv{layer}/bias"] = generator.normal(0, 0.05, shape[-1]).astype(np.float32)
    return arrays


def keras_file() -> bytes:
    """A file with the names of Keras."""
    return save({name.replace("conv1_", "block1_conv"): array for name, array in kernels().items()})


def torch_file(classifier: int = 300_000) -> bytes:
    """A file with the names of torchvision, and a classifier with so many numbers before and after the features."""
    arrays = {}
    for name, array in kernels().items():
        layer, leaf = name.split("/")
        position = {"conv1_1": 0, "conv1_2": 2}[layer]
        kind = "weight" if leaf == "kernel" else "bias"
        arrays[f"features.{position}.{kind}"] = np.ascontiguousarray(
            array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
        )
    dropped = np.random.default_rng(1).normal(size=classifier).astype(np.float32)
    return save({"classifier.0.weight": dropped, **arrays, "pre_logits.fc1.weight": dropped})


def row(address: str, content: bytes, kind: str = "sha256", **changes: Any) -> Source:
    """A row of the registry for a file, whose documented hash has this kind."""
    value = {"none": "", "sha256-prefix": hashlib.sha256(content).hexdigest()[:8]}.get(kind)
    if value is None:
        value = hashlib.new(kind, content).hexdigest()
    fields = {"training": "oxford", "preprocessing": OXFORD, "megabytes": len(content) / 1e6, **changes}
    return Source("vgg19", address=address, hash_kind=kind, hash_value=value, licence="CC-BY-4.0", **fields)
