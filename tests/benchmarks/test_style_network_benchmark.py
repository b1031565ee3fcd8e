"""The benchmark of style networks, on one photograph and one style."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest

import jnst
from benchmarks import style_network
from benchmarks.style_network import CONTENTS, NETWORK, OPTIMISATION, STYLES
from jnst.types import Image

pytestmark = pytest.mark.usefixtures("unoptimised")


def test_seconds_are_taken_at_the_last_size(shared: Path, tmp_path: Path) -> None:
    options = argparse.Namespace(
        shared=shared, network="demo", peer_python=Path(sys.executable), only="seconds", sizes=[16, 32], rounds=2
    )
    found = style_network.measure(options)["seconds"]
    assert found["size"] == 32
    assert len(found[NETWORK]["samples"]) == 2
    assert len(style_network.plot({}).axes) == 1


def test_means_and_the_sheet() -> None:
    rows = [{"way": NETWORK, "style_distance": value, "lpips": 2 * value} for value in (1.0, 3.0)]
    assert style_network.means(rows) == {NETWORK: {"style_distance": 2.0, "lpips": 4.0}}
    image = jnst.resize(jnst.demo_images()[0], (24, 36))
    images: dict[tuple[str, str, str], Image] = {}
    for content in CONTENTS:
        images[content, "", ""] = image
        images |= {(content, style, way): image for style in STYLES for way in (NETWORK, OPTIMISATION)}
    assert np.asarray(style_network.make_sheet(images, [NETWORK, OPTIMISATION])).std() > 10
