"""SSIM, style and content distances against float64 NumPy, and the contracts of all measures."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image, random_params, tiny_backbone
from golden.formula_images import formula_pair

from jnst.backbones import IMAGENET, Backbone
from jnst.backbones.vgg import VGG
from jnst.errors import ImageError, JnstError, WeightsError
from jnst.losses import SquaredError
from jnst.metrics import content_distance, content_distances, ms_ssim, ssim, style_distance, style_distances

pytestmark = pytest.mark.usefixtures("unoptimised")


def double(features: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    return {layer: np.asarray(value, np.float64) for layer, value in features.items()}


BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
DEFAULT_STYLE, DEFAULT_CONTENT = ("relu1_1", "relu2_1", "relu3_1"), ("relu2_1",)
MEASURES: dict[str, Callable[..., jax.Array]] = {
    "ssim": ssim,
    "style": lambda image, other: style_distance(image, other, PARAMS, backbone=BACKBONE),
    "content": lambda image, other: content_distance(image, other, PARAMS, backbone=BACKBONE),
}
COMPILED = {name: jax.jit(measure) for name, measure in MEASURES.items()}
GRADIENTS = {name: jax.jit(jax.grad(measure)) for name, measure in MEASURES.items()}
AT_ITSELF = {"ssim": 1.0, "style": 0.0, "content": 0.0}


def exact_ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """The published formula, window by window, with central moments instead of differences of squares."""
    y, x = np.mgrid[-5:6, -5:6]
    window = np.exp(-(x**2 + y**2) / (2 * 1.5**2))[..., None]
    window /= window.sum()
    c1, c2 = 0.01**2, 0.03**2
    values = []
    for i, j in np.ndindex(image.shape[0] - 10, image.shape[1] - 10):
        a, b = (each[i : i + 11, j : j + 11].astype(np.float64) for each in (image, reference))
        mean_a, mean_b = (window * a).sum((0, 1)), (window * b).sum((0, 1))
        var_a, var_b = (window * (a - mean_a) ** 2).sum((0, 1)), (window * (b - mean_b) ** 2).sum((0, 1))
        covariance = (window * (a - mean_a) * (b - mean_b)).sum((0, 1))
        similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
        values.append(similarity / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)))
    return float(np.mean(values))


@pytest.mark.parametrize("shape", [(11, 11), (11, 29), (24, 31)])
def test_ssim_against_the_formula(shape: tuple[int, int]) -> None:
    image, reference = formula_pair(*shape)
    np.testing.assert_allclose(ssim(image, reference), exact_ssim(image, reference), atol=1e-5)


def test_ssim_of_nearly_flat_bright_images() -> None:
    """Where variances are far below the squared means, rounding errors are largest."""
    image = 0.97 + 0.01 * (random_image(1, 16, 18) - 0.5)
    reference = 0.97 + 0.01 * (random_image(2, 16, 18) - 0.5)
    np.testing.assert_allclose(ssim(image, reference), exact_ssim(image, reference), atol=1e-4)


@pytest.mark.parametrize(("a", "b"), [(0.0, 1.0), (0.25, 0.5), (0.3, 0.3)])
def test_ssim_of_flat_images(a: float, b: float) -> None:
    """Without variance only the luminance term remains: (2ab + C1) / (a² + b² + C1)."""
    value = ssim(np.full((12, 13, 3), a, np.float32), np.full((12, 13, 3), b, np.float32))
    np.testing.assert_allclose(value, (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4), rtol=1e-3, atol=1e-6)


def test_ssim_of_a_negative_is_negative() -> None:
    image = np.clip(0.5 + 2 * (random_image(3, 20, 20) - 0.5), 0, 1)
    assert -1 <= float(ssim(image, 1 - image)) < -0.5


def test_ms_ssim_of_equal_and_of_opposite_images() -> None:
    """Equal images have similarity 1; opposite ones 0, where powers have infinite derivatives."""
    evaluate = jax.jit(jax.value_and_grad(ms_ssim))
    image = np.clip(0.5 + 2 * (random_image(3, 176, 180) - 0.5), 0, 1)
    flat = np.full_like(image, 0.5)
    for each in (image, flat, 0 * flat):
        value, gradient = evaluate(each, each)
        np.testing.assert_allclose(value, 1, atol=1e-6)
        np.testing.assert_allclose(gradient, 0, atol=1e-4)
    value, gradient = evaluate(image, 1 - image)
    assert float(value) == 0
    assert np.isfinite(gradient).all()
    for pair in ((image, flat), (0 * flat, image)):
        assert np.isfinite(evaluate(*pair)[1]).all()


def test_ms_ssim_of_batches() -> None:
    images, others = random_image(7, 2, 176, 176), random_image(8, 2, 176, 176)
    batch = jax.jit(ms_ssim)(images, others[0])
    assert (batch.shape, batch.dtype) == ((2,), jnp.float32)
    np.testing.assert_allclose(batch[1], jax.jit(ms_ssim)(images[1], others[0]), rtol=1e-5)
    with pytest.raises(ImageError, match="176x175 pixels, but MS-SSIM needs at least 176x176"):
        ms_ssim(images[:, 1:], others[:, 1:])


def test_style_distances_against_float64() -> None:
    image, style = random_image(1, 16, 17), random_image(2, 16, 24)
    found = jax.jit(lambda x, y: style_distances(x, y, PARAMS, backbone=BACKBONE))(image, style)
    assert set(found) == set(DEFAULT_STYLE)
    apply = jax.jit(BACKBONE.apply, static_argnums=2)
    a, b = (double(apply(PARAMS, jnp.asarray(each), DEFAULT_STYLE)) for each in (image, style))
    for layer, value in found.items():
        columns = [features[layer].reshape(-1, features[layer].shape[-1]) for features in (a, b)]
        gram, target = (matrix.T @ matrix / matrix.size for matrix in columns)
        np.testing.assert_allclose(value, np.sum((gram - target) ** 2) / np.sum(target**2), rtol=1e-4)
    mean = np.mean([float(value) for value in found.values()])
    np.testing.assert_allclose(COMPILED["style"](image, style), mean, rtol=1e-6)


def test_content_distances_against_float64() -> None:
    image, content = formula_pair(16, 17)
    layers = ("relu1_1", "relu3_1")
    found = content_distances(image, content, PARAMS, backbone=BACKBONE, layers=layers)
    assert tuple(found) == layers
    a, b = (double(BACKBONE.apply(PARAMS, jnp.asarray(each), layers)) for each in (image, content))
    for layer, value in found.items():
        np.testing.assert_allclose(value, np.sum((a[layer] - b[layer]) ** 2) / np.sum(b[layer] ** 2), rtol=1e-4)
    mean = np.mean([float(value) for value in found.values()])
    value = content_distance(image, content, PARAMS, backbone=BACKBONE, layers=layers)
    np.testing.assert_allclose(value, mean, rtol=1e-6)
    assert tuple(content_distances(image, content, PARAMS, backbone=BACKBONE)) == DEFAULT_CONTENT


def test_another_loss_measures_the_style() -> None:
    image, style = formula_pair(16, 17)
    options: Any = {"backbone": BACKBONE, "layers": ("relu2_1",)}
    found = style_distances(image, style, PARAMS, loss=SquaredError("relative"), **options)
    np.testing.assert_array_equal(found["relu2_1"], content_distances(image, style, PARAMS, **options)["relu2_1"])


def test_distances_of_half_the_features() -> None:
    """Features times ½ have Gram matrices times ¼: the style distance is (1 - ¼)², the content distance (1 - ½)²."""
    whole = VGG(((4,),))
    backbone = Backbone("linear", whole, IMAGENET, "random", whole.layers, ("conv1_1",), ("conv1_1",))
    kernel = random_params(backbone)["conv1_1"]["kernel"]
    params = {"conv1_1": {"kernel": kernel, "bias": jnp.zeros(4)}}
    style = random_image(4, 16, 16)
    mean = np.asarray(IMAGENET.mean, np.float32)
    image = mean + 0.5 * (style - mean)
    np.testing.assert_allclose(style_distance(image, style, params, backbone=backbone), 0.75**2, rtol=1e-4)
    np.testing.assert_allclose(content_distance(image, style, params, backbone=backbone), 0.5**2, rtol=1e-4)


@pytest.mark.parametrize("name", MEASURES)
def test_equal_images(name: str) -> None:
    """Also without variance, and with values at both limits of the range."""
    flat = np.ones((16, 17, 3), np.float32)
    for image in (random_image(5, 16, 17), flat, 0 * flat):
        np.testing.assert_allclose(COMPILED[name](image, image), AT_ITSELF[name], atol=1e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_more_noise_has_a_larger_distance(name: str) -> None:
    image = 0.25 + 0.5 * random_image(6, 16, 17)
    noise = np.random.default_rng(0).uniform(-1, 1, image.shape).astype(np.float32)
    values = [float(COMPILED[name](image + amount * noise, image)) for amount in (0.0, 0.02, 0.05, 0.1, 0.25)]
    steps = np.diff(values)
    assert (steps < 0).all() if name == "ssim" else (steps > 0).all()


@pytest.mark.parametrize("name", MEASURES)
def test_batches_vmap_and_loops_agree(name: str) -> None:
    images, others = random_image(7, 2, 3, 16, 17), random_image(8, 2, 3, 16, 17)
    measure = MEASURES[name]
    batch = measure(images, others)
    assert batch.shape == (2, 3)
    assert batch.dtype == jnp.float32
    loop = [[COMPILED[name](images[i, j], others[i, j]) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(batch, loop, rtol=1e-5)
    np.testing.assert_allclose(jax.vmap(COMPILED[name])(images, others), loop, rtol=1e-5)
    np.testing.assert_allclose(measure(images, others[0, 0])[0, 0], loop[0][0], rtol=1e-5)


@pytest.mark.parametrize("name", MEASURES)
def test_gradients_are_finite(name: str) -> None:
    """Also for equal images, and for images of one colour."""
    photo, black = random_image(9, 16, 17), np.zeros((16, 17, 3), np.float32)
    for image, other in ((photo, photo), (black, black), (black, photo), (photo, black)):
        assert np.isfinite(GRADIENTS[name](image, other)).all()


@pytest.mark.parametrize("name", MEASURES)
def test_float64_images_are_cast_to_float32(name: str) -> None:
    image, other = (random_image(seed, 16, 17).astype(np.float64) for seed in (1, 2))
    value = MEASURES[name](image, other)
    assert value.dtype == jnp.float32
    np.testing.assert_array_equal(value, MEASURES[name](image.astype(np.float32), other.astype(np.float32)))


@pytest.mark.parametrize("name", ["style", "content"])
def test_networks_multiply_in_full_precision(name: str) -> None:
    """By default GPUs round the factors of float32 products to TF32, which does not show on a CPU."""
    program = str(jax.make_jaxpr(MEASURES[name])(IMAGE, IMAGE))
    assert "precision=Precision.HIGHEST" in program or "Precision.HIGHEST, Precision.HIGHEST" in program
    assert "precision=None" not in program


IMAGE = np.full((16, 17, 3), 0.5, np.float32)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(
    ("image", "message"),
    [
        (IMAGE * 255, "`image` looks like 0-255"),
        ((IMAGE * 255).astype(np.uint8), "`image` has dtype uint8, expected floats"),
        (np.moveaxis(IMAGE, -1, 0), r"`image` has shape \(3, 16, 17\).*moveaxis"),
        (np.zeros((2, 3, 16, 17), np.float32), r"shape \(2, 3, 16, 17\), expected \(\.\.\., h, w, 3\).*moveaxis"),
        (IMAGE[..., 0], r"`image` has shape \(16, 17\)"),
        (np.zeros((2, 16, 17, 4), np.float32), r"shape \(2, 16, 17, 4\).*RGB"),
        (IMAGE * np.nan, "NaN"),
        ("photo.png", "`image` is a str, expected an array"),
    ],
)
def test_invalid_images(name: str, image: object, message: str) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        MEASURES[name](image, IMAGE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ssim", "content"])
def test_images_of_different_sizes(name: str) -> None:
    with pytest.raises(ImageError, match=r"`image` is 17x16 pixels, `\w+` 16x16, expected the same size"):
        MEASURES[name](IMAGE, IMAGE[:, :16])
    with pytest.raises(ImageError, match=r"leading axes \(2,\), `\w+` \(3,\), which do not broadcast"):
        MEASURES[name](np.stack([IMAGE] * 2), np.stack([IMAGE] * 3))


def test_images_that_are_too_small() -> None:
    with pytest.raises(ImageError, match="17x10 pixels, but SSIM needs at least 11x11"):
        ssim(IMAGE[:10], IMAGE[:10])
    with pytest.raises(ImageError, match="`style` is 17x2 pixels, but relu3_1 of tiny needs at least"):
        style_distance(IMAGE, IMAGE[:2], PARAMS, backbone=BACKBONE)


def test_invalid_layers() -> None:
    with pytest.raises(JnstError, match="tiny has no layer 'relu1_11': did you mean"):
        style_distance(IMAGE, IMAGE, PARAMS, backbone=BACKBONE, layers=("relu1_11",))
    with pytest.raises(WeightsError, match="relu3_2 of tiny is beyond these weights"):
        content_distance(IMAGE, IMAGE, PARAMS, backbone=BACKBONE, layers=("relu3_2",))
    with pytest.raises(JnstError, match="name at least one layer"):
        content_distance(IMAGE, IMAGE, PARAMS, backbone=BACKBONE, layers=())


def test_weights_that_reach_no_default_layer() -> None:
    short = BACKBONE.network.truncated(frozenset({"conv1_1/kernel"}))
    backbone = Backbone("tiny", short, IMAGENET, "random", BACKBONE.all_layers, ("relu2_1",), ("relu3_1",))
    with pytest.raises(
        WeightsError, match=r"end at relu1_1 and reach none of the default layers \(relu2_1\): pass layers"
    ):
        content_distance(IMAGE, IMAGE, PARAMS, backbone=backbone)
    assert float(content_distance(IMAGE, IMAGE, PARAMS, backbone=backbone, layers=("relu1_1",))) == 0.0
