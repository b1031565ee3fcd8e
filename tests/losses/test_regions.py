"""Whole runs with masks: each region takes the style that was meant for it."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image, random_params, tiny_backbone
from losses import references

import jnst
from jnst.errors import ImageError, JnstError

pytestmark = pytest.mark.usefixtures("unoptimised")
BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
CONTENT = random_image(1, 24, 48)
LAYERS = ("relu1_1", "relu2_1")
SETTINGS = jnst.preset(style_layers=LAYERS, optimizer=jnst.Adam(5.0), pyramid=None, clamp=True)
LEFT = np.broadcast_to(np.clip((26 - np.arange(48)) / 5, 0, 1), (24, 48)).astype(np.float32)
MASKS = (LEFT, 1 - LEFT)
HALVES = {"left": np.s_[:, :20], "right": np.s_[:, 28:]}


def stripes(colours: tuple[tuple[float, float, float], tuple[float, float, float]], axis: int) -> np.ndarray:
    """Bands of two colours, two pixels each."""
    band = (np.indices((24, 24))[axis] // 2 % 2)[..., None]
    return np.where(band, *map(np.asarray, colours)).astype(np.float32)


RED, BLUE = stripes(((0.9, 0.2, 0.2), (0.1, 0.1, 0.1)), 0), stripes(((0.2, 0.3, 0.9), (0.9, 0.9, 0.9)), 1)


def run(style: Any = (RED, BLUE), **options: Any) -> jnst.Solution:
    given = {"backbone": BACKBONE, "preset": SETTINGS, "num_steps": 40, "masks": MASKS} | options
    return jnst.stylize(CONTENT, style, PARAMS, **given)


@functools.cache
def solved(swapped: bool) -> jnst.Solution:
    return run(masks=MASKS[::-1] if swapped else MASKS)


def distance(image: Any, style: np.ndarray) -> float:
    """The mean over layers of relative squared errors of Gram matrices, of images without masks."""
    ours, theirs = (BACKBONE.apply(PARAMS, jnp.asarray(picture), LAYERS) for picture in (image, style))
    both = ((np.asarray(ours[layer]), np.asarray(theirs[layer])) for layer in LAYERS)
    return float(np.mean([references.style_loss(a, b, reduction="relative") for a, b in both]))


@pytest.mark.parametrize("swapped", [False, True])
def test_each_half_takes_its_own_style(swapped: bool) -> None:
    image = solved(swapped).image
    styles = (BLUE, RED) if swapped else (RED, BLUE)
    for half, own, other in zip(HALVES.values(), styles, styles[::-1], strict=True):
        assert distance(image[half], own) < 0.25 * distance(CONTENT[half], own)
        assert distance(image[half], own) < 0.25 * distance(image[half], other)


def test_without_masks_no_half_is_near_one_style() -> None:
    """The control: a mixture everywhere."""
    mixture, regions = run(masks=None).image, solved(swapped=False).image
    for half, own in zip(HALVES.values(), (RED, BLUE), strict=True):
        assert distance(mixture[half], own) > 4 * distance(regions[half], own)


def test_parts_have_the_regions_numbers() -> None:
    result = solved(swapped=False)
    styles = {f"style/{layer}/{number}" for layer in LAYERS for number in (1, 2)}
    assert set(result.parts) == {"content/relu2_1", *styles}
    for name in styles:
        assert result.parts[name][-1] < 0.3 * result.parts[name][0]
    np.testing.assert_allclose(sum(result.parts.values()), result.losses, rtol=1e-5)


def test_where_no_region_is_nothing_asks_for_style() -> None:
    """One style with a hard mask: far from it the content image stays as it was."""
    mask = np.zeros((24, 48), np.float32)
    mask[:, :16] = 1.0
    result = run(RED, masks=[mask], optimizer=jnst.SGD(2000.0), num_steps=5)
    changed = np.abs(np.asarray(result.image) - CONTENT).max((0, 2))
    assert changed[:16].min() > 0.002
    assert changed[32:].max() < 1e-6


def test_regions_in_a_pyramid_and_with_weights() -> None:
    """Masks are reduced to each size; a style of weight 0 asks for nothing."""
    pyramid = jnst.preset(SETTINGS, pyramid=jnst.Pyramid(2.0, min_size=24))
    result = run(preset=pyramid, num_steps=2, style_weights=(1.0, 0.0))
    assert result.losses.shape == (4,)
    assert not result.parts["style/relu1_1/2"].any()
    assert result.parts["style/relu1_1/1"].all()


def test_a_style_mask_leaves_out_a_part_of_the_style() -> None:
    """Of a style that is half red and half blue only the red half counts."""
    both = np.concatenate([RED, BLUE], axis=1)
    red = (np.indices((24, 48))[1] < 22).astype(np.float32)
    result = run(both, masks=None, style_masks=[red])
    assert distance(result.image, RED) < 0.25 * distance(result.image, BLUE)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"masks": [LEFT]}, ImageError, "1 `masks` for 2 styles: give one mask for each"),
        ({"masks": LEFT}, ImageError, "24 `masks` for 2 styles"),
        ({"masks": (LEFT, LEFT[:, :24])}, ImageError, r"`masks\[1\]` has shape \(24, 24\), but its image \(24, 48\)"),
        ({"masks": (LEFT, 0 * LEFT)}, ImageError, r"`masks\[1\]` is 0 everywhere"),
        ({"style_masks": [None]}, JnstError, "1 style_masks for 2 styles: give one for each, or None"),
        (
            {"style_masks": [None, LEFT]},
            ImageError,
            r"`style_masks\[1\]` has shape \(24, 48\), but its image \(24, 24\)",
        ),
        ({"style_weights": (1.0,)}, JnstError, r"style_weights \(1.0,\) for 2 styles: give one number of at least 0"),
        ({"style_weights": (0.0, 0.0)}, JnstError, "not all of them 0"),
        ({"style_weights": (1.0, -1.0)}, JnstError, "at least 0"),
        ({"style_weights": (1.0, float("nan"))}, JnstError, "at least 0"),
        ({"style": ()}, JnstError, "`style` is an empty sequence: pass at least one image"),
        ({"style": (RED, 255 * BLUE)}, ImageError, r"`style\[1\]` looks like 0-255"),
    ],
)
def test_what_does_not_fit_together(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(**options)
