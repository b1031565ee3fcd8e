"""Seamless images: what is computed from an image that repeats follows its shifts, and is that of the repetition."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tifffile
from cli_runs import run
from contracts import CASES, random_features, random_image, random_params
from PIL import Image

import jnst
from jnst.errors import ArgumentError, ImageError
from jnst.images import METHODS, SEAMLESS, SHARP, resize
from jnst.losses import TotalVariation
from jnst.losses.objective import FeatureTerm, ImageTerm, Objective
from jnst.losses.total_variation import NORMS
from jnst.transfer.inputs import check_inputs
from jnst.transfer.plan import make_job
from jnst.types import Wrap
from jnst.weights import Weights, save_weights

pytestmark = pytest.mark.usefixtures("unoptimised")

WIDTHS = "4,4/6/6"
BACKBONE = jnst.make_backbone("convnet", widths=WIDTHS)
PARAMS = random_params(BACKBONE)
LAYERS = ("relu1_1", "relu2_1", "relu3_1")
SETTINGS = jnst.preset(
    content_layers=("relu2_1",), style_layers=LAYERS, optimizer=jnst.Adam(5.0), pyramid=None, num_steps=(3,)
)
STYLE = random_image(1, 20, 26)


def rolled(image: Any, shift: tuple[int, ...]) -> Any:
    return jnp.roll(image, shift, (-3, -2))


def shift_along(wrap: Wrap) -> tuple[int, int]:
    """Multiples of the stride."""
    return 4 * wrap[0], 8 * wrap[1]


def middle(tiled: Any, shape: tuple[int, int], wrap: Wrap) -> Any:
    """The repetition in the middle of three, along the axes that wrap."""
    top, left = (side * wraps for side, wraps in zip(shape, wrap, strict=True))
    return tiled[..., top : top + shape[0], left : left + shape[1], :]


def tiled(image: Any, wrap: Wrap) -> Any:
    return jnp.tile(image, (3 if wrap[0] else 1, 3 if wrap[1] else 1, 1))


@pytest.mark.parametrize("pooling", ["max", "hann"])
@pytest.mark.parametrize("wrap", SEAMLESS.values(), ids=SEAMLESS)
def test_features_are_those_of_the_repeated_image(wrap: Wrap, pooling: str) -> None:
    backbone = BACKBONE.with_options(pooling=pooling)
    image = jnp.asarray(random_image(2, 16, 24))
    features = jax.jit(lambda image: backbone.with_padding("circular", wrap).apply(PARAMS, image, LAYERS))(image)
    repeated = jax.jit(lambda image: backbone.apply(PARAMS, image, LAYERS))(tiled(image, wrap))
    for layer, found in features.items():
        expected = middle(repeated[layer], (found.shape[0], found.shape[1]), wrap)
        np.testing.assert_allclose(found, expected, atol=1e-5 * float(jnp.max(expected)))


def test_every_position_of_an_odd_ring_is_in_a_window() -> None:
    """The gradient of a sum of averages reaches all of them, and the features have rounded sizes."""
    backbone = BACKBONE.with_options(pooling="avg", padding="circular")
    image = jnp.asarray(random_image(2, 11, 13))
    assert backbone.apply(PARAMS, image, LAYERS)["relu3_1"].shape == (3, 4, 6)
    # The last row only.
    changed = backbone.apply(PARAMS, image.at[-1].add(0.1), ["conv3_1"])["conv3_1"]
    assert float(jnp.max(jnp.abs(changed - backbone.apply(PARAMS, image, ["conv3_1"])["conv3_1"])[-1])) > 1e-3


@pytest.mark.parametrize("method", [*METHODS, SHARP])
@pytest.mark.parametrize("wrap", SEAMLESS.values(), ids=SEAMLESS)
def test_resizing_is_that_of_the_repeated_image(wrap: Wrap, method: str) -> None:
    image = jnp.asarray(random_image(3, 12, 16))
    for shape in ((18, 20), (7, 9), (4, 6)):
        repeats = [3 if wraps else 1 for wraps in wrap]
        larger = resize(tiled(image, wrap), (shape[0] * repeats[0], shape[1] * repeats[1]), method)
        found = resize(image, shape, method, wrap)
        np.testing.assert_allclose(found, middle(larger, shape, wrap), atol=5e-6)
        traced = jax.jit(lambda image, shape=shape: resize(image, shape, method, wrap))(image)
        np.testing.assert_allclose(traced, found, atol=5e-6)


def wrapping(kind: str, loss: Any, wrap: Wrap) -> Any:
    one = jnp.float32(1)
    if kind == "image":
        return Objective(regularizers=(ImageTerm("x", loss, one),)).wrapping(wrap).regularizers[0].loss
    return Objective(style=(FeatureTerm(("x",), loss, one),)).wrapping(wrap).style[0].loss


WHOLE = {name: case for name, case in CASES.items() if "max_positions" not in dict(case.options)}
"""Losses of all positions. A sample of them changes with the image's shift."""


