"""LPIPS against PyTorch's float64 values (`golden/make_torch_lpips.py`), and invalid files."""

import dataclasses
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

from jnst.backbones import LPIPS as PREPROCESSING
from jnst.backbones import param_shapes
from jnst.errors import ImageError, WeightsError
from jnst.images import rgb_groups
from jnst.metrics import LPIPS, LPIPS_NETWORKS, load_lpips, lpips, lpips_map
from jnst.types import Params
from jnst.weights.formats import read_tensors

pytestmark = [
    pytest.mark.usefixtures("unoptimised"),
    pytest.mark.filterwarnings("ignore:.*matches no network jnst knows"),  # random weights
]

GOLDEN = json.loads(Path(__file__).parents[1].joinpath("golden/torch_lpips.json").read_text())
FULL, HEADS = "lpips-squeeze/lpips_squeeze.pt", "lpips-heads/squeeze.pth"
Metric = tuple[LPIPS, Params]
SIZE = (33, 47)
"""The only size that most tests compile; one of the golden ones."""
measure = jax.jit(lpips, static_argnames="metric")
evaluate = jax.jit(jax.value_and_grad(lpips), static_argnames="metric")


@pytest.fixture(scope="module")
def squeeze(shared: Path) -> Metric:
    return load_lpips(shared / "weights" / FULL)


