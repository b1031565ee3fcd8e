"""LPIPS against PyTorch's float64 values (`golden/make_torch_lpips.py`), and files that are not what it needs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image, same_trees
from golden.formula_images import formula_pair
from golden.random_weights import random_state_dict

from jnst.errors import ImageError, WeightsError
from jnst.metrics import LPIPS, LPIPS_NETWORKS, load_lpips, lpips
from jnst.metrics.perceptual import _unit
from jnst.types import Params
from jnst.weights.formats import read_tensors

pytestmark = pytest.mark.usefixtures("unoptimised")

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("torch_lpips.json").read_text())
FULL, HEADS = "lpips-squeeze/lpips_squeeze.pt", "lpips-heads/squeeze.pth"
Metric = tuple[LPIPS, Params]
SIZE = (33, 47)  # one of the golden ones: every size is compiled anew
measure = jax.jit(lpips, static_argnums=0)
evaluate = jax.jit(jax.value_and_grad(lpips, argnums=2), static_argnums=0)


@pytest.fixture(scope="module")
def squeeze(shared: Path) -> Metric:
    return load_lpips(shared / "weights" / FULL)


@pytest.fixture(scope="module")
def vgg16(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Metric:
    """Random weights under torchvision's names, and the published heads."""
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.npz"
    np.savez(path, **random_state_dict("vgg16", GOLDEN["seed"]))  # pyright: ignore[reportArgumentType]
    return load_lpips(path, shared / "weights/lpips-heads/vgg.pth")


def golden_records(network: str) -> list[dict[str, Any]]:
    return [record for record in GOLDEN["distances"] if record["network"] == network]


def check_gradient(metric: LPIPS, params: Params, record: Mapping[str, Any]) -> None:
    value, gradient = evaluate(metric, params, *formula_pair(record["height"], record["width"]))
    np.testing.assert_allclose(value, record["distance"], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(gradient), record["gradient_norm"], rtol=1e-4)


@pytest.mark.parametrize("record", golden_records("squeezenet1.1"), ids=lambda record: f"{record['height']}")
def test_squeeze_against_pytorch(squeeze: Metric, record: Mapping[str, Any]) -> None:
    height, width = record["height"], record["width"]
    np.testing.assert_allclose(measure(*squeeze, *formula_pair(height, width)), record["distance"], rtol=1e-5)
    if (height, width) == SIZE:
        check_gradient(*squeeze, record)


def test_vgg16_against_pytorch(vgg16: Metric) -> None:
    (record,) = golden_records("vgg16")
    check_gradient(*vgg16, record)


def test_published_distance_of_black_and_white(squeeze: Metric) -> None:
    black, white = np.zeros((64, 64, 3), np.float32), np.ones((64, 64, 3), np.float32)
    np.testing.assert_allclose(measure(*squeeze, black, white), 0.642093, atol=1e-5)


def test_every_network_is_tested() -> None:
    assert {record["network"] for record in GOLDEN["distances"]} == set(LPIPS_NETWORKS)


def test_heads_of_their_own_file_are_the_same(shared: Path, squeeze: Metric) -> None:
    _, params = load_lpips(shared / "weights" / FULL, shared / "weights" / HEADS)
    assert same_trees(params, squeeze[1])


def test_parameters_are_arguments_and_equal_metrics_are_one(squeeze: Metric) -> None:
    metric, params = squeeze
    again = LPIPS(metric.backbone, metric.layers)
    assert (again, hash(again)) == (metric, hash(metric))
    doubled = {**params, "heads": {layer: 2 * head for layer, head in params["heads"].items()}}
    pair = formula_pair(*SIZE)
    np.testing.assert_allclose(measure(again, doubled, *pair), 2 * measure(metric, params, *pair), rtol=1e-6)


def test_equal_images_are_at_0_and_pairs_are_symmetric(squeeze: Metric) -> None:
    image, reference = formula_pair(*SIZE)
    np.testing.assert_allclose(measure(*squeeze, image, image), 0.0, atol=1e-10)
    there, back = measure(*squeeze, image, reference), measure(*squeeze, reference, image)
    np.testing.assert_allclose(there, back, rtol=1e-6)
    assert float(there) > 0.1


def test_more_noise_is_farther_away(squeeze: Metric) -> None:
    image = 0.25 + 0.5 * random_image(6, *SIZE)
    noise = np.random.default_rng(0).uniform(-1, 1, image.shape).astype(np.float32)
    values = [float(measure(*squeeze, image + amount * noise, image)) for amount in (0.0, 0.02, 0.05, 0.1, 0.25)]
    assert (np.diff(values) > 0).all()


def test_vmap_batches_and_loops_agree(squeeze: Metric) -> None:
    """The first axis is mapped, the second a batch, for which there is one reference."""
    images, references = random_image(7, 2, 2, *SIZE), random_image(8, 2, *SIZE)
    loop = [[measure(*squeeze, images[i, j], references[i]) for j in range(2)] for i in range(2)]
    found = jax.jit(jax.vmap(lambda a, b: lpips(*squeeze, a, b)))(images, references)
    assert found.shape == (2, 2)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, loop, rtol=1e-5)


