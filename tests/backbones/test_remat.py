"""Rematerialisation changes what is stored for the backward pass, and nothing else."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image, random_params, tiny_backbone
from reference_networks import relative_difference

import jnst
from jnst.backbones import BACKBONES, Backbone, flat_shapes, make_backbone, param_shapes
from jnst.errors import JnstError
from jnst.types import Array, Image, Params
from jnst.weights.convert import flatten, nested

pytestmark = pytest.mark.usefixtures("unoptimised")

LAYERS: dict[str, tuple[str, ...]] = {
    "vgg16": ("relu1_1", "conv3_2", "relu5_1"),
    "vgg19": ("relu1_2", "relu2_1", "conv3_4"),
    "vgg19-slim": ("conv1_1", "aux1_1", "aux2_1", "relu2_2"),
    "mini": ("conv1_2", "relu2_2"),
    "convnet": ("conv1_1", "relu3_1"),
    "squeezenet1.1": ("relu1", "fire3", "fire4"),
    "alexnet": ("relu1", "conv2", "relu4"),
    "resnet18": ("conv1", "relu1", "block1_0", "block2_1"),
    "resnet34": ("relu1", "block1_1", "block2_0"),
    "resnet50": ("relu1", "block1_1", "block2_0"),
}
"""Layers in the middle and at the end of blocks and on side branches; not of full depth, to save time. The blocks of
deeper ResNets are those of ResNet-50."""

REGIONS: dict[str, int] = {
    "vgg16": 5,
    "vgg19": 5,
    "vgg19-slim": 5,
    "mini": 4,
    "convnet": 3,
    "squeezenet1.1": 1 + 3,
    "alexnet": 3,
    "resnet18": 1 + 2 + 2 + 2 + 2,
    "resnet34": 1 + 3 + 4 + 6 + 3,
    "resnet50": 1 + 3 + 4 + 6 + 3,
}
"""The number of blocks of each network, from the tables of the papers."""


def value(image: Image, params: Params, backbone: Backbone, layers: tuple[str, ...]) -> tuple[Array, dict[str, Array]]:
    """A scalar that depends on all features, and the features."""
    features = backbone.apply(params, image, layers)
    return sum(((layer**2).mean() for layer in features.values()), jnp.zeros(())), features


def differences(backbone: Backbone, image: Image, layers: tuple[str, ...]) -> dict[str, float]:
    """Relative differences with and without rematerialisation: of each layer, the value and its gradient."""
    params = random_params(backbone)
    evaluate = jax.jit(jax.value_and_grad(value, has_aux=True), static_argnums=(2, 3))
    (plain, features), gradient = evaluate(image, params, backbone, layers)
    (again, others), other = evaluate(image, params, backbone.with_options(remat=True), layers)
    assert others.keys() == features.keys()
    assert np.abs(gradient).max() > 0
    found = {layer: relative_difference(others[layer], np.asarray(features[layer])) for layer in features}
    gradients = relative_difference(other, np.asarray(gradient))
    return found | {"value": float(abs(again / plain - 1)), "gradient": gradients}


def primitives(jaxpr: Any) -> list[str]:
    """The names of all primitives, including those inside of calls."""
    found = []
    for equation in jaxpr.eqns:
        found.append(equation.primitive.name)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            inner = getattr(inner, "jaxpr", inner)
            found += primitives(inner) if hasattr(inner, "eqns") else []
    return found


def abstract(name: str, side: int) -> tuple[Any, Params]:
    """The shapes of an image and of parameters."""
    shapes = {key: jax.ShapeDtypeStruct(shape, jnp.float32) for key, shape in param_shapes(name).items()}
    return jax.ShapeDtypeStruct((side, side, 3), jnp.float32), nested(shapes)


def regions(backbone: Backbone, layers: tuple[str, ...]) -> int:
    """The number of regions that the backward pass recomputes."""
    gradient = jax.make_jaxpr(jax.grad(value, has_aux=True), static_argnums=(2, 3))
    names = primitives(gradient(*abstract(backbone.name, 48), backbone, layers).jaxpr)
    return sum(name in ("checkpoint", "remat", "remat2") for name in names)


def residuals(backbone: Backbone, side: int, layers: tuple[str, ...]) -> set[tuple[int, ...]]:
    """The shapes of the feature maps that the forward pass stores for the backward pass."""
    pull = jax.eval_shape(
        lambda image, params: jax.vjp(lambda x: backbone.apply(params, x, layers), image)[1],
        *abstract(backbone.name, side),
    )
    kernels = set(param_shapes(backbone.name).values())
    return {leaf.shape for leaf in jax.tree.leaves(pull) if leaf.ndim == 4 and leaf.shape not in kernels}


@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_the_same(name: str) -> None:
    found = differences(make_backbone(name), random_image(1, 33, 34), LAYERS[name])
    assert set(found) == {*LAYERS[name], "value", "gradient"}
    assert found.pop("gradient") < 1e-5
    assert max(found.values()) < 1e-6


@pytest.mark.parametrize("layers", [("relu1_1",), ("conv3_1", "relu1_2"), ("relu3_1",)])
def test_any_layers_in_any_order(layers: tuple[str, ...]) -> None:
    found = differences(tiny_backbone(), random_image(2, 12, 9), layers)
    assert set(found) == {*layers, "value", "gradient"}
    assert found.pop("gradient") < 1e-5
    assert max(found.values()) < 1e-6


@pytest.mark.long
@pytest.mark.parametrize("name", REGIONS)
def test_every_block_is_recomputed(name: str) -> None:
    layers = make_backbone(name).layers
    assert regions(make_backbone(name), layers) == 0
    assert regions(make_backbone(name, remat=True), layers) == REGIONS[name]


def test_no_block_beyond_the_deepest_layer() -> None:
    assert regions(make_backbone("vgg19", remat=True), ("conv3_2", "relu2_1")) == 3


def test_only_inputs_of_blocks_are_stored() -> None:
    """The image, and the pooled output of each block."""
    layers = ("relu4_1",)
    between = {(1, 32, 32, 3), (1, 16, 16, 64), (1, 8, 8, 128), (1, 4, 4, 256)}
    assert residuals(make_backbone("vgg19", remat=True), 32, layers) == between
    assert (1, 32, 32, 64) in residuals(make_backbone("vgg19"), 32, layers)


@pytest.mark.parametrize("name", BACKBONES)
def test_parameters_have_the_same_names_and_shapes(name: str) -> None:
    backbone = make_backbone(name, remat=True)
    again = flat_shapes(backbone.network, backbone.smallest_side(backbone.layers))
    assert list(again.items()) == list(param_shapes(name).items())


def test_parameters_have_the_same_values() -> None:
    plain, again = (
        flatten(jax.jit(tiny_backbone().with_options(remat=remat).init)(jax.random.key(1))) for remat in (False, True)
    )
    assert plain.keys() == again.keys()
    for name, leaf in plain.items():
        np.testing.assert_array_equal(again[name], leaf)


def test_parameters_beyond_the_deepest_layer_are_not_needed() -> None:
    backbone = tiny_backbone().with_options(remat=True)
    params, image = random_params(backbone), random_image(1, 12, 9)
    first = {"conv1_1": params["conv1_1"]}
    expected = tiny_backbone().apply(params, image, ("relu1_1",))["relu1_1"]
    np.testing.assert_array_equal(backbone.apply(first, image, ("relu1_1",))["relu1_1"], expected)


def test_remat_is_an_option_like_others() -> None:
    loaded, params = jnst.load_backbone(remat=True)
    usual, _ = jnst.load_backbone()
    assert loaded.network.remat
    assert usual.with_options(remat=True) == loaded != usual
    assert loaded.with_options(remat=False) == usual
    assert loaded.with_options(pooling="avg").network.remat
    assert set(params) == {layer for layer in loaded.layers if layer.startswith("conv")}
    with pytest.raises(JnstError, match=r"has no option 'remats': it has .*remat"):
        make_backbone("vgg19", remats=True)


@pytest.mark.parametrize("loop", [False, True])
def test_gradient_descent_has_the_same_losses(loop: bool) -> None:
    """With steps compiled one by one, and with all steps in one `jax.lax.scan`."""
    start, params, layers = random_image(1, 24, 33), random_params(tiny_backbone()), ("relu1_1", "relu3_1")

    def losses(backbone: Backbone) -> Array:
        def step(image: Image, _: None) -> tuple[Image, Array]:
            (loss, _), gradient = jax.value_and_grad(value, has_aux=True)(image, params, backbone, layers)
            return image - 0.1 * gradient, loss

        if loop:
            return jax.jit(lambda image: jax.lax.scan(step, image, None, length=3)[1])(jnp.asarray(start))
        image, found, compiled = jnp.asarray(start), [], jax.jit(step)
        for _ in range(3):
            image, loss = compiled(image, None)
            found.append(loss)
        return jnp.stack(found)

    plain, again = losses(tiny_backbone()), losses(tiny_backbone().with_options(remat=True))
    np.testing.assert_allclose(again, plain, rtol=1e-5)
    assert plain[2] < plain[0]
