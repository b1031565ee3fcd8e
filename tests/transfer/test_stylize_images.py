"""Sizes of the images of a run, several styles, and ways to keep the content's colours."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import random_image, random_params, same_trees

import jnst
from jnst.errors import JnstError, NumericsError
from jnst.images import fit_shape, match_histogram, match_luminance
from jnst.images.keep_colour import KEEP_COLOUR
from jnst.transfer.stylize import Solution, stylize

pytestmark = pytest.mark.usefixtures("unoptimised")
BACKBONE = jnst.make_backbone("convnet", widths=((4,), (6,)), pooling="avg")
PARAMS = random_params(BACKBONE)
CONTENT = (0.35 + 0.3 * random_image(1, 24, 30)).astype(np.float32)
STYLES = [random_image(2, 22, 18), random_image(3, 18, 18)]
STYLE = STYLES[0]
BASE = jnst.preset(
    content_layers=("conv1_1",), style_layers=("relu1_1",), optimizer=jnst.Adam(8.0), pyramid=None, num_steps=(3,)
)
PYRAMID = jnst.preset(BASE, pyramid=jnst.Pyramid(2.0, min_size=15), num_steps=(2,))

YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def run(content: Any = CONTENT, style: Any = STYLE, **options: Any) -> Solution:
    return stylize(content, style, PARAMS, **({"backbone": BACKBONE, "preset": BASE} | options))


def resized(image: Any, height: int, width: int) -> Any:
    return jnst.resize(jnp.asarray(image), (height, width))


def same_run(one: Solution, other: Solution) -> bool:
    """Whether losses and images are equal to rounding: images may have been resized within another program."""
    if one.losses.shape != other.losses.shape or one.image.shape != other.image.shape:
        return False
    same_losses = np.allclose(one.losses, other.losses, rtol=1e-4, atol=0)
    return same_losses and np.allclose(one.image, other.image, rtol=1e-7, atol=1e-3)


def mean_and_covariance(image: Any) -> tuple[np.ndarray, np.ndarray]:
    colours = np.asarray(image, np.float64).reshape(-1, 3)
    return colours.mean(0), np.cov(colours.T, bias=True)


def test_the_size_is_the_longer_side_of_the_result() -> None:
    """Content to 20 pixels; a style that is longer is reduced to the same, a smaller one stays."""
    result = run(size=20)
    assert result.image.shape == (16, 20, 3)
    assert same_run(result, run(resized(CONTENT, 16, 20), resized(STYLE, *fit_shape((22, 18), 20))))
    assert same_run(run(style=STYLES[1], size=20), run(resized(CONTENT, 16, 20), STYLES[1]))
    assert run(size=40, num_steps=0).image.shape == (32, 40, 3)


def test_the_style_scale_makes_the_style_smaller_or_larger() -> None:
    half = jnst.preset(BASE, style_scale=0.5)
    assert not same_run(run(preset=half), run())
    assert same_run(run(preset=half), run(style=resized(STYLE, 11, 9)))
    # With a size, the style's longer side is that times the scale.
    assert same_run(run(preset=half, size=20), run(resized(CONTENT, 16, 20), resized(STYLE, *fit_shape((22, 18), 10))))
    double = jnst.preset(BASE, style_scale=2.0)
    assert same_run(run(preset=double, style=resized(STYLE, 11, 9)), run(style=resized(resized(STYLE, 11, 9), 22, 18)))


@pytest.mark.parametrize("fixed", [False, True])
def test_a_fixed_style_keeps_its_size_while_the_image_grows(fixed: bool) -> None:
    """By the first loss at the smaller of two sizes, 12x15."""
    result = run(preset=jnst.preset(PYRAMID, fixed_style=fixed))
    style = STYLE if fixed else resized(STYLE, 11, 9)
    alone = run(resized(CONTENT, 12, 15), style, num_steps=2)
    np.testing.assert_allclose(result.losses[:2], alone.losses, rtol=1e-4)


def test_a_style_is_not_made_smaller_than_the_network_allows() -> None:
    deep = jnst.preset(PYRAMID, style_layers=("relu2_1",), style_scale=0.05)
    assert np.isfinite(run(preset=deep).losses).all()


def test_several_styles() -> None:
    """Of weights only proportions matter; a style of weight 0 is none."""
    assert same_run(run(style=STYLES, style_weights=(0.0, 2.0)), run(style=STYLES[1]))
    mixed, other = run(style=STYLES, style_weights=(1, 3)), run(style=STYLES[::-1], style_weights=(15, 5))
    assert same_run(mixed, other)
    assert same_run(run(style=STYLES), run(style=tuple(STYLES), style_weights=np.array([2.0, 2.0])))
    first = [run(style=STYLES, style_weights=weights).losses[0] for weights in ((1, 0), (1, 1), (0, 1))]
    assert len(set(first)) == 3
    assert set(mixed.parts) == {"content/conv1_1", "style/relu1_1"}


def test_starting_from_the_style_is_from_the_first() -> None:
    assert same_trees(run(style=STYLES, init="style", num_steps=0).image, resized(STYLE, 24, 30))


@pytest.mark.parametrize("keep", ["luminance", "luminance-only"])
@pytest.mark.parametrize("size", [None, 20])
def test_luminance_keeps_the_contents_chroma(keep: str, size: int | None) -> None:
    result = run(keep_color=keep, size=size)
    content = CONTENT if size is None else resized(CONTENT, 16, 20)
    ours, theirs = (np.asarray(image, np.float64) @ YIQ.T for image in (result.image, content))
    np.testing.assert_allclose(ours[..., 1:], theirs[..., 1:], rtol=0, atol=1 / 255)
    assert np.abs(ours[..., 0] - theirs[..., 0]).max() > 10 / 255


def test_other_spaces_keep_other_chroma() -> None:
    images = [run(keep_color=keep).image for keep in ("luminance", "lab", "oklab")]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(images[one] - images[other]).max() > 1 / 255
    # The same mean colour, roughly, and none of the style's.
    for image in images:
        np.testing.assert_allclose(np.ptp(np.mean(image, (0, 1))), np.ptp(np.mean(CONTENT, (0, 1))), atol=0.05)


def test_matching_afterwards_gives_the_contents_mean_and_covariance() -> None:
    result = run(keep_color="match-after")
    (mean, covariance), (goal_mean, goal_covariance) = map(mean_and_covariance, (result.image, CONTENT))
    assert 0 < np.min(result.image) < np.max(result.image) < 1
    np.testing.assert_allclose(mean, goal_mean, atol=1e-4)
    np.testing.assert_allclose(covariance, goal_covariance, atol=1e-5)
    assert np.abs(mean_and_covariance(run().image)[0] - goal_mean).max() > 0.01
    # It comes after the run, whose losses do not know of it.
    assert same_trees(result.losses, run().losses)


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
    styles = [change(jnp.asarray(style), jnp.asarray(CONTENT)) for style in STYLES]
    assert same_trees(run(style=STYLES, keep_color=keep).losses, run(style=styles).losses)


def test_a_way_in_the_preset_and_one_that_goes_before_it() -> None:
    kept = run(preset=jnst.preset(BASE, keep_color="match-after"))
    assert same_trees(kept.image, run(keep_color="match-after").image)
    other = run(preset=jnst.preset(BASE, keep_color="match-after"), keep_color="luminance")
    assert same_trees(other.image, run(keep_color="luminance").image)


def test_a_run_that_fails_or_is_stopped_keeps_colours_too() -> None:
    """In a pyramid it may be stopped at any size."""
    stopped = run(preset=PYRAMID, keep_color="luminance", callback=lambda report: True)
    assert stopped.image.shape == (12, 15, 3)
    explosive = optax.GradientTransformation(
        lambda params: jnp.int32(0),
        lambda updates, state, params=None: (
            jax.tree.map(lambda u: jnp.where(state > 0, jnp.inf, -0.1 * jnp.sign(u)), updates),
            state + 1,
        ),
    )
    with pytest.raises(NumericsError) as caught:
        run(optimizer=explosive, keep_color="luminance")
    for image, content in ((stopped.image, resized(CONTENT, 12, 15)), (caught.value.result.image, CONTENT)):
        ours, theirs = (np.asarray(picture, np.float64) @ YIQ.T for picture in (image, content))
        np.testing.assert_allclose(ours[..., 1:], theirs[..., 1:], rtol=0, atol=1 / 255)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_color": "luminanc"}, "unknown keep_color 'luminanc': did you mean luminance or luminance-only"),
        ({"keep_color": "xyz"}, f"unknown keep_color 'xyz': there are {', '.join(KEEP_COLOUR)}$"),
        ({"size": 0}, "size 0: expected the longer side in pixels, at least 1"),
        ({"size": float("nan")}, "size nan: expected"),
        ({"preset": jnst.preset(BASE, style_scale=0.0)}, "style_scale 0.0: expected a positive number"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(JnstError, match=f"^{message}"):
        run(**options)
