"""`jnst.stylize` with a tiny network: sizes, starts, optimisers, continuing, styles, colours, random draws, errors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import compilations, random_image, random_params, same_trees, tiny_backbone

import jnst
from jnst import Solution
from jnst.errors import ArgumentError, ImageError, NumericsError, WeightsError
from jnst.images import KEEP_COLOUR, fit_shape, match_histogram, match_luminance
from jnst.losses import SlicedWasserstein
from jnst.solve import driver
from jnst.transfer.inputs import INITS

pytestmark = pytest.mark.usefixtures("unoptimised")

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
CONTENT, STYLE = random_image(1, 32, 40), random_image(2, 28, 24)
BASE = jnst.preset(style_weight=10.0, optimizer=jnst.LBFGS(memory_size=8), clamp=True, pyramid=False)
PYRAMID = jnst.preset(BASE, pyramid=jnst.Pyramid(min_size=20), num_steps=(4, 3, 2), optimizer=jnst.Adam(2.0))
SHAPES = [(16, 20), (22, 28), (32, 40)]


def run(content: Any = CONTENT, style: Any = STYLE, **options: Any) -> Solution:
    return jnst.stylize(content, style, PARAMS, **({"backbone": BACKBONE, "preset": BASE, "num_steps": 4} | options))


def resized(image: Any, height: int, width: int) -> Any:
    return jnst.resize(jnp.asarray(image), (height, width))


def same_run(one: Solution, other: Solution) -> bool:
    """Whether losses and images are equal up to rounding: images may have been resized in another program."""
    if one.losses.shape != other.losses.shape or one.image.shape != other.image.shape:
        return False
    same_losses = np.allclose(one.losses, other.losses, rtol=1e-4, atol=0)
    return same_losses and np.allclose(one.image, other.image, rtol=1e-7, atol=1e-3)


# One size.


def test_the_loss_falls() -> None:
    result = run(num_steps=20)
    assert result.image.shape == CONTENT.shape
    assert result.image.dtype == jnp.float32
    assert 0 <= float(result.image.min()) <= float(result.image.max()) <= 1
    assert result.losses.shape == (20,)
    assert int(result.num_steps) == 20
    assert bool(result.finite)
    assert result.losses[-1] < 0.3 * result.losses[0]
    assert set(result.parts) == {"content/relu2_1", "style/relu1_1", "style/relu2_1", "style/relu3_1"}
    np.testing.assert_allclose(sum(result.parts.values()), result.losses, rtol=1e-5)
    # The run starts from the content image, so at first all of the loss is style.
    assert result.parts["content/relu2_1"][0] < 1e-9


def test_the_first_loss_is_that_of_the_initial_image() -> None:
    objective = BASE.terms.objective(BACKBONE)
    targets = jnst.fit_targets(CONTENT, STYLE, objective, PARAMS, backbone=BACKBONE)
    total, _ = jnst.total_loss(jnp.asarray(CONTENT), objective, targets, PARAMS, backbone=BACKBONE)
    np.testing.assert_allclose(run().losses[0], total, rtol=1e-5)


def test_it_is_a_run_of_jnst_solve() -> None:
    """Written out with the public functions: the same losses and the same image."""
    objective = BASE.terms.objective(BACKBONE)
    targets = jnst.fit_targets(CONTENT, STYLE, objective, PARAMS, backbone=BACKBONE)
    loss, args = jnst.transfer_loss(BACKBONE), (objective, targets, PARAMS)
    solution = jnst.solve.run(loss, BASE.solver, jnp.asarray(CONTENT), args, num_steps=3)
    assert same_run(run(num_steps=3), solution)


def test_the_same_call_gives_the_same_bits() -> None:
    count = compilations(driver._make_steps)
    first, second = run(num_steps=6), run(num_steps=6)
    assert same_trees(first.image, second.image)
    assert same_trees(first.losses, second.losses)
    assert compilations(driver._make_steps) <= count + 1


def test_other_images_and_weights_compile_nothing_again() -> None:
    run()
    count = compilations(driver._make_steps)
    run(random_image(5, 32, 40), random_image(6, 20, 20), preset=jnst.preset(BASE, style_weight=3.0))
    run(preset=jnst.preset(BASE, content_weight=2.0), num_steps=2)
    assert compilations(driver._make_steps) == count


def test_fresh_but_equal_optax_transformations_compile_once() -> None:
    """Other learning rates, too."""
    settings = jnst.preset(BASE, clamp=False)
    run(preset=settings, optimizer=optax.adam(0.01), num_steps=1)
    count = compilations(driver._make_steps)
    ends = [run(preset=settings, optimizer=optax.adam(rate), num_steps=3) for rate in (0.01, 0.01, 0.02)]
    assert compilations(driver._make_steps) == count
    assert same_trees(ends[0].image, ends[1].image)
    assert not same_trees(ends[0].image, ends[2].image)


@pytest.mark.parametrize("init", INITS)
def test_starts(init: str) -> None:
    result = run(init=init, num_steps=0, key=jax.random.key(3), preset=jnst.preset(BASE, noise_std=0.1))
    expected = {
        "content": CONTENT,
        "style": resized(STYLE, 32, 40),
        "noise": jnst.images.noise(jax.random.key(3), (32, 40), 0.1, 1.5),
    }[init]
    np.testing.assert_array_equal(result.image, expected)
    assert result.losses.shape == (0,)
    assert result.parts == {}


def test_a_start_from_an_image_of_another_size() -> None:
    result = run(init=random_image(9, 16, 20).astype(np.float64), num_steps=0)
    np.testing.assert_array_equal(result.image, resized(random_image(9, 16, 20), 32, 40))


def test_noise_depends_on_the_key_alone() -> None:
    default, zero, one = (run(init="noise", num_steps=0, key=key).image for key in (None, *map(jax.random.key, (0, 1))))
    assert same_trees(default, zero)
    assert not same_trees(zero, one)


def test_any_optax_transformation() -> None:
    """It sees the image in [0, 1], whatever the preset's unit is."""
    settings = jnst.preset(BASE, clamp=False)
    result = run(optimizer=optax.sgd(0.0), preset=settings)
    np.testing.assert_array_equal(result.image, CONTENT)
    # Adam's eps is in units of the gradient, which is 255 times smaller with respect to grey levels.
    result = run(optimizer=optax.adam(0.01, eps=255e-8), preset=settings, num_steps=1, init="noise")
    start = run(num_steps=0, init="noise").image
    np.testing.assert_allclose(np.median(np.abs(result.image - start)), 0.01, rtol=1e-3)
    ours = run(optimizer=jnst.Adam(2.55), preset=settings, num_steps=1, init="noise")
    np.testing.assert_allclose(ours.image, result.image, atol=1e-5)


