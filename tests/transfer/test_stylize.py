"""Whole runs with a tiny network: sizes, starts, pyramids, stopping, going on, and messages."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import compilations, random_image, random_params, same_trees, tiny_backbone

import jnst
from jnst.errors import ImageError, JnstError, NumericsError, WeightsError
from jnst.solve import run as optimize
from jnst.transfer.inputs import INITS
from jnst.transfer.stylize import Solution, stylize

pytestmark = pytest.mark.usefixtures("unoptimised")

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
CONTENT, STYLE = random_image(1, 32, 40), random_image(2, 28, 24)
BASE = jnst.preset(
    style_weight=10.0, optimizer=jnst.LBFGS(memory_size=8), clamp=True, average=0.0, keep_best=False, pyramid=None
)
PYRAMID = jnst.preset(BASE, pyramid=jnst.Pyramid(min_size=20), num_steps=(4, 3, 2), optimizer=jnst.Adam(2.0))
SHAPES = [(16, 20), (22, 28), (32, 40)]


def run(content: Any = CONTENT, style: Any = STYLE, **options: Any) -> Solution:
    return stylize(content, style, PARAMS, **({"backbone": BACKBONE, "preset": BASE, "num_steps": 4} | options))


def test_the_loss_falls() -> None:
    result = run(num_steps=20)
    assert result.image.shape == CONTENT.shape
    assert result.image.dtype == jnp.float32
    assert 0 <= float(result.image.min()) <= float(result.image.max()) <= 1
    assert result.losses.shape == (20,)
    assert result.losses[-1] < 0.3 * result.losses[0]
    assert set(result.parts) == {"content/relu2_1", "style/relu1_1", "style/relu2_1", "style/relu3_1"}
    np.testing.assert_allclose(sum(result.parts.values()), result.losses, rtol=1e-5)
    # From the content image, all that is lost at first is style.
    assert result.parts["content/relu2_1"][0] < 1e-9


def test_the_first_loss_is_that_of_the_start() -> None:
    settings = BASE
    objective = settings.objective(BACKBONE)
    targets = jnst.fit_targets(objective, PARAMS, CONTENT, STYLE, backbone=BACKBONE)
    total, _ = jnst.total_loss(jnp.asarray(CONTENT), objective, targets, PARAMS, backbone=BACKBONE)
    np.testing.assert_allclose(run().losses[0], total, rtol=1e-5)


def test_the_same_call_gives_the_same_bits() -> None:
    count = compilations(optimize.advance)
    first, second = run(num_steps=6), run(num_steps=6)
    assert same_trees(first.image, second.image)
    assert same_trees(first.losses, second.losses)
    assert compilations(optimize.advance) <= count + 1


def test_other_images_and_weights_compile_nothing_again() -> None:
    run()
    count = compilations(optimize.advance)
    run(random_image(5, 32, 40), random_image(6, 20, 20), preset=jnst.preset(BASE, style_weight=3.0))
    assert compilations(optimize.advance) == count


@pytest.mark.parametrize("init", INITS)
def test_starts(init: str) -> None:
    result = run(init=init, num_steps=0, key=jax.random.key(3), preset=jnst.preset(BASE, noise_std=0.1))
    key, settings = jax.random.key(3), jnst.preset(BASE, noise_std=0.1)
    expected = {
        "content": CONTENT,
        "style": jnst.resize(jnp.asarray(STYLE), (32, 40)),
        "noise": jnst.images.noise(key, (32, 40), settings.noise_std),
    }[init]
    np.testing.assert_array_equal(result.image, expected)
    assert result.losses.shape == (0,)
    assert result.parts == {}


def test_start_from_a_image_of_another_size() -> None:
    result = run(init=random_image(9, 16, 20).astype(np.float64), num_steps=0)
    np.testing.assert_array_equal(result.image, jnst.resize(jnp.asarray(random_image(9, 16, 20)), (32, 40)))


def test_noise_depends_on_the_key_alone() -> None:
    default, zero, one = (run(init="noise", num_steps=0, key=key).image for key in (None, *map(jax.random.key, (0, 1))))
    assert same_trees(default, zero)
    assert not same_trees(zero, one)


def test_any_optax_transformation() -> None:
    """It sees the image in [0, 1], without units."""
    settings = jnst.preset(BASE, clamp=False)
    result = run(optimizer=optax.sgd(0.0), preset=settings)
    np.testing.assert_array_equal(result.image, CONTENT)
    # Adam's ε is in units of the gradient, which is 255 times smaller by grey levels.
    result = run(optimizer=optax.adam(0.01, eps=255e-8), preset=settings, num_steps=1, init="noise")
    start = run(num_steps=0, init="noise").image
    np.testing.assert_allclose(np.median(np.abs(result.image - start)), 0.01, rtol=1e-3)
    ours = run(optimizer=jnst.Adam(2.55), preset=settings, num_steps=1, init="noise")
    np.testing.assert_allclose(ours.image, result.image, atol=1e-5)


def test_clamp_average_and_best() -> None:
    seen: list[np.ndarray] = []
    free, bounded = jnst.preset(BASE, clamp=False), jnst.preset(BASE, clamp=True)
    for settings in (free, bounded):
        run(preset=settings, optimizer=jnst.Adam(80.0), callback=lambda report: seen.append(np.asarray(report.image)))
    ranges = [(image.min() >= 0 and image.max() <= 1) for image in seen]
    assert not all(ranges[:4])
    assert all(ranges[4:])
    best = run(preset=jnst.preset(BASE, keep_best=True), optimizer=jnst.Adam(200.0), num_steps=5)
    picked = run(preset=BASE, optimizer=jnst.Adam(200.0), num_steps=int(np.argmin(best.losses)))
    np.testing.assert_array_equal(best.image, picked.image)


@pytest.mark.parametrize(("content", "style"), [((7, 41), (31, 37)), ((4, 4), (13, 9))])
def test_odd_sizes(content: tuple[int, int], style: tuple[int, int]) -> None:
    result = run(random_image(1, *content), random_image(2, *style), num_steps=3)
    assert result.image.shape == (*content, 3)
    assert np.isfinite(result.losses).all()


@pytest.mark.parametrize("optimizer", [jnst.LBFGS(), jnst.Adam()])
@pytest.mark.parametrize("fill", [0.0, 0.5, 1.0, None])
def test_flat_images_and_a_style_equal_to_the_content(optimizer: Any, fill: float | None) -> None:
    image = CONTENT if fill is None else np.full_like(CONTENT, fill)
    result = run(image, image, optimizer=optimizer)
    assert np.isfinite(result.image).all()
    assert np.isfinite(result.losses).all()
    assert result.losses[0] < 1e-9


def test_sizes_of_a_pyramid() -> None:
    shapes: list[tuple[int, ...]] = []
    steps: list[int] = []

    def callback(report: optimize.Report) -> None:
        shapes.append(report.image.shape[:2])
        steps.append(report.first)
        assert report.num_steps == 9

    result = run(preset=PYRAMID, num_steps=None, callback=callback)
    assert shapes == [SHAPES[0]] * 4 + [SHAPES[1]] * 3 + [SHAPES[2]] * 2
    assert steps == list(range(1, 10))
    assert result.image.shape == CONTENT.shape
    assert result.losses.shape == (9,)
    assert {len(part) for part in result.parts.values()} == {9}


def test_a_pyramid_is_a_run_at_each_size() -> None:
    """By hand: both images reduced alike, and every run started from the enlarged result of the one before."""
    whole = run(preset=PYRAMID, num_steps=None)
    image, losses = None, []
    for (height, width), num_steps in zip(SHAPES, (4, 3, 2), strict=True):
        scale = width / 40
        style_shape = jnst.images.fit_shape((28, 24), 28 * scale)
        style = jnst.resize(jnp.asarray(STYLE), style_shape)
        content = jnst.resize(jnp.asarray(CONTENT), (height, width))
        settings = jnst.preset(PYRAMID, pyramid=None)
        part = run(content, style, preset=settings, num_steps=num_steps, init=image)
        image = part.image
        losses.append(part.losses)
    np.testing.assert_allclose(whole.losses, np.concatenate(losses), rtol=1e-4)
    assert image is not None
    np.testing.assert_allclose(whole.image, image, atol=1e-3)


@pytest.mark.parametrize("stop", [2, 4, 6, 9])
def test_going_on_across_a_pyramid(stop: int) -> None:
    """Stopped in the first size, at its end, in the second size, and at the very end: bit for bit."""
    whole = run(preset=PYRAMID, num_steps=None)
    seen: list[int] = []
    part = run(preset=PYRAMID, num_steps=None, callback=lambda report: report.first == stop)
    rest = run(preset=PYRAMID, num_steps=None, state=part.state, callback=lambda report: seen.append(report.first))
    assert part.losses.shape == (stop,)
    np.testing.assert_array_equal(np.concatenate([part.losses, rest.losses]), whole.losses)
    assert same_trees(rest.image, whole.image)
    assert same_trees(rest.state, whole.state)
    assert seen == list(range(stop + 1, 10))


def test_going_on_with_more_steps() -> None:
    whole, part = run(num_steps=7), run(num_steps=3)
    rest = run(num_steps=7, state=part.state)
    assert same_trees(rest.image, whole.image)
    np.testing.assert_array_equal(np.concatenate([part.losses, rest.losses]), whole.losses)


def test_a_state_of_another_run() -> None:
    state = run().state
    with pytest.raises(JnstError, match=r"`state` holds an image of \(32, 40\) at size 1 .*\(30, 40\).*same images"):
        run(random_image(1, 30, 40), state=state)
    with pytest.raises(JnstError, match=r"at size 3 of its pyramid"):
        run(state=run(preset=PYRAMID, num_steps=None).state)


def test_not_a_number_keeps_the_image_before() -> None:
    """An optimiser whose fourth update is infinite."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(lambda leaf: jnp.where(state > 2, jnp.inf, -0.01 * jnp.sign(leaf)), updates), state + 1

    optimizer = optax.GradientTransformation(lambda params: jnp.int32(0), update)
    with pytest.raises(NumericsError, match="the image stopped being finite at step 4") as caught:
        run(preset=jnst.preset(BASE, clamp=False), optimizer=optimizer, num_steps=8)
    result = caught.value.result
    assert isinstance(result, Solution)
    good = run(preset=jnst.preset(BASE, clamp=False), optimizer=optimizer, num_steps=3)
    assert same_trees(result.image, good.image)
    np.testing.assert_array_equal(result.losses[:3], good.losses)


