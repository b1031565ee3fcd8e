"""Targets: mixtures of styles, regions of an image, parts of a style, and the image as a layer of its own."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image, random_params, same_trees, tiny_backbone
from losses import references
from resampling import linear

from jnst.errors import ImageError, JnstError
from jnst.losses import Covariance, CrossGram, Gram, MeanStd
from jnst.losses.objective import Objective, Targets, make_objective, total_loss
from jnst.losses.targets import fit_content, fit_style, fit_targets
from jnst.types import Array

pytestmark = pytest.mark.usefixtures("unoptimised")
BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
IMAGE, CONTENT = random_image(1, 16, 20), random_image(2, 16, 20)
STYLES = [random_image(3, 18, 12), random_image(4, 12, 20), random_image(5, 10, 11)]
LAYERS = ("relu1_1", "relu2_1")
OBJECTIVE = make_objective(style_layers=LAYERS, style_weight=2.0, style_layer_weights=(1.0, 0.5))
ONES = np.ones((16, 20), np.float32)
LEFT = np.broadcast_to(np.clip((12 - np.arange(20)) / 6, 0, 1), (16, 20)).astype(np.float32)
RIGHT = (1 - LEFT).astype(np.float32)

Features = dict[str, np.ndarray]

total_of = jax.jit(total_loss, static_argnames="backbone")


def fit(style: Any, objective: Objective = OBJECTIVE, content: Any = CONTENT, **options: Any) -> Targets:
    return fit_targets(content, style, objective, PARAMS, backbone=BACKBONE, **options)


def parts(targets: Targets, objective: Objective = OBJECTIVE) -> dict[str, float]:
    total, values = total_of(jnp.asarray(IMAGE), objective, targets, PARAMS, backbone=BACKBONE)
    np.testing.assert_allclose(total, sum(map(float, values.values())), rtol=1e-6)
    return {name: float(value) for name, value in values.items()}


def features(image: Any) -> Features:
    return {layer: np.asarray(value, np.float64) for layer, value in BACKBONE.apply(PARAMS, image, LAYERS).items()}


def guided_gram(layer: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Every position's outer product, weighted by the mask at the layer's resolution, over c."""
    guide = linear(mask, *layer.shape[:2])
    return np.einsum("hw,hwc,hwd->cd", guide, layer, layer) / guide.sum() / layer.shape[-1]


@pytest.mark.parametrize("weights", [(1.0, 3.0), (20.0, 60.0)])
def test_a_mixture_is_that_of_positions(weights: tuple[float, float]) -> None:
    """A quarter of the first style and three of the second: Gram matrices of their features side by side."""
    styles = [random_image(3, 8, 10), random_image(4, 8, 10)]
    first, second = map(features, styles)
    for layer, (region,) in zip(LAYERS, fit(styles, style_weights=weights).style, strict=True):
        together = np.concatenate([first[layer], *[second[layer]] * 3], axis=1)
        np.testing.assert_allclose(region.target, references.gram(together), rtol=1e-4, atol=1e-7)
        assert region.guide is None


