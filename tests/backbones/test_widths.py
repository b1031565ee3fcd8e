"""Convnets with a choice of widths, and their weights files."""

import itertools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from jnst.backbones import IMAGENET, make_backbone, param_shapes, parse_widths
from jnst.errors import JnstError, WeightsError
from jnst.weights import Weights, read_weights, save_weights
from jnst.weights.convert import flatten


@pytest.mark.parametrize(
    ("widths", "parsed", "layers"),
    [
        ("16/32/64", ((16,), (32,), (64,)), "conv1_1 relu1_1 conv2_1 relu2_1 conv3_1 relu3_1"),
        (((2, 3), (4,)), ((2, 3), (4,)), "conv1_1 relu1_1 conv1_2 relu1_2 conv2_1 relu2_1"),
    ],
)
def test_a_convnet_has_the_requested_widths(widths: Any, parsed: Any, layers: str) -> None:
    backbone = make_backbone("convnet", widths=widths)
    assert backbone.layers == tuple(layers.split())
    assert backbone.content_layers[0] == backbone.layers[-1]
    assert backbone.style_layers == tuple(
        layer for layer in backbone.layers if layer.startswith("relu") and layer.endswith("_1")
    )
    assert hash(backbone) == hash(make_backbone("convnet", widths=parsed))
    channels = [3, *(width for block in parsed for width in block)]
    kernels = {
        name: shape
        for name, shape in flatten(jax.eval_shape(backbone.init, jax.random.key(0))).items()
        if "kernel" in name
    }
    assert [kernel.shape for kernel in kernels.values()] == [(3, 3, *pair) for pair in itertools.pairwise(channels)]


def test_shapes_follow_the_widths() -> None:
    assert param_shapes("convnet", "2,3/5")["conv2_1/kernel"] == (3, 3, 3, 5)
    assert param_shapes("convnet")["conv3_1/kernel"] == (3, 3, 32, 64)
    with pytest.raises(JnstError, match="vgg16 has no option 'widths'"):
        param_shapes("vgg16", "2/3")


@pytest.mark.parametrize(
    "widths",
    [
        "",
        "16/",
        "/16",
        "0/3",
        "16//3",
        "1.5",
        "-1",
        "16/2049",
        "1/1/1/1/1/1",
        "1,1,1,1,1",
        "٣",
        (),
        ((True,),),
        (3, 4),
        7,
        True,
    ],
)
def test_invalid_widths_are_refused(widths: Any) -> None:
    with pytest.raises(JnstError, match=r"are not readable: expected numbers of filters from 1 to 2048.*16/32/64"):
        parse_widths(widths)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"widths": "4/9"}, r"`conv2_1/kernel` has shape \(3, 3, 4, 8\), expected \(3, 3, 4, 9\)"),
        ({"widths": "4/8/2"}, "`conv3_1/kernel` and 1 more of convnet"),
        ({"widths": "4"}, "`conv2_1/bias`, `conv2_1/kernel` fit no rule"),
        ({"widths": "four"}, "widths 'four' are not readable"),
        ({"widths": True}, "widths 'True' are not readable"),
    ],
)
def test_a_weights_file_with_wrong_widths_is_refused(
    tmp_path: Path, options: dict[str, str | bool], message: str
) -> None:
    trunk = {name: np.ones(shape, np.float32) for name, shape in param_shapes("convnet", "4/8").items()}
    weights = Weights("convnet", trunk, IMAGENET, "classifier", "test", "CC0-1.0", {"widths": "4/8"})
    path = tmp_path / "net.safetensors"
    save_weights(path, weights)
    about = {"format": "jnst-weights", "version": "1", "architecture": "convnet", "training": "classifier"}
    about |= {"preprocessing": IMAGENET.to_json(), "licence": "CC0-1.0", "options": json.dumps(options)}
    assert read_weights(path).options == {"widths": "4/8"}
    save_file(trunk, path, about)
    with pytest.raises(WeightsError, match=message):
        read_weights(path)


def test_the_widest_and_deepest_convnet_is_accepted() -> None:
    assert parse_widths("/".join(["2048,1,1,2048"] * 5)) == ((2048, 1, 1, 2048),) * 5
