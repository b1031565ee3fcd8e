"""Runs with the real VGG19 against curves that neural-style-pt and style-transfer-pytorch printed.

They are long enough for optimised code to pay for its making.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jnst

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1")
CURVES = {
    "parrots_starry_lbfgs_max": ("kodim23_parrots.png", "starry_night.jpg", 256, None),
    "parrots_starry_adam_max": ("kodim23_parrots.png", "starry_night.jpg", 256, jnst.Adam(10.0)),
    "houses_wave_lbfgs_avg": ("kodim08_houses_street.png", "great_wave.jpg", 224, None),
}
"""Content, style, size and optimiser."""


def vgg19(shared: Path, pooling: str) -> tuple[jnst.Backbone, Any]:
    return jnst.load_backbone("vgg19", weights=shared / "weights/vgg19-oxford-tfjs/model.json", pooling=pooling)


@pytest.mark.parametrize("name", CURVES)
def test_curves_of_neural_style_pt(name: str, shared: Path) -> None:
    """Within 1 % at every tenth evaluation, as published, from 60 to the 100th."""
    content_file, style_file, size, optimizer = CURVES[name]
    published = json.loads((shared / "golden" / f"trajectory_{name}.json").read_text())
    assert (published["content"], published["style"]) == (f"content/{content_file}", f"style/{style_file}")
    assert published["image_size"] == size
    content, style = (
        jnst.load_image(shared / "images" / published[kind], size=size, resample="bilinear", rounding="floor")
        for kind in ("content", "style")
    )
    backbone, params = vgg19(shared, published["pooling"])
    settings = jnst.preset("neural-style-pt", content_layers=("relu3_2",), style_layers=STYLE_LAYERS)
    result = jnst.stylize(
        content, style, params, backbone=backbone, preset=settings, optimizer=optimizer, num_steps=100, init="content"
    )
    expected = {row["iteration"]: row["total"] for row in published["iterations"]}
    assert {60, 100} <= set(expected)
    for iteration in (each for each in expected if 60 <= each <= 100):
        np.testing.assert_allclose(result.losses[iteration - 1], expected[iteration], rtol=0.01)


def test_curve_of_style_transfer_pytorch(shared: Path) -> None:
    """Two sizes of 100 steps, with moments and average carried over: the first loss, and both ends."""
    published = json.loads((shared / "golden" / "trajectory_crowson_parrots_starry.json").read_text())
    content, style = (
        jnst.load_image(shared / "images" / published[kind], size=4 * published["end_scale"], enlarge=False)
        for kind in ("content", "style")
    )
    backbone, params = vgg19(shared, "max")
    settings = jnst.preset(
        "crowson",
        content_layers=tuple(published["content_layers"]),
        style_layers=tuple(published["style_layers"]),
        style_layer_weights=tuple(published["style_layer_weights"]),
        num_steps=(published["iterations_per_scale"],),
        pyramid=jnst.Pyramid(min_size=published["min_scale"]),
    )
    result = jnst.stylize(content, style, params, backbone=backbone, preset=settings, size=published["end_scale"])
    sizes = sorted({row["w"] for row in published["losses"]})
    expected = {100 * sizes.index(row["w"]) + row["i"]: row["loss"] for row in published["losses"]}
    np.testing.assert_allclose(result.losses[0], expected[1], rtol=1e-3)
    for end in (100, 200):
        np.testing.assert_allclose(result.losses[end - 1], expected[end], rtol=0.01)
