"""Crops, colour changes and mirroring of training images."""

import dataclasses

import numpy as np
from PIL import Image

from jnst.apps.training.augmentation import (
    Augmentation,
    PhotometricAugmentation,
    augment,
    centre_crop,
    colour_jitter,
    crop_box,
    random_crop,
)


def test_crops_lie_inside_the_image_and_have_the_requested_area_and_ratio() -> None:
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


def test_without_a_crop_that_fits_the_centre_is_used() -> None:
    assert crop_box(np.random.default_rng(0), 3, 3000, Augmentation()) == (1498, 0, 1502, 3)
    assert crop_box(np.random.default_rng(0), 3000, 3, Augmentation()) == (0, 1498, 3, 1502)


def test_colour_jitter_of_strength_0_is_the_identity_and_keeps_grey_grey() -> None:
    pixels = np.random.default_rng(1).uniform(0, 255, (8, 9, 3)).astype(np.float32)
    none = Augmentation(brightness=0, contrast=0, saturation=0)
    np.testing.assert_allclose(colour_jitter(np.random.default_rng(0), pixels, none), pixels, atol=1e-4)
    grey = colour_jitter(np.random.default_rng(0), pixels[..., :1].repeat(3, -1), Augmentation())
    np.testing.assert_allclose(grey[..., 0], grey[..., 2], atol=1e-3)
    strong = colour_jitter(np.random.default_rng(0), pixels, Augmentation(brightness=1, contrast=1, saturation=1))
    assert strong.min() >= 0
    assert strong.max() <= 255


def test_brightness_contrast_and_saturation_scale_the_right_differences() -> None:
    pixels = np.random.default_rng(1).uniform(100, 140, (8, 9, 3)).astype(np.float32)
    luma = np.asarray((0.299, 0.587, 0.114))
    for name in ("brightness", "contrast", "saturation"):
        strengths = {other: 0.2 * (other == name) for other in ("brightness", "contrast", "saturation")}
        changed = colour_jitter(np.random.default_rng(7), pixels, dataclasses.replace(Augmentation(), **strengths))
        centre = {"brightness": 0.0, "contrast": (pixels @ luma).mean(), "saturation": (pixels @ luma)[..., None]}[name]
        factors = (changed - centre) / (pixels - centre)
        far = np.abs(pixels - centre) > 5
        assert np.ptp(factors[far]) < 1e-3
        assert 0.8 <= factors[far].mean() <= 1.2
        assert abs(factors[far].mean() - 1) > 1e-3


def test_half_of_the_crops_are_mirrored() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (64, 1, 3))
    crops = [augment(np.random.default_rng(seed), ramp, 16) for seed in range(200)]
    mirrored = sum(int(crop[:, 0].mean()) > int(crop[:, -1].mean()) for crop in crops)
    assert 70 < mirrored < 130
    unflipped = [augment(np.random.default_rng(s), ramp, 16, Augmentation(flip=False)) for s in range(20)]
    assert all(crop[:, 0].mean() < crop[:, -1].mean() for crop in unflipped)


def test_centre_crop_equals_resizing_and_cropping() -> None:
    """Pillow resizes the shorter side to 64 pixels and cuts out the central 56."""
    y, x = np.mgrid[0:128, 0:256]
    smooth = np.stack([x / 2, y, (x + y) / 2], axis=-1).astype(np.uint8)
    resized = Image.fromarray(smooth).resize((128, 64), Image.Resampling.BILINEAR).crop((36, 4, 92, 60))
    assert np.abs(centre_crop(smooth, 56).astype(int) - np.asarray(resized)).max() <= 1


def test_random_crops_depend_only_on_the_seed_and_stay_in_range() -> None:
    random = np.random.default_rng(0)
    images = [np.repeat(np.repeat(random.integers(0, 256, (10, 12, 3), np.uint8), 8, 0), 8, 1) for _ in range(3)]

    def crop(seed: int) -> np.ndarray:
        return random_crop(np.random.default_rng(seed), images, 20, PhotometricAugmentation())

    np.testing.assert_array_equal(crop(9), crop(9))
    assert crop(9).shape == (20, 20, 3)
    assert crop(9).min() >= 0
    assert crop(9).max() <= 1
    assert not np.array_equal(crop(9), crop(10))
