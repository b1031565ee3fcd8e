"""What is seen of an image: crops, colours, mirrors, and the middle."""

import dataclasses

import numpy as np
from PIL import Image

from jnst.apps.training.augment import Augmentation, centre_view, crop_box, jitter, random_view


def test_crops_lie_inside_and_have_the_area_and_ratio_asked_for() -> None:
    random, height, width = np.random.default_rng(0), 200, 300
    boxes = np.asarray([crop_box(random, height, width, Augmentation()) for _ in range(2000)], float)
    left, top, right, bottom = boxes.T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (right <= width).all()
    assert (bottom <= height).all()
    area, ratio = (right - left) * (bottom - top) / (height * width), (right - left) / (bottom - top)
    assert 0.34 < area.min() < 0.37
    # At a ratio of 4/3 no crop is wider than 266.7 of the 300 pixels; sides are whole pixels.
    assert 0.87 < area.max() <= 267 / 300
    assert 0.74 < ratio.min() < 0.77
    assert 1.31 < ratio.max() < 1.35
    assert abs(left.mean() - (width - right).mean()) < 5


def test_a_crop_of_a_image_that_has_no_permitted_one_is_the_middle() -> None:
    assert crop_box(np.random.default_rng(0), 3, 3000, Augmentation()) == (1498, 0, 1502, 3)
    assert crop_box(np.random.default_rng(0), 3000, 3, Augmentation()) == (0, 1498, 3, 1502)


def test_jitter_without_strength_changes_nothing_and_keeps_grey_grey() -> None:
    pixels = np.random.default_rng(1).uniform(0, 255, (8, 9, 3)).astype(np.float32)
    none = Augmentation(brightness=0, contrast=0, saturation=0)
    np.testing.assert_allclose(jitter(np.random.default_rng(0), pixels, none), pixels, atol=1e-4)
    grey = jitter(np.random.default_rng(0), pixels[..., :1].repeat(3, -1), Augmentation())
    np.testing.assert_allclose(grey[..., 0], grey[..., 2], atol=1e-3)
    strong = jitter(np.random.default_rng(0), pixels, Augmentation(brightness=1, contrast=1, saturation=1))
    assert strong.min() >= 0
    assert strong.max() <= 255


def test_brightness_contrast_and_saturation_are_what_they_say() -> None:
    pixels = np.random.default_rng(1).uniform(100, 140, (8, 9, 3)).astype(np.float32)
    luma = np.asarray((0.299, 0.587, 0.114))
    for name in ("brightness", "contrast", "saturation"):
        strengths = {other: 0.2 * (other == name) for other in ("brightness", "contrast", "saturation")}
        changed = jitter(np.random.default_rng(7), pixels, dataclasses.replace(Augmentation(), **strengths))
        centre = {"brightness": 0.0, "contrast": (pixels @ luma).mean(), "saturation": (pixels @ luma)[..., None]}[name]
        factors = (changed - centre) / (pixels - centre)
        far = np.abs(pixels - centre) > 5
        assert np.ptp(factors[far]) < 1e-3
        assert 0.8 <= factors[far].mean() <= 1.2
        assert abs(factors[far].mean() - 1) > 1e-3


def test_half_of_the_views_are_mirrored() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))
    views = [random_view(np.random.default_rng(seed), ramp, 16) for seed in range(200)]
    mirrored = sum(int(view[:, 0].mean()) > int(view[:, -1].mean()) for view in views)
    assert 70 < mirrored < 130
    unflipped = [random_view(np.random.default_rng(s), ramp, 16, Augmentation(flip=False)) for s in range(20)]
    assert all(view[:, 0].mean() < view[:, -1].mean() for view in unflipped)


def test_the_tested_view_is_the_middle() -> None:
    """Resizing the shorter side to 64 and cutting 56 out of the middle, by Pillow alone."""
    y, x = np.mgrid[0:128, 0:256]
    smooth = np.stack([x / 2, y, (x + y) / 2], axis=-1).astype(np.uint8)
    resized = Image.fromarray(smooth).resize((128, 64), Image.Resampling.BILINEAR).crop((36, 4, 92, 60))
    assert np.abs(centre_view(smooth, 56).astype(int) - np.asarray(resized)).max() <= 1
