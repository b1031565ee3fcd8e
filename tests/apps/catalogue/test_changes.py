"""Settings by name and value: what sweeps and manifests may say, and what becomes of it."""

import dataclasses

import pytest

import jnst
from jnst.apps.catalogue.changes import (
    CHOICES,
    SETTINGS,
    Settled,
    check_change,
    in_words,
    parse_sweep,
    parse_sweeps,
    settle,
)
from jnst.errors import JnstError
from jnst.presets import PRESETS, with_style_statistic
from jnst.solve.optimizers import Adam


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
def test_sweeps_are_read_as_their_settings_are(text, name, values):
    sweep = parse_sweep(text)
    assert sweep == (name, values)
    assert [type(value) for value in sweep.values] == [type(value) for value in values]
    again = parse_sweep(f"{name}={','.join(in_words(value) for value in values)}")
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
        ("keep_color=lumnance", ("lumnance", "did you mean", "luminance")),
        ("optimizer=sdg", ("sdg", "did you mean", "sgd")),
        ("style_layers=3", ("3", "names of layers")),
        ("seed=1,2,1", ("seed=1,2,1", "twice")),
        ("style_weight=1,1.0", ("twice",)),
    ],
)
def test_what_is_wrong_in_a_sweep_is_said(text, words):
    with pytest.raises(JnstError) as caught:
        parse_sweep(text)
    message = str(caught.value)
    assert message.startswith("--sweep ")
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_setting_is_swept_once_whatever_it_is_called():
    assert len(parse_sweeps(["seed=1", "size=8"])) == 2
    with pytest.raises(JnstError, match=r"num_steps is there twice"):
        parse_sweeps(["steps=1", "num_steps=2"])


def test_settings_are_fields_of_presets_or_are_built_from_them():
    fields = {field.name for field in dataclasses.fields(jnst.Preset)}
    assert set(SETTINGS) - fields == {"seed", "learning_rate", "style_statistic"}
    assert {"summary", "source", "weights", "style_loss"}.isdisjoint(SETTINGS)
    assert set(CHOICES) <= set(SETTINGS)


def test_every_plain_field_takes_every_presets_value():
    for preset in PRESETS.values():
        for name in SETTINGS:
            value = getattr(preset, name, None)
            if isinstance(value, bool | int | float | str | tuple):
                assert check_change(name, list(value) if isinstance(value, tuple) else value) == (name, value)


def test_changes_are_put_in_with_what_they_bring_along():
    base = jnst.preset("jnst")
    assert settle(base, {"style_weight": 5.0, "seed": 3}) == jnst.preset("jnst", style_weight=5.0)
    statistic = with_style_statistic(base, "remd")
    assert settle(base, {"style_statistic": "remd"}) == statistic
    assert settle(base, {"style_weight": 7.0, "style_statistic": "remd"}) == jnst.preset(statistic, style_weight=7.0)
    assert settle(base, {"optimizer": "adam", "learning_rate": 2.0}).optimizer == Adam(2.0)
    assert settle(base, {"learning_rate": 0.5}).optimizer == dataclasses.replace(base.optimizer, learning_rate=0.5)
    assert settle(base, {"pyramid": False}).pyramid is None
    assert settle(settle(base, {"pyramid": False}), {"pyramid": True}).pyramid == jnst.Pyramid()
    best = jnst.preset("jnst", keep_best=True)
    assert not settle(best, {"average": 0.9}).keep_best
    assert settle(best, {"average": 0.9, "keep_best": True}).keep_best


def test_a_system_s_own_settings_of_an_optimiser_are_taken():
    system = next(
        preset for preset in PRESETS.values() if any(isinstance(other, Adam) for other in preset.alternatives)
    )
    stated = next(other for other in system.alternatives if isinstance(other, Adam))
    assert settle(system, {"optimizer": "adam"}).optimizer == stated


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"style_weight": -1.0}, "style weight -1"),
        ({"size": 0}, "size 0"),
        ({"num_steps": (-1,)}, "num_steps"),
        ({"style_layers": ("relu9_9",)}, "relu9_9"),
        ({"learning_rate": 0.0}, "learning rate 0"),
        ({"padding": "zero"}, "is fixed"),
    ],
)
def test_settings_are_checked_against_the_network(changes, words):
    backbone = jnst.make_backbone("vgg19")
    settled = Settled(jnst.preset("jnst"), backbone, {"padding": "padding is fixed"})
    assert settled(()) == jnst.preset("jnst")
    with pytest.raises(JnstError, match=words):
        settled(tuple(changes.items()))
