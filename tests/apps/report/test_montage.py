"""Feature maps and Gram matrices as images, compared with their numbers."""

import numpy as np
import pytest

from jnst.apps.report import feature_montage, gram_image
from jnst.apps.report.montage import BACKGROUND, GAP, HIGH, LOW, MIDDLE
from jnst.errors import JnstError


def maps_of(image, shape: tuple[int, int], columns: int, count: int) -> list[np.ndarray]:
    """The maps in a montage."""
    pixels = np.asarray(image)
    height, width = shape
    corners = [(index // columns * (height + GAP), index % columns * (width + GAP)) for index in range(count)]
    return [pixels[top : top + height, left : left + width] for top, left in corners]


def test_every_map_is_normalised_on_its_own():
    ramp = np.linspace(0, 1, 8 * 12).reshape(8, 12)
    features = np.stack([ramp, 1000 * ramp - 5, -ramp, np.full_like(ramp, 7.0)], axis=-1)
    montage = feature_montage(features, tile=12)
    assert montage.size == (2 * 12 + GAP, 2 * 8 + GAP)
    first, second, third, constant = maps_of(montage, (8, 12), 2, 4)
    np.testing.assert_array_equal(first, np.floor(255 * ramp + 0.5))
    np.testing.assert_array_equal(second, first)
    assert np.abs(third.astype(int) - (255 - first)).max() <= 1
    assert (constant == 0).all()
    assert (np.asarray(montage)[8 : 8 + GAP] == BACKGROUND).all()


def test_the_strongest_maps_are_kept_in_order():
    wave = np.sin(np.arange(36.0)).reshape(6, 6)
    strengths = np.array([1.0, 5, 0.1, 4, 0.2, 3])
    signs = np.array([1, -1, 1, 1, 1, -1])
    montage = feature_montage(wave[..., None] * strengths * signs, max_maps=4, tile=6)
    kept = maps_of(montage, (6, 6), 2, 4)
    up = kept[0].astype(int)
    for found, sign in zip(kept, (1, -1, 1, -1), strict=True):
        assert np.abs(found.astype(int) - (up if sign > 0 else 255 - up)).max() <= 1


def test_small_maps_are_enlarged_without_smoothing():
    features = np.array([[0.0, 1.0], [1.0, 0.0]])[..., None]
    pixels = np.asarray(feature_montage(features, tile=10))
    np.testing.assert_array_equal(pixels, np.kron([[0, 255], [255, 0]], np.ones((5, 5))))


def test_large_maps_are_reduced():
    assert feature_montage(np.random.default_rng(0).uniform(size=(40, 80, 1)), tile=20).size == (20, 10)


def test_a_gram_matrix_shows_sign_and_size():
    gram = np.array([[4.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 0.25]])
    pixels = np.asarray(gram_image(gram, side=3)).astype(float)
    for place, strength, end in (((0, 0), 1, HIGH), ((0, 1), 0.5, LOW), ((0, 2), 0, HIGH), ((2, 2), 0.25, HIGH)):
        expected = np.array(MIDDLE) * (1 - strength) + np.array(end) * strength
        assert np.abs(pixels[place] - expected).max() <= 1
    assert gram_image(np.zeros((3, 3))).getcolors() == [(256 * 256, MIDDLE)]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: feature_montage(np.zeros((2, 4, 4, 3))), r"`features` has shape \(2, 4, 4, 3\): expected \(h, w, c\)"),
        (lambda: feature_montage(np.zeros((0, 4, 3))), r"`features` has shape \(0, 4, 3\)"),
        (lambda: feature_montage(np.full((4, 4, 1), np.nan)), "`features` has values that are NaN or infinite"),
        (lambda: gram_image(np.zeros((2, 3))), r"`gram` has shape \(2, 3\): expected \(c, c\)"),
        (lambda: gram_image(np.zeros((2, 2, 2))), r"`gram` has shape \(2, 2, 2\): expected \(c, c\)"),
    ],
)
def test_wrong_shapes_and_values_are_refused(call, words: str):
    with pytest.raises(JnstError, match=f"^{words}"):
        call()