def test_a_mixture_of_styles_of_any_size() -> None:
    """Without weights all count alike, however large they are."""
    taps = [features(style) for style in STYLES]
    for layer, (region,) in zip(LAYERS, fit(STYLES).style, strict=True):
        mean = np.mean([references.gram(each[layer]) for each in taps], axis=0)
        np.testing.assert_allclose(region.target, mean, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("loss", [Gram(), Covariance(), MeanStd()])
def test_a_style_of_weight_1_is_that_style_alone(loss: Any) -> None:
    objective = make_objective(style_layers=LAYERS, style_loss=loss)
    alone = parts(fit(STYLES[1], objective), objective)
    for mixture in (fit(STYLES, objective, style_weights=(0, 5, 0)), fit([STYLES[1]] * 2, objective)):
        assert parts(mixture, objective) == pytest.approx(alone, rel=1e-4)


def test_one_style_in_a_sequence_is_that_style() -> None:
    alone = fit(STYLES[0])
    assert same_trees(fit([STYLES[0]]), alone)
    assert same_trees(fit((STYLES[0],), style_weights=(7.0,)), alone)


def test_regions_by_hand() -> None:
    """Each style's squares of weighted Gram matrices, times its weight and its share of the image."""
    found = parts(fit(STYLES[:2], masks=[LEFT, 0.5 * RIGHT], style_weights=(2.0, 3.0)))
    image, styles = features(IMAGE), [features(style) for style in STYLES[:2]]
    expected = {}
    for layer, layer_weight in zip(LAYERS, (2.0, 1.0), strict=True):
        for number, (mask, weight) in enumerate(zip([LEFT, 0.5 * RIGHT], (2.0, 3.0), strict=True)):
            difference = guided_gram(image[layer], mask) - references.gram(styles[number][layer])
            share = float(np.mean(mask))
            expected[f"style/{layer}/{number + 1}"] = layer_weight * weight * share * np.mean(difference**2)
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_mask_of_ones_is_no_mask() -> None:
    plain = parts(fit(STYLES[0]))
    masked = parts(fit(STYLES[0], masks=[ONES]))
    assert {name.removesuffix("/1"): value for name, value in masked.items()} == pytest.approx(plain, rel=1e-5)
    assert parts(fit(STYLES[0], style_masks=[np.ones((18, 12), np.float32)])) == pytest.approx(plain, rel=1e-5)
    assert same_trees(fit(STYLES[0], style_masks=[None]), fit(STYLES[0]))


def test_one_style_everywhere_in_two_regions() -> None:
    """What the regions weigh adds up to what the whole weighs."""
    weights = [
        float(sum(region.weight for region in regions)) for regions in fit([STYLES[0]] * 2, masks=[LEFT, RIGHT]).style
    ]
    np.testing.assert_allclose(weights, 1.0, rtol=1e-6)


def test_a_style_mask_selects_a_part_of_the_style() -> None:
    """By weighted Gram matrices, and exactly where the image itself is compared."""
    mask = np.zeros((18, 12), np.float32)
    mask[:, :5] = 1.0
    taps = features(STYLES[0])
    for layer, (region,) in zip(LAYERS, fit(STYLES[0], style_masks=[mask]).style, strict=True):
        np.testing.assert_allclose(region.target, guided_gram(taps[layer], mask), rtol=1e-4, atol=1e-7)
    on_pixels = make_objective(style_layers=["image"])
    ((region,),) = fit(STYLES[0], on_pixels, style_masks=[mask]).style
    np.testing.assert_allclose(region.target, references.gram(STYLES[0][:, :5]), rtol=1e-5)


def test_some_styles_with_masks_and_some_without() -> None:
    mask = np.zeros((12, 20), np.float32)
    mask[:6] = 1.0
    mixed = fit(STYLES[:2], style_masks=[None, mask]).style[0][0].target
    alone = fit(STYLES[0]).style[0][0].target, fit(STYLES[1], style_masks=[mask]).style[0][0].target
    np.testing.assert_allclose(mixed, np.mean(alone, axis=0), rtol=1e-5)


def test_joint_losses_by_region() -> None:
    """One part for all layers and each region."""
    loss = CrossGram()
    objective = make_objective(style_layers=LAYERS, style_loss=loss, style_weight=3.0)
    name = "style/relu1_1+relu2_1"
    whole, masked = (
        parts(fit(STYLES[0], objective), objective),
        parts(fit(STYLES[0], objective, masks=[ONES]), objective),
    )
    assert masked == pytest.approx({f"{name}/1": whole[name]}, rel=1e-3)
    found = parts(fit(STYLES[:2], objective, masks=[LEFT, RIGHT]), objective)
    taps = [tuple(jnp.asarray(value, jnp.float32) for value in features(each).values()) for each in (IMAGE, *STYLES)]
    for number, mask in enumerate([LEFT, RIGHT], 1):
        guide = tuple(jnp.asarray(linear(mask, *layer.shape[:2]), jnp.float32) for layer in taps[0])
        value = jax.jit(lambda x, style, guide: loss.loss(x, loss.fit(style), guide))(taps[0], taps[number], guide)
        assert found[f"{name}/{number}"] == pytest.approx(3 * float(np.mean(mask) * value), rel=1e-3)
    assert len(found) == 2
    assert len(parts(fit(STYLES, objective), objective)) == 1


def test_the_image_as_a_layer() -> None:
    """Alone it needs no network; beside layers it is one of them."""
    objective = make_objective(content_layers=["image"], content_weight=2.0, style_layers=["image"])
    targets = fit_targets(CONTENT, STYLES[0], objective, {}, backbone=BACKBONE)
    _, values = total_loss(jnp.asarray(IMAGE), objective, targets, {}, backbone=BACKBONE)
    assert objective.layers == ()
    np.testing.assert_allclose(values["content/image"], 2 * references.content_loss(IMAGE, CONTENT), rtol=1e-5)
    np.testing.assert_allclose(values["style/image"], references.style_loss(IMAGE, STYLES[0]), rtol=1e-4)
    both = make_objective(style_layers=["image", "relu1_1"])
    assert both.layers == ("relu1_1",)
    assert parts(fit(STYLES[0], both), both)["style/image"] == pytest.approx(float(values["style/image"]), rel=1e-5)


@pytest.mark.parametrize("masks", [None, [LEFT, RIGHT]])
def test_content_and_style_fitted_separately_add_up_to_both(masks: Any) -> None:
    """Each part ignores the other's terms."""
    objective = make_objective(content_layers=("relu2_1",), style_layers=LAYERS)
    options: dict[str, Any] = {"style_weights": (1.0, 3.0), "masks": masks, "style_masks": [None, LEFT[:12]]}
    content = fit_content(jnp.asarray(CONTENT), objective, PARAMS, backbone=BACKBONE)
    style = fit_style(STYLES[:2], objective, PARAMS, backbone=BACKBONE, shape=(16, 20), **options)
    assert content.style == ()
    assert style.content == ()
    assert same_trees(content + style, fit(STYLES[:2], objective, **options))


def test_under_jit() -> None:
    @jax.jit
    def fitted(styles: Sequence[Array], masks: Sequence[Array], weights: Array) -> Targets:
        return fit(styles, masks=masks, style_masks=[None, masks[0][:12]], style_weights=weights)

    weights = jnp.asarray([1.0, 2.0])
    eager = fit(STYLES[:2], masks=[LEFT, RIGHT], style_masks=[None, LEFT[:12]], style_weights=weights)
    compiled = fitted(STYLES[:2], [LEFT, RIGHT], weights)
    for one, other in zip(jax.tree.leaves(eager), jax.tree.leaves(compiled), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("masks", [None, [LEFT, RIGHT]])
def test_vmap_over_style_weights(masks: Any) -> None:
    def total(weights: Any) -> Array:
        targets = fit(STYLES[:2], style_weights=weights, masks=masks)
        return total_loss(jnp.asarray(IMAGE), OBJECTIVE, targets, PARAMS, backbone=BACKBONE)[0]

    weights = jnp.asarray([[1.0, 0.0], [0.5, 0.5], [1.0, 4.0]])
    totals = jax.jit(jax.vmap(total))(weights)
    np.testing.assert_allclose(totals, [total(row) for row in weights], rtol=1e-4)
    assert len(set(np.asarray(totals).tolist())) == 3


def test_regions_of_a_image_of_another_size_than_the_masks() -> None:
    """Without a content image ``shape`` says how large the image is."""
    large = [np.kron(mask, np.ones((3, 3), np.float32)) for mask in (LEFT, RIGHT)]
    found = parts(fit(STYLES[:2], content=None, masks=large, shape=(16, 20)))
    assert found == pytest.approx(parts(fit(STYLES[:2], masks=[LEFT, RIGHT])), rel=0.02)


@pytest.mark.parametrize(
    ("style", "options", "message"),
    [
        (STYLES[:2], {"masks": [LEFT]}, "1 masks for 2 styles: give one for each"),
        (STYLES[:2], {"style_masks": [None]}, "1 style_masks for 2 styles: give one for each"),
        (STYLES[0], {"masks": [LEFT, RIGHT]}, "2 masks for 1 styles"),
        (STYLES[:2], {"style_weights": [1.0]}, "1 style_weights for 2 styles: give one for each"),
        (STYLES[0], {"style_weights": [1.0, 2.0]}, "2 style_weights for 1 styles"),
        (STYLES[:2], {"masks": [LEFT, RIGHT], "content": None}, "masks without a content image: pass `shape`"),
        ([], {}, "the objective has style terms, but there is no style image"),
    ],
)
def test_what_does_not_fit_together(style: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(JnstError, match=f"^{message}"):
        fit(style, **options)


def test_the_style_that_is_too_small() -> None:
    objective = make_objective(style_layers=["relu3_1"])
    with pytest.raises(ImageError, match=r"`style\[1\]` is 12x3 pixels, but relu3_1 of tiny needs at least 4x4"):
        fit([STYLES[1], STYLES[0][:3]], objective)
