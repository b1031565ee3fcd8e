"""Style networks: what they compute, compared with float64, and the promises of the library."""

import dataclasses
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import compilations, random_image, same_trees
from PIL import Image

import jnst
from jnst.errors import ArgumentError, ImageError, JnstError
from jnst.transfer.network import EPSILON, MARGIN, instance_norm, upsample
from jnst.transfer.network_export import EXPORTS, export_style_network

pytestmark = pytest.mark.usefixtures("unoptimised")

NETWORK = jnst.StyleNetwork(("night", "wave", "field"), widths=(4, 6, 8), blocks=2)


UNTYPED: Any = jnst.StyleNetwork
ANY: Any = NETWORK
"""The class and the network, for arguments that type checkers refuse."""


@pytest.fixture(scope="module")
def params() -> Any:
    """Random parameters with styles that differ."""
    random = np.random.default_rng(0)
    drawn = NETWORK.init(jax.random.key(0))
    return {
        layer: {
            name: leaf
            if name == "kernel"
            else leaf + jnp.asarray(0.3 * random.standard_normal(leaf.shape), jnp.float32)
            for name, leaf in leaves.items()
        }
        for layer, leaves in drawn.items()
    }


def reference(params: Any, image: np.ndarray, style: int) -> np.ndarray:
    """The network for one image, in float64, by loops over the kernels' taps."""

    def convolution(x: np.ndarray, kernel: np.ndarray, stride: int = 1) -> np.ndarray:
        height, width = x.shape[:2]
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        taps = [(i, j) for i in range(3) for j in range(3)]
        return np.sum([padded[i : i + height : stride, j : j + width : stride] @ kernel[i, j] for i, j in taps], axis=0)

    def layer(name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        own = {key: np.asarray(leaf, np.float64) for key, leaf in params[name].items()}
        y = convolution(x, own["kernel"], stride)
        return own["scale"][style] * (y - y.mean((0, 1))) / np.sqrt(y.var((0, 1)) + 1e-5) + own["shift"][style]

    after = [16 + -side % 4 for side in image.shape[:2]]
    x = np.pad(np.asarray(image, np.float64), ((16, after[0]), (16, after[1]), (0, 0)), mode="reflect")
    x = 2 * x - 1
    for name, stride in (("down1", 1), ("down2", 2), ("down3", 2)):
        x = np.maximum(layer(name, x, stride), 0)
    for number in (1, 2):
        x = x + layer(f"block{number}_2", np.maximum(layer(f"block{number}_1", x), 0))
    for name in ("up1", "up2"):
        x = np.maximum(layer(name, x.repeat(2, 0).repeat(2, 1)), 0)
    return (1 / (1 + np.exp(-layer("output", x))))[16 : -after[0], 16 : -after[1]]


def test_it_computes_the_published_network(params: Any) -> None:
    image = random_image(0, 21, 26)
    for style, name in enumerate(NETWORK.styles):
        result = NETWORK.apply(params, image, NETWORK.style_weights(name))
        np.testing.assert_allclose(result, reference(params, image, style), atol=2e-5)


def test_jit_equals_eager_and_vmap_equals_a_loop_and_a_batch(params: Any) -> None:
    images, weights = random_image(1, 3, 21, 22), np.eye(3, dtype=np.float32)
    loop = np.stack([NETWORK.apply(params, image, row) for image, row in zip(images, weights, strict=True)])
    assert np.abs(loop[0] - loop[1]).max() > 1e-2
    compiled = jax.jit(NETWORK.apply)
    np.testing.assert_allclose(compiled(params, images, weights), loop, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(partial(NETWORK.apply, params))(images, weights), loop, atol=1e-5)
    np.testing.assert_allclose(NETWORK.apply(params, images[None], weights), loop[None], atol=1e-5)
    compiled(params, images, 0.5 * weights)
    assert compilations(compiled) == 1
    np.testing.assert_allclose(compiled(params, images[0], [1.0, 0.0, 0.0]), loop[0], atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 20), (21, 30), (23, 27), (33, 22)])