def test_weights_that_are_not_finite_name_the_terms() -> None:
    params = dict(PARAMS) | {"conv3_1": jax.tree.map(lambda leaf: leaf * jnp.nan, PARAMS["conv3_1"])}
    with pytest.raises(NumericsError, match=r"term style/relu3_1 stopped being finite at step 1") as caught:
        stylize(CONTENT, STYLE, params, backbone=BACKBONE, preset=BASE, num_steps=4)
    np.testing.assert_array_equal(caught.value.result.image, CONTENT)


@pytest.mark.parametrize(
    ("images", "match"),
    [
        ((CONTENT.transpose(2, 0, 1), STYLE), r"`content` has shape \(3, 32, 40\)"),
        ((CONTENT, (STYLE * 255).astype(np.uint8)), "`style` has dtype uint8"),
        ((CONTENT * 255, STYLE), "`content` looks like 0-255"),
        ((CONTENT[None], STYLE), r"`content` has shape \(1, 32, 40, 3\)"),
        ((CONTENT[:3], STYLE), "`content` is 40x3 pixels, but relu3_1 of tiny needs at least 4x4"),
        ((CONTENT, STYLE[:1, :1]), "`style` is 1x1 pixels, but relu3_1 of tiny needs at least 4x4"),
    ],
)
def test_images_that_are_none(images: tuple[np.ndarray, np.ndarray], match: str) -> None:
    with pytest.raises(ImageError, match=match):
        run(*images, preset=jnst.preset(BASE, content_layers=("relu3_1",)))