@pytest.fixture(scope="module")
def vgg16(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Metric:
    """Random weights under torchvision's names, and the published heads."""
    path = tmp_path_factory.mktemp("vgg16") / "vgg16.npz"
    np.savez(path, **random_state_dict("vgg16", GOLDEN["seed"]))  # pyright: ignore[reportArgumentType]
    with pytest.warns(UserWarning, match="matches no network jnst knows; assuming torchvision weights"):
        return load_lpips(path, shared / "weights/lpips-heads/vgg.pth")


def golden_records(network: str) -> list[dict[str, Any]]:
    return [record for record in GOLDEN["distances"] if record["network"] == network]


def check_gradient(metric: LPIPS, params: Params, record: Mapping[str, Any]) -> None:
    value, gradient = evaluate(*formula_pair(record["height"], record["width"]), params, metric=metric)
    np.testing.assert_allclose(value, record["distance"], rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(gradient), record["gradient_norm"], rtol=1e-4)


@pytest.mark.parametrize("record", golden_records("squeezenet1.1"), ids=lambda record: f"{record['height']}")
def test_squeeze_against_pytorch(squeeze: Metric, record: Mapping[str, Any]) -> None:
    metric, params = squeeze
    size = record["height"], record["width"]
    value = measure(*formula_pair(*size), params, metric=metric)
    np.testing.assert_allclose(value, record["distance"], rtol=1e-5)
    if size == SIZE:
        check_gradient(*squeeze, record)


def test_vgg16_against_pytorch(vgg16: Metric) -> None:
    (record,) = golden_records("vgg16")
    check_gradient(*vgg16, record)


def test_published_distance_of_black_and_white(squeeze: Metric) -> None:
    metric, params = squeeze
    black, white = np.zeros((64, 64, 3), np.float32), np.ones((64, 64, 3), np.float32)
    np.testing.assert_allclose(measure(black, white, params, metric=metric), 0.642093, atol=1e-5)


def test_every_network_is_tested() -> None:
    assert {record["network"] for record in GOLDEN["distances"]} == set(LPIPS_NETWORKS) - {
        "alexnet"
    }  # only with real weights, in test_metrics_published


def test_heads_in_a_separate_file(shared: Path, squeeze: Metric) -> None:
    _, params = load_lpips(shared / "weights" / FULL, shared / "weights" / HEADS)
    assert same_trees(params, squeeze[1])


def complete_model(shared: Path, network: str) -> dict[str, np.ndarray]:
    """A state dict as of ``lpips.LPIPS(net=...)`` with random kernels and twice the published heads."""
    indices = {"alex": [0, 3, 6, 8, 10], "vgg": [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]}[network]
    starts = {"alex": [0, 2, 5, 8, 10], "vgg": [0, 4, 9, 16, 23]}[network]
    shapes = list(param_shapes({"alex": "alexnet", "vgg": "vgg16"}[network]).values())
    rng = np.random.default_rng(4)
    arrays: dict[str, np.ndarray] = {"scaling_layer.shift": np.zeros((1, 3, 1, 1), np.float32)}
    for index, kernel, bias in zip(indices, shapes[::2], shapes[1::2], strict=True):
        name = f"net.slice{sum(start <= index for start in starts)}.{index}"
        arrays[f"{name}.weight"] = 0.1 * rng.standard_normal([kernel[axis] for axis in (3, 2, 0, 1)], np.float32)
        arrays[f"{name}.bias"] = np.zeros(bias, np.float32)
    for name, head in read_tensors(shared / f"weights/lpips-heads/{network}.pth").arrays.items():
        number = name[len("lin")]
        arrays[name] = arrays[f"lins.{number}.model.1.weight"] = 2 * head
    return arrays


@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_a_complete_model_brings_its_own_heads(network: str, shared: Path, tmp_path: Path) -> None:
    arrays = complete_model(shared, network)
    np.savez(tmp_path / "full.npz", **arrays)  # pyright: ignore[reportArgumentType]
    metric, params = load_lpips(tmp_path / "full.npz")
    assert (metric.backbone.training, metric.backbone.preprocessing) == ("lpips", PREPROCESSING)
    first = params["backbone"][next(iter(param_shapes(metric.backbone.name))).partition("/")[0]]
    np.testing.assert_array_equal(first["kernel"], arrays["net.slice1.0.weight"].transpose(2, 3, 1, 0))
    for index, layer in enumerate(metric.layers):
        np.testing.assert_array_equal(params["heads"][layer], arrays[f"lin{index}.model.1.weight"].ravel())
    # They are not replaced by the published ones.
    del arrays["lin1.model.1.weight"]
    np.savez(tmp_path / "full.npz", **arrays)  # pyright: ignore[reportArgumentType]
    with pytest.raises(WeightsError, match=r"`lin1.model.1.weight` is missing"):
        load_lpips(tmp_path / "full.npz")


def test_both_names_of_a_network() -> None:
    for ours, theirs in (("alexnet", "alex"), ("vgg16", "vgg"), ("squeezenet1.1", "squeeze")):
        for name in (ours, theirs):
            with pytest.raises(WeightsError, match=rf"^lpips/{theirs} must be downloaded"):
                load_lpips(name)
            with pytest.raises(WeightsError, match=rf"{ours}/\S+ must be downloaded"):
                load_lpips(name, "heads.pth")


def test_parameters_are_arguments_and_equal_metrics_have_equal_hashes(squeeze: Metric) -> None:
    metric, params = squeeze
    again = LPIPS(metric.backbone, metric.layers)
    assert (again, hash(again)) == (metric, hash(metric))
    doubled = {**params, "heads": {layer: 2 * head for layer, head in params["heads"].items()}}
    pair = formula_pair(*SIZE)
    np.testing.assert_allclose(
        measure(*pair, doubled, metric=again), 2 * measure(*pair, params, metric=metric), rtol=1e-6
    )


def test_equal_images_have_distance_0_and_pairs_are_symmetric(squeeze: Metric) -> None:
    metric, params = squeeze
    image, reference = formula_pair(*SIZE)
    np.testing.assert_allclose(measure(image, image, params, metric=metric), 0.0, atol=1e-10)
    value = measure(image, reference, params, metric=metric)
    np.testing.assert_allclose(measure(reference, image, params, metric=metric), value, rtol=1e-6)
    assert float(value) > 0.1


def test_more_noise_has_a_larger_distance(squeeze: Metric) -> None:
    metric, params = squeeze
    image = 0.25 + 0.5 * random_image(6, *SIZE)
    noise = np.random.default_rng(0).uniform(-1, 1, image.shape).astype(np.float32)
    values = [float(measure(image + a * noise, image, params, metric=metric)) for a in (0.0, 0.02, 0.05, 0.1, 0.25)]
    assert (np.diff(values) > 0).all()


def test_vmap_batches_and_loops_agree(squeeze: Metric) -> None:
    """The first axis is mapped. The second is a batch with one reference."""
    metric, params = squeeze
    images, references = random_image(7, 2, 2, *SIZE), random_image(8, 2, *SIZE)
    loop = [[measure(images[i, j], references[i], params, metric=metric) for j in range(2)] for i in range(2)]
    found = jax.jit(jax.vmap(lambda a, b: lpips(a, b, params, metric=metric)))(images, references)
    assert found.shape == (2, 2)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, loop, rtol=1e-5)


