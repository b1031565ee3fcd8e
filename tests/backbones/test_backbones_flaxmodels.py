"""VGG and ResNet against flaxmodels' networks with the same parameters."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import flaxmodels
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image, random_params
from reference_networks import published, relative_difference

from jnst.backbones import IMAGENET, make_backbone, param_shapes
from jnst.types import Params
from jnst.weights.convert import flatten, nested

pytestmark = pytest.mark.usefixtures("unoptimised")

NETWORKS: dict[str, Any] = {
    "vgg16": functools.partial(flaxmodels.VGG16, include_head=False),
    "vgg19": functools.partial(flaxmodels.VGG19, include_head=False),
    "resnet18": flaxmodels.ResNet18,
    "resnet34": flaxmodels.ResNet34,
    "resnet50": flaxmodels.ResNet50,
    "resnet101": flaxmodels.ResNet101,
    "resnet152": flaxmodels.ResNet152,
}
HEAD = "Dense_0/"


def theirs(name: str) -> Any:
    return NETWORKS[name](output="activations", pretrained=None)


@functools.cache
def their_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The parameters of flaxmodels' network: both collections merged, without the classifier."""
    network, side = theirs(name), 64
    variables = jax.eval_shape(
        lambda key: network.init(key, jnp.zeros((1, side, side, 3)), train=False), jax.random.key(0)
    )
    leaves = {key: leaf.shape for part in variables.values() for key, leaf in flatten(part).items()}
    return {key: shape for key, shape in leaves.items() if not key.startswith(HEAD)}


@pytest.mark.parametrize("name", NETWORKS)
def test_same_names_and_shapes(name: str) -> None:
    assert param_shapes(name) == their_shapes(name)


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "resnet50"])
def test_init_draws_these_parameters(name: str) -> None:
    made = flatten(jax.eval_shape(make_backbone(name).init, jax.random.key(0)))
    assert {key: leaf.shape for key, leaf in made.items()} == their_shapes(name)
    assert {leaf.dtype for leaf in made.values()} == {jnp.dtype("float32")}


def test_vgg19_with_published_weights(shared: Path) -> None:
    """flaxmodels has no partial weights: missing parameters, deeper than everything compared, are zeros."""
    oxford, params = published(shared, "oxford")
    backbone = dataclasses.replace(oxford, preprocessing=IMAGENET)
    available = flatten(params)
    whole = nested({key: available.get(key, jnp.zeros(shape)) for key, shape in their_shapes("vgg19").items()})
    image = random_image(1, 2, 33, 40)
    ours = jax.jit(lambda p, x: backbone.apply(p, x, backbone.layers))(params, image)
    activations = jax.jit(lambda p, x: theirs("vgg19").apply({"params": p}, x, train=False))(whole, image)
    assert len(ours) == 16
    for layer, features in ours.items():
        assert relative_difference(features, np.asarray(activations[layer])) < 1e-5


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_resnets_with_random_weights(name: str) -> None:
    backbone = make_backbone(name)
    params = random_params(backbone)
    image = random_image(2, 2, 48, 41)
    layers = tuple(layer for layer in backbone.layers if layer != "relu1")
    ours = jax.jit(lambda p, x: backbone.apply(p, x, layers))(params, image)
    activations = jax.jit(lambda p, x: theirs(name).apply(with_classifier(p), x, train=False))(params, image)
    for layer in layers:
        assert relative_difference(ours[layer], np.asarray(activations[layer])) < 1e-5


def with_classifier(params: Params) -> dict[str, Params]:
    """flaxmodels' two collections, with a classifier of zeros, which jnst's networks do not have."""
    flat = flatten(params)
    statistics = {key: leaf for key, leaf in flat.items() if key.endswith(("/mean", "/var"))}
    width = 512 if not any(key.startswith("Bottleneck") for key in flat) else 2048
    head = {f"{HEAD}kernel": jnp.zeros((width, 1000)), f"{HEAD}bias": jnp.zeros(1000)}
    trained = {key: leaf for key, leaf in flat.items() if key not in statistics}
    return {"params": nested(trained | head), "batch_stats": nested(statistics)}
