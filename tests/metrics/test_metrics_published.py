"""Metrics with published weights against the PyTorch packages (`golden/make_torch_metrics.py`)."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from golden.formula_images import formula_pairs

from jnst.metrics import dists, load_dists, load_lpips, lpips, lpips_map, ms_ssim, ssim
from jnst.types import Params

pytestmark = pytest.mark.usefixtures("unoptimised")

with np.load(Path(__file__).parents[1] / "golden/torch_metrics.npz") as file:
    GOLDEN = dict(file)

SIZES = ((33, 47), (64, 48))
PAIRS = 10
NETWORKS = ("squeeze", "vgg", "alex")
measure = jax.jit(lpips, static_argnames="metric")


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest, shared: Path) -> tuple[str, Any, Params]:
    """LPIPS' name of a network, the metric and its parameters."""
    name = request.param
    if name == "squeeze":
        return name, *load_lpips(shared / "weights/lpips-squeeze/lpips_squeeze.pt")
    weights = request.getfixturevalue({"vgg": "published_vgg16", "alex": "published_alexnet"}[name])
    return name, *load_lpips(weights, shared / f"weights/lpips-heads/{name}.pth")


@pytest.fixture(scope="module")
def dists_network(published_vgg16: Path, published_dists: Path) -> tuple[Any, Params]:
    return load_dists(published_vgg16, published_dists)


def check_gradients(metric: Any, params: Params, golden: np.ndarray) -> None:
    """Compare the norms of some pairs' gradients."""
    some = [0, 9]
    images, references = (each[some] for each in formula_pairs(PAIRS, *SIZES[0]))
    gradient = jax.jit(jax.grad(lambda x, y, params: metric(params, x, y).sum()))(images, references, params)
    norms = np.linalg.norm(np.asarray(gradient).reshape(len(some), -1), axis=1)
    np.testing.assert_allclose(norms, golden[some], rtol=1e-3)


def test_lpips(network: tuple[str, Any, Params]) -> None:
    name, metric, params = network
    for height, width in SIZES:
        value = measure(*formula_pairs(PAIRS, height, width), params, metric=metric)
        np.testing.assert_allclose(value, GOLDEN[f"lpips/{name}/{height}x{width}"], rtol=1e-5, atol=1e-7)


def test_lpips_gradient(network: tuple[str, Any, Params]) -> None:
    name, metric, params = network
    check_gradients(metric, params, GOLDEN[f"lpips_gradient/{name}"])


def test_lpips_map(network: tuple[str, Any, Params]) -> None:
    name, metric, params = network
    image, reference = (images[-1] for images in formula_pairs(PAIRS, *SIZES[0]))
    found = jax.jit(lpips_map, static_argnames="metric")(image, reference, params, metric=metric)
    np.testing.assert_allclose(found, GOLDEN[f"lpips_map/{name}"], atol=1e-5)


def test_dists(dists_network: tuple[Any, Params]) -> None:
    metric, params = dists_network
    for height, width in SIZES:
        value = jax.jit(dists, static_argnames="metric")(*formula_pairs(PAIRS, height, width), params, metric=metric)
        np.testing.assert_allclose(value, GOLDEN[f"dists/{height}x{width}"], atol=1e-5)


def test_dists_gradient(dists_network: tuple[Any, Params]) -> None:
    metric, params = dists_network
    check_gradients(metric, params, GOLDEN["dists_gradient"])


def test_ssim() -> None:
    np.testing.assert_allclose(ssim(*formula_pairs(PAIRS, *SIZES[0])), GOLDEN["ssim/33x47"], atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(176, 208), (187, 179)])
def test_ms_ssim(height: int, width: int) -> None:
    np.testing.assert_allclose(
        jax.jit(ms_ssim)(*formula_pairs(4, height, width)), GOLDEN[f"ms_ssim/{height}x{width}"], atol=1e-6
    )
