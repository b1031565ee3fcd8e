"""DISTS against its formula in float64 NumPy on random features, and its contracts."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image, random_params
from golden.random_weights import random_state_dict

from jnst.backbones import IMAGENET, Backbone
from jnst.backbones.kernels import algorithms
from jnst.backbones.vgg import VGG
from jnst.errors import ImageError, WeightsError
from jnst.metrics import DISTS, LPIPS, dists, load_dists
from jnst.types import Params

pytestmark = [
    pytest.mark.usefixtures("unoptimised"),
    pytest.mark.filterwarnings("ignore:.*matches no network jnst knows"),  # random weights
]

WIDTHS = ((4, 4), (5, 5), (6, 6, 6), (7, 7, 7), (7, 7, 7))
LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")


def narrow() -> tuple[DISTS, Params]:
    """VGG16 with few filters, and random weights of sum 1."""
    network = VGG(WIDTHS, pooling="hann")
    backbone = Backbone("narrow", network, IMAGENET, "random", network.layers, ("relu1_1",), ("relu1_1",))
    counts = {"image": 3} | {layer: block[-1] for layer, block in zip(LAYERS, WIDTHS, strict=True)}
    drawn = np.random.default_rng(0).uniform(0, 1, (2, sum(counts.values())))
    parts = np.split((drawn / drawn.sum()).astype(np.float32), np.cumsum(list(counts.values()))[:-1], axis=1)
    alpha, beta = ({layer: jnp.asarray(p[i]) for layer, p in zip(counts, parts, strict=True)} for i in (0, 1))
    return DISTS(backbone), {"backbone": random_params(backbone), "alpha": alpha, "beta": beta}


METRIC, PARAMS = narrow()
measure = jax.jit(lambda x, y, mask=None: dists(x, y, PARAMS, metric=METRIC, mask=mask))
evaluate = jax.jit(jax.value_and_grad(lambda x, y: dists(x, y, PARAMS, metric=METRIC)))
features_of = jax.jit(METRIC.backbone.apply, static_argnums=2)


def exact(image: np.ndarray, reference: np.ndarray) -> float:
    """``1 - Σ α S1 + β S2``."""
    total = 1.0
    x, y = ({"image": each} | features_of(PARAMS["backbone"], each, LAYERS) for each in (image, reference))
    for layer in ("image", *LAYERS):
        a, b = (np.asarray(each[layer], np.float64).reshape(-1, each[layer].shape[-1]) for each in (x, y))
        w = np.full(len(a), 1 / len(a))
        mean_a, mean_b = w @ a, w @ b
        var_a, var_b, covariance = w @ (a - mean_a) ** 2, w @ (b - mean_b) ** 2, w @ ((a - mean_a) * (b - mean_b))
        s1 = (2 * mean_a * mean_b + 1e-6) / (mean_a**2 + mean_b**2 + 1e-6)
        s2 = (2 * covariance + 1e-6) / (var_a + var_b + 1e-6)
        total -= float(np.asarray(PARAMS["alpha"][layer]) @ s1 + np.asarray(PARAMS["beta"][layer]) @ s2)
    return total


def test_against_the_formula() -> None:
    image, reference = random_image(1, 24, 20), random_image(2, 24, 20)
    np.testing.assert_allclose(measure(image, reference), exact(image, reference), atol=1e-6)


def test_equal_images_and_symmetry() -> None:
    image, reference = random_image(1, 24, 20), random_image(2, 24, 20)
    black = np.zeros_like(image)
    for each in (image, black, black + 1):
        value, gradient = evaluate(each, each)
        assert float(value) == 0.0
        assert not np.asarray(gradient).any()
    np.testing.assert_allclose(measure(image, reference), measure(reference, image), rtol=1e-6)
    for pair in ((black, image), (image, black), (black, black + 1)):
        assert np.isfinite(evaluate(*pair)[1]).all()
        assert float(evaluate(*pair)[0]) > 0.1


def test_batches_vmap_and_loops_agree() -> None:
    images, references = random_image(3, 2, 3, 24, 20), random_image(4, 2, 24, 20)
    batch = measure(images, references[:, None])
    assert (batch.shape, batch.dtype) == ((2, 3), jnp.float32)
    loop = [[measure(images[i, j], references[i]) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(batch, loop, rtol=1e-5)
    found = jax.jit(jax.vmap(lambda x, y: METRIC(PARAMS, x, y)))(images, references)
    np.testing.assert_allclose(found, loop, rtol=1e-5)


def test_masks() -> None:
    """A mask of ones changes nothing; one that hides the differences leaves those that features see beyond it."""
    image, reference = random_image(1, 24, 20), random_image(2, 24, 20)
    ones = np.ones((24, 20), np.float32)
    np.testing.assert_allclose(measure(image, reference, ones), measure(image, reference), rtol=1e-5)
    half = ones.copy()
    half[:, 10:] = 0
    mixed = np.where(half[..., None] > 0, image, reference)
    assert float(measure(mixed, image, half)) < 0.5 * float(measure(mixed, image))
    assert float(measure(mixed, image, 1 - half)) > float(measure(mixed, image))


def test_parameters_are_frozen_unless_asked_for() -> None:
    image, reference = random_image(1, 24, 20), random_image(2, 24, 20)
    for metric, moves in ((METRIC, False), (dataclasses.replace(METRIC, frozen=False), True)):
        gradient = jax.jit(jax.grad(lambda params, metric=metric: metric(params, image, reference)))(PARAMS)
        assert all(np.asarray(leaf).any() == moves for leaf in jax.tree.leaves(gradient["alpha"]))
        assert np.asarray(gradient["backbone"]["conv1_1"]["kernel"]).any() == moves


def test_bfloat16_images_and_parameters() -> None:
    image, reference = random_image(1, 24, 20), random_image(2, 24, 20)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    value = jax.jit(METRIC)(half, jnp.asarray(image, jnp.bfloat16), jnp.asarray(reference, jnp.bfloat16))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, measure(image, reference), rtol=0.05)


@pytest.fixture(scope="module")
def random_vgg16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.npz"
    np.savez(path, **random_state_dict("vgg16", 1))  # pyright: ignore[reportArgumentType]
    return path


def heads(path: Path, **changed: Any) -> Path:
    arrays = {name: np.full((1, 1475, 1, 1), 0.5, np.float32) for name in ("alpha", "beta")} | changed
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})  # pyright: ignore[reportArgumentType]
    return path


def test_loading(random_vgg16: Path, tmp_path: Path) -> None:
    metric, params = load_dists(random_vgg16, heads(tmp_path / "heads.npz"))
    assert {layer: len(part) for layer, part in params["alpha"].items()} == {
        "image": 3, "relu1_2": 64, "relu2_2": 128, "relu3_3": 256, "relu4_3": 512, "relu5_3": 512
    }  # fmt: skip
    np.testing.assert_allclose(sum(leaf.sum() for leaf in jax.tree.leaves((params["alpha"], params["beta"]))), 1, 1e-5)
    assert metric.backbone.network.pooling == "hann"  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"beta": None},
            "tensor `beta` is missing: pass the weights of DISTS as `heads`, from the package DISTS",
        ),
        ({"alpha": np.ones((1, 1472, 1, 1), np.float32)}, r"expected floats of shape \(1, 1475, 1, 1\)"),
        ({"alpha": np.full((1, 1475, 1, 1), -1, np.float32)}, "minimum of -1"),
        ({"alpha": np.zeros((1, 1475, 1, 1), np.float32), "beta": np.zeros((1, 1475, 1, 1), np.float32)}, "are 0"),
    ],
)
def test_wrong_heads(random_vgg16: Path, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        load_dists(random_vgg16, heads(tmp_path / "heads.npz", **changed))
    assert "\n" not in str(caught.value)


def test_wrong_networks_and_images(shared: Path) -> None:
    with pytest.raises(WeightsError, match=r"caffe weights of squeezenet1\.1, expected torchvision weights of vgg16"):
        load_dists(shared / "weights/squeezenet1.1-keras/squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5")
    grey = np.full((20, 20, 3), 0.5, np.float32)
    with pytest.raises(ImageError, match=r"`target` looks centred at 0 \(from -0.25 to -0.25\): add 0.5"):
        METRIC(PARAMS, grey, grey - 0.75)
    with pytest.raises(ImageError, match="at least 16x16"):
        dists(grey[:15], grey[:15], PARAMS, metric=METRIC)
    with pytest.raises(ImageError, match="`mask` is 0 everywhere"):
        dists(grey, grey, PARAMS, metric=METRIC, mask=np.zeros((20, 20), np.float32))
    with pytest.raises(ImageError, match=r"`mask` has shape \(4, 20, 20\), but its images \(5, 20, 20\)"):
        dists(grey, np.stack([grey] * 5), PARAMS, metric=METRIC, mask=np.ones((4, 20, 20), np.float32))


@pytest.mark.parametrize("make", [DISTS, lambda backbone: LPIPS(backbone, LAYERS)])
def test_prepared_parameters_are_exact(make: Callable[[Backbone], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU too, where the precision "auto" of other loops is bfloat16."""
    image, reference = random_image(1, 24, 20), random_image(2, 24, 20)
    wide = VGG((*WIDTHS[:2], (96, 96, 96), *WIDTHS[3:]), pooling="hann")  # 96 filters are prepared on CPUs
    backbone = Backbone("wide", wide, IMAGENET, "random", wide.layers, ("relu1_1",), ("relu1_1",))
    drawn = random_params(backbone)
    widths = {layer: drawn[layer.replace("relu", "conv")]["bias"].size for layer in LAYERS}
    heads = {layer: jnp.full(width, 0.01) for layer, width in {"image": 3, **widths}.items()}
    params = {"backbone": drawn, "heads": heads, "alpha": heads, "beta": heads}
    for metric in (make(backbone), make(backbone.with_options(precision="bfloat16"))):
        prepared = metric.prepare(params)
        assert prepared["backbone"] is not drawn
        value = jax.jit(metric)
        np.testing.assert_allclose(value(prepared, image, reference), value(params, image, reference), rtol=1e-4)
    monkeypatch.setattr(algorithms, "platform_of", lambda params: "gpu")
    assert {leaf.dtype for leaf in jax.tree.leaves(make(backbone).prepare(params))} == {jnp.dtype("float32")}
