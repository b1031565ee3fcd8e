"""The 3x3 convolution algorithms against the definition in float64, and prepared against unprepared parameters."""

import math
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnst
from jnst.backbones.kernels import algorithms
from jnst.backbones.kernels.algorithms import ALGORITHMS, prepare, select_algorithm
from jnst.errors import JnstError
from jnst.types import Params

pytestmark = pytest.mark.usefixtures("unoptimised")

ERRORS = {"winograd": 1e-5, "shifted": 1e-2}
"""The largest error of each algorithm, relative to the largest value."""

SIZES = [(1, 1), (2, 3), (4, 4), (5, 7), (9, 6), (17, 12)]


def correlate64(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Zero-padded cross-correlation by its definition, in float64."""
    n, h, w, _ = x.shape
    x = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        (x[:, i : i + h, j : j + w] @ kernel[i, j].astype(np.float64) for i in range(3) for j in range(3)),
        np.zeros((n, h, w, kernel.shape[3])),
    )


def samples(size: tuple[int, int], channels: tuple[int, int] = (5, 6)) -> tuple[Any, Any, Any]:
    """A batch of two maps, a kernel, and a gradient with respect to the output."""
    random = np.random.default_rng(size[0])
    shapes = (2, *size, channels[0]), (3, 3, *channels), (2, *size, channels[1])
    return tuple(random.normal(size=shape).astype(np.float32) for shape in shapes)  # pyright: ignore[reportReturnType]


def assert_close(value: Any, expected: np.ndarray, error: float) -> None:
    np.testing.assert_allclose(np.asarray(value, np.float64), expected, rtol=0, atol=error * np.abs(expected).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_values_and_gradients_against_the_definition(name: str, size: tuple[int, int]) -> None:
    x, kernel, outer = samples(size)
    algorithm = ALGORITHMS[name]

    @jax.jit
    def differentiate(x: Any, kernel: Any, outer: Any) -> Any:
        y, pull = jax.vjp(lambda x, kernel: algorithm.correlate(x, algorithm.prepare_kernel(kernel), 1), x, kernel)
        return y, *pull(outer)

    y, x_gradient, kernel_gradient = differentiate(x, kernel, outer)
    assert_close(y, correlate64(x, kernel), ERRORS[name])
    assert_close(x_gradient, correlate64(outer, kernel[::-1, ::-1].swapaxes(2, 3)), ERRORS[name])
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = [
        [np.einsum("nhwc,nhwd->cd", padded[:, i : i + size[0], j : j + size[1]], outer) for j in range(3)]
        for i in range(3)
    ]
    assert_close(kernel_gradient, np.array(expected), ERRORS[name])


@pytest.mark.parametrize("size", [(3, 4), (6, 7), (10, 9)])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_without_padding(name: str, size: tuple[int, int]) -> None:
    """The inside of the padded result, and the gradient of an outer part that is 0."""
    x, kernel, outer = samples(size)
    algorithm, inner = ALGORITHMS[name], outer[:, 1:-1, 1:-1]

    @jax.jit
    def differentiate(x: Any, kernel: Any, inner: Any) -> Any:
        y, pull = jax.vjp(lambda x, kernel: algorithm.correlate(x, algorithm.prepare_kernel(kernel), 0), x, kernel)
        return y, *pull(inner)

    y, x_gradient, kernel_gradient = differentiate(x, kernel, inner)
    framed = np.pad(inner, ((0, 0), (1, 1), (1, 1), (0, 0)))
    assert_close(y, correlate64(x, kernel)[:, 1:-1, 1:-1], ERRORS[name])
    assert_close(x_gradient, correlate64(framed, kernel[::-1, ::-1].swapaxes(2, 3)), ERRORS[name])
    height, width = inner.shape[1:3]
    expected = [
        [np.einsum("nhwc,nhwd->cd", x[:, i : i + height, j : j + width], inner, dtype=np.float64) for j in range(3)]
        for i in range(3)
    ]
    assert_close(kernel_gradient, np.array(expected), ERRORS[name])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_jit_and_vmap_equal_eager(name: str) -> None:
    x, kernel, _ = samples((6, 5))
    algorithm = ALGORITHMS[name]
    prepared = algorithm.prepare_kernel(jnp.asarray(kernel))
    correlate = partial(algorithm.correlate, padding=1)
    eager = correlate(jnp.asarray(x), prepared)
    assert_close(jax.jit(correlate)(x, prepared), np.asarray(eager), 1e-6)
    mapped = jax.vmap(correlate, in_axes=(0, None))(jnp.stack([x, 2 * x]), prepared)
    assert_close(mapped, np.stack([eager, 2 * eager]), 1e-6)


def test_large_maps_are_computed_in_strips() -> None:
    x, kernel, _ = samples((40, 33), (1500, 2))
    assert_close(ALGORITHMS["shifted"].correlate(x, jnp.asarray(kernel), 1), correlate64(x, kernel), ERRORS["shifted"])


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use prepared kernels for small maps too."""
    monkeypatch.setattr(algorithms, "MIN_FLOPS", 0)


def network(**options: Any) -> tuple[jnst.Backbone, Params]:
    backbone = jnst.make_backbone("convnet", widths="8,64/128", **options)
    return backbone, backbone.init(jax.random.key(0))


IMAGE: Any = np.random.default_rng(1).uniform(size=(18, 14, 3)).astype(np.float32)


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize("padding", ["zero", "reflect", "replicate"])
@pytest.mark.parametrize(("precision", "error"), [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_features_and_gradients_of_prepared_parameters(precision: str, error: float, padding: str) -> None:
    backbone, params = network(precision=precision, padding=padding)
    prepared = backbone.prepare(params)
    algorithm = select_algorithm("cpu", precision, (3, 3, 64, 128))
    assert algorithm in prepared["conv2_1"]
    assert algorithm not in prepared["conv1_1"]

    def energy(image: Any, params: Params) -> Any:
        features = backbone.apply(params, image, ("conv2_1",))["conv2_1"]
        return jnp.mean(features**2), features

    gradient = jax.jit(jax.grad(energy, has_aux=True))
    (image_gradient, features), (expected, unprepared) = gradient(IMAGE, prepared), gradient(IMAGE, params)
    assert features.dtype == image_gradient.dtype == jnp.float32
    assert_close(features, np.asarray(unprepared), error)
    assert_close(image_gradient, np.asarray(expected), error)


def test_the_algorithm_does_not_depend_on_the_processor() -> None:
    kernel = (3, 3, 64, 128)
    assert select_algorithm("cpu", "auto", kernel) == select_algorithm("cpu", "float32", kernel) == "winograd"
    assert select_algorithm("cpu", "bfloat16", kernel) == "shifted"
    assert {select_algorithm("gpu", precision, kernel) for precision in algorithms.PRECISIONS} == {None}
    assert select_algorithm("cpu", "auto", (3, 3, 64, 64)) is select_algorithm("cpu", "auto", (1, 1, 512, 512)) is None


def test_small_maps_use_xla() -> None:
    params = {"kernel": jnp.zeros((3, 3, 64, 128)), "winograd": jnp.zeros((36, 128, 64))}
    pixels = math.ceil(algorithms.MIN_FLOPS / (2 * 9 * 64 * 128))
    assert algorithms.find_correlation(params, jnp.zeros((1, 1, pixels - 1, 64))) is None
    assert algorithms.find_correlation(params, jnp.zeros((1, 1, pixels, 64))) is not None
    assert algorithms.find_correlation({"kernel": params["kernel"]}, jnp.zeros((1, 1, pixels, 64))) is None


def test_preparing_twice_changes_nothing() -> None:
    backbone, params = network()
    once = backbone.prepare(params)
    assert backbone.prepare(once) is once
    assert once["conv1_1"] is params["conv1_1"]
    resnet = jnst.make_backbone("resnet18")
    assert resnet.prepare(params) is params


def test_only_float32_parameters_are_prepared() -> None:
    backbone, params = network()
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), params)
    assert backbone.prepare(half) is half


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_accelerators_get_bfloat16_parameters(platform: str) -> None:
    backbone, params = network()
    assert prepare(params, "float32", platform) is params
    for precision in ("bfloat16", "auto"):
        rounded = prepare(params, precision, platform)
        assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {jnp.dtype(jnp.bfloat16)}
        assert prepare(rounded, precision, platform) is rounded
        features = backbone.apply(rounded, IMAGE, ("relu2_1",))["relu2_1"]
        assert features.dtype == jnp.bfloat16
        exact = backbone.apply(params, IMAGE, ("relu2_1",))["relu2_1"]
        assert_close(features, np.asarray(exact), 3e-2)


@pytest.mark.parametrize(("precision", "expected"), [("float32", "HIGHEST"), ("tf32", "HIGH"), ("auto", None)])
@pytest.mark.parametrize("name", ["vgg16", "squeezenet1.1"])
def test_float32_values_are_multiplied_as_the_precision_says(name: str, precision: str, expected: str | None) -> None:
    """On GPUs JAX rounds float32 to TF32 by default, which does not show on a CPU: so the program is read."""
    backbone = jnst.make_backbone(name, precision=precision)
    params = jax.eval_shape(backbone.init, jax.random.key(0))
    layer = backbone.style_layers[1]

    def loss(image: jax.Array, params: Params) -> jax.Array:
        return (backbone.apply(params, image, (layer,))[layer] ** 2).mean()

    program = str(jax.make_jaxpr(jax.grad(loss))(IMAGE, params))
    both = f"(Precision.{expected}, Precision.{expected})" if expected else "None"
    assert program.count("conv_general_dilated[") > 4
    assert set(re.findall(r"conv_general_dilated\[.*?precision=(.*?)\n", program, re.DOTALL)) == {both}


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_gradients_have_the_dtype_of_the_image(platform: str) -> None:
    """Whatever the parameters are rounded to, images stay float32."""
    backbone, params = network()
    prepared = prepare(params, "bfloat16", platform)
    gradient = jax.grad(lambda image: (backbone.apply(prepared, image, ("relu2_1",))["relu2_1"] ** 2).mean())(IMAGE)
    assert gradient.dtype == jnp.float32
    assert np.isfinite(gradient).all()


def test_an_unknown_precision_is_rejected() -> None:
    with pytest.raises(JnstError, match="precision 'half' is unknown: choose one of float32, tf32, bfloat16, auto"):
        jnst.make_backbone("vgg19").with_options(precision="half")
    with pytest.raises(JnstError, match="resnet50 has no option 'precision'"):
        jnst.make_backbone("resnet50", precision="float32")