def test_the_gradient_is_0_at_the_reference_and_finite_elsewhere(squeeze: Metric) -> None:
    picture, black = random_image(9, *SIZE), np.zeros((*SIZE, 3), np.float32)
    np.testing.assert_allclose(evaluate(*squeeze, picture, picture)[1], 0.0, atol=1e-7)
    for image, reference in ((black, picture), (picture, black)):
        found = np.asarray(evaluate(*squeeze, image, reference)[1])
        assert np.isfinite(found).all()
        assert found.any()


def test_a_network_without_features_has_finite_gradients(squeeze: Metric) -> None:
    """All kernels and biases 0: every feature vector has length 0."""
    metric, params = squeeze
    empty = {**params, "backbone": jax.tree.map(jnp.zeros_like, params["backbone"])}
    value, gradient = evaluate(metric, empty, *formula_pair(*SIZE))
    assert float(value) == 0.0
    assert np.isfinite(gradient).all()


def test_unit_vectors() -> None:
    """Length 1 within float32, 0 where there is nothing, and a Jacobian without NaN in both places."""
    features = jnp.asarray([[[3.0, 4.0], [0.0, 0.0], [1e-8, 0.0]]])
    np.testing.assert_allclose(_unit(features)[0], [[0.6, 0.8], [0.0, 0.0], [1e-8 / (1e-8 + 1e-10), 0.0]], rtol=1e-5)
    assert np.isfinite(jax.jacobian(_unit)(features)).all()


def test_images_that_do_not_fit(squeeze: Metric) -> None:
    picture = np.full((20, 20, 3), 0.5, np.float32)
    cases: list[tuple[Any, Any, str]] = [
        (picture, picture[:19], "expected the same size: resize `reference`"),
        (picture, 255 * picture, "`reference` looks like 0-255"),
        (picture[:16], picture[:16], "20x16 pixels, but fire9 of squeezenet1.1 needs at least 17x17"),
    ]
    for image, reference, message in cases:
        with pytest.raises(ImageError, match=message):
            lpips(*squeeze, image, reference)


def write_heads(path: Path, shared: Path, changed: Mapping[str, np.ndarray | None]) -> Path:
    """The published heads with some tensors replaced, or left out."""
    arrays = {**read_tensors(shared / "weights" / HEADS).arrays, **changed}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})  # pyright: ignore[reportArgumentType]
    return path


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (None, "`lin1.model.1.weight` is missing: pass LPIPS' heads for squeezenet1.1 as heads, from https://"),
        (np.ones((1, 64, 1, 1), np.float32), r"float32 of shape \(1, 64, 1, 1\), expected .* shape \(1, 128, 1, 1\)"),
        (np.ones((128,), np.float32), r"float32 of shape \(128,\), expected"),
        (np.ones((1, 128, 1, 1), np.int64), "`lin1.model.1.weight` is int64"),
        (np.full((1, 128, 1, 1), -0.5, np.float32), "goes down to -0.5, expected >= 0"),
        (np.full((1, 128, 1, 1), np.nan, np.float32), "`lin1.model.1.weight` has 128 values that are not finite"),
    ],
)
def test_wrong_heads(shared: Path, tmp_path: Path, head: np.ndarray | None, message: str) -> None:
    path = write_heads(tmp_path / "heads.npz", shared, {"lin1.model.1.weight": head})
    with pytest.raises(WeightsError, match=message) as caught:
        load_lpips(shared / "weights" / FULL, path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


KERAS = "squeezenet1.1-keras/squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5"


@pytest.mark.parametrize(
    ("weights", "heads", "message"),
    [
        (
            KERAS,
            HEADS,
            "caffe weights of squeezenet1.1, .* expected lpips or torchvision weights of squeezenet1.1 or vgg",
        ),
        ("vgg19-oxford-tfjs/model.json", HEADS, "oxford weights of vgg19, which LPIPS has no heads for"),
        (FULL, "lpips-heads/vgg.pth", r"`lin3.model.1.weight` .* expected floats of shape \(1, 384, 1, 1\)"),
        (FULL, "lpips-heads/alex.pth", r"`lin1.model.1.weight` .* expected floats of shape \(1, 128, 1, 1\)"),
        (FULL, "vgg19-oxford-tfjs/model.json", "`lin0.model.1.weight` is missing"),
        (HEADS, None, "laid out in no known way"),
        ("none.pt", None, "there is no such file"),
        (FULL, "none.pth", "no such file"),
    ],
)
def test_wrong_files(shared: Path, weights: str, heads: str | None, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        load_lpips(shared / "weights" / weights, None if heads is None else shared / "weights" / heads)
    assert "\n" not in str(caught.value)
