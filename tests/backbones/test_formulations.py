"""The faster convolutions against their definition in float64, and parameters laid out against those as loaded."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnst
from jnst.backbones.kernels import choice
from jnst.backbones.kernels.choice import FORMULATIONS, fastest, lay_out
from jnst.errors import JnstError
from jnst.types import Params

pytestmark = pytest.mark.usefixtures("unoptimised")

ERRORS = {"winograd": 1e-5, "shifted": 1e-2}
"""How far a formulation may be off, relative to the largest value."""

SIZES = [(1, 1), (2, 3), (4, 4), (5, 7), (9, 6), (17, 12)]


def correlate64(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Cross-correlation over zeros by its definition, in float64."""
    n, h, w, _ = x.shape
    x = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return sum(
        (x[:, i : i + h, j : j + w] @ kernel[i, j].astype(np.float64) for i in range(3) for j in range(3)),
        np.zeros((n, h, w, kernel.shape[3])),
    )


def samples(size: tuple[int, int], channels: tuple[int, int] = (5, 6)) -> tuple[Any, Any, Any]:
    """A map of two images, a kernel, and a gradient by the result."""
    random = np.random.default_rng(size[0])
    shapes = (2, *size, channels[0]), (3, 3, *channels), (2, *size, channels[1])
    return tuple(random.normal(size=shape).astype(np.float32) for shape in shapes)  # pyright: ignore[reportReturnType]


def assert_close(got: Any, expected: np.ndarray, error: float) -> None:
    np.testing.assert_allclose(np.asarray(got, np.float64), expected, rtol=0, atol=error * np.abs(expected).max())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FORMULATIONS)
def test_values_and_gradients_are_those_of_the_definition(name: str, size: tuple[int, int]) -> None:
    x, kernel, outer = samples(size)
    way = FORMULATIONS[name]
    y, pull = jax.vjp(lambda x, kernel: way.correlate(x, way.lay_out(kernel)), x, kernel)
    by_x, by_kernel = pull(jnp.asarray(outer))
    assert_close(y, correlate64(x, kernel), ERRORS[name])
    assert_close(by_x, correlate64(outer, kernel[::-1, ::-1].swapaxes(2, 3)), ERRORS[name])
    over_rows = [np.pad(part, ((0, 0), (1, 1), (1, 1), (0, 0))) for part in x.astype(np.float64)[None]]
    expected = [
        [np.einsum("nhwc,nhwd->cd", over_rows[0][:, i : i + size[0], j : j + size[1]], outer) for j in range(3)]
        for i in range(3)
    ]
    assert_close(by_kernel, np.array(expected), ERRORS[name])


@pytest.mark.parametrize("name", FORMULATIONS)
def test_compiled_and_vectorised_they_are_the_same(name: str) -> None:
    x, kernel, _ = samples((6, 5))
    way = FORMULATIONS[name]
    layout = way.lay_out(kernel)
    plain = way.correlate(jnp.asarray(x), layout)
    assert_close(jax.jit(way.correlate)(x, layout), np.asarray(plain), 1e-6)
    lanes = jax.vmap(way.correlate, in_axes=(0, None))(jnp.stack([x, 2 * x]), layout)
    assert_close(lanes, np.stack([plain, 2 * plain]), 1e-6)


def test_long_maps_are_computed_in_strips() -> None:
    x, kernel, _ = samples((40, 33), (1500, 2))
    assert_close(FORMULATIONS["shifted"].correlate(x, jnp.asarray(kernel)), correlate64(x, kernel), ERRORS["shifted"])


