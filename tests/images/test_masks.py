"""Checks of masks, and their guides at the resolution of layers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import same_trees
from hypothesis import given, settings
from hypothesis import strategies as st
from resampling import linear

from jnst.errors import ImageError
from jnst.images.masks import check_mask, check_masks, guides

pytestmark = pytest.mark.usefixtures("unoptimised")

SHAPE = (12, 16)
SOFT: Any = np.random.default_rng(1).uniform(0, 1, SHAPE)
HARD: Any = np.arange(16) < np.full((12, 1), 7)


def test_masks_become_float32() -> None:
    masks = check_masks([SOFT, HARD, jnp.ones(SHAPE, jnp.bfloat16), HARD.astype(np.uint8)], SHAPE, "masks", 4)
    assert {mask.dtype for mask in masks} == {jnp.dtype(jnp.float32)}
    assert same_trees(masks[0], SOFT.astype(np.float32))
    for mask in (masks[1], masks[3]):
        assert same_trees(mask, HARD.astype(np.float32))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (SOFT[:, :-1], r"`masks\[1\]` has shape \(12, 15\), but its image \(12, 16\): resize the mask"),
        (SOFT[..., None], r"`masks\[1\]` has shape \(12, 16, 1\), but its image \(12, 16\)"),
        (255 * SOFT, r"`masks\[1\]` has values outside \[0, 1\]: divide it by its maximum"),
        (SOFT - 0.5, r"`masks\[1\]` has values outside \[0, 1\]"),
        (np.where(HARD, np.nan, SOFT), r"`masks\[1\]` has values outside \[0, 1\]"),
        (np.zeros(SHAPE), r"`masks\[1\]` is 0 everywhere: leave out styles without a region"),
        (np.zeros(SHAPE, bool), r"`masks\[1\]` is 0 everywhere"),
        ([[1.0]], r"`masks\[1\]` is a list, expected an array"),
    ],
)
def test_invalid_masks(mask: Any, message: str) -> None:
    with pytest.raises(ImageError, match=f"^{message}"):
        check_masks([SOFT, mask], SHAPE, "masks", 2)


@pytest.mark.parametrize("count", [1, 3])
def test_the_number_of_masks_is_that_of_the_styles(count: int) -> None:
    with pytest.raises(ImageError, match=f"^2 `masks` for {count} styles: give one mask for each style image$"):
        check_masks([SOFT, HARD], SHAPE, "masks", count)


def test_under_jit_shapes_are_checked() -> None:
    assert same_trees(jax.jit(lambda mask: check_mask(mask, SHAPE, "mask"))(SOFT), SOFT.astype(np.float32))
    with pytest.raises(ImageError, match="`mask` has shape"):
        jax.jit(lambda mask: check_mask(mask, (12, 15), "mask"))(SOFT)


def test_guides_are_linear_averages() -> None:
    shapes = {"fine": SHAPE, "half": (6, 8), "odd": (5, 7), "coarse": (3, 4), "dot": (1, 1)}
    made = guides(jnp.asarray(SOFT, jnp.float32), shapes)
    assert {layer: guide.shape for layer, guide in made.items()} == shapes
    for layer, shape in shapes.items():
        np.testing.assert_allclose(made[layer], linear(SOFT, *shape), atol=1e-6, err_msg=layer)
    assert same_trees(made["fine"], SOFT.astype(np.float32))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([2, 4]))
def test_the_share_of_a_region_is_kept(seed: int, factor: int) -> None:
    """A region away from the border covers the same share of each layer as of the image."""
    region = np.zeros((32, 40), np.float32)
    region[8:24, 8:32] = np.random.default_rng(seed).integers(0, 2, (16, 24))
    made = guides(jnp.asarray(region), {"layer": (32 // factor, 40 // factor)})["layer"]
    np.testing.assert_allclose(np.mean(made), np.mean(region), rtol=1e-5)


def test_regions_that_partition_an_image_partition_every_layer() -> None:
    regions = np.stack([HARD, ~HARD]).astype(np.float32)
    for guide in guides(jnp.asarray(regions), {"half": (6, 8), "odd": (5, 7)}).values():
        np.testing.assert_allclose(np.sum(guide, 0), 1.0, atol=1e-6)
        assert np.min(guide) >= 0
        # Far from the edge the mask does not change.
        np.testing.assert_allclose(guide[:, :, 0], [[1.0] * guide.shape[1], [0.0] * guide.shape[1]], atol=1e-6)
