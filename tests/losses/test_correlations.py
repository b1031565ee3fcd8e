"""Gram matrices across layers and across distances, against float64 NumPy pair by pair."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_features
from losses import references
from losses.finite_differences import check_gradient

from jnst.errors import JnstError
from jnst.losses import CrossGram, Gram, ShiftedGram
from jnst.statistics import cross_gram_matrix, gram_matrix, shifted_gram_matrix

pytestmark = pytest.mark.usefixtures("unoptimised")

SIZES = [((6, 8), (3, 4)), ((6, 7), (3, 4)), ((7, 9), (3, 4)), ((5, 6), (5, 6)), ((11, 8), (1, 3)), ((4, 9), (8, 3))]


def enlarged(features: Any, height: int, width: int) -> Any:
    """Enlargement by nearest neighbours: position i of n takes the value at its centre (i + ½) / n."""
    rows, columns = (
        np.floor((np.arange(new) + 0.5) * old / new).astype(int)
        for new, old in zip((height, width), features.shape[:2], strict=True)
    )
    return np.asarray(features, np.float64)[rows][:, columns]


def pair_mean(first: Any, second: Any, first_guide: Any, second_guide: Any) -> Any:
    weights = np.sqrt(np.asarray(first_guide, np.float64) * second_guide)
    products = np.einsum("hwc,hwd->hwcd", first, second)
    return np.einsum("hw,hwcd->cd", weights, products) / weights.sum()


def cross_gram(first: Any, second: Any, guides: Any = None) -> Any:
    """With normalization "hw"."""
    height, width = np.maximum(first.shape[:2], second.shape[:2])
    guides = [np.ones(layer.shape[:2]) for layer in (first, second)] if guides is None else guides
    layers = [enlarged(layer, height, width) for layer in (first, second)]
    return pair_mean(*layers, *(enlarged(guide[..., None], height, width)[..., 0] for guide in guides))


def shifted_gram(features: Any, down: int, right: int, guide: Any = None) -> Any:
    """With normalization "hw"."""
    height, width = features.shape[:2]
    guide = np.ones((height, width)) if guide is None else guide
    here, there = (
        (np.asarray(array, np.float64)[: height - down, : width - right], np.asarray(array, np.float64)[down:, right:])
        for array in (features, guide)
    )
    return pair_mean(here[0], here[1], there[0], there[1])


def cross_loss(layers: Any, style: Any, reduction: str = "mean") -> float:
    pairs = [(i, i + 1) for i in range(len(layers) - 1)]
    grams = [(cross_gram(layers[i], layers[j]), cross_gram(style[i], style[j])) for i, j in pairs]
    scales = [np.sqrt(layers[i].shape[-1] * layers[j].shape[-1]) for i, j in pairs]
    return sum(
        references.reduced((gram - goal) / scale, goal / scale, reduction)
        for (gram, goal), scale in zip(grams, scales, strict=True)
    )


def shifted_loss(features: Any, style: Any, shifts: Any, reduction: str = "mean") -> float:
    steps = [step for shift in shifts for step in ((shift, 0), (0, shift))]
    grams = [(shifted_gram(features, *step), shifted_gram(style, *step)) for step in steps]
    channels = features.shape[-1]
    return sum(references.reduced((gram - goal) / channels, goal / channels, reduction) for gram, goal in grams)


def guide_of(seed: int, *shape: int) -> Any:
    guide = np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)
    return np.where(guide < 0.3, 0, guide)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("guided", [False, True])
def test_cross_gram_matrix(sizes: Any, guided: bool) -> None:
    first, second = random_features(1, *sizes[0], 4), random_features(2, *sizes[1], 3)
    guides = (guide_of(3, *sizes[0]), guide_of(4, *sizes[1])) if guided else None
    expected = cross_gram(first, second, guides)
    positions = int(np.prod(np.maximum(*sizes)))
    for name, factor in {"hw": 1.0, "chw": 1 / np.sqrt(12), "none": positions}.items():
        value = cross_gram_matrix(first, second, name, guides)
        np.testing.assert_allclose(value, factor * expected, rtol=1e-5, atol=1e-6 * factor)
    np.testing.assert_allclose(
        cross_gram_matrix(second, first, "hw", guides and guides[::-1]), expected.T, rtol=1e-5, atol=1e-6
    )


def test_cross_gram_of_a_layer_with_itself_is_its_gram_matrix() -> None:
    features, guide = random_features(1, 6, 7, 5), guide_of(2, 6, 7)
    for name in ("chw", "hw", "none"):
        plain = cross_gram_matrix(features, features, name)
        np.testing.assert_allclose(plain, gram_matrix(features, name), rtol=1e-5, atol=1e-6)
        guided = cross_gram_matrix(features, features, name, (guide, guide))
        np.testing.assert_allclose(guided, gram_matrix(features, name, guide), rtol=1e-5, atol=1e-5)


def test_cross_gram_with_a_constant_layer_is_the_mean_of_the_other_layer() -> None:
    features, constant = random_features(1, 7, 9, 5), jnp.full((3, 4, 2), jnp.asarray([2.0, -1.0]))
    expected = np.outer(features.mean((0, 1), np.float64), [2, -1])
    np.testing.assert_allclose(cross_gram_matrix(features, constant, "hw"), expected, rtol=1e-5, atol=1e-7)


def test_cross_gram_depends_on_which_features_coincide() -> None:
    """Shuffling the positions of one layer does not change the Gram matrices of the layers."""
    fine, coarse = random_features(1, 8, 8, 4), random_features(2, 4, 4, 3)
    shuffled: Any = np.random.default_rng(3).permutation(fine.reshape(64, 4)).reshape(8, 8, 4)
    loss = CrossGram()
    target = loss.fit((fine, coarse))
    np.testing.assert_allclose(Gram().loss(shuffled, Gram().fit(fine)), 0.0, atol=1e-12)
    assert float(loss.loss((shuffled, coarse), target)) > 1e-4
    assert float(loss.loss((fine, coarse), target)) == 0.0


@pytest.mark.parametrize("reduction", ["mean", "relative"])
def test_cross_gram_loss_and_gradient(reduction: str) -> None:
    shapes = [(6, 8, 4), (3, 4, 3), (1, 2, 5)]
    layers, style = (tuple(random_features(seed + i, *s) for i, s in enumerate(shapes)) for seed in (1, 11))
    loss = CrossGram(reduction=reduction)
    target = loss.fit(style)
    value, gradients = jax.jit(jax.value_and_grad(loss.loss))(layers, target)
    np.testing.assert_allclose(value, cross_loss(layers, style, reduction), rtol=1e-5)
    for i, gradient in enumerate(gradients):

        def reference(layer: Any, i: int = i) -> float:
            return cross_loss((*layers[:i], layer, *layers[i + 1 :]), style, reduction)

        check_gradient(gradient, reference, layers[i])


def test_cross_gram_of_a_tiled_style() -> None:
    loss, layers = CrossGram(), (random_features(1, 4, 6, 4), random_features(2, 2, 3, 3))
    tiled = tuple(np.tile(layer, (3, 2, 1)) for layer in layers)
    np.testing.assert_allclose(loss.loss(layers, loss.fit(tiled)), 0.0, atol=1e-12)


def test_invalid_layers_of_cross_gram() -> None:
    loss, layers = CrossGram(), tuple(random_features(seed, 4, 4, 3) for seed in (1, 2, 3))
    with pytest.raises(JnstError, match=r"got 1 layer.*at least 2"):
        loss.fit(layers[:1])
    with pytest.raises(JnstError, match=r"3 layers.*target has 2.*fit the target"):
        loss.loss(layers, loss.fit(layers[:2]))
    with pytest.raises(JnstError, match=r"normalization 'c' .*chw, hw, none"):
        CrossGram("c").fit(layers)


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, 3), (5, 0), (2, 3)])
@pytest.mark.parametrize("guided", [False, True])
def test_shifted_gram_matrix(shift: tuple[int, int], guided: bool) -> None:
    features, guide = random_features(1, 6, 7, 4), guide_of(3, 6, 7) if guided else None
    expected = shifted_gram(features, *shift, guide)
    pairs = (6 - shift[0]) * (7 - shift[1])
    for name, factor in {"hw": 1.0, "chw": 1 / 4, "none": pairs}.items():
        value = shifted_gram_matrix(features, shift, name, guide)
        np.testing.assert_allclose(value, factor * expected, rtol=2e-5, atol=2e-6 * factor)
    if shift == (0, 0):
        np.testing.assert_allclose(gram_matrix(features, "hw", guide), expected, rtol=2e-5, atol=2e-6)


def test_shifted_gram_of_stripes() -> None:
    """Columns 1, 1, -1, -1, …: a shift by two to the right is the opposite; by four, or any number down, the same."""
    stripes = jnp.tile(jnp.asarray([1.0, 1.0, -1.0, -1.0]), 3)
    features = jnp.broadcast_to(stripes[:, None] * jnp.asarray([2.0, 3.0]), (5, 12, 2))
    gram = np.outer([2, 3], [2, 3])
    for shift, sign in {(0, 2): -1, (0, 4): 1, (1, 0): 1, (4, 0): 1, (3, 2): -1}.items():
        np.testing.assert_allclose(shifted_gram_matrix(features, shift, "hw"), sign * gram, rtol=1e-6)
    np.testing.assert_allclose(shifted_gram_matrix(features, (0, 1), "hw"), gram / 11, rtol=1e-5)


def test_shifted_gram_depends_on_distances() -> None:
    """A permutation of the positions changes it, but not the Gram matrix."""
    features = random_features(1, 8, 8, 4)
    shuffled: Any = np.random.default_rng(3).permutation(features.reshape(64, 4)).reshape(8, 8, 4)
    loss = ShiftedGram((1, 2))
    np.testing.assert_allclose(Gram().loss(shuffled, Gram().fit(features)), 0.0, atol=1e-12)
    assert float(loss.loss(shuffled, loss.fit(features))) > 1e-3


@pytest.mark.parametrize("reduction", ["mean", "relative"])
def test_shifted_gram_loss_and_gradient(reduction: str) -> None:
    features, style = random_features(1, 6, 7, 4), random_features(2, 9, 5, 4)
    loss = ShiftedGram((1, 3), reduction=reduction)
    value, gradient = jax.jit(jax.value_and_grad(loss.loss))(features, loss.fit(style))
    np.testing.assert_allclose(value, shifted_loss(features, style, (1, 3), reduction), rtol=1e-5)
    check_gradient(gradient, lambda array: shifted_loss(array, style, (1, 3), reduction), features)


def test_shifts_beyond_the_image_or_the_style_are_left_out() -> None:
    features, narrow = random_features(1, 9, 9, 4), random_features(2, 9, 3, 4)
    loss = ShiftedGram((2, 5, 20))
    target = loss.fit(narrow)
    assert [gram is None for gram in (*target.down, *target.right)] == [False, False, True, False, True, True]
    steps = [(2, 0), (5, 0), (0, 2)]
    differences = [(shifted_gram(features, *step) - shifted_gram(narrow, *step)) / 4 for step in steps]
    expected = sum(float(np.mean(difference**2)) for difference in differences)
    np.testing.assert_allclose(jax.jit(loss.loss)(features, target), expected, rtol=1e-5)
    np.testing.assert_allclose(loss.loss(narrow, loss.fit(features)), expected, rtol=1e-5)
    with pytest.raises(JnstError, match=r"shifts \(2, 5, 20\).*2x2.*smaller shifts"):
        loss.loss(features[:2, :2], target)


def test_blends_of_shifted_grams() -> None:
    """Images on top of each other have the horizontal pairs of both, half each."""
    first, second = random_features(1, 5, 8, 4), random_features(2, 5, 8, 4)
    loss = ShiftedGram((1, 3))
    blended: Any = loss.blend([loss.fit(first), loss.fit(second)], jnp.asarray([0.5, 0.5]))
    both: Any = np.concatenate([first, second])
    stacked: Any = loss.fit(both)
    np.testing.assert_allclose(jnp.stack(blended.right), jnp.stack(stacked.right), rtol=1e-5, atol=1e-6)


def test_blends_with_a_style_too_small_for_a_shift() -> None:
    large, small = random_features(1, 8, 8, 4), random_features(2, 3, 3, 4)
    loss = ShiftedGram((1, 5))
    targets = [loss.fit(large), loss.fit(small)]
    for weights in ([0.25, 0.75], [0.0, 1.0]):
        blended: Any = loss.blend(targets, jnp.asarray(weights))
        expected = [weights[0] * shifted_gram(large, 1, 0) + weights[1] * shifted_gram(small, 1, 0)]
        expected += [shifted_gram(large, 5, 0)]
        for gram, goal in zip(blended.down, expected, strict=True):
            np.testing.assert_allclose(gram, goal / 4, rtol=1e-5, atol=1e-6)
    assert loss.blend([targets[1]] * 2, jnp.asarray([0.5, 0.5])).down[1] is None


@pytest.mark.parametrize("shift", [(6, 0), (0, 7), (-1, 0)])
def test_a_shift_outside_raises(shift: tuple[int, int]) -> None:
    with pytest.raises(JnstError, match=r"shift .*6x7"):
        shifted_gram_matrix(jnp.zeros((6, 7, 2)), shift)


@pytest.mark.parametrize("shifts", [(), (0,), (2, -1)])
def test_shifts_below_one_raise(shifts: tuple[int, ...]) -> None:
    with pytest.raises(JnstError, match="at least 1"):
        ShiftedGram(shifts)