def test_results_have_the_size_of_the_image(params: Any, shape: tuple[int, int]) -> None:
    result = jax.jit(NETWORK.apply)(params, random_image(2, *shape), [1, 0, 0])
    assert (result.shape, result.dtype) == ((*shape, 3), np.float32)
    assert 0 < float(result.min()) < float(result.max()) < 1


def test_instance_normalisation_has_the_mean_and_the_deviation_asked_for() -> None:
    x = jnp.asarray(5 + 3 * np.random.default_rng(0).standard_normal((2, 9, 7, 4)), jnp.float32)
    scale, shift = jnp.asarray([1, 2, 0.5, 3]), jnp.asarray([0, 1, -2, 4])
    y = np.asarray(instance_norm(x, scale, shift), np.float64)
    np.testing.assert_allclose(y.mean((1, 2)), np.tile(shift, (2, 1)), atol=1e-5)
    np.testing.assert_allclose(y.std((1, 2)), np.tile(scale, (2, 1)), rtol=1e-4)
    flat = np.asarray(instance_norm(jnp.full((1, 4, 4, 1), 7.0), jnp.full(1, 3.0), jnp.full(1, 2.0)))
    np.testing.assert_array_equal(flat, 2.0)
    assert EPSILON == 1e-5


def test_instance_normalisation_is_summed_in_float32() -> None:
    x = jnp.asarray(100 + np.random.default_rng(0).standard_normal((1, 64, 64, 2)), jnp.bfloat16)
    y = np.asarray(instance_norm(x, jnp.ones(2), jnp.zeros(2)), np.float64)
    assert np.abs(y.mean((1, 2))).max() < 1e-2
    assert instance_norm(x, jnp.ones(2), jnp.zeros(2)).dtype == jnp.bfloat16


def test_contrast_and_brightness_of_features_do_not_matter_to_the_network(params: Any) -> None:
    """Instance normalisation: an image of half the contrast becomes nearly the same one."""
    image = random_image(4, 32, 32)
    pair = [np.asarray(NETWORK.apply(params, x, [0, 1, 0])) for x in (image, 0.25 + 0.5 * image)]
    assert np.abs(pair[0] - pair[1]).mean() < 0.05


def test_upsampling_repeats_every_position() -> None:
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 4, 5)))
    np.testing.assert_array_equal(upsample(x), np.asarray(x).repeat(2, 1).repeat(2, 2))


def test_mixtures_lie_between_styles_and_end_at_them(params: Any) -> None:
    image = random_image(5, 24, 24)
    apply = partial(NETWORK.apply, params, image)
    single = dataclasses.replace(NETWORK, styles=("wave",))
    only = {
        layer: {name: leaf if name == "kernel" else leaf[1:2] for name, leaf in leaves.items()}
        for layer, leaves in params.items()
    }
    np.testing.assert_allclose(apply([0, 1, 0]), single.apply(only, image), atol=1e-6)
    np.testing.assert_allclose(apply([0, 7.5, 0]), apply([0, 1, 0]), atol=1e-6)
    # A mixture is the style whose scales and shifts are the mean.
    mean = {
        layer: {
            name: leaf if name == "kernel" else (0.25 * leaf[:1] + 0.75 * leaf[1:2]) for name, leaf in leaves.items()
        }
        for layer, leaves in params.items()
    }
    np.testing.assert_allclose(apply([1, 3, 0]), single.apply(mean, image), atol=1e-5)


def test_gradients_by_parameters_image_and_style_weights(params: Any) -> None:
    image, weights = random_image(6, 20, 24), jnp.asarray([0.2, 0.5, 0.3])

    def loss(params: Any, image: Any, weights: Any) -> Any:
        return jnp.mean(NETWORK.apply(params, image, weights) ** 2)

    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(params, image, weights)
    assert all(np.isfinite(leaf).all() and np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradients))
    random = np.random.default_rng(0)
    direction = random.standard_normal(3).astype(np.float32)
    ends = [float(loss(params, image, weights + sign * 1e-2 * direction)) for sign in (1, -1)]
    assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(float(gradients[2] @ direction), rel=0.05, abs=1e-4)