def test_a_start_that_is_no_image() -> None:
    with pytest.raises(ImageError, match="`init` looks like 0-255"):
        run(init=CONTENT * 255)


def test_half_and_double_precision_images() -> None:
    single = run(CONTENT.astype(np.float16).astype(np.float32), num_steps=2)
    assert same_trees(run(CONTENT.astype(np.float16), num_steps=2).image, single.image)
    assert same_trees(run(CONTENT.astype(np.float64), num_steps=2).image, run(num_steps=2).image)


def test_half_precision_weights() -> None:
    """Features in bfloat16; image, losses and optimiser stay float32."""
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    result = stylize(CONTENT, STYLE, params, backbone=BACKBONE, preset=BASE, num_steps=12)
    assert result.image.dtype == jnp.float32
    assert result.losses.dtype == np.float32
    np.testing.assert_allclose(result.losses[0], run().losses[0], rtol=0.05)
    assert result.losses[-1] < 0.5 * result.losses[0]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (
            {"preset": "neural-stile"},
            JnstError,
            "unknown preset 'neural-stile': did you mean neural-style or .*neural-style-pt",
        ),
        ({"init": "contents"}, JnstError, "init 'contents' is unknown: choose one of content, style, noise"),
        ({"num_steps": -1}, JnstError, r"num_steps \(-1,\): expected whole numbers of at least 0"),
        ({"num_steps": ()}, JnstError, r"num_steps \(\): expected"),
        ({"chunk": 0}, JnstError, "chunk 0: expected"),
        ({"optimizer": jnst.Adam(0.0)}, JnstError, "learning rate 0.0"),
        ({"preset": jnst.preset(BASE, content_layers=("relu3_2",))}, WeightsError, "beyond these weights, .* relu3_1"),
        (
            {"preset": jnst.preset(BASE, style_layers=("relu1-1",))},
            JnstError,
            "no layer 'relu1-1': did you mean relu1_1",
        ),
        ({"preset": jnst.preset(BASE, style_weight=float("nan"))}, JnstError, "style weight nan"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        run(**options)


def test_an_objective_of_ones_own() -> None:
    objective = jnst.make_objective(content_layers=["relu1_1"], content_weight=4.0)
    result = run(objective=objective, init="style")
    assert list(result.parts) == ["content/relu1_1"]
    doubled = run(objective=jax.tree.map(lambda weight: 2 * weight, objective), init="style")
    np.testing.assert_allclose(doubled.losses[0], 2 * result.losses[0], rtol=1e-5)
