"""Every style statistic in place of a preset's: whole runs, and how presets with relative losses stay balanced."""

import numpy as np
import pytest
from contracts import random_image, random_params

import jnst
from jnst.errors import JnstError
from jnst.losses import STYLE_LOSSES, Gram, Relative
from jnst.presets import STATISTICS

pytestmark = pytest.mark.usefixtures("unoptimised")
BACKBONE = jnst.make_backbone("convnet", widths=((4,), (6,)), pooling="avg")
PARAMS = random_params(BACKBONE)
CONTENT, STYLE = random_image(1, 16, 20), random_image(2, 14, 16)
BASE = jnst.preset(optimizer=jnst.SGD(1.0), pyramid=None, num_steps=(2,))
LAYERS = ("relu1_1", "relu2_1")


def run(settings: jnst.Preset) -> jnst.Solution:
    return jnst.stylize(CONTENT, STYLE, PARAMS, backbone=BACKBONE, preset=settings)


@pytest.mark.parametrize("name", STYLE_LOSSES)
def test_two_steps_with_every_statistic(name: str) -> None:
    """Joint losses have one part for all layers; relative losses are of the order of their weight at first."""
    settings = jnst.preset(BASE, style_statistic=name, optimizer=jnst.SGD(1.0))
    joint = settings.terms.style_loss.joint
    layers = settings.terms.layers(BACKBONE)[1] if joint else LAYERS[:1]
    result = run(jnst.preset(settings, style_layers=layers))
    styles = [part for part in result.parts if part.startswith("style/")]
    assert styles == [f"style/{'+'.join(layers)}"]
    assert result.losses.shape == (2,)
    assert np.isfinite(result.losses).all()
    assert np.isfinite(result.image).all()
    first = sum(float(result.parts[part][0]) for part in styles)
    assert 1e-3 * settings.terms.style_weight < first < 10 * settings.terms.style_weight
    assert np.abs(np.asarray(result.image) - CONTENT).max() > 0


def test_relative_presets_stay_relative_and_follow_the_table() -> None:
    assert set(STATISTICS) == set(STYLE_LOSSES)
    for name, row in STATISTICS.items():
        loss = STYLE_LOSSES[name]() if row.loss is None else row.loss
        assert isinstance(loss, type(STYLE_LOSSES[name]()))
        assert row.strength > 0
        wanted = {"style_loss": Relative(loss), "style_weight": BASE.terms.style_weight * row.strength} | dict(
            row.changes
        )
        assert jnst.preset(BASE, style_statistic=name) == jnst.preset(BASE, **wanted)
    assert STATISTICS["gram"].strength == 1.0


def test_layers_of_a_statistic_unless_stated() -> None:
    """Some see the image too, one leaves out the shallowest; a content loss on several layers sees those as well."""
    assert BASE.terms.layers(BACKBONE) == (("relu2_1",), LAYERS)
    assert jnst.preset(BASE, style_statistic="remd").terms.layers(BACKBONE) == (("relu2_1",), ("image", *LAYERS))
    assert jnst.preset(BASE, style_statistic="contextual").terms.layers(BACKBONE) == (("relu2_1",), LAYERS[1:])
    strotss = jnst.preset(BASE, style_statistic="strotss")
    assert strotss.terms.layers(BACKBONE) == (("image", *LAYERS), ("image", *LAYERS))
    stated = jnst.preset(strotss, content_layers=("relu1_1",), style_layers=("relu2_1",))
    assert stated.terms.layers(BACKBONE) == (("relu1_1",), ("relu2_1",))


def test_reconstructing_what_a_content_loss_on_several_layers_keeps() -> None:
    settings = jnst.preset(BASE, style_statistic="strotss", optimizer=jnst.SGD(1.0), num_steps=(1,))
    result = jnst.reconstruct(CONTENT, None, PARAMS, backbone=BACKBONE, preset=settings)
    assert list(result.parts) == ["content/image+relu1_1+relu2_1"]


def test_gram_matrices_in_their_own_place_change_nothing() -> None:
    settings = jnst.preset(BASE, style_statistic="gram")
    assert settings == BASE
    np.testing.assert_allclose(run(settings).losses, run(BASE).losses, rtol=1e-5)


def test_other_presets_keep_their_weights() -> None:
    for name in ("gatys2016", "crowson"):
        settings = jnst.preset(name, style_statistic="gram")
        assert settings == jnst.preset(name, style_loss=Gram())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("grams", "unknown style statistic 'grams': did you mean gram"),
        ("wassserstein", "unknown style statistic 'wassserstein': did you mean wasserstein or sliced-wasserstein"),
        ("xyz", f"unknown style statistic 'xyz': expected one of {', '.join(STYLE_LOSSES)}$"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(JnstError, match=f"^{message}"):
        jnst.preset(BASE, style_statistic=name)


def test_layer_weights_are_refused_for_a_joint_statistic() -> None:
    settings = jnst.preset(jnst.preset(BASE, style_layer_weights=(1.0, 0.5)), style_statistic="cross-gram")
    with pytest.raises(JnstError, match="style layer weights: Relative takes all layers together, leave them out"):
        run(settings)