def test_a_constant_image_has_finite_gradients(params: Any) -> None:
    gradient = jax.jit(jax.grad(lambda x: NETWORK.apply(params, x, [1, 0, 0]).sum()))(jnp.full((20, 20, 3), 0.5))
    assert np.isfinite(gradient).all()


def test_styles_have_names_and_numbers() -> None:
    several: list[Any] = ["wave", 2, {"wave": 3.0}, {2: 0.1}]
    for shares in several:
        np.testing.assert_array_equal(NETWORK.style_weights(shares), [0, 1, 0])
    np.testing.assert_allclose(NETWORK.style_weights({"night": 1, 3: 3}), [0.25, 0, 0.75])
    np.testing.assert_array_equal(NETWORK.style_weights(), [1, 0, 0])
    spellings: list[Any] = [" wave ", "2", " 02", np.int64(2)]
    for spelling in spellings:
        np.testing.assert_array_equal(NETWORK.style_weights(spelling), [0, 1, 0])
    np.testing.assert_array_equal(NETWORK.style_weights({1: 1e308, 2: 1e308}), [0.5, 0.5, 0])
    digits = jnst.StyleNetwork(("2", "1"))
    np.testing.assert_array_equal(digits.style_weights("2"), [1, 0])
    np.testing.assert_array_equal(digits.style_weights(2), [0, 1])


