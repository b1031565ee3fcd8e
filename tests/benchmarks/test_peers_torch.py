"""The PyTorch peers against float64 golden values, curves that the published programs printed, and each other."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import networks, peers
from benchmarks.networks import ImageArray, Network
from benchmarks.peers import PEERS, Settings, Unavailable
from benchmarks.peers.settings import crowson as crowson_settings

torch: Any = pytest.importorskip("torch", reason="the peers in PyTorch need the extra `bench`")

from benchmarks.peers import crowson, torch_bfloat16, torch_eager, torch_step  # noqa: E402

Pair = tuple[ImageArray, ImageArray]
SHALLOW = ("relu1_1", "relu2_1", "relu3_1")


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    """Threads that wait for each other cost more than they bring at these sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("flavour", "value", "gradient"),
    [
        (torch_step.Flavour(), 1e-5, 1e-3),
        (torch_step.Flavour(channels_last=True), 1e-5, 1e-3),
        (torch_step.Flavour(torch.bfloat16, channels_last=True), 1e-2, 5e-2),
    ],
)
def test_loss_and_gradient(flavour: Any, value: float, gradient: float, shared: Path) -> None:
    """The gradient by its 2-norm: seen in bfloat16, 2.6e-2; eight layers, each rounded to 4e-3, there and back."""
    path = shared / "golden/vgg19_oxford_parrots_starry_32.npz"
    scalars = json.loads(path.with_suffix(".json").read_text())
    settings = Settings(networks.vgg19(shared, last="conv3_2"), "relu3_2", SHALLOW, style_layer_weights=(1.0,) * 3)
    with np.load(path) as file:
        image, content, style = (
            torch_step.to_input(torch_step.to_tensor(file[f"{name}_u8"].astype(np.float32) / 255))
            for name in ("image", "content", "style")
        )
        exact = file["grad_total_wrt_bgr255"]
    loss = torch_step.neural_style_loss(content, style, settings, flavour)
    found = torch_step.evaluated(loss, image.requires_grad_())
    assert float(found) == pytest.approx(scalars["total_neural_style_pt"], rel=value)
    assert image.grad is not None
    difference = image.grad[0].permute(1, 2, 0).numpy() - exact
    assert np.linalg.norm(difference) < gradient * np.linalg.norm(exact)


def test_the_path_that_neural_style_pt_printed(shared: Path) -> None:
    published = json.loads((shared / "golden/trajectory_houses_wave_lbfgs_avg.json").read_text())
    content, style = (
        networks.sized_image(shared / "images" / published[kind], published["image_size"])
        for kind in ("content", "style")
    )
    params = networks.vgg19(shared, last="conv3_2")
    settings = Settings(
        params, "relu3_2", SHALLOW, style_layer_weights=(1.0,) * 3, pooling="avg", optimizer="lbfgs", steps=10
    )
    _, losses = torch_eager.run(content, style, settings)
    expected = {row["iteration"]: row["total"] for row in published["iterations"]}
    assert losses[9] == pytest.approx(expected[10], rel=1e-3)


def test_the_path_that_style_transfer_pytorch_printed(shared: Path) -> None:
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
    image, losses = crowson.run(content, style, settings)
    for row in published["losses"][:3]:
        assert losses[row["i"] - 1] == pytest.approx(row["loss"], rel=2e-3)
    assert image.shape == content.shape
    assert 0 <= image.min() < image.max() <= 1


def test_roots_and_their_gradients() -> None:
    """Of a well-conditioned matrix, against eigenvalues in float64."""
    rows = torch.randn(2, 6, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    matrix = (rows @ rows.mT / 40).requires_grad_()
    weights = torch.randn(2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    weights = weights + weights.mT
    values, vectors = torch.linalg.eigh(matrix)
    exact = vectors @ torch.diag_embed(values.sqrt()) @ vectors.mT
    root: Any = crowson.Root.apply(matrix)
    torch.testing.assert_close(root, exact, rtol=1e-6, atol=1e-8)
    (gradient,), (expected,) = (torch.autograd.grad((weights * each).sum(), matrix) for each in (root, exact))
    torch.testing.assert_close((gradient + gradient.mT) / 2, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("unoptimised")
@pytest.mark.parametrize(
    ("statistic", "names"),
    [("gram", ("torch-eager", "torch-channels-last", "torch-bfloat16")), ("wasserstein", ("crowson",))],
)
def test_first_steps_are_ours(statistic: str, names: tuple[str, ...], shallow_network: Network, pair: Pair) -> None:
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


def test_batches_are_their_images(shallow_network: Network, pair: Pair) -> None:
    content, style = pair
    batch = np.stack([content, content[::-1]]), np.stack([style, style[:, ::-1]])
    settings = Settings(shallow_network, "relu3_2", SHALLOW, style_layer_weights=(1.0,) * 3)
    together = torch_eager.prepare(*batch, settings)
    singles = [torch_eager.prepare(*each, settings) for each in zip(*batch, strict=True)]
    for _ in range(2):
        assert together() == pytest.approx(sum(single() for single in singles), rel=1e-5)
    np.testing.assert_allclose(together.image(), [single.image() for single in singles], atol=1e-5)
    with pytest.raises(Unavailable, match="L-BFGS minimises one image"):
        torch_bfloat16.prepare(
            *batch, Settings(shallow_network, "relu3_2", SHALLOW, style_layer_weights=(1.0,) * 3, optimizer="lbfgs")
        )


def test_a_compiler_that_fails_leaves_the_peer_out(
    shallow_network: Network, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(function: Any) -> Any:
        raise OSError("no compiler here\nwith details")

    monkeypatch.setattr(torch, "compile", fail)
    settings = Settings(shallow_network, "relu3_2", SHALLOW, style_layer_weights=(1.0,) * 3)
    with pytest.raises(Unavailable, match=r"torch.compile fails: OSError: no compiler here$"):
        peers.prepare("torch-compile", *pair, settings)
