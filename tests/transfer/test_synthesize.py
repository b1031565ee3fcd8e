"""`synthesize` and `reconstruct`: runs from noise, with a style alone or a content alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image, random_params, same_trees
from losses import references

import jnst
from jnst import Solution
from jnst.errors import ArgumentError, ImageError

pytestmark = pytest.mark.usefixtures("unoptimised")
BACKBONE = jnst.make_backbone("convnet", widths=((4,), (6,)), pooling="avg")
PARAMS = random_params(BACKBONE)
IMAGE = random_image(1, 20, 24)
STYLES = [random_image(2, 18, 16), random_image(3, 16, 20)]
LAYERS = ("relu1_1", "relu2_1")
SETTINGS = jnst.preset(
    content_layers=("relu2_1",), style_layers=LAYERS, optimizer=jnst.Adam(5.0), pyramid=None, num_steps=(3,)
)
QUICK = jnst.preset(SETTINGS, content_layers=("image",), style_layers=("image",))
PYRAMID = jnst.preset(QUICK, pyramid=jnst.Pyramid(2.0, min_size=15), num_steps=(2, 3))
GIVEN = {"backbone": BACKBONE, "preset": SETTINGS}


def texture(style: Any = STYLES[0], shape: Any = (24, 30), **options: Any) -> Solution:
    return jnst.synthesize(style, shape, PARAMS, **(GIVEN | options))


def rebuilt(layers: Any = None, **options: Any) -> Solution:
    return jnst.reconstruct(IMAGE, layers, PARAMS, **(GIVEN | options))


def features(image: Any) -> dict[str, np.ndarray]:
    return {layer: np.asarray(value) for layer, value in BACKBONE.apply(PARAMS, jnp.asarray(image), LAYERS).items()}


def test_a_texture_of_another_size_than_the_style() -> None:
    """Its Gram matrices approach the style's, layer by layer, measured without the run."""
    result, start = texture(num_steps=30), texture(num_steps=0)
    assert result.image.shape == start.image.shape == (24, 30, 3)
    assert set(result.parts) == {"style/relu1_1", "style/relu2_1"}
    before, after, goal = map(features, (start.image, result.image, STYLES[0]))
    for layer in LAYERS:
        far, near = (references.style_loss(each[layer], goal[layer], reduction="relative") for each in (before, after))
        assert near < 0.3 * far


def test_the_shape_is_that_of_the_first_style_unless_given() -> None:
    assert texture(STYLES, None, num_steps=0, preset=QUICK).image.shape == (18, 16, 3)
    assert texture(STYLES[::-1], None, num_steps=0, preset=QUICK).image.shape == (16, 20, 3)


def test_every_key_gives_another_texture() -> None:
    default, zero, one = (texture(key=key, preset=QUICK).image for key in (None, jax.random.key(0), jax.random.key(1)))
    assert same_trees(default, zero)
    assert np.abs(zero - one).mean() > 0.05


def test_starts() -> None:
    """From noise of the preset's standard deviation, from the style, from an image; there is no content."""
    started = texture(num_steps=0, preset=jnst.preset(QUICK, noise_std=0.1, init="content"), key=jax.random.key(3))
    assert same_trees(started.image, jnst.images.noise(jax.random.key(3), (24, 30), 0.1, 1.5))
    assert same_trees(
        texture(init="style", num_steps=0, preset=QUICK).image, jnst.resize(jnp.asarray(STYLES[0]), (24, 30))
    )
    assert same_trees(texture(init=IMAGE, num_steps=0, preset=QUICK).image, jnst.resize(jnp.asarray(IMAGE), (24, 30)))
    with pytest.raises(ArgumentError, match="init 'content' without a content image: start from one of style, noise"):
        texture(init="content")
    with pytest.raises(ArgumentError, match="init 'style' without a style image: start from one of content, noise"):
        rebuilt(init="style")


def test_several_styles_in_one_texture() -> None:
    losses = [texture(STYLES, style_weights=weights, preset=QUICK).losses for weights in (None, (1, 1), (1, 0))]
    assert same_trees(losses[0], losses[1])
    np.testing.assert_allclose(losses[2], texture(STYLES[0], preset=QUICK).losses, rtol=1e-4)
    assert losses[0][0] != pytest.approx(losses[2][0], rel=1e-3)


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_continuing_equals_never_having_stopped(stop: int) -> None:
    whole = texture(preset=PYRAMID, key=jax.random.key(5))
    part = texture(preset=PYRAMID, key=jax.random.key(5), callback=lambda report: report.first == stop)
    rest = texture(preset=PYRAMID, key=jax.random.key(5), state=part.state)
    np.testing.assert_array_equal(np.concatenate([part.losses, rest.losses]), whole.losses)
    assert same_trees(rest.state, whole.state)