def other(params: Any, **changes: Any) -> Any:
    """Repaint with the parameters of a network that is not quite this one."""
    network = dataclasses.replace(NETWORK, **changes)
    return network.apply(params, random_image(0, 20, 20), np.ones(len(network.styles)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: NETWORK.style_weights("wafe"), ArgumentError, "no style 'wafe': did you mean wave"),
        (lambda p: NETWORK.style_weights(4), ArgumentError, "style 4: expected a number from 1 to 3"),
        (lambda p: NETWORK.style_weights({"wave": 1, 2: 1}), ArgumentError, "wave is named twice"),
        (lambda p: NETWORK.style_weights({"wave": 0, "2": 1}), ArgumentError, "wave is named twice"),
        (lambda p: ANY.style_weights({"wave": "x"}), ArgumentError, "'x' is not a number"),
        (lambda p: NETWORK.style_weights(True), ArgumentError, "style True: expected a number from 1 to 3"),
        (lambda p: NETWORK.style_weights({"wave": 0.0}), ArgumentError, "one above 0"),
        (lambda p: NETWORK.style_weights({"wave": float("nan")}), ArgumentError, "finite"),
        (lambda p: NETWORK.apply(p, np.zeros((20, 20, 3), np.float32)), ArgumentError, "3 styles"),
        (lambda p: NETWORK.apply(p, np.zeros((20, 20, 3), np.float32), [1, 0]), ArgumentError, r"shape \(2,\)"),
        (lambda p: NETWORK.apply(p, np.zeros((20, 20, 3), np.float32), [1, -1, 0]), ArgumentError, "at least 0"),
        (lambda p: NETWORK.apply(p, np.zeros((2, 20, 20, 3), np.float32), np.ones((3, 3))), ArgumentError, "broadcast"),
        (lambda p: NETWORK.apply(p, np.zeros((19, 20, 3), np.float32), [1, 0, 0]), ImageError, "20x19 pixels"),
        (lambda p: NETWORK.apply(p, np.zeros((20, 20, 4), np.float32), [1, 0, 0]), ImageError, r"\(20, 20, 4\)"),
        (lambda p: NETWORK.apply(p, np.zeros((20, 20, 3), np.uint8), [1, 0, 0]), ImageError, "divide by 255"),
        (lambda p: NETWORK.apply(p, np.full((20, 20, 3), 255.0, np.float32), [1, 0, 0]), ImageError, "divide by 255"),
        (lambda p: NETWORK.apply(p, np.full((20, 20, 3), np.nan, np.float32), [1, 0, 0]), ImageError, "NaN"),
        (lambda p: NETWORK.apply(p, np.zeros((2, 3, 20, 20), np.float32), [1, 0, 0]), ImageError, "channels last"),
        (lambda p: ANY.apply(p, Image.new("RGB", (20, 20)), [1, 0, 0]), ImageError, "PIL image"),
        (lambda p: ANY.apply(p, np.zeros((20, 20, 3), np.float32), "wave"), ArgumentError, "expected 3 numbers"),
        (lambda p: other(p, styles=("a",)), ArgumentError, r"`down1/scale` has shape \(3, 4\), expected \(1, 4\)"),
        (lambda p: other(p, blocks=1), ArgumentError, "do not belong to this network: `block2_1/kernel` is unknown"),
        (lambda p: other(p, blocks=3), ArgumentError, "do not belong to this network: `block3_1/kernel` is missing"),
        (lambda p: UNTYPED("wave"), ArgumentError, "`styles` is 'wave': expected a list"),
        (lambda p: jnst.StyleNetwork(("a\nb",)), ArgumentError, "printable"),
        (lambda p: jnst.StyleNetwork(("a" * 101,)), ArgumentError, "1 to 100"),
        (lambda p: UNTYPED([str(n) for n in range(1001)]), ArgumentError, "1001 styles: .* up to 1000"),
        (lambda p: UNTYPED(("a",), widths=(4, 4.5, 4)), ArgumentError, "widths"),
        (lambda p: jnst.StyleNetwork(()), ArgumentError, "one or more"),
        (lambda p: jnst.StyleNetwork(("a", "a")), ArgumentError, "only once"),
        (lambda p: jnst.StyleNetwork(("a",), widths=(4, 0, 4)), ArgumentError, "widths"),
        (lambda p: jnst.StyleNetwork(("a",), blocks=-1), ArgumentError, "residual blocks"),
        (lambda p: export_style_network(NETWORK, p, size=(8, 32)), ArgumentError, "32x8"),
    ],
)
def test_wrong_arguments(params: Any, call: Any, error: type[JnstError], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call(params)
    assert "\n" not in str(caught.value)


def main_arguments(program: jax.export.Exported) -> list[str]:
    """The types of the arguments of the function that other runtimes call."""
    (signature,) = re.findall(r"func\.func public @main\((.*?)\) ->", EXPORTS[".mlir"](program).decode())
    return re.findall(r"%arg\d+: (tensor<[^>]*>)", signature)


def test_exported_programs_take_images_of_any_size_and_number(params: Any) -> None:
    image = jnp.asarray(random_image(7, 2, 24, 36))
    free = export_style_network(NETWORK, params)
    mixture = jnp.asarray([0.5, 0.5, 0])
    np.testing.assert_allclose(free.call(image, mixture), NETWORK.apply(params, image, mixture), atol=1e-5)
    fixed = export_style_network(NETWORK, params, size=(22, 21), style_weights=[0, 0, 1])
    assert main_arguments(free) == ["tensor<?x?x?x3xf32>", "tensor<3xf32>"]
    assert main_arguments(fixed) == ["tensor<?x22x21x3xf32>"]
    smaller = image[:1, :22, :21]
    np.testing.assert_allclose(fixed.call(smaller), NETWORK.apply(params, smaller, [0, 0, 1]), atol=1e-5)
    assert EXPORTS[".stablehlo"](fixed).startswith(b"ML\xefR")
    assert b"stablehlo.convolution" in EXPORTS[".mlir"](fixed)


def test_programs_are_read_by_jax_export(params: Any) -> None:
    pytest.importorskip("flatbuffers")
    image = jnp.asarray(random_image(7, 1, 20, 20))
    content = EXPORTS[".jax"](export_style_network(NETWORK, params, style_weights=[1, 0, 0]))
    result = jax.export.deserialize(bytearray(content)).call(image)
    np.testing.assert_allclose(result, NETWORK.apply(params, image, [1, 0, 0]), atol=1e-5)


def test_initial_parameters_are_seeded_and_of_the_stated_shapes() -> None:
    first, again, other = (NETWORK.init(jax.random.key(seed)) for seed in (1, 1, 2))
    assert same_trees(first, again)
    assert not same_trees(first, other)
    assert jax.tree.map(jnp.shape, first) == NETWORK.shapes
    assert MARGIN % 4 == 0