@pytest.mark.parametrize("name", WHOLE)
def test_losses_do_not_depend_on_where_the_seam_is(name: str) -> None:
    case, wrap, shift = WHOLE[name], (True, True), (12, 24)
    loss = wrapping(case.kind, case.loss, wrap)
    image = jnp.asarray(random_features(1, 24, 36, case.channels))
    other = jnp.asarray(random_features(2, 24, 36, case.channels))

    def value(image: Any, other: Any) -> Any:
        if case.kind == "image":
            return loss.loss(image)
        return loss.loss(case.layers(image), loss.fit(case.layers(other)))

    evaluate = jax.jit(jax.value_and_grad(value))
    here, gradient = evaluate(image, other)
    # A style has no seam to be moved.
    moved = rolled(other, shift) if case.kind == "content" else other
    there, gradient_there = evaluate(rolled(image, shift), moved)
    np.testing.assert_allclose(there, here, rtol=1e-4)
    size = float(jnp.max(jnp.abs(gradient)))
    np.testing.assert_allclose(gradient_there, rolled(gradient, shift), atol=2e-3 * size)


@pytest.mark.parametrize("norm", NORMS)
def test_total_variation_around_the_ring(norm: str) -> None:
    """Of an image with a border of one colour, nothing lies across the seam; elsewhere it is one difference more."""
    framed = jnp.pad(jnp.asarray(random_image(4, 8, 9)), ((2, 2), (2, 2), (0, 0)))
    plain, ring = (jax.jit(loss.loss) for loss in (TotalVariation(norm), TotalVariation(norm, wrap=(True, True))))
    np.testing.assert_allclose(ring(framed), plain(framed), rtol=1e-5)
    stripe = jnp.zeros((6, 8, 3)).at[:, 0].set(1.0)
    assert float(plain(stripe)) < float(ring(stripe))


def job(wrap: str, style: Any = STYLE, shape: tuple[int, int] = (48, 64), **changes: Any) -> Any:
    settings = jnst.preset(SETTINGS, content_layers=(), seamless=wrap, **changes)
    return make_job(check_inputs(None, style, several_maps=True), settings, BACKBONE, shape=shape)


@pytest.mark.parametrize("name", SEAMLESS)
def test_a_run_follows_the_shift_of_its_start(name: str) -> None:
    """Through both sizes of a pyramid, with smoothing, and from any point of the repeated image."""
    wrap = SEAMLESS[name]
    start = jnp.asarray(random_image(5, 24, 32))
    settings = jnst.preset(SETTINGS, pyramid=jnst.Pyramid(2.0, min_size=16), tv_weight=0.1, learning_rate=1.0)

    def texture(init: Any, seamless: Any = name) -> Any:
        given = {"backbone": BACKBONE, "preset": settings, "init": init, "seamless": seamless}
        return jnst.synthesize(STYLE, (24, 32), PARAMS, **given).image

    shift = tuple(2 * side for side in shift_along(wrap))
    found, moved = texture(start), texture(rolled(start, shift))
    np.testing.assert_allclose(moved, rolled(found, shift), atol=2e-4)
    if name == "both":
        plain = texture(start, None)
        assert float(jnp.max(jnp.abs(texture(rolled(start, shift), None) - rolled(plain, shift)))) > 1e-2
        np.testing.assert_array_equal(texture(start, True), found)


