"""Fixtures for the tests of benchmarks, which are not part of the installed package."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks import networks
from benchmarks.networks import ImageArray, Network

SIZE = 32


@pytest.fixture(scope="session")
def random_network() -> Network:
    return networks.vgg19()


@pytest.fixture(scope="session")
def shallow_network() -> Network:
    return networks.vgg19(last="conv3_2")


@pytest.fixture(scope="session")
def pair() -> tuple[ImageArray, ImageArray]:
    content, style = networks.square_images(None, SIZE)
    assert content.dtype == style.dtype == np.float32
    return content, style