@pytest.fixture
def any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the faster ways for small maps too."""
    monkeypatch.setattr(formulations, "LEAST_WORK", 0)


def network(**options: Any) -> tuple[jnst.Backbone, Params]:
    backbone = jnst.make_backbone("convnet", widths="8,64/128", **options)
    return backbone, backbone.init(jax.random.key(0))


IMAGE: Any = np.random.default_rng(1).uniform(size=(18, 14, 3)).astype(np.float32)


@pytest.mark.usefixtures("any_work")
@pytest.mark.parametrize("padding", ["zero", "reflect", "replicate"])
@pytest.mark.parametrize(("precision", "error"), [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_features_and_gradients_of_parameters_laid_out(precision: str, error: float, padding: str) -> None:
    backbone, params = network(precision=precision, padding=padding)
    laid_out = backbone.lay_out(params)
    way = fastest("cpu", precision, (3, 3, 64, 128))
    assert way in laid_out["conv2_1"]
    assert way not in laid_out["conv1_1"]

    def energy(image: Any, params: Params) -> Any:
        features = backbone.apply(params, image, ("conv2_1",))["conv2_1"]
        return jnp.mean(features**2), features

    gradient = jax.grad(energy, has_aux=True)
    (by_image, features), (expected, plain) = gradient(IMAGE, laid_out), gradient(IMAGE, params)
    assert features.dtype == by_image.dtype == jnp.float32
    assert_close(features, np.asarray(plain), error)
    assert_close(by_image, np.asarray(expected), error)


def test_small_maps_are_not_worth_it() -> None:
    layouts = {"kernel": jnp.zeros((3, 3, 64, 128)), "winograd": jnp.zeros((36, 128, 64))}
    pixels = math.ceil(choice.LEAST_WORK / (2 * 9 * 64 * 128))
    assert choice.laid_out(layouts, jnp.zeros((1, 1, pixels - 1, 64))) is None
    assert choice.laid_out(layouts, jnp.zeros((1, 1, pixels, 64))) is not None
    assert choice.laid_out({"kernel": layouts["kernel"]}, jnp.zeros((1, 1, pixels, 64))) is None


def test_laying_out_twice_changes_nothing() -> None:
    backbone, params = network()
    once = backbone.lay_out(params)
    assert backbone.lay_out(once) is once
    assert once["conv1_1"] is params["conv1_1"]
    resnet = jnst.make_backbone("resnet18")
    assert resnet.lay_out(params) is params


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_accelerators_get_bfloat16(platform: str) -> None:
    backbone, params = network()
    assert lay_out(params, "float32", platform) is params
    for precision in ("bfloat16", "auto"):
        rounded = lay_out(params, precision, platform)
        assert {leaf.dtype for leaf in jax.tree.leaves(rounded)} == {jnp.dtype(jnp.bfloat16)}
        assert lay_out(rounded, precision, platform) is rounded
        features = backbone.apply(rounded, IMAGE, ("relu2_1",))["relu2_1"]
        assert features.dtype == jnp.bfloat16
        plain = backbone.apply(params, IMAGE, ("relu2_1",))["relu2_1"]
        assert_close(features, np.asarray(plain), 3e-2)


def test_a_run_in_bfloat16_keeps_image_and_loss_in_float32() -> None:
    backbone, params = network()
    solution = jnst.transfer.stylize(
        IMAGE, IMAGE[::-1], lay_out(params, "auto", "gpu"), backbone=backbone, num_steps=(2,), preset=small()
    )
    assert solution.image.dtype == jnp.float32
    assert solution.losses.dtype == np.float32
    assert np.isfinite(solution.losses).all()


def small() -> jnst.Preset:
    return jnst.preset("jnst", pyramid=None, content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"))


@pytest.mark.usefixtures("any_work")
def test_runs_lay_their_parameters_out() -> None:
    """The first loss is that of the parameters as loaded, though it was computed otherwise."""
    backbone, params = network(precision="bfloat16")
    content, style = jnp.asarray(IMAGE), jnp.asarray(IMAGE[::-1])
    solution = jnst.transfer.stylize(
        content, style, params, backbone=backbone, preset=small(), num_steps=(1,), init="style"
    )
    objective = small().objective(backbone)
    targets = jnst.fit_targets(objective, params, content, style, backbone=backbone)
    expected, _ = jnst.total_loss(style, objective, targets, params, backbone=backbone)
    assert solution.losses[0] == pytest.approx(float(expected), rel=2e-2)
    assert solution.losses[0] != float(expected)


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(JnstError, match="precision 'half' is unknown: choose one of float32, bfloat16, auto"):
        jnst.make_backbone("vgg19").with_options(precision="half")
    with pytest.raises(JnstError, match="resnet50 has no option 'precision'"):
        jnst.make_backbone("resnet50", precision="float32")