def test_a_content_that_repeats_stays_seamless() -> None:
    content = jnp.asarray(random_image(6, 16, 16))
    settings = jnst.preset(SETTINGS, seamless="both")
    found, moved = (
        jnst.stylize(rolled(content, shift), STYLE, PARAMS, backbone=BACKBONE, preset=settings).image
        for shift in ((0, 0), (8, 4))
    )
    np.testing.assert_allclose(moved, rolled(found, (8, 4)), atol=2e-4)


def test_regions_of_an_odd_image() -> None:
    """The circular network rounds sides up where the styles' network rounds them down."""
    content, mask = random_image(6, 25, 31), random_image(7, 25, 31)[..., 0]
    settings = jnst.preset(SETTINGS, seamless="both")
    given = {"backbone": BACKBONE, "preset": settings, "masks": [mask, 1 - mask]}
    assert jnst.stylize(content, [STYLE, 1 - STYLE], PARAMS, **given).finite


def test_levels_of_a_pyramid_repeat() -> None:
    """One update from a periodic gradient is periodic, and without `wrap` it is the usual one."""
    gradient = jnp.asarray(random_image(8, 24, 32))

    def update(shift: tuple[int, int], wrap: Wrap) -> Any:
        solver = jnst.solve.in_laplacian_pyramid(optax.sgd(1.0), 2, wrap)
        updated = jax.jit(lambda gradient: solver.update(gradient, solver.init(gradient))[0])
        return rolled(updated(rolled(gradient, shift)), (-shift[0], -shift[1]))

    ring = (True, True)
    np.testing.assert_allclose(update((8, 4), ring), update((0, 0), ring), atol=1e-5)
    assert float(jnp.max(jnp.abs(update((8, 4), (False, False)) - update((0, 0), (False, False))))) > 1e-2
    assert job("x", optimizer=jnst.RMSprop(levels=2)).plan.scales[0].solver.optimizer.wrap == (False, True)


def test_channels_first_are_no_maps() -> None:
    with pytest.raises(ImageError, match="move the channels last"):
        jnst.synthesize(jnp.zeros((3, 24, 33)), None, PARAMS, backbone=BACKBONE, preset=SETTINGS)


def test_sizes_of_the_pyramid_are_multiples_of_the_stride() -> None:
    pyramid = jnst.Pyramid(1.5, min_size=16)
    assert [scale.shape for scale in job("both", shape=(50, 61), pyramid=pyramid).plan.scales] == [
        *[(16, 20), (24, 28), (36, 40)],
        (50, 61),
    ]
    assert job("x", shape=(50, 61), pyramid=pyramid).plan.scales[0].shape == (15, 20)


def test_a_network_without_circular_padding_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"^resnet18 has no circular padding.*: choose a VGG"):
        jnst.synthesize(
            STYLE, None, {}, backbone=jnst.make_backbone("resnet18"), preset=SETTINGS, seamless=True, check_memory=False
        )
    with pytest.raises(ArgumentError, match=r"unknown seamless 'z'.*both"):
        jnst.synthesize(STYLE, None, PARAMS, backbone=BACKBONE, seamless="z")


def test_maps_have_joint_features() -> None:
    """Diagonal blocks of the Gram matrix are those of each map, the others join them."""
    maps = [jnp.asarray(random_image(seed, 16, 12)) for seed in (1, 2)]
    together = dataclasses.replace(BACKBONE, maps=2)
    joint = together.apply(PARAMS, jnp.concatenate(maps, -1), ["relu2_1"])["relu2_1"]
    each = [BACKBONE.apply(PARAMS, image, ["relu2_1"])["relu2_1"] for image in maps]
    np.testing.assert_allclose(joint, jnp.concatenate(each, -1), atol=1e-5)
    stacked = together.apply(PARAMS, jnp.stack([jnp.concatenate(maps, -1)] * 2), ["relu2_1"])["relu2_1"]
    np.testing.assert_allclose(stacked[1], joint, atol=1e-5)
    with pytest.raises(ImageError, match=r"expected \(..., h, w, 6\)"):
        together.apply(PARAMS, maps[0], ["relu2_1"])


