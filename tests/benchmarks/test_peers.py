"""Peers without torch: our timed steps are those of `jnst.stylize`, and flaxmodels makes the same steps."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jnst
from benchmarks import networks, peers
from benchmarks.networks import ImageArray, Network
from benchmarks.peers import PEERS, STATISTICS, Settings, Step, Unavailable, flaxmodels_naive, jnst_peer
from benchmarks.peers.interface import crowson
from benchmarks.run import make_judge

pytestmark = pytest.mark.usefixtures("unoptimised")

Pair = tuple[ImageArray, ImageArray]
SHALLOW = ("relu1_1", "relu2_1", "relu3_1")


def shallow(params: Network, optimizer: str = "adam", steps: int = 100) -> Settings:
    return Settings(params, "relu2_1", SHALLOW[:2], style_layer_weights=(1.0, 1.0), optimizer=optimizer, steps=steps)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_our_steps_are_those_of_stylize(optimizer: str, shallow_network: Network, pair: Pair) -> None:
    settings = shallow(shallow_network, optimizer=optimizer, steps=4)
    image, losses = peers.run("jnst-float32", *pair, settings)
    backbone, params = jnst_peer.network(shallow_network, "float32")
    content, style = (jnp.asarray(image) for image in pair)
    expected = jnst.stylize(content, style, params, backbone=backbone, preset=jnst_peer.preset(settings))
    np.testing.assert_array_equal(np.asarray(losses, np.float32), expected.losses)
    np.testing.assert_array_equal(image, expected.image)
    assert losses[3] < 0.9 * losses[0]


@pytest.mark.long
def test_our_steps_with_wasserstein_distances(shallow_network: Network, pair: Pair) -> None:
    settings = crowson(
        shallow_network,
        content_layer="relu2_1",
        style_layers=SHALLOW[:2],
        style_layer_weights=(0.7, 0.3),
        steps=3,
    )
    image, losses = peers.run("jnst-float32", *pair, settings)
    assert losses[2] < losses[0]
    assert 0 <= image.min() < image.max() <= 1
    assert make_judge(*pair, settings)(pair[0]) == pytest.approx(losses[0], rel=1e-4)


def test_our_steps_of_a_batch(shallow_network: Network, pair: Pair) -> None:
    content, style = pair
    settings = shallow(shallow_network, steps=2)
    batch = np.stack([content, content[:, ::-1]]), np.stack([style, style[::-1]])
    step = jnst_peer.prepare(*batch, settings)
    losses = step.advance()
    singles = [jnst_peer.prepare(*each, settings).advance() for each in zip(*batch, strict=True)]
    np.testing.assert_allclose(losses, np.sum(singles, 0), rtol=1e-5)
    assert step.image().shape == batch[0].shape


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_flaxmodels_makes_the_same_steps(optimizer: str, shallow_network: Network, pair: Pair) -> None:
    """With L-BFGS only the first loss is the same: as notebooks use it, its first step is far too long."""
    settings = shallow(shallow_network, optimizer=optimizer, steps=3)
    names = ("flaxmodels-dispatched", "jnst-float32")
    (image, theirs), (expected, ours) = (peers.run(name, *pair, settings) for name in names)
    same = 3 if optimizer == "adam" else 1
    np.testing.assert_allclose(theirs[:same], ours[:same], rtol=1e-4)
    assert np.isfinite(theirs).all()
    if optimizer == "adam":
        assert np.abs(image - expected).mean() < 1e-4


def test_scanned_steps_are_the_dispatched_ones(shallow_network: Network, pair: Pair) -> None:
    """On the shallowest layer, because convolutions in a scan are slow on CPUs."""
    settings = Settings(shallow_network, "relu1_1", ("relu1_1",), style_layer_weights=(1.0,))
    small = pair[0][:16, :16], pair[1][:16, :16]
    scanned, dispatched = (flaxmodels_naive.prepare(*small, settings, length=length) for length in (2, 1))
    losses = scanned.advance()
    assert scanned.length == len(losses) == 2
    np.testing.assert_allclose(losses, [dispatched(), dispatched()], rtol=1e-5)
    np.testing.assert_allclose(scanned.image(), dispatched.image(), atol=1e-5)


def test_flaxmodels_against_golden_values(shared: Path) -> None:
    params = networks.vgg19(shared, last="conv3_2")
    with np.load(shared / "golden/vgg19_oxford_parrots_starry_32.npz") as file:
        images = {name: file[f"{name}_u8"].astype(np.float32) / 255 for name in ("image", "content", "style")}
        exact = 17393997.378335793
    settings = Settings(params, "relu3_2", SHALLOW, style_layer_weights=(1.0,) * 3)
    image, content, style = (flaxmodels_naive.to_input(array) for array in images.values())
    complete = flaxmodels_naive.complete_params(params)
    targets = flaxmodels_naive.make_targets(complete, content, style, settings)
    value = flaxmodels_naive.loss(image, complete, *targets, settings)
    assert float(value) == pytest.approx(exact, rel=1e-4)
    assert make_judge(images["content"], images["style"], settings)(images["image"]) == pytest.approx(exact, rel=1e-4)


def test_a_run_has_the_number_of_steps_of_its_settings(
    pair: Pair, shallow_network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = iter(range(100))
    step = Step(lambda: [float(next(count)) for _ in range(3)], lambda: np.full((2, 2, 3), 1.5), length=3)
    monkeypatch.setattr(peers, "prepare", lambda *_: step)
    image, losses = peers.run("jnst-float32", *pair, shallow(shallow_network, steps=4))
    assert losses == [0, 1, 2, 3]
    assert image.dtype == np.float32
    assert image.max() == 1
    assert step() == 8


def test_unavailable_peers_give_a_reason(pair: Pair, random_network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    gram, wasserstein = (make(random_network) for make in STATISTICS.values())
    with pytest.raises(Unavailable, match="does not have the statistic 'wasserstein'"):
        peers.prepare("flaxmodels-dispatched", *pair, wasserstein)
    monkeypatch.setitem(PEERS, "absent", peers.Peer("nothing_of_this_name"))
    with pytest.raises(Unavailable, match="nothing_of_this_name is not installed"):
        peers.prepare("absent", *pair, gram)
    with pytest.raises(Unavailable, match="only one image"):
        peers.prepare("flaxmodels-dispatched", np.stack([pair[0]] * 2), np.stack([pair[1]] * 2), gram)
    assert all(set(peer.statistics) <= STATISTICS.keys() for peer in PEERS.values())
