"""Losses in tiles against losses of whole images: values, gradients, targets and runs.

Run as a script, this file divides the tiles among four pretend devices and prints the relative differences as JSON.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import many_devices, random_image, random_params

import jnst
from jnst.backbones.segments import segments
from jnst.errors import ArgumentError
from jnst.losses import Covariance, Gram, MarkovRandomField, MeanStd, Relative, SquaredError, Sum, Wasserstein
from jnst.losses.laplacian_content import LaplacianContent
from jnst.losses.objective import Objective, Targets, total_loss
from jnst.losses.tiles import plan_tiles
from jnst.losses.total_variation import TotalVariation
from jnst.statistics import merge
from jnst.types import Params

pytestmark = pytest.mark.usefixtures("unoptimised")

SHAPE = 97, 135
"""Four rows and five columns of the smallest tiles; both sides are odd at every scale."""
LAYERS = ("relu1_1", "relu2_1", "relu3_1")


def convnet(**options: Any) -> tuple[jnst.Backbone, Params]:
    backbone = jnst.make_backbone("convnet", widths="12,12/16,8/6,6", **options)
    return backbone, random_params(backbone)


BACKBONE, PARAMS = convnet()
IMAGE = jnp.asarray(random_image(1, *SHAPE))
STYLES = [jnp.asarray(random_image(seed, 70, 83)) for seed in (2, 3)]


def objective(layers: tuple[str, ...] = LAYERS, style_loss: Any = Gram(), **options: Any) -> Objective:  # noqa: B008
    given: dict[str, Any] = {"content_layers": layers[-1:], "style_layers": layers, "style_weight": 100.0}
    return jnst.make_objective(style_loss=style_loss, **(given | options))


def relative(value: Any, exact: Any) -> float:
    """The largest difference, relative to the largest value."""
    value, exact = np.asarray(value), np.asarray(exact)
    assert value.shape == exact.shape
    return float(np.abs(value - exact).max() / np.abs(exact).max())


def differences(
    made: Objective, targets: Targets, network: tuple[jnst.Backbone, Params] = (BACKBONE, PARAMS), **tiled: Any
) -> list[float]:
    """How values, parts and gradients in tiles differ from those of the whole image."""
    backbone, params = network
    tiled = {"tile": 64} | tiled

    def loss(**options: Any) -> Callable[..., Any]:
        return lambda image: total_loss(image, made, targets, params, backbone=backbone, **options)

    (total, parts), gradient = jax.jit(jax.value_and_grad(loss(), has_aux=True))(IMAGE)
    if tiled.pop("on_host", False):
        evaluate: Any = jnst.transfer_loss(backbone, **tiled).on_host
        (own, own_parts), own_gradient = evaluate(IMAGE, (made, targets, params), jnp.int32(0))
    else:
        (own, own_parts), own_gradient = jax.jit(jax.value_and_grad(loss(**tiled), has_aux=True))(IMAGE)
    assert list(parts) == list(own_parts)
    return [relative(own, total), relative(own_gradient, gradient), *map(relative, own_parts.values(), parts.values())]


NETWORKS = {
    "zero": lambda: (convnet(), LAYERS),
    "reflect": lambda: (convnet(padding="reflect"), LAYERS[:2]),
    "replicate": lambda: (convnet(padding="replicate", pooling="avg"), LAYERS[:2]),
    "hann": lambda: (convnet(pooling="hann"), LAYERS),
    "squeezenet": lambda: (random_network("squeezenet1.1", pooling="avg"), ("relu1", "fire3")),
    "squeezenet, max": lambda: (random_network("squeezenet1.1"), ("relu1", "fire4")),
    "before a ReLU, remat": lambda: (convnet(remat=True), ("conv1_2", "conv2_1")),
    "alexnet": lambda: (random_network("alexnet"), ("relu2", "relu5")),
}


def random_network(name: str, **options: Any) -> tuple[jnst.Backbone, Params]:
    backbone = jnst.make_backbone(name, **options)
    return backbone, random_params(backbone)


@pytest.mark.parametrize("name", NETWORKS)
def test_value_and_gradient_are_those_of_the_whole_image(name: str) -> None:
    network, layers = NETWORKS[name]()
    made = objective(layers)
    backbone, params = network
    targets = jax.jit(lambda image: jnst.fit_targets(image, STYLES[:1], made, params, backbone=backbone))(IMAGE**2)
    assert max(differences(made, targets, network, on_host=True)) < 1e-5


LOSSES = [
    Gram(),
    Gram("hw", "relative"),
    Covariance(),
    MeanStd(),
    Wasserstein(),
    Relative(Gram()),
    Sum(((Gram(), 1.0), (MeanStd(), 2.0))),
]


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_losses_masks_and_several_styles(loss: Any) -> None:
    # Terms on the image itself and regularizers need no tiles.
    regularizers = {"tv": (TotalVariation(), 1e-4)}
    content_loss = Relative(Sum(((SquaredError(), 1.0), (SquaredError("half_sum"), 0.1))))
    made = objective(LAYERS[:2], loss, content_loss=content_loss, regularizers=regularizers)
    made += jnst.make_objective(content_layers=("image",), content_loss=LaplacianContent(), content_weight=10.0)
    # Nothing of the last tiles belongs to the first region.
    ramp = np.clip(2 - np.arange(SHAPE[1]) / 40, 0, 1)
    left = jnp.asarray(np.broadcast_to(ramp, SHAPE), jnp.float32)
    given = {"backbone": BACKBONE, "masks": [left, 1 - left], "style_weights": [1.0, 3.0]}
    targets = jnst.fit_targets(IMAGE**2, STYLES, made, PARAMS, **given)
    assert max(differences(made, targets, on_host=True)) < 1e-5
    fitted = jnst.fit_targets(IMAGE**2, STYLES, made, PARAMS, **given, tile=64)
    assert jax.tree.structure(fitted) == jax.tree.structure(targets)
    for own, exact in zip(jax.tree.leaves(fitted), jax.tree.leaves(targets), strict=True):
        assert relative(own, exact) < 2e-5


def test_within_a_program_and_mapped() -> None:
    made = objective(LAYERS[:2])
    targets = jnst.fit_targets(IMAGE**2, STYLES, made, PARAMS, backbone=BACKBONE)
    assert max(differences(made, targets)) < 1e-5
    images = jnp.stack([IMAGE, IMAGE**2])
    mapped, looped = (
        function(lambda image: total_loss(image, made, targets, PARAMS, backbone=BACKBONE, tile=64)[0])(images)
        for function in (jax.vmap, lambda one: lambda images: jnp.stack([one(image) for image in images]))
    )
    assert relative(mapped, looped) < 1e-6

    def loss(made: Objective, tile: int | None) -> Any:
        return total_loss(IMAGE, made, targets, PARAMS, backbone=BACKBONE, tile=tile)[0]

    by_weights = [jax.grad(loss)(made, tile) for tile in (None, 64)]
    for own, exact in zip(*map(jax.tree.leaves, by_weights), strict=True):
        assert relative(own, exact) < 1e-5


@pytest.mark.parametrize("optimizer", [jnst.Adam(), jnst.LBFGS(memory_size=4)], ids=["adam", "lbfgs"])
def test_runs(optimizer: Any) -> None:
    made = objective(LAYERS[:2])
    args = made, jnst.fit_targets(IMAGE**2, STYLES, made, PARAMS, backbone=BACKBONE), PARAMS
    whole, tiled = (
        jnst.solve.run(jnst.transfer_loss(BACKBONE, tile=tile), optimizer, IMAGE, args, num_steps=4)
        for tile in (None, 64)
    )
    assert relative(tiled.losses, whole.losses) < 1e-5
    assert relative(tiled.image, whole.image) < 1e-4


def test_one_set_of_programs_serves_images_of_every_size() -> None:
    compiled: list[str] = []

    def note(event: str, duration_secs: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and "_tile_" in str(about.get("fun_name")):
            compiled.append(str(about["fun_name"]))

    # A network of its own, so that no other test has compiled its programs.
    backbone, params = random_network("convnet", widths="3/5")
    made, counts = objective(("relu1_1", "relu2_1")), []
    jax.monitoring.register_event_duration_secs_listener(note)
    for shape in ((65, 70), (130, 64), (200, 131)):
        image = jnp.asarray(random_image(4, *shape))
        targets = jnst.fit_targets(image, STYLES[:1], made, params, backbone=backbone)
        evaluate: Any = jnst.transfer_loss(backbone, tile=64).on_host
        evaluate(image**2, (made, targets, params), jnp.int32(0))
        counts.append(len(compiled))
    assert counts[0] > 0
    assert counts == counts[:1] * 3


def test_traced_loops_compile_once() -> None:
    compiled: list[str] = []

    def note(event: str, duration_secs: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(str(about.get("fun_name")))

    made, counts = objective(("relu1_1", "relu2_1")), []
    targets = jnst.fit_targets(IMAGE, STYLES[:1], made, PARAMS, backbone=BACKBONE)
    jax.monitoring.register_event_duration_secs_listener(note)
    for _ in range(3):
        jax.grad(lambda image: total_loss(image, made, targets, PARAMS, backbone=BACKBONE, tile=64)[0])(IMAGE)
        counts.append(len(compiled))
    assert counts[0] > 0
    assert counts == counts[:1] * 3


def test_margins_are_those_of_one_segment() -> None:
    layers = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    cut = segments(jnst.make_backbone("vgg19"), layers, 256)
    assert [segment.channels for segment in cut] == [64, 128, 256, 512, 0]
    # In pixels of the image, at most 32 on each side, compared with 85 for the network as a whole.
    assert max(segment.before * segment.tile // segment.step for segment in cut) <= 32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"style_loss": MarkovRandomField()}, ("MarkovRandomField", "all positions", "wasserstein")),
        ({"style_loss": Relative(jnst.losses.SlicedWasserstein())}, ("SlicedWasserstein",)),
        ({"normalize_gradients": True}, ("normalis",)),
    ],
)
def test_what_needs_the_whole_image_says_so(options: Any, words: tuple[str, ...]) -> None:
    made = objective(("relu1_1",), **options)
    targets = jnst.fit_targets(IMAGE, STYLES[:1], made, PARAMS, backbone=BACKBONE)
    with pytest.raises(ArgumentError) as caught:
        total_loss(IMAGE, made, targets, PARAMS, backbone=BACKBONE, tile=64)
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


def test_fitting_in_tiles_checks_losses_and_images() -> None:
    def fit(content: Any = None, style: Any = None, **options: Any) -> Any:
        made = jnst.make_objective(**options)
        return jnst.fit_targets(content, style, made, PARAMS, backbone=BACKBONE, tile=64)

    for loss in (SquaredError(), Relative(SquaredError()), Sum(((Gram(), 1.0), (SquaredError(), 1.0)))):
        with pytest.raises(ArgumentError, match="cannot be fitted in tiles: leave out `tile`"):
            fit(style=IMAGE, style_layers=("relu1_1",), style_loss=loss)
    with pytest.raises(ArgumentError, match="all positions"):
        fit(style=IMAGE, style_layers=("relu1_1",), style_loss=MarkovRandomField())
    with pytest.raises(ArgumentError, match="one image at a time"):
        fit(style=IMAGE[None], style_layers=("relu1_1",))
    with pytest.raises(ArgumentError, match="one image at a time"):
        fit(content=IMAGE[None], content_layers=("relu1_1",))


def test_objectives_without_network_layers() -> None:
    made = jnst.make_objective(content_layers=("image",), regularizers={"tv": (TotalVariation(), 1e-4)})
    targets = jnst.fit_targets(IMAGE**2, None, made, PARAMS, backbone=BACKBONE, tile=64)
    assert max(differences(made, targets, on_host=True)) < 1e-6
    assert segments(jnst.make_backbone("resnet18"), (), 64) == ()


def test_gradients_by_style_images() -> None:
    made = objective(("relu1_1",), MeanStd(), content_layers=())

    def loss(style: Any, tile: int | None) -> Any:
        targets = jnst.fit_targets(None, style, made, PARAMS, backbone=BACKBONE, tile=tile)
        return total_loss(IMAGE, made, targets, PARAMS, backbone=BACKBONE)[0]

    whole, tiled = (jax.grad(loss)(STYLES[0], tile) for tile in (None, 64))
    assert relative(tiled, whole) < 1e-4


SEVERAL = Sum(((Gram(), 1.0), (Covariance(), 1.0), (MeanStd(), 1.0)))


@pytest.mark.parametrize("setting", [lambda: jax.enable_x64(True), lambda: jax.numpy_dtype_promotion("strict")])
def test_traced_loops_under_other_dtype_rules(setting: Callable[[], Any]) -> None:
    made = objective(("relu1_1",), SEVERAL, content_layers=())
    targets = jnst.fit_targets(None, STYLES[0], made, PARAMS, backbone=BACKBONE)

    def gradient(tile: int | None) -> Any:
        def loss(image: Any) -> Any:
            return total_loss(image, made, targets, PARAMS, backbone=BACKBONE, tile=tile)[0]

        return jax.jit(jax.grad(loss))(IMAGE)

    whole = gradient(None)
    with setting():
        assert relative(gradient(64), whole) < 1e-5


def test_other_errors() -> None:
    made = objective(("relu1_1",))
    targets = jnst.fit_targets(IMAGE, STYLES[:1], made, PARAMS, backbone=BACKBONE)

    def loss(image: Any = IMAGE, params: Params = PARAMS, tile: int = 64) -> Any:
        return total_loss(image, made, targets, params, backbone=BACKBONE, tile=tile)[0]

    with pytest.raises(ArgumentError, match="one image at a time"):
        loss(IMAGE[None])
    with pytest.raises(ArgumentError, match="at least 64"):
        loss(tile=16)
    with pytest.raises(ArgumentError, match="leave out `tile`"):
        jax.grad(lambda params: loss(params=params))(PARAMS)
    with pytest.raises(ArgumentError, match="resnet18 cannot be computed in tiles"):
        segments(jnst.make_backbone("resnet18"), ("relu1",), 64)


@pytest.mark.parametrize("loss", [MeanStd(), Covariance(), Wasserstein(), Gram()], ids=lambda loss: type(loss).__name__)
def test_parts_keep_the_digits_of_nearly_silent_channels(loss: Any) -> None:
    """Centred on anything but the mean of the image, variances would be lost."""
    draw = np.random.default_rng(0)
    scale, offset = np.array([1, 1e-3, 1e-5, 1]), np.array([0, 0, 0, 50])
    features = np.maximum(draw.standard_normal((64, 80, 4)), 0) * scale + offset
    target = loss.fit(jnp.asarray(draw.uniform(0, 10, (30, 40, 4)) + 0.9 * offset, jnp.float32))
    ones, parts = jnp.ones(features.shape[:2]), [slice(0, 30), slice(30, None)]

    def sums(features: Any, whole: Any) -> Any:
        return [loss.sums(features[rows], None, ones[rows], whole=whole) for rows in parts]

    def value_of(sums: Any) -> Any:
        return loss.from_sums(sums, target, jnp.float32(ones.size))

    with jax.enable_x64(True):
        exact = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), target)
        value, gradient = jax.value_and_grad(lambda features: loss.loss(features, exact))(jnp.asarray(features))
    own = jnp.asarray(features, jnp.float32)
    whole = merge(*sums(own, None))
    assert relative(value_of(whole), value) < 1e-6
    (own_gradient,) = jax.vjp(partial(sums, whole=whole), own)[1]([jax.grad(value_of)(whole)] * len(parts))
    for channel in range(4):
        assert relative(own_gradient[..., channel], gradient[..., channel]) < 1e-4


def test_tiles_are_divided_among_devices() -> None:
    """Of nine tiles, one of four devices has three, and the others two; three have nothing of the last layer."""
    done = subprocess.run(
        [sys.executable, __file__], env=many_devices(4), capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert max(json.loads(done.stdout)) < 1e-5


if __name__ == "__main__":
    both = objective(LAYERS, SEVERAL)
    assert [plan_tiles(BACKBONE, LAYERS, SHAPE, 96).grid(index) for index in range(3)] == [(3, 3), (3, 3), (1, 1)]
    fitted_targets = jnst.fit_targets(IMAGE**2, STYLES, both, PARAMS, backbone=BACKBONE)
    print(json.dumps(differences(both, fitted_targets, tile=96, mesh=jnst.local_mesh())))