def test_the_style_of_a_pyramid_is_reduced_with_the_texture() -> None:
    """At half the size of the texture, half the style."""
    first = texture(preset=PYRAMID).losses[:2]
    alone = texture(jnst.resize(jnp.asarray(STYLES[0]), (9, 8)), (12, 15), num_steps=2, preset=QUICK)
    np.testing.assert_allclose(first, alone.losses, rtol=1e-4)


def test_a_reconstruction_approaches_the_features() -> None:
    """Those before the first ReLU, and with them the image itself."""
    result, start = rebuilt(("conv1_1",), num_steps=60), rebuilt(("conv1_1",), num_steps=0)
    assert list(result.parts) == ["content/conv1_1"]
    before, after, goal = (
        np.asarray(BACKBONE.apply(PARAMS, jnp.asarray(image), ("conv1_1",))["conv1_1"])
        for image in (start.image, result.image, IMAGE)
    )
    assert references.content_loss(after, goal) < 0.02 * references.content_loss(before, goal)
    assert np.abs(result.image - IMAGE).mean() < 0.3 * np.abs(start.image - IMAGE).mean()


def test_layers_of_a_reconstruction() -> None:
    """The preset's content layer unless given; layer weights of other layers do not matter then."""
    assert list(rebuilt(num_steps=1).parts) == ["content/relu2_1"]
    weighted = jnst.preset(SETTINGS, content_layer_weights=(0.5,), style_layer_weights=(2.0, 3.0))
    assert set(rebuilt(("relu1_1", "relu2_1"), preset=weighted, num_steps=1).parts) == {
        "content/relu1_1",
        "content/relu2_1",
    }
    assert rebuilt(num_steps=0, size=12, preset=QUICK).image.shape == (10, 12, 3)


def test_reconstructions_keep_the_colours_that_they_find() -> None:
    """A preset's way to keep the content's colours is for stylised images."""
    kept = jnst.preset(QUICK, keep_color="luminance")
    assert same_trees(rebuilt(preset=kept).image, rebuilt(preset=QUICK).image)
    assert same_trees(texture(preset=kept).image, texture(preset=QUICK).image)


def test_terms_of_the_missing_image_are_left_out_of_an_objective() -> None:
    tv = {"tv": (jnst.TotalVariation(), 1.0)}
    objective = jnst.make_objective(content_layers=["relu1_1"], style_layers=["relu2_1"], regularizers=tv)
    assert set(texture(objective=objective, num_steps=1).parts) == {"style/relu2_1", "tv"}
    assert set(rebuilt(objective=objective, num_steps=1).parts) == {"content/relu1_1", "tv"}


def test_layers_that_are_left_out_may_be_beyond_the_weights() -> None:
    """As the preset's content layer is here, and its style layers are."""
    beyond = {"optimizer": jnst.Adam(5.0), "num_steps": (1,)}
    settings = jnst.preset("gatys2016", style_layers=LAYERS, **beyond)
    assert texture(preset=settings).losses.shape == (1,)
    assert rebuilt(("relu2_1",), preset=jnst.preset("gatys2016", **beyond)).losses.shape == (1,)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: texture(()), ArgumentError, "`style` is an empty sequence"),
        (lambda: texture(255 * STYLES[0]), ImageError, "`style` looks like 0-255"),
        (lambda: texture(shape=(1, 30)), ImageError, "the result would be 30x1 pixels, but relu2_1 .*2x2"),
        (lambda: texture(STYLES, style_weights=(1.0,)), ArgumentError, r"style_weights \(1.0,\) for 2 styles"),
        (lambda: texture(state=rebuilt().state), ArgumentError, r"`state` holds an image of \(20, 24\)"),
        (lambda: rebuilt(("relu2-1",)), ArgumentError, "convnet has no layer 'relu2-1': did you mean relu2_1"),
        (lambda: rebuilt(("relu1_1", "relu1_1")), ArgumentError, "layers relu1_1,relu1_1: .*each only once"),
        (lambda: rebuilt(size=0), ArgumentError, "size 0: expected"),
    ],
)
def test_arguments_that_make_no_sense(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{message}"):
        make()
