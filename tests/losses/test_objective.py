"""Objectives: values against float64 NumPy, weights as data, shapes, and messages."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import compilations, random_image, random_params, tiny_backbone
from losses import references

from jnst import losses
from jnst.backbones import make_backbone
from jnst.errors import ImageError, JnstError, WeightsError
from jnst.losses.objective import FeatureTerm, Objective, make_objective, total_loss
from jnst.losses.targets import fit_targets
from jnst.types import Array

pytestmark = pytest.mark.usefixtures("unoptimised")

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
IMAGE, CONTENT, STYLE = random_image(1, 16, 20), random_image(2, 16, 20), random_image(3, 18, 12)
CONTENT_LAYERS, STYLE_LAYERS = ("relu2_1", "conv3_1"), ("relu1_1", "relu2_1", "relu3_1")
TV = losses.TotalVariation("l1", "mean")


def objective(content: float = 2.0, style: float = 3.0, tv: float = 0.5, **options: Any) -> Objective:
    return make_objective(
        content_layers=CONTENT_LAYERS,
        style_layers=STYLE_LAYERS,
        content_weight=content,
        style_weight=style,
        content_layer_weights=(1.0, 0.25),
        style_layer_weights=(1.0, 0.5, 0.1),
        regularizers={"tv": (TV, tv)},
        **options,
    )


@functools.cache
def evaluate() -> Callable[..., Any]:
    """`total_loss` of `IMAGE` with fitted targets, compiled once."""
    targets = fit_targets(CONTENT, STYLE, objective(), PARAMS, backbone=BACKBONE)
    return jax.jit(lambda terms, image: total_loss(image, terms, targets, PARAMS, backbone=BACKBONE))


def test_value_is_the_weighted_sum() -> None:
    layers = (*CONTENT_LAYERS, *STYLE_LAYERS[::2])
    image, content, style = (BACKBONE.apply(PARAMS, picture, layers) for picture in (IMAGE, CONTENT, STYLE))
    image, content, style = ({k: np.asarray(v) for k, v in taps.items()} for taps in (image, content, style))
    expected = {
        "content/relu2_1": 2.0 * references.content_loss(image["relu2_1"], content["relu2_1"]),
        "content/conv3_1": 2.0 * 0.25 * references.content_loss(image["conv3_1"], content["conv3_1"]),
        "style/relu1_1": 3.0 * references.style_loss(image["relu1_1"], style["relu1_1"]),
        "style/relu2_1": 3.0 * 0.5 * references.style_loss(image["relu2_1"], style["relu2_1"]),
        "style/relu3_1": 3.0 * 0.1 * references.style_loss(image["relu3_1"], style["relu3_1"]),
        "tv": 0.5 * references.total_variation(IMAGE, "l1", "mean"),
    }
    total, parts = evaluate()(objective(), IMAGE)
    assert set(parts) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(total, sum(expected.values()), rtol=1e-4)
    np.testing.assert_allclose(total, sum(map(float, parts.values())), rtol=1e-6)


def test_changing_every_weight_compiles_nothing() -> None:
    compiled = evaluate()
    first, _ = compiled(objective(), IMAGE)
    count = compilations(compiled)
    variants = [objective(1, 0, 7), objective(1e4, 1e-3, 0.0), jax.tree.map(lambda weight: 2 * weight, objective())]
    totals = [float(compiled(variant, IMAGE)[0]) for variant in variants]
    assert compilations(compiled) == count
    np.testing.assert_allclose(totals[-1], 2 * first, rtol=1e-6)
    assert len(jax.tree.leaves(objective())) == 6


def test_vmap_over_weights() -> None:
    variants = [objective(1, 2, 3), objective(10, 0, 0.1), objective(0, 5, 0)]
    stacked = jax.tree.map(lambda *weights: jnp.stack(weights), *variants)
    totals, parts = jax.vmap(evaluate(), in_axes=(0, None))(stacked, IMAGE)
    alone = [evaluate()(variant, IMAGE) for variant in variants]
    np.testing.assert_allclose(totals, [total for total, _ in alone], rtol=1e-5)
    np.testing.assert_allclose(parts["style/relu2_1"], [each["style/relu2_1"] for _, each in alone], rtol=1e-5)


def test_gradient_by_weights_is_the_unweighted_part() -> None:
    gradient = jax.jit(jax.grad(lambda terms: evaluate()(terms, IMAGE)[0]))(objective())
    _, parts = evaluate()(objective(), IMAGE)
    np.testing.assert_allclose(gradient.content[1].weight, parts["content/conv3_1"] / 0.5, rtol=1e-5)
    np.testing.assert_allclose(gradient.regularizers[0].weight, parts["tv"] / 0.5, rtol=1e-5)


def test_zero_weights() -> None:
    value = lambda image: evaluate()(objective(0, 0, 0), image)  # noqa: E731
    (total, parts), gradient = jax.jit(jax.value_and_grad(value, has_aux=True))(jnp.asarray(IMAGE))
    assert total == 0
    assert not any(map(float, parts.values()))
    np.testing.assert_array_equal(gradient, np.zeros_like(IMAGE))


def test_one_value_per_image() -> None:
    images = random_image(4, 2, 3, 16, 20)
    targets = fit_targets(CONTENT, STYLE, objective(), PARAMS, backbone=BACKBONE)
    total, parts = jax.jit(lambda x: total_loss(x, objective(), targets, PARAMS, backbone=BACKBONE))(images)
    assert total.shape == (2, 3)
    assert {part.shape for part in parts.values()} == {(2, 3)}
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(total[index], evaluate()(objective(), images[index])[0], rtol=1e-5)


def test_a_batch_of_targets() -> None:
    contents, styles = random_image(5, 2, 16, 20), random_image(6, 2, 9, 8)

    @jax.jit
    def total(content: Array, style: Array, image: Array) -> Array:
        targets = fit_targets(content, style, objective(), PARAMS, backbone=BACKBONE)
        return total_loss(image, objective(), targets, PARAMS, backbone=BACKBONE)[0]

    together = total(contents, styles, contents[::-1])
    alone = [total(contents[index], styles[index], contents[1 - index]) for index in range(2)]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_total_is_zero_at_its_own_targets() -> None:
    """Content and style the same image, no regularizer."""
    terms = make_objective(content_layers=CONTENT_LAYERS, style_layers=STYLE_LAYERS)
    targets = fit_targets(CONTENT, CONTENT, terms, PARAMS, backbone=BACKBONE)
    total, _ = total_loss(jnp.asarray(CONTENT), terms, targets, PARAMS, backbone=BACKBONE)
    assert total == 0


def test_several_losses_on_one_layer_add_up() -> None:
    """Terms that a table shows under one name are not lost."""
    style = tuple(
        FeatureTerm(("relu2_1",), losses.Gram(normalization), jnp.float32(1.0)) for normalization in ("chw", "hw")
    )
    totals = []
    for terms in (style, style[:1], style[1:]):
        built = Objective(style=terms)
        targets = fit_targets(None, STYLE, built, PARAMS, backbone=BACKBONE)
        total, parts = total_loss(jnp.asarray(IMAGE), built, targets, PARAMS, backbone=BACKBONE)
        np.testing.assert_allclose(total, sum(map(float, parts.values())), rtol=1e-6)
        totals.append(float(total))
    np.testing.assert_allclose(totals[0], totals[1] + totals[2], rtol=1e-6)


def test_without_features() -> None:
    """A regularizer alone runs no network, and nothing at all is 0."""
    only_tv = make_objective(regularizers={"tv": (TV, 2.0)})
    targets = fit_targets(None, None, only_tv, {}, backbone=BACKBONE)
    total, parts = total_loss(jnp.asarray(IMAGE), only_tv, targets, {}, backbone=BACKBONE)
    np.testing.assert_allclose(total, 2 * references.total_variation(IMAGE, "l1", "mean"), rtol=1e-5)
    assert list(parts) == ["tv"]
    total, parts = total_loss(jnp.zeros((4, 16, 20, 3)), Objective(), targets, {}, backbone=BACKBONE)
    np.testing.assert_array_equal(total, np.zeros(4))
    assert parts == {}


@pytest.mark.parametrize(
    ("weight", "text"),
    [(-1.0, "-1.0"), (float("nan"), "nan"), (1e30, r"1e\+30"), (np.inf, "inf"), (np.float32(-2), "-2.0"),
     (np.float64("nan"), "nan"), (jnp.float32(-3.0), "-3.0"), (np.asarray(1e30), r"1e\+30")],
)  # fmt: skip
def test_weights_that_make_no_sense(weight: float | Array, text: str) -> None:
    limits = r"expected a number from 0 to 1e\+20"
    with pytest.raises(JnstError, match=rf"style weight {text} .*{limits}"):
        make_objective(style_layers=STYLE_LAYERS, style_weight=weight)
    with pytest.raises(JnstError, match=rf"content weight of relu2_1 {text} .*{limits}"):
        make_objective(content_layers=["relu2_1"], content_layer_weights=[weight])
    with pytest.raises(JnstError, match=rf"tv weight {text} .*{limits}"):
        make_objective(regularizers={"tv": (TV, weight)})


def test_as_many_weights_as_layers() -> None:
    with pytest.raises(JnstError, match=r"2 style layer weights for 3 style layers \(relu1_1,relu2_1,relu3_1\)"):
        make_objective(style_layers=STYLE_LAYERS, style_layer_weights=[1, 2])
    with pytest.raises(JnstError, match=r"1 content layer weights for 0 content layers"):
        make_objective(content_layer_weights=[1])


def test_repeated_layers() -> None:
    with pytest.raises(JnstError, match=r"style layers relu1_1,relu2_1,relu1_1: .*once"):
        make_objective(style_layers=["relu1_1", "relu2_1", "relu1_1"])


def test_missing_images() -> None:
    with pytest.raises(JnstError, match=r"has style terms, but there is no style image"):
        fit_targets(CONTENT, None, objective(), PARAMS, backbone=BACKBONE)
    with pytest.raises(JnstError, match=r"has content terms, but there is no content image"):
        fit_targets(None, STYLE, objective(), PARAMS, backbone=BACKBONE)


def test_images_that_are_too_small() -> None:
    with pytest.raises(ImageError, match=r"`style` is 9x3 pixels, but relu3_1 .*4x4"):
        fit_targets(CONTENT, STYLE[:3, :9], objective(), PARAMS, backbone=BACKBONE)


def test_layers_that_are_not_there() -> None:
    beyond = make_objective(content_layers=["relu3_2"])
    with pytest.raises(WeightsError, match=r"layer relu3_2 .*beyond these weights, which end at relu3_1"):
        fit_targets(CONTENT, None, beyond, PARAMS, backbone=BACKBONE)
    unknown = make_objective(style_layers=["relu4-2"])
    with pytest.raises(JnstError, match=r"vgg19 has no layer 'relu4-2': did you mean .*relu4_2"):
        fit_targets(None, STYLE, unknown, {}, backbone=make_backbone("vgg19"))


def test_content_of_another_size_than_the_image() -> None:
    targets = fit_targets(CONTENT, STYLE, objective(), PARAMS, backbone=BACKBONE)
    with pytest.raises(JnstError, match=r"features give \(.*the target has .*same image size"):
        total_loss(jnp.asarray(STYLE), objective(), targets, PARAMS, backbone=BACKBONE)
