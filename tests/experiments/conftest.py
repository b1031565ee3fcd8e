"""Fixtures for the tests of experiments, which are not part of the installed package."""

import sys
from pathlib import Path

import numpy as np
import pytest
from contracts import random_params

import jnst
from jnst.weights import Weights, save_weights
from jnst.weights.convert import flatten

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

WIDTHS = "8/8/8/8"


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a network with as many blocks as the embedded one, with one convolution each."""
    backbone = jnst.make_backbone("convnet", widths=WIDTHS)
    params = {name: np.asarray(leaf) for name, leaf in flatten(random_params(backbone)).items()}
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_weights(path, Weights("convnet", params, backbone.preprocessing, "test", "none", "MIT", {"widths": WIDTHS}))
    return path