def test_optimisers_by_name() -> None:
    assert same_trees(run(optimizer="adam").image, run(optimizer=jnst.Adam()).image)
    assert not same_trees(run(optimizer="adam").image, run().image)


def test_clipping_and_the_best_image() -> None:
    """Reports show images in [0, 1]; their states say whether the run itself is clipped."""
    ranges: list[tuple[float, float]] = []

    def callback(report: jnst.Report) -> None:
        assert report.state is not None
        ranges.append((float(report.state.image.min()), float(report.state.image.max())))
        assert 0 <= float(report.image.min()) <= float(report.image.max()) <= 1

    for clamp in (False, True):
        run(preset=jnst.preset(BASE, clamp=clamp), optimizer=jnst.Adam(80.0), callback=callback)
    inside = [low >= 0 and high <= 1 for low, high in ranges]
    assert not all(inside[:4])
    assert all(inside[4:])
    best = run(preset=jnst.preset(BASE, keep_best=True), optimizer=jnst.Adam(200.0), num_steps=5)
    picked = run(optimizer=jnst.Adam(200.0), num_steps=int(np.argmin(best.losses)))
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


def test_an_objective_of_ones_own() -> None:
    objective = jnst.make_objective(content_layers=["relu1_1"], content_weight=4.0)
    result = run(objective=objective, init="style")
    assert list(result.parts) == ["content/relu1_1"]
    doubled = run(objective=jax.tree.map(lambda weight: 2 * weight, objective), init="style")
    np.testing.assert_allclose(doubled.losses[0], 2 * result.losses[0], rtol=1e-5)


