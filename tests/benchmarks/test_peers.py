"""Peers without torch: the steps that are timed are those of the library, and flaxmodels' network makes the same."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import jnst
from benchmarks import networks, peers
from benchmarks.judge import make_judge
from benchmarks.networks import ImageArray, Network
from benchmarks.peers import PEERS, STATISTICS, Settings, Unavailable, flaxmodels_naive, jnst_peer
from benchmarks.peers.settings import Step, crowson, make_run

pytestmark = pytest.mark.usefixtures("unoptimised")

Pair = tuple[ImageArray, ImageArray]
SHALLOW = ("relu1_1", "relu2_1", "relu3_1")


def shallow(params: Network, optimizer: str = "adam", steps: int = 100) -> Settings:
    return Settings(params, "relu2_1", SHALLOW[:2], style_layer_weights=(1.0, 1.0), optimizer=optimizer, steps=steps)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_our_steps_are_those_of_stylize(optimizer: str, shallow_network: Network, pair: Pair) -> None:
    settings = shallow(shallow_network, optimizer=optimizer, steps=4)
    image, losses = jnst_peer.run(*pair, settings)
    backbone, params = jnst_peer.network(shallow_network, "float32")
    content, style = (jnp.asarray(picture) for picture in pair)
    expected = jnst.transfer.stylize(content, style, params, backbone=backbone, preset=jnst_peer.preset(settings))
    np.testing.assert_array_equal(np.asarray(losses, np.float32), expected.losses)
    np.testing.assert_array_equal(image, expected.image)
    assert losses[3] < 0.9 * losses[0]


def test_our_steps_with_wasserstein_distances(shallow_network: Network, pair: Pair) -> None:
    settings = crowson(
        shallow_network,
        content_layer="relu2_1",
        style_layers=SHALLOW[:2],
        style_layer_weights=(0.7, 0.3),
        steps=3,
    )
    image, losses = jnst_peer.run(*pair, settings)
    assert losses[2] < losses[0]
    assert 0 <= image.min() < image.max() <= 1
    assert make_judge(*pair, settings)(pair[0]) == pytest.approx(losses[0], rel=1e-4)


def test_several_of_ours_at_once(shallow_network: Network, pair: Pair) -> None:
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
    """Those of L-BFGS part behind the first: here its plain form, as notebooks have it, takes a far too long one."""
    settings = shallow(shallow_network, optimizer=optimizer, steps=3)
    (image, theirs), (expected, ours) = (module.run(*pair, settings) for module in (flaxmodels_naive, jnst_peer))
    same = 3 if optimizer == "adam" else 1
    np.testing.assert_allclose(theirs[:same], ours[:same], rtol=1e-4)
    assert np.isfinite(theirs).all()
    if optimizer == "adam":
        assert np.abs(image - expected).mean() < 1e-4


def test_scanned_steps_are_the_dispatched_ones(shallow_network: Network, pair: Pair) -> None:
    """Of the shallowest layers: a scan's convolutions are slow on a CPU."""
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
    image, content, style = (flaxmodels_naive.to_input(picture) for picture in images.values())
    targets = flaxmodels_naive.make_targets(whole := flaxmodels_naive.whole(params), content, style, settings)
    value = flaxmodels_naive.loss(image, whole, *targets, settings)
    assert float(value) == pytest.approx(exact, rel=1e-4)
    assert make_judge(images["content"], images["style"], settings)(images["image"]) == pytest.approx(exact, rel=1e-4)


def test_run_makes_as_many_steps_as_asked_for(pair: Pair, shallow_network: Network) -> None:
    made = iter(range(100))
    step = Step(lambda: [float(next(made)) for _ in range(3)], lambda: np.full((2, 2, 3), 1.5), length=3)
    image, losses = make_run(lambda content, style, settings: step)(*pair, shallow(shallow_network, steps=4))
    assert losses == [0, 1, 2, 3]
    assert image.dtype == np.float32
    assert image.max() == 1
    assert step() == 8


def test_what_does_not_work_says_so(pair: Pair, random_network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    gram, wasserstein = (make(random_network) for make in STATISTICS.values())
    with pytest.raises(Unavailable, match="does not know the statistic 'wasserstein'"):
        peers.prepare("flaxmodels-dispatched", *pair, wasserstein)
    monkeypatch.setitem(PEERS, "absent", peers.Peer("nothing_of_this_name"))
    with pytest.raises(Unavailable, match="nothing_of_this_name is not installed"):
        peers.prepare("absent", *pair, gram)
    with pytest.raises(Unavailable, match="one image"):
        peers.prepare("flaxmodels-dispatched", np.stack([pair[0]] * 2), np.stack([pair[1]] * 2), gram)
    assert PEERS.keys() >= {peer for peer in PEERS if set(PEERS[peer].statistics) <= STATISTICS.keys()}