def test_the_gradient_is_0_at_the_reference_and_finite_elsewhere(squeeze: Metric) -> None:
    metric, params = squeeze
    photo, black = random_image(9, *SIZE), np.zeros((*SIZE, 3), np.float32)
    np.testing.assert_allclose(evaluate(photo, photo, params, metric=metric)[1], 0.0, atol=1e-7)
    for image, reference in ((black, photo), (photo, black)):
        found = np.asarray(evaluate(image, reference, params, metric=metric)[1])
        assert np.isfinite(found).all()
        assert found.any()


def test_a_network_without_features_has_finite_gradients(squeeze: Metric) -> None:
    """With kernels and biases of 0, all feature vectors have length 0."""
    metric, params = squeeze
    empty = {**params, "backbone": jax.tree.map(jnp.zeros_like, params["backbone"])}
    value, gradient = evaluate(*formula_pair(*SIZE), empty, metric=metric)
    assert float(value) == 0.0
    assert np.isfinite(gradient).all()


def test_invalid_pairs_of_images(squeeze: Metric) -> None:
    metric, params = squeeze
    grey = np.full((20, 20, 3), 0.5, np.float32)
    cases: list[tuple[Any, Any, str]] = [
        (grey, grey[:19], "expected the same size: resize `reference`"),
        (grey, 255 * grey, "`reference` looks like 0-255"),
        (grey, 2 * grey - 1.75, r"`reference` looks like \[-1, 1\] \(from -0.75 to -0.75\)"),
        (grey[..., :1], grey[..., :1], "repeat the grey channel"),
        (grey[:16], grey[:16], "20x16 pixels, but fire9 of squeezenet1.1 needs at least 17x17"),
    ]
    for image, reference, message in cases:
        with pytest.raises(ImageError, match=message):
            lpips(image, reference, params, metric=metric)
        with pytest.raises(ImageError):
            metric(params, image, reference)
    masks: list[tuple[Any, str]] = [
        (grey, r"`mask` has shape \(20, 20, 3\), but its images \(20, 20\)"),
        (grey[..., 0] * 4, r"`mask` has values outside \[0, 1\]"),
        (grey[..., 0] * 0, "`mask` is 0 everywhere"),
        ("left.png", "`mask` is a str"),
    ]
    for mask, message in masks:
        with pytest.raises(ImageError, match=message):
            lpips(grey, grey, params, metric=metric, mask=mask)
    with pytest.raises(ImageError, match=r"`mask` has shape \(4, 20, 20\), but its images \(5, 20, 20\)"):
        lpips(grey, np.stack([grey] * 5), params, metric=metric, mask=np.ones((4, 20, 20), np.float32))


def test_masks(squeeze: Metric) -> None:
    """Ones change nothing, proportions count, and what is far outside of the region does not."""
    metric, params = squeeze
    image, reference = formula_pair(64, 64)
    masked = jax.jit(lambda x, y, mask: metric(params, x, y, mask=mask))
    ones, left = np.ones((64, 64), np.float32), np.zeros((64, 64), np.float32)
    left[:, :16] = 1
    value = measure(image, reference, params, metric=metric)
    np.testing.assert_allclose(masked(image, reference, ones), value, rtol=1e-5)
    np.testing.assert_allclose(masked(image, reference, ones / 4), value, rtol=1e-5)
    mixed = np.where(np.arange(64)[:, None] < 32, reference, image)
    assert float(masked(mixed, reference, left)) < 0.3 * float(masked(mixed, reference, 1 - left))
    both = masked(np.stack([image, mixed]), reference, np.stack([ones, left]))
    np.testing.assert_allclose(both, [value, masked(mixed, reference, left)], rtol=1e-4)