def test_a_presets_pooling_is_used() -> None:
    options = {"content_layers": ("relu2_1",), "style_layers": ("relu1_1",), "init": "style"}
    preset = {name: jnst.preset("gatys2016", pooling=name, **options) for name in ("avg", "max")}
    first = {name: run(preset=value, num_steps=1, init=None).losses[0] for name, value in preset.items()}
    unset = jnst.preset(preset["max"], pooling=None)
    averaging = jnst.stylize(CONTENT, STYLE, PARAMS, backbone=tiny_backbone("avg"), preset=unset, num_steps=1)
    assert first["avg"] == averaging.losses[0]
    assert first["avg"] != first["max"]


def test_half_and_double_precision_images() -> None:
    single = run(CONTENT.astype(np.float16).astype(np.float32), num_steps=2)
    assert same_trees(run(CONTENT.astype(np.float16), num_steps=2).image, single.image)
    assert same_trees(run(CONTENT.astype(np.float64), num_steps=2).image, run(num_steps=2).image)


def test_half_precision_weights() -> None:
    """Features in bfloat16; the image, the losses and the optimiser's state stay float32."""
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), PARAMS)
    result = jnst.stylize(CONTENT, STYLE, params, backbone=BACKBONE, preset=BASE, num_steps=12)
    assert result.image.dtype == jnp.float32
    assert result.losses.dtype == np.float32
    np.testing.assert_allclose(result.losses[0], run().losses[0], rtol=0.05)
    assert result.losses[-1] < 0.5 * result.losses[0]


# Several sizes.


def test_sizes_of_a_pyramid() -> None:
    shapes: list[tuple[int, ...]] = []
    steps: list[int] = []
    scales: list[int] = []

    def callback(report: jnst.Report) -> None:
        shapes.append(report.image.shape[:2])
        steps.append(report.first)
        scales.append(report.scale)
        assert (report.runs, report.num_steps, report.last) == ((0,), 9, report.first)
        assert report.losses.shape == report.parts["style/relu1_1"].shape == (1,)
        assert report.seconds > 0

    result = run(preset=PYRAMID, num_steps=None, callback=callback)
    assert shapes == [SHAPES[0]] * 4 + [SHAPES[1]] * 3 + [SHAPES[2]] * 2
    assert steps == list(range(1, 10))
    assert scales == [0] * 4 + [1] * 3 + [2] * 2
    assert result.image.shape == CONTENT.shape
    assert result.losses.shape == (9,)
    assert {len(part) for part in result.parts.values()} == {9}


def test_the_image_of_the_last_report_is_the_result() -> None:
    """Clipped, averaged, and with the content's colours."""
    seen: list[np.ndarray] = []
    settings = jnst.preset(PYRAMID, average=0.9, keep_color="luminance", clamp=False)
    result = run(preset=settings, num_steps=None, callback=lambda report: seen.append(np.asarray(report.image)))
    np.testing.assert_array_equal(seen[-1], result.image)


def test_a_pyramid_is_a_run_at_each_size() -> None:
    """By hand: both images are reduced alike, and every run starts from the enlarged result of the one before."""
    whole = run(preset=PYRAMID, num_steps=None)
    image, losses = None, []
    for (height, width), num_steps in zip(SHAPES, (4, 3, 2), strict=True):
        style = resized(STYLE, *fit_shape((28, 24), 28 * width / 40))
        settings = jnst.preset(PYRAMID, pyramid=False)
        part = run(resized(CONTENT, height, width), style, preset=settings, num_steps=num_steps, init=image)
        image = part.image
        losses.append(part.losses)
    np.testing.assert_allclose(whole.losses, np.concatenate(losses), rtol=1e-4)
    assert image is not None
    np.testing.assert_allclose(whole.image, image, atol=1e-3)


