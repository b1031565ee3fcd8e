"""Activations and gradients against PyTorch in float64 (`golden/make_torch_golden.py`)."""

import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_networks import GOLDEN, converted, published, relative_difference

from jnst.backbones import Backbone
from jnst.types import Params

pytestmark = pytest.mark.usefixtures("unoptimised")

SEED = json.loads((GOLDEN / "torch_golden.json").read_text())["seed"]
TOLERANCE = 1e-5

VARIANTS: dict[str, dict[str, str | bool]] = {
    "max": {},
    "avg": {"pooling": "avg"},
    "l2": {"pooling": "l2"},
    "avg_rescaled": {"pooling": "avg", "rescale_pooling": True},
    "l2_rescaled": {"pooling": "l2", "rescale_pooling": True},
    "reflect_input": {"input_padding": "reflect"},
    "reflect": {"padding": "reflect"},
    "replicate_input": {"input_padding": "replicate"},
    "replicate": {"padding": "replicate"},
}


def read(name: str, variant: str = "") -> dict[str, np.ndarray]:
    """The arrays of a golden file, or of one variant in it with its image."""
    prefix = f"{variant}/" if variant else ""
    with np.load(GOLDEN / f"torch_{name}.npz") as file:
        inside = {key.removeprefix(prefix): file[key] for key in file if key.startswith(prefix)}
        return inside | {"image": file["image"]}


def differences(backbone: Backbone, params: Params, golden: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The relative difference of each array of a golden file from ours."""
    layers = tuple(key.removesuffix("/channels") for key in golden if key.endswith("/channels"))
    (deepest,) = (key.removeprefix("grad/") for key in golden if key.startswith("grad/"))

    @jax.jit
    def evaluate(params: Params, image: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        features, pull = jax.vjp(lambda x: backbone.apply(params, x, layers), image)
        seeds = jax.tree.map(jnp.zeros_like, features) | {deepest: 2 * features[deepest]}
        return features, pull(seeds)[0]

    features, gradient = evaluate(params, jnp.asarray(golden["image"]))
    found = {
        layer: relative_difference(np.asarray(features[layer])[..., golden[f"{layer}/channels"]], golden[layer])
        for layer in layers
    }
    return found | {f"grad/{deepest}": relative_difference(gradient, golden[f"grad/{deepest}"])}


def check(
    backbone: Backbone, params: Params, golden: Mapping[str, np.ndarray], gradient_tolerance: float = TOLERANCE
) -> None:
    def tolerance(key: str) -> float:
        return gradient_tolerance if key.startswith("grad/") else TOLERANCE

    wrong = {key: value for key, value in differences(backbone, params, golden).items() if not value < tolerance(key)}
    assert not wrong


@pytest.mark.parametrize("name", ["slim", "squeezenet_keras", "squeezenet_lpips"])
def test_published_networks(name: str, shared: Path) -> None:
    check(*published(shared, name), read(name))


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_resnets(architecture: str) -> None:
    # Among millions of float32 activations, a few are so close to 0 that their ReLUs switch on some processors.
    check(*converted(architecture, SEED), read("resnet", architecture), gradient_tolerance=5e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pooling_and_padding(variant: str, shared: Path) -> None:
    check(*published(shared, "oxford", **VARIANTS[variant]), read("vgg_pooling", variant))


def test_every_variant_is_tested() -> None:
    with np.load(GOLDEN / "torch_vgg_pooling.npz") as file:
        assert {key.partition("/")[0] for key in file} - {"image"} == set(VARIANTS)
