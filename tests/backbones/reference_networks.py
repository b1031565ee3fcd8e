"""Backbones with published and with reproducible random weights, for the tests of this folder."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from golden.random_weights import random_state_dict

from jnst import load_backbone
from jnst.backbones import Backbone, make_backbone
from jnst.types import Params
from jnst.weights import convert
from jnst.weights.convert import nested
from jnst.weights.formats import Tensors

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = {
    "slim": "vgg19-slim16x/encoder_relu5_1.pth",
    "squeezenet_keras": "squeezenet1.1-keras/squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "squeezenet_lpips": "lpips-squeeze/lpips_squeeze.pt",
    "oxford": "vgg19-oxford-tfjs/model.json",
}


def published(shared: Path, name: str, **options: Any) -> tuple[Backbone, Params]:
    return load_backbone(weights=shared / "weights" / FILES[name], **options)


def converted(architecture: str, seed: int) -> tuple[Backbone, Params]:
    """A network with the random weights of the golden files, converted from torchvision's names."""
    weights = convert(Tensors(random_state_dict(architecture, seed)), architecture)
    backbone = make_backbone(architecture, preprocessing=weights.preprocessing)
    return backbone, jax.tree.map(jnp.asarray, nested(weights.params))


def relative_difference(value: object, exact: np.ndarray) -> float:
    """The largest difference divided by the largest magnitude of ``exact``."""
    value = np.asarray(value, np.float64)
    assert value.shape == exact.shape
    return float(np.abs(value - exact).max() / np.abs(exact).max())