def test_a_pyramid_leaves_out_sizes_that_are_too_small_for_the_network() -> None:
    """A narrow image and a small style run at the sizes that they allow."""
    content, style = random_image(0, 20, 160), random_image(1, 20, 20)
    backbone = jnst.make_backbone("convnet", widths=((4,), (4,), (4,), (4,), (4,)))
    settings = jnst.preset("jnst", pyramid=jnst.Pyramid(factor=2.0, min_size=40), num_steps=(1,))
    solution = jnst.stylize(content, style, random_params(backbone), backbone=backbone, preset=settings)
    assert solution.image.shape == (20, 160, 3)
    assert len(solution.losses) == 1


# Continuing, and runs that fail.


@pytest.mark.parametrize("stop", [2, 4, 6, 9])
def test_continuing_across_a_pyramid(stop: int) -> None:
    """Stopped within the first size, at its end, within the second size, and at the very end: bit for bit."""
    whole = run(preset=PYRAMID, num_steps=None)
    seen: list[int] = []
    part = run(preset=PYRAMID, num_steps=None, callback=lambda report: report.first == stop)
    rest = run(preset=PYRAMID, num_steps=None, state=part.state, callback=lambda report: seen.append(report.first))
    assert part.losses.shape == (stop,)
    assert int(part.num_steps) == stop
    assert bool(part.finite)
    np.testing.assert_array_equal(np.concatenate([part.losses, rest.losses]), whole.losses)
    assert same_trees(rest.image, whole.image)
    assert same_trees(rest.state, whole.state)
    assert seen == list(range(stop + 1, 10))


def test_continuing_with_more_steps() -> None:
    whole, part = run(num_steps=7), run(num_steps=3)
    rest = run(num_steps=7, state=part.state)
    assert same_trees(rest.image, whole.image)
    np.testing.assert_array_equal(np.concatenate([part.losses, rest.losses]), whole.losses)


