"""Runs with the real VGG19 against curves that neural-style-pt and style-transfer-pytorch printed.

They are long enough for optimised code to pay for its making.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jnst
from jnst.apps.io.sizes import as_loaded, load_options, load_with

CURVES = {
    "full_trajectory_parrots_starry_lbfgs_max": (None, (100,), 0.015),
    "full_trajectory_houses_wave_adam_max": (jnst.Adam(10.0), range(10, 31, 10), 0.01),
    "trajectory_houses_wave_lbfgs_avg": (None, (60,), 0.01),
}
"""Optimiser, evaluations and tolerance. With L-BFGS, noise of 1e-4 in an image in [0, 255] changes the total that
neural-style-pt itself prints by up to 4 % at evaluation 50, and by up to 0.6 % at 100."""

TRUNCATED = {"content_layers": ["relu3_2"], "style_layers": ["relu1_1", "relu2_1", "relu3_1"]}
"""The layers of the curves that do not name theirs."""


@pytest.fixture
def published(request: pytest.FixtureRequest, shared: Path) -> dict[str, Any]:
    """A published curve, and the weights that it belongs to: the whole network's if it is named "full"."""
    is_full = request.param.startswith("full")
    weights = request.getfixturevalue("published_vgg19") if is_full else shared / "weights/vgg19-oxford-tfjs/model.json"
    curve = json.loads((shared / "golden" / f"{request.param}.json").read_text())
    return TRUNCATED | curve | {"weights": weights}


def stylize(published: dict[str, Any], shared: Path, settings: jnst.Preset) -> np.ndarray:
    """The losses of a run with files that are loaded as by the command line."""
    settings = jnst.preset(
        settings, content_layers=tuple(published["content_layers"]), style_layers=tuple(published["style_layers"])
    )
    files = (shared / "images" / published[kind] for kind in ("content", "style"))
    content, style = (load_with(file, load_options(file, settings)) for file in files)
    backbone, params = jnst.load_backbone(
        "vgg19", published["weights"], pooling=published.get("pooling", "max"), precision="float32"
    )
    settings, size = as_loaded(settings)
    return jnst.stylize(content, style, params, backbone=backbone, preset=settings, size=size).losses


FULL = [pytest.param(name, name, id=name, marks=pytest.mark.long) for name in CURVES if name.startswith("full")]


@pytest.mark.parametrize(
    ("published", "name"),
    [*FULL, *(pytest.param(name, name, id=name) for name in CURVES if not name.startswith("full"))],
    indirect=["published"],
)
def test_curves_of_neural_style_pt(published: dict[str, Any], name: str, shared: Path) -> None:
    optimizer, iterations, tolerance = CURVES[name]
    settings = jnst.preset(
        "neural-style-pt",
        size=published["image_size"],
        optimizer=optimizer,
        num_steps=max(iterations),
        init="content",
    )
    losses = stylize(published, shared, settings)
    expected = {row["iteration"]: row["total"] for row in published["iterations"]}
    for iteration in iterations:
        np.testing.assert_allclose(losses[iteration - 1], expected[iteration], rtol=tolerance, err_msg=str(iteration))


@pytest.mark.parametrize(
    ("published", "num_steps", "tolerance"),
    [
        pytest.param("full_trajectory_crowson_parrots_starry", (40,), 4e-3, marks=pytest.mark.long),
        ("trajectory_crowson_parrots_starry", (100, 20), 1e-2),
    ],
    indirect=["published"],
)
def test_curves_of_style_transfer_pytorch(
    published: dict[str, Any], num_steps: tuple[int, ...], tolerance: float, shared: Path
) -> None:
    """The whole network at the first size; the truncated one also at the second, with moments and average carried."""
    sizes = sorted({row["w"] for row in published["losses"]})[: len(num_steps)]
    settings = jnst.preset(
        "crowson",
        size=sizes[-1],
        pyramid=jnst.Pyramid(min_size=published["min_scale"]),
        num_steps=num_steps,
        style_layer_weights=tuple(published["style_layer_weights"]),
    )
    losses = stylize(published, shared, settings)
    before = dict(zip(sizes, np.cumsum([0, *num_steps]), strict=False))
    expected = {before[row["w"]] + row["i"]: row["loss"] for row in published["losses"] if row["w"] in before}
    shown = [iteration for iteration in expected if iteration <= len(losses)]
    assert {*range(10, sum(num_steps) + 1, 10)} < set(shown)
    for iteration in shown:
        np.testing.assert_allclose(losses[iteration - 1], expected[iteration], rtol=tolerance, err_msg=str(iteration))


def test_style_weights_of_style_transfer_pytorch(shared: Path) -> None:
    published = json.loads((shared / "golden/full_trajectory_crowson_parrots_starry.json").read_text())
    assert published["style_layer_weights"] == pytest.approx(jnst.presets.PRESETS["crowson"].terms.style_layer_weights)