def test_maps_are_synthesised_together() -> None:
    """Equal maps stay equal, and the statistics between maps approach those of the style."""
    start = jnp.asarray(random_image(5, 24, 24))
    given = {"backbone": BACKBONE, "preset": jnst.preset(SETTINGS, learning_rate=3.0), "num_steps": 40}
    pair = jnp.concatenate([STYLE, STYLE], -1)
    equal = jnst.synthesize(pair, (24, 24), PARAMS, init=jnp.tile(start, 2), **given)
    first, second = jnst.rgb_groups(equal.image)
    np.testing.assert_allclose(first, second, atol=1e-4)
    style = jnp.concatenate([STYLE, 1 - STYLE], -1)
    mixed = jnp.concatenate([start, jnp.asarray(random_image(6, 24, 24))], -1)
    made = jnst.synthesize(style, (24, 24), PARAMS, init=mixed, **given)

    def between(image: Any) -> Any:
        one, other = (BACKBONE.apply(PARAMS, part, ["relu1_1"])["relu1_1"] for part in jnst.rgb_groups(image))
        return jnp.einsum("hwc,hwd->cd", one, other) / (one.shape[0] * one.shape[1])

    before, after = (float(jnp.linalg.norm(between(image) - between(style))) for image in (mixed, made.image))
    assert after < 0.5 * before
    with pytest.raises(ImageError, match=r"`style\[1\]` has shape \(20, 26, 3\), expected \(h, w, 6\)"):
        jnst.synthesize([style, STYLE], None, PARAMS, **given)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    params = {f"{layer}/{name}": np.asarray(leaf) for layer, leaves in PARAMS.items() for name, leaf in leaves.items()}
    save_weights(path, Weights("convnet", params, BACKBONE.preprocessing, "test", "none", "MIT", {"widths": WIDTHS}))
    return path


def test_a_material_on_the_command_line(capsys: Any, tmp_path: Path, weights: Path) -> None:
    for name, seed in (("wall_albedo", 1), ("wall_normal", 2)):
        Image.fromarray(np.round(255 * random_image(seed, 20, 24)).astype(np.uint8)).save(tmp_path / f"{name}.png")
    grey = np.round(65535 * random_image(3, 20, 24)[..., 0]).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "wall_roughness.png")
    files = [tmp_path / f"wall_{name}.png" for name in ("albedo", "normal", "roughness")]
    flags = ("--weights", weights, "--style-layers", "relu1_1", "--optimizer", "adam", "--size", 36, "--steps", 2)
    made = run(
        capsys, "synthesize", *files, "--maps", "--seamless", *flags, "--bit-depth", 16, "-o", tmp_path / "new.tif"
    )
    assert made.status == 0
    assert not (tmp_path / "new.tif").exists()
    for name, channels in (("albedo", 3), ("normal", 3), ("roughness", 1)):
        pixels = tifffile.imread(tmp_path / f"new_{name}.tif")
        assert pixels.dtype == np.uint16
        assert pixels.shape == ((32, 32, 3) if channels == 3 else (32, 32))
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / "small.png")
    refused = run(capsys, "synthesize", files[0], tmp_path / "small.png", "--maps", *flags, "-o", tmp_path / "o.png")
    assert refused.only_error().endswith("maps of one material have one size, resize them to it first")
    odd = run(capsys, "synthesize", files[0], *flags, "--seamless", "x", "--shape", "23x21", "-o", tmp_path / "o.png")
    assert "jnst: 23x21 pixels repeat with a faint seam: multiples of 16, such as 16x21, have none" in odd.err
    same = run(capsys, "synthesize", files[0], files[0], "--maps", *flags, "-o", tmp_path / "o.png")
    assert "need different names" in same.only_error()
    covers = run(capsys, "synthesize", *files, "--maps", *flags, "-o", tmp_path / "wall.png")
    assert "is also the input" in covers.only_error()