def test_a_state_can_be_continued_more_than_once() -> None:
    part = run(num_steps=3)
    ends = [run(num_steps=5, state=part.state) for _ in range(2)]
    assert same_trees(ends[0].state, ends[1].state)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            lambda: run(random_image(1, 30, 40)).state,
            r"`state` holds an image of \(30, 40\), .* \[\(32, 40\)\]: .*same",
        ),
        (lambda: run(optimizer=jnst.Adam()).state, r"`state` belongs to another run \(it lacks `\.optimizer.*same"),
        (
            lambda: run(optimizer=jnst.LBFGS(memory_size=4)).state,
            r"`state` belongs to another run \(.*\(4, 32, 40, 3\)",
        ),
        (lambda: {"image": CONTENT}, "`state` is no state of a run: expected `Solution.state`"),
        (lambda: run().image, "`state` is no state of a run: expected `Solution.state`"),
    ],
)
def test_a_state_of_another_run(state: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{message}"):
        run(state=state())


def explosive(steps: int) -> optax.GradientTransformation:
    """An optimiser whose updates are infinite after some steps."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        step = lambda leaf: jnp.where(state >= steps, jnp.inf, -0.01 * jnp.sign(leaf))  # noqa: E731
        return jax.tree.map(step, updates), state + 1

    return optax.GradientTransformation(lambda params: jnp.int32(0), update)


def test_a_run_that_is_no_longer_finite_keeps_its_last_finite_image() -> None:
    settings = jnst.preset(BASE, clamp=False)
    with pytest.raises(NumericsError, match="the image stopped being finite at step 4") as caught:
        run(preset=settings, optimizer=explosive(3), num_steps=8)
    result = caught.value.result
    assert isinstance(result, Solution)
    assert not bool(result.finite)
    good = run(preset=settings, optimizer=explosive(3), num_steps=3)
    assert same_trees(result.image, good.image)
    np.testing.assert_array_equal(result.losses[:3], good.losses)
    with pytest.raises(NumericsError, match="this state comes from a run that already failed"):
        run(preset=settings, optimizer=explosive(3), num_steps=9, state=result.state)


def test_weights_that_are_not_finite_name_the_terms() -> None:
    params = dict(PARAMS) | {"conv3_1": jax.tree.map(lambda leaf: leaf * jnp.nan, PARAMS["conv3_1"])}
    with pytest.raises(NumericsError, match=r"term style/relu3_1 stopped being finite at step 1") as caught:
        jnst.stylize(CONTENT, STYLE, params, backbone=BACKBONE, preset=BASE, num_steps=4)
    np.testing.assert_array_equal(caught.value.result.image, CONTENT)


# Sizes of the images, several styles, and the content's colours.

SHALLOW = jnst.make_backbone("convnet", widths=((4,), (6,)), pooling="avg")
SHALLOW_PARAMS = random_params(SHALLOW)
DULL = (0.35 + 0.3 * random_image(1, 24, 30)).astype(np.float32)
STYLES = [random_image(2, 22, 18), random_image(3, 18, 18)]
QUICK = jnst.preset(
    content_layers=("conv1_1",), style_layers=("relu1_1",), optimizer=jnst.Adam(8.0), pyramid=None, num_steps=3
)
TWO_SIZES = jnst.preset(QUICK, pyramid=jnst.Pyramid(2.0, min_size=15), num_steps=2)

YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def paint(content: Any = DULL, style: Any = STYLES[0], **options: Any) -> Solution:
    return jnst.stylize(content, style, SHALLOW_PARAMS, **({"backbone": SHALLOW, "preset": QUICK} | options))


def mean_and_covariance(image: Any) -> tuple[np.ndarray, np.ndarray]:
    colours = np.asarray(image, np.float64).reshape(-1, 3)
    return colours.mean(0), np.cov(colours.T, bias=True)


def test_the_size_is_the_longer_side_of_the_result() -> None:
    """The content is reduced to 20 pixels; so is a style that is longer, and a smaller one keeps its size."""
    result = paint(size=20)
    assert result.image.shape == (16, 20, 3)
    assert same_run(result, paint(resized(DULL, 16, 20), resized(STYLES[0], *fit_shape((22, 18), 20))))
    assert same_run(paint(style=STYLES[1], size=20), paint(resized(DULL, 16, 20), STYLES[1]))
    assert paint(size=40, num_steps=0).image.shape == (32, 40, 3)


def test_the_style_scale_makes_the_style_smaller_or_larger() -> None:
    half = jnst.preset(QUICK, style_scale=0.5)
    assert not same_run(paint(preset=half), paint())
    assert same_run(paint(preset=half), paint(style=resized(STYLES[0], 11, 9)))
    # With a size, the style's longer side is that times the scale.
    reduced = resized(STYLES[0], *fit_shape((22, 18), 10))
    assert same_run(paint(preset=half, size=20), paint(resized(DULL, 16, 20), reduced))
    double, small = jnst.preset(QUICK, style_scale=2.0), resized(STYLES[0], 11, 9)
    assert same_run(paint(preset=double, style=small), paint(style=resized(small, 22, 18)))


@pytest.mark.parametrize("fixed", [False, True])
def test_a_fixed_style_keeps_its_size_while_the_image_grows(fixed: bool) -> None:
    """Seen in the losses at the smaller of two sizes, 12x15."""
    result = paint(preset=jnst.preset(TWO_SIZES, fixed_style=fixed))
    alone = paint(resized(DULL, 12, 15), STYLES[0] if fixed else resized(STYLES[0], 11, 9), num_steps=2)
    np.testing.assert_allclose(result.losses[:2], alone.losses, rtol=1e-4)


def test_a_style_is_not_made_smaller_than_the_network_allows() -> None:
    deep = jnst.preset(TWO_SIZES, style_layers=("relu2_1",), style_scale=0.05)
    assert np.isfinite(paint(preset=deep).losses).all()


def test_several_styles() -> None:
    """Only proportions of weights matter, and a style of weight 0 has no effect."""
    assert same_run(paint(style=STYLES, style_weights=(0.0, 2.0)), paint(style=STYLES[1]))
    mixed, other = paint(style=STYLES, style_weights=(1, 3)), paint(style=STYLES[::-1], style_weights=(15, 5))
    assert same_run(mixed, other)
    assert same_run(paint(style=STYLES), paint(style=tuple(STYLES), style_weights=[2.0, 2.0]))
    first = [paint(style=STYLES, style_weights=weights).losses[0] for weights in ((1, 0), (1, 1), (0, 1))]
    assert len(set(first)) == 3
    assert set(mixed.parts) == {"content/conv1_1", "style/relu1_1"}


def test_a_start_from_the_style_is_from_the_first_style() -> None:
    assert same_trees(paint(style=STYLES, init="style", num_steps=0).image, resized(STYLES[0], 24, 30))


@pytest.mark.parametrize("keep", ["luminance", "luminance-only"])
@pytest.mark.parametrize("size", [None, 20])
def test_luminance_keeps_the_contents_chroma(keep: str, size: int | None) -> None:
    result = paint(keep_color=keep, size=size)
    content = DULL if size is None else resized(DULL, 16, 20)
    ours, theirs = (np.asarray(image, np.float64) @ YIQ.T for image in (result.image, content))
    np.testing.assert_allclose(ours[..., 1:], theirs[..., 1:], rtol=0, atol=1 / 255)
    assert np.abs(ours[..., 0] - theirs[..., 0]).max() > 10 / 255


def test_other_colour_spaces_keep_other_chroma() -> None:
    images = [paint(keep_color=keep).image for keep in ("luminance", "lab", "oklab")]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(images[one] - images[other]).max() > 1 / 255
    # The content's mean colour, roughly, and none of the style's.
    for image in images:
        np.testing.assert_allclose(np.ptp(np.mean(image, (0, 1))), np.ptp(np.mean(DULL, (0, 1))), atol=0.05)


def test_matching_afterwards_gives_the_contents_mean_and_covariance() -> None:
    result = paint(keep_color="match-after")
    (mean, covariance), (goal_mean, goal_covariance) = map(mean_and_covariance, (result.image, DULL))
    assert 0 < np.min(result.image) < np.max(result.image) < 1
    np.testing.assert_allclose(mean, goal_mean, atol=1e-4)
    np.testing.assert_allclose(covariance, goal_covariance, atol=1e-5)
    assert np.abs(mean_and_covariance(paint().image)[0] - goal_mean).max() > 0.01
    # It happens after the run, whose losses are the same.
    assert same_trees(result.losses, paint().losses)


@pytest.mark.parametrize(
    ("keep", "change"),
    [
        ("match", match_histogram),
        ("match-cholesky", lambda style, content: match_histogram(style, content, "cholesky")),
        ("match-pca", lambda style, content: match_histogram(style, content, "pca")),
        ("luminance-only", match_luminance),
    ],
)
def test_styles_that_are_changed_beforehand(keep: str, change: Any) -> None:
    """Every one of several."""
    styles = [change(jnp.asarray(style), jnp.asarray(DULL)) for style in STYLES]
    assert same_trees(paint(style=STYLES, keep_color=keep).losses, paint(style=styles).losses)


def test_an_argument_overrides_the_presets_way_to_keep_colours() -> None:
    kept = paint(preset=jnst.preset(QUICK, keep_color="match-after"))
    assert same_trees(kept.image, paint(keep_color="match-after").image)
    other = paint(preset=jnst.preset(QUICK, keep_color="match-after"), keep_color="luminance")
    assert same_trees(other.image, paint(keep_color="luminance").image)


def test_a_run_that_fails_or_is_stopped_keeps_colours_too() -> None:
    """In a pyramid it may be stopped at any size."""
    stopped = paint(preset=TWO_SIZES, keep_color="luminance", callback=lambda report: True)
    assert stopped.image.shape == (12, 15, 3)
    with pytest.raises(NumericsError) as caught:
        paint(optimizer=explosive(1), keep_color="luminance")
    for image, content in ((stopped.image, resized(DULL, 12, 15)), (caught.value.result.image, DULL)):
        ours, theirs = (np.asarray(each, np.float64) @ YIQ.T for each in (image, content))
        np.testing.assert_allclose(ours[..., 1:], theirs[..., 1:], rtol=0, atol=1 / 255)


# Stochastic losses: what they draw depends on the key, the size, the term and the step alone.

SMALL = random_image(1, 16, 20), random_image(2, 14, 18)
RANDOM = jnst.preset(
    content_layers=(),
    style_layers=("relu1_1",),
    style_loss=SlicedWasserstein(directions=2),
    optimizer=jnst.Adam(2.0),
    pyramid=jnst.Pyramid(2.0, min_size=10),
    num_steps=(3, 4),
)
FLAT = jnst.preset(RANDOM, pyramid=None, num_steps=6)
STILL = optax.sgd(0.0)


def draw(settings: jnst.Preset = RANDOM, content: Any = SMALL[0], **options: Any) -> Solution:
    return jnst.stylize(content, SMALL[1], SHALLOW_PARAMS, backbone=SHALLOW, preset=settings, **options)


def test_every_step_draws_anew() -> None:
    """The image stands still, but the loss does not."""
    losses = draw(FLAT, optimizer=STILL).losses
    assert len(set(losses.tolist())) == 6
    gram = draw(jnst.preset(FLAT, style_loss=jnst.Gram()), optimizer=STILL).losses
    assert len(set(gram.tolist())) == 1


def test_every_size_draws_anew() -> None:
    """At two sizes of the same flat image, with the same style."""
    settings = jnst.preset(RANDOM, num_steps=1, fixed_style=True, style_layers=("image",))
    grey = jnp.full((16, 20, 3), 0.5)
    losses = draw(settings, grey, optimizer=STILL).losses
    assert losses[0] != pytest.approx(losses[1], rel=1e-2)
    losses = draw(jnst.preset(settings, style_loss=jnst.Gram()), grey, optimizer=STILL).losses
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_keys() -> None:
    one, again, other = (draw(FLAT, optimizer=STILL, key=jax.random.key(seed)).losses for seed in (3, 3, 4))
    assert same_trees(one, again)
    assert not np.isin(one, other).any()


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_continuing_a_stochastic_run(stop: int) -> None:
    """Within a size, between two, and within the second, bit for bit."""
    whole = draw(key=jax.random.key(9))
    part = draw(key=jax.random.key(9), callback=lambda report: report.first == stop)
    rest = draw(key=jax.random.key(9), state=part.state)
    np.testing.assert_array_equal(np.concatenate([part.losses, rest.losses]), whole.losses)
    assert same_trees(rest.state, whole.state)


def test_chunks_of_several_steps_draw_the_same() -> None:
    single, chunked = draw(FLAT, chunk=1), draw(FLAT, chunk=5)
    np.testing.assert_allclose(chunked.losses, single.losses, rtol=1e-4)
    np.testing.assert_allclose(chunked.image, single.image, atol=1e-3)


def test_a_stochastic_loss_falls_all_the_same() -> None:
    losses = draw(FLAT, num_steps=60).losses
    assert losses[-10:].mean() < 0.3 * losses[:10].mean()


# Errors.


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ((CONTENT.transpose(2, 0, 1), STYLE), r"`content` has shape \(3, 32, 40\)"),
        ((CONTENT, (STYLE * 255).astype(np.uint8)), "`style` has dtype uint8"),
        ((CONTENT * 255, STYLE), "`content` looks like 0-255"),
        ((CONTENT[None], STYLE), r"`content` has shape \(1, 32, 40, 3\)"),
        (
            (CONTENT[:3], STYLE),
            "the result would be 40x3 pixels, but relu3_1 of tiny needs at least 4x4: it needs `size` 54",
        ),
    ],
)
def test_arrays_that_are_not_images(images: tuple[np.ndarray, np.ndarray], message: str) -> None:
    with pytest.raises(ImageError, match=message):
        run(*images, preset=jnst.preset(BASE, content_layers=("relu3_1",)))


def test_a_start_that_is_not_an_image() -> None:
    with pytest.raises(ImageError, match="`init` looks like 0-255"):
        run(init=CONTENT * 255)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"preset": "neural-stile"},
            ArgumentError,
            "unknown preset 'neural-stile': did you mean neural-style or .*neural-style-pt",
        ),
        ({"init": "contents"}, ArgumentError, "init 'contents' is unknown: choose one of content, style, noise"),
        ({"num_steps": -1}, ArgumentError, r"num_steps \(-1,\): expected whole numbers of at least 0"),
        ({"num_steps": ()}, ArgumentError, r"num_steps \(\): expected"),
        ({"chunk": 0}, ArgumentError, "chunk 0: expected"),
        ({"optimizer": jnst.Adam(0.0)}, ArgumentError, r"learning rate 0\.0"),
        ({"optimizer": "adma"}, ArgumentError, "unknown optimizer 'adma': did you mean adam"),
        ({"size": 0}, ArgumentError, "size 0: expected the longer side in pixels, at least 1"),
        ({"size": float("nan")}, ArgumentError, "size nan: expected"),
        ({"keep_color": "luminanc"}, ArgumentError, "unknown keep_color 'luminanc': did you mean luminance or lum"),
        ({"keep_color": "xyz"}, ArgumentError, f"unknown keep_color 'xyz': expected one of {', '.join(KEEP_COLOUR)}$"),
        ({"preset": jnst.preset(BASE, style_scale=0.0)}, ArgumentError, r"style_scale 0\.0: expected a positive"),
        ({"preset": jnst.preset(BASE, content_layers=("relu3_2",))}, WeightsError, "layer relu3_2 .* beyond these w"),
        (
            {"preset": jnst.preset(BASE, style_layers=("relu1-1",))},
            ArgumentError,
            "tiny has no layer 'relu1-1': did you mean relu1_1",
        ),
        ({"preset": jnst.preset(BASE, style_weight=float("nan"))}, ArgumentError, "style weight nan"),
        ({"backbone": None}, ArgumentError, "`params` and `backbone` belong together"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^.*{message}"):
        run(**options)


TRANSFORMED: dict[str, Any] = {
    "jit": lambda: jax.jit(run)(CONTENT, STYLE),
    "jit of nothing": lambda: jax.jit(lambda: run().image)(),
    "vmap over styles": lambda: jax.vmap(lambda style: run(style=style).image)(jnp.stack([STYLE, STYLE])),
    "vmap over keys": lambda: jax.vmap(lambda key: run(key=key).image)(jax.random.split(jax.random.key(0))),
    "vmap over objectives": lambda: jax.vmap(
        lambda weight: run(objective=jnst.make_objective(content_layers=["relu1_1"], content_weight=weight)).image
    )(jnp.ones(2)),
    "vmap over learning rates": lambda: jax.vmap(lambda rate: run(optimizer=jnst.Adam(rate)).image)(jnp.ones(2)),
    "vmap over style weights": lambda: jax.vmap(lambda weights: run(style=STYLES, style_weights=weights).image)(
        jnp.ones((2, 2))
    ),
    "jit of parameters": lambda: jax.jit(lambda params: jnst.stylize(CONTENT, STYLE, params, backbone=BACKBONE))(
        PARAMS
    ),
    "grad": lambda: jax.grad(lambda content: run(content).image.sum())(jnp.asarray(CONTENT)),
    "a batch under vmap": lambda: jax.vmap(
        lambda style: jnst.stylize_batch([CONTENT], [style], PARAMS, backbone=BACKBONE).image
    )(jnp.stack([STYLE, STYLE])),
    "a sweep under jit": lambda: jax.jit(
        lambda params: jnst.sweep(CONTENT, STYLE, {"seed": (1,)}, params, backbone=BACKBONE).image
    )(PARAMS),
    "a texture under jit": lambda: jax.jit(lambda style: jnst.synthesize(style).image)(STYLE),
    "a reconstruction under jit": lambda: jax.jit(lambda content: jnst.reconstruct(content).image)(CONTENT),
}


@pytest.mark.parametrize("name", TRANSFORMED)
def test_transformations_of_jax_are_pointed_to_the_pure_run(name: str) -> None:
    with pytest.raises(ArgumentError, match=r"jnst\.solve\.run"):
        TRANSFORMED[name]()