def test_maps(squeeze: Metric) -> None:
    """They show where images differ; their values are compared with LPIPS' own in test_metrics_published."""
    metric, params = squeeze
    image, reference = formula_pair(64, 64)
    mixed = np.where(np.arange(64)[:, None] < 32, reference, image)
    found = np.asarray(
        jax.jit(lpips_map, static_argnames="metric")(np.stack([mixed, reference]), reference, params, metric=metric)
    )
    assert (found.shape, found.dtype) == ((2, 64, 64), np.float32)
    assert found[0, :, :8].mean() < 0.2 * found[0, :, 48:].mean()
    np.testing.assert_allclose(found[1], 0, atol=1e-8)


def test_parameters_are_frozen_unless_asked_for(squeeze: Metric) -> None:
    metric, params = squeeze
    pair = formula_pair(17, 17)
    for each, moves in ((metric, False), (dataclasses.replace(metric, frozen=False), True)):
        gradient = jax.jit(jax.grad(lambda params, each=each: each(params, *pair)))(params)
        assert {bool(np.asarray(leaf).any()) for leaf in jax.tree.leaves(gradient["heads"])} == {moves}
        assert np.asarray(gradient["backbone"]["conv1"]["kernel"]).any() == moves


def test_groups_of_channels(squeeze: Metric) -> None:
    """Six channels are two images, and a grey image is one of three equal channels."""
    metric, params = squeeze
    image, reference = formula_pair(*SIZE)
    six = [np.concatenate([each, each[::-1]], -1) for each in (image, reference)]
    groups = measure(*map(rgb_groups, six), params, metric=metric)
    np.testing.assert_allclose(groups[0], measure(image, reference, params, metric=metric), rtol=1e-5)
    np.testing.assert_allclose(groups[1], measure(image[::-1], reference[::-1], params, metric=metric), rtol=1e-5)


def write_heads(path: Path, shared: Path, changed: Mapping[str, np.ndarray | None]) -> Path:
    """The published heads with some tensors replaced or removed."""
    arrays = {**read_tensors(shared / "weights" / HEADS).arrays, **changed}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})  # pyright: ignore[reportArgumentType]
    return path


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (
            None,
            "`lin1.model.1.weight` is missing: pass LPIPS' heads for squeezenet1.1 as `heads`, from the package lpips",
        ),
        (np.ones((1, 64, 1, 1), np.float32), r"float32 of shape \(1, 64, 1, 1\), expected .* shape \(1, 128, 1, 1\)"),
        (np.ones((128,), np.float32), r"float32 of shape \(128,\), expected"),
        (np.ones((1, 128, 1, 1), np.int64), "`lin1.model.1.weight` is int64"),
        (np.full((1, 128, 1, 1), -0.5, np.float32), "has a minimum of -0.5, expected at least 0"),
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
        ("vgg19-oxford-tfjs/model.json", HEADS, "oxford weights of vgg19, for which LPIPS has no heads"),
        (FULL, "lpips-heads/vgg.pth", r"`lin3.model.1.weight` .* expected floats of shape \(1, 384, 1, 1\)"),
        (FULL, "lpips-heads/alex.pth", r"`lin1.model.1.weight` .* expected floats of shape \(1, 128, 1, 1\)"),
        (FULL, KERAS, "`lin0.model.1.weight` is missing"),
        (HEADS, None, "follow no known naming scheme"),
        ("none.pt", None, "there is no such file"),
        (FULL, "none.pth", "no such file"),
    ],
)
def test_wrong_files(shared: Path, weights: str, heads: str | None, message: str) -> None:
    with pytest.raises(WeightsError, match=message) as caught:
        load_lpips(shared / "weights" / weights, None if heads is None else shared / "weights" / heads)
    assert "\n" not in str(caught.value)
