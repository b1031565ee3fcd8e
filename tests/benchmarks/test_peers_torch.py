"""The PyTorch peers compared with float64 golden values, with published curves, and with each other."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import networks, peers
from benchmarks.networks import ImageArray, Network
from benchmarks.peers import PEERS, Settings, Unavailable
from benchmarks.peers.interface import crowson as crowson_settings

torch: Any = pytest.importorskip("torch", reason="needs PyTorch, from the extra `bench`")

from benchmarks.peers import crowson, torch_neural_style  # noqa: E402

Pair = tuple[ImageArray, ImageArray]
SHALLOW = ("relu1_1", "relu2_1", "relu3_1")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    """At these sizes, several threads are slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("mode", "value", "gradient"),
    [
        (torch_neural_style.Mode(), 1e-5, 1e-3),
        (torch_neural_style.Mode(channels_last=True), 1e-5, 1e-3),
        (torch_neural_style.Mode("bfloat16", channels_last=True), 1e-2, 5e-2),
    ],
)
def test_loss_and_gradient(mode: Any, value: float, gradient: float, shared: Path) -> None:
    """In bfloat16, the gradient differed by 2.6e-2 in the 2-norm: each of eight layers rounds to 4e-3, twice."""
    path = shared / "golden/vgg19_oxford_parrots_starry_32.npz"
    scalars = json.loads(path.with_suffix(".json").read_text())
    settings = Settings(networks.vgg19(shared, last="conv3_2"), "relu3_2", SHALLOW, style_layer_weights=(1.0,) * 3)
    with np.load(path) as file:
        image, content, style = (
            torch_neural_style.to_input(torch_neural_style.to_tensor(file[f"{name}_u8"].astype(np.float32) / 255))
            for name in ("image", "content", "style")
        )
        exact = file["grad_total_wrt_bgr255"]
    loss = torch_neural_style.neural_style_loss(content, style, settings, mode)
    found = torch_neural_style.evaluate(loss, image.requires_grad_())
    assert float(found) == pytest.approx(scalars["total_neural_style_pt"], rel=value)
    assert image.grad is not None
    difference = image.grad[0].permute(1, 2, 0).numpy() - exact
    assert np.linalg.norm(difference) < gradient * np.linalg.norm(exact)


def test_the_published_curve_of_neural_style_pt(shared: Path) -> None:
    published = json.loads((shared / "golden/trajectory_houses_wave_lbfgs_avg.json").read_text())
    content, style = (
        networks.sized_image(shared / "images" / published[kind], published["image_size"])
        for kind in ("content", "style")
    )
    params = networks.vgg19(shared, last="conv3_2")
    settings = Settings(
        params, "relu3_2", SHALLOW, style_layer_weights=(1.0,) * 3, pooling="avg", optimizer="lbfgs", steps=10
    )
    _, losses = peers.run("torch-eager", content, style, settings)
    expected = {row["iteration"]: row["total"] for row in published["iterations"]}
    assert losses[9] == pytest.approx(expected[10], rel=1e-3)


def test_the_published_curve_of_style_transfer_pytorch(shared: Path) -> None:
    import jnst

    published = json.loads((shared / "golden/trajectory_crowson_parrots_starry.json").read_text())
    content, style = (
        np.asarray(jnst.load_image(shared / "images" / published[kind], size=published["losses"][0]["w"]))
        for kind in ("content", "style")
    )
    settings = crowson_settings(
        networks.vgg19(shared, last="conv3_2"),
        content_layer="relu3_2",
        style_layers=SHALLOW,
        style_layer_weights=tuple(published["style_layer_weights"]),
        steps=5,
    )
    image, losses = peers.run("crowson", content, style, settings)
    for row in published["losses"][:3]:
        assert losses[row["i"] - 1] == pytest.approx(row["loss"], rel=2e-3)
    assert image.shape == content.shape
    assert 0 <= image.min() < image.max() <= 1


def test_square_roots_and_their_gradients() -> None:
    """Of well-conditioned matrices, compared with eigenvalue decompositions in float64."""
    rows = torch.randn(2, 6, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrix = (rows @ rows.mT / 40).requires_grad_()
    weights = torch.randn(2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weights = weights + weights.mT
    values, vectors = torch.linalg.eigh(matrix)
    exact = vectors @ torch.diag_embed(values.sqrt()) @ vectors.mT
    root: Any = crowson.SquareRoot.apply(matrix)
    torch.testing.assert_close(root, exact, rtol=1e-6, atol=1e-8)
    (gradient,), (expected,) = (torch.autograd.grad((weights * each).sum(), matrix) for each in (root, exact))
    torch.testing.assert_close((gradient + gradient.mT) / 2, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize(
    ("statistic", "names"),
    [("gram", ("torch-eager", "torch-channels-last", "torch-bfloat16")), ("wasserstein", ("crowson",))],
)
def test_first_steps_equal_ours(statistic: str, names: tuple[str, ...], shallow_network: Network, pair: Pair) -> None:
    settings = dataclasses.replace(
        peers.STATISTICS[statistic](shallow_network),
        content_layer="relu2_2",
        style_layers=SHALLOW[:2],
        style_layer_weights=(0.7, 0.3),
    )
    ours = peers.prepare("jnst-float32", *pair, settings)
    expected = [ours() for _ in range(3)]
    for name in names:
        step = peers.prepare(name, *pair, settings)
        np.testing.assert_allclose([step() for _ in range(3)], expected, rtol=PEERS[name].tolerance, err_msg=name)
        assert np.abs(step.image() - ours.image()).mean() < 2e-3


def test_a_batch_equals_its_images(shallow_network: Network, pair: Pair) -> None:
    content, style = pair
    batch = np.stack([content, content[::-1]]), np.stack([style, style[:, ::-1]])
    settings = Settings(shallow_network, "relu3_2", SHALLOW, style_layer_weights=(1.0,) * 3)
    together = peers.prepare("torch-eager", *batch, settings)
    singles = [peers.prepare("torch-eager", *each, settings) for each in zip(*batch, strict=True)]
    for _ in range(2):
        assert together() == pytest.approx(sum(single() for single in singles), rel=1e-5)
    np.testing.assert_allclose(together.image(), [single.image() for single in singles], atol=1e-5)
    with pytest.raises(Unavailable, match="L-BFGS supports only one image"):
        peers.prepare("torch-bfloat16", *batch, dataclasses.replace(settings, optimizer="lbfgs"))


def test_a_failing_compiler_makes_the_peer_unavailable(
    shallow_network: Network, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(function: Any) -> Any:
        raise OSError("no compiler here\nwith details")

    monkeypatch.setattr(torch, "compile", fail)
    settings = Settings(shallow_network, "relu3_2", SHALLOW, style_layer_weights=(1.0,) * 3)
    with pytest.raises(Unavailable, match=r"torch.compile fails: OSError: no compiler here$"):
        peers.prepare("torch-compile", *pair, settings)
