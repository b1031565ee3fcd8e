"""Every published system that uses VGG19 runs on the whole network, with the layers that it states."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contracts import random_image

import jnst
from jnst.presets import PRESETS

pytestmark = pytest.mark.usefixtures("unoptimised")

CONVS = tuple(f"conv{block}_1" for block in range(1, 6))
RELUS = tuple(f"relu{block}_1" for block in range(1, 6))
TWELVE = tuple(f"relu{block}_{index + 1}" for block, count in enumerate((2, 2, 4, 4), 1) for index in range(count))
LAYERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "gatys2016": (("conv4_2",), CONVS),
    "gatys2017": (("relu4_2",), RELUS),
    "neural-style": (("relu4_2",), RELUS),
    "neural-style-pt": (("relu4_2",), RELUS),
    "neural-style-tf": (("conv4_2",), RELUS),
    "anishathalye": (("relu4_2",), RELUS),
    "gordic": (("relu4_2",), RELUS),
    "crowson": (("relu4_2",), RELUS),
    "pytorch-tutorial": (("conv2_2",), ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")),
    "tf-tutorial": (("relu5_2",), RELUS),
    "tf-blogpost": (("relu5_2",), RELUS),
    "keras-example": (("relu5_2",), RELUS),
    "sliced-wasserstein": ((), TWELVE),
    "jnst": (("relu4_2",), RELUS),
}
"""Content and style layers, as published."""
OTHER_NETWORKS = {"strotss", "scratch-cnn"}
CONTENT, STYLE = random_image(1, 16, 20), random_image(2, 18, 16)


@pytest.fixture(scope="module")
def network(published_vgg19: Path) -> dict[str, Any]:
    backbone, params = jnst.load_backbone("vgg19", published_vgg19)
    return {"backbone": backbone, "params": params}


def test_all_presets_are_listed() -> None:
    assert {*LAYERS, *OTHER_NETWORKS} == set(PRESETS)


@pytest.mark.long
@pytest.mark.parametrize("name", LAYERS)
def test_a_step_with_the_published_layers(name: str, network: dict[str, Any]) -> None:
    solution = jnst.stylize(CONTENT, STYLE, **network, preset=name, num_steps=1)
    content, style = LAYERS[name]
    expected = {*(f"content/{layer}" for layer in content), *(f"style/{layer}" for layer in style)}
    assert set(solution.parts) - {"tv"} == expected
    assert all(np.isfinite(values).all() for values in solution.parts.values())
    assert all(solution.parts[part][0] > 0 for part in expected if part.startswith("style/"))
    assert solution.finite
    assert solution.state is not None
    assert (np.asarray(solution.state.image) != CONTENT).any()
