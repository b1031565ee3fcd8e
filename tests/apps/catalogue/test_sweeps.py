"""Settings by name and value: what sweeps and manifests may contain, and what their values mean."""

import pytest

import jnst
from jnst.apps.catalogue.sweeps import (
    CHOICES,
    SETTINGS,
    apply_changes,
    check_change,
    parse_sweep,
    parse_sweeps,
    value_text,
)
from jnst.errors import JnstError
from jnst.presets import PRESETS
from jnst.presets.overrides import PLACES, setting


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("style_weight=1e2,1e+3, 5", "style_weight", (100.0, 1000.0, 5.0)),
        ("steps=100+60,200", "num_steps", ((100, 60), (200,))),
        ("num_steps=7", "num_steps", ((7,),)),
        ("seed=0,4294967295", "seed", (0, 2**32 - 1)),
        ("style_layers=relu1_1+relu2_1,auto", "style_layers", (("relu1_1", "relu2_1"), None)),
        ("style_layer_weights=1+2.5", "style_layer_weights", ((1.0, 2.5),)),
        ("clamp=true,false", "clamp", (True, False)),
        ("keep_color=auto,lab", "keep_color", (None, "lab")),
        ("style_statistic=gram,remd", "style_statistic", ("gram", "remd")),
        ("size=64,1e2", "size", (64, 100)),
    ],
)
def test_sweeps_are_parsed_to_the_types_of_their_settings(text, name, values):
    sweep = parse_sweep(text)
    assert sweep == (name, values)
    assert [type(value) for value in sweep.values] == [type(value) for value in values]
    again = parse_sweep(f"{name}={','.join(value_text(value) for value in values)}")
    assert again == sweep


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("style_weight", ("style_weight", "such as")),
        ("style_weight=", ("style_weight=", "such as")),
        ("style_wieght=1", ("style_wieght", "did you mean", "style_weight")),
        ("zzz=1", ("zzz", *SETTINGS)),
        ("style_weight=1,x", ("'x'", "a number")),
        ("style_weight=1,,2", ("''", "a number")),
        ("style_weight=1+2", ("[1, 2]", "a number")),
        ("style_weight=auto", ("None", "a number")),
        ("steps=1.5", ("1.5", "whole numbers")),
        ("size=true", ("True", "a whole number")),
        ("clamp=1", ("1", "true or false")),
        ("seed=-1", ("-1", "from 0")),
        ("seed=4294967296", ("4294967296", "from 0")),
        ("size=inf", ("inf", "a whole number")),
        ("resample=bicubik", ("bicubik", "did you mean", "bicubic")),
        ("style_layers=3", ("3", "names of layers")),
        ("seed=1,2,1", ("seed=1,2,1", "twice")),
        ("style_weight=1,1.0", ("twice",)),
    ],
)
def test_errors_in_sweeps_are_explained(text, words):
    with pytest.raises(JnstError) as caught:
        parse_sweep(text)
    message = str(caught.value)
    assert message.startswith("--sweep ")
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_setting_is_swept_only_once_under_any_name():
    assert len(parse_sweeps(["seed=1", "size=8"])) == 2
    with pytest.raises(JnstError, match=r"num_steps is given twice"):
        parse_sweeps(["steps=1", "num_steps=2"])


def test_settings_are_those_of_presets_and_the_seed():
    special = {"clamp", "keep_color", "learning_rate", "min_size", "seamless", "seed", "style_statistic"}
    assert set(SETTINGS) - set(PLACES) == special
    assert {"weights", "style_loss"}.isdisjoint(SETTINGS)
    assert set(CHOICES) <= set(SETTINGS)


def test_every_plain_setting_accepts_the_value_of_every_preset():
    for preset in PRESETS.values():
        for name in set(SETTINGS) & set(PLACES):
            value = setting(preset, name)
            if isinstance(value, bool | int | float | str | tuple):
                assert check_change(name, list(value) if isinstance(value, tuple) else value) == (name, value)


BACKBONE = jnst.make_backbone("vgg19")


def test_changes_are_applied_as_by_preset():
    base = jnst.preset("jnst")
    assert apply_changes(base, (), BACKBONE) == base
    changes = {"style_weight": 5.0, "optimizer": "adam", "pyramid": False}
    assert apply_changes(base, (*changes.items(), ("seed", 3)), BACKBONE) == jnst.preset(base, **changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("style_weight", -1.0), "style weight -1"),
        (("size", 0), "size 0"),
        (("num_steps", (-1,)), "num_steps"),
        (("style_layers", ("relu9_9",)), "relu9_9"),
        (("learning_rate", 0.0), "learning rate 0"),
        (("keep_color", "lumnance"), "did you mean luminance"),
        (("optimizer", "sdg"), "did you mean sgd"),
        (("style_statistic", "gramm"), "did you mean"),
        (("init", "photo"), "'photo'"),
        (("pooling", "median"), "median"),
        (("padding", "zeros"), "zeros"),
    ],
)
def test_settings_are_checked_before_images_are_read(change, words):
    with pytest.raises(JnstError, match=words):
        apply_changes(jnst.preset("jnst"), (change,), BACKBONE)
