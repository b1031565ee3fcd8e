"""Losses on nearest neighbours: closed forms, float64 references, guides, samples, mixtures and memory use."""

import inspect
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_features, random_image
from losses import nearest_references as references

import jnst.losses.contextual as contextual_module
from jnst.errors import JnstError
from jnst.losses import (
    Contextual,
    HypercolumnSelfSimilarity,
    MarkovRandomField,
    RelaxedEarthMover,
    SelfSimilarity,
    Strotss,
    contextual_loss,
    moment_distance,
    mrf_loss,
    relaxed_earth_movers_distance,
    self_similarity_loss,
    strotss_style_loss,
)

pytestmark = pytest.mark.usefixtures("unoptimised")

SETS = {"contextual": Contextual, "remd": RelaxedEarthMover, "self-similarity": SelfSimilarity}
SAMPLED = {**SETS, "strotss": Strotss, "hypercolumns": HypercolumnSelfSimilarity}


def layers(loss: Any, array: Any) -> Any:
    return (array, array[..., ::2, ::2, :3]) if loss.joint else array


def test_relaxed_earth_movers_distance_by_hand() -> None:
    """x is e₁; y is e₁ and e₂. All of x is near y, but e₂ has distance 1 from x, and is half (or 3/4) of y."""
    x, y = jnp.asarray([[2.0, 0.0]]), jnp.asarray([[1.0, 0.0], [0.0, 5.0]])
    np.testing.assert_allclose(relaxed_earth_movers_distance(x, y), 0.5, rtol=1e-6)
    np.testing.assert_allclose(relaxed_earth_movers_distance(y, x), 0.5, rtol=1e-6)
    weighted = relaxed_earth_movers_distance(x, y, None, jnp.asarray([2.0, 6.0]))
    np.testing.assert_allclose(weighted, 0.75, rtol=1e-6)
    np.testing.assert_allclose(relaxed_earth_movers_distance(x, -x), 2.0, rtol=1e-6)
    assert relaxed_earth_movers_distance(x, y, jnp.zeros(1)) == 0


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_relaxed_is_at_most_the_earth_movers_distance(distance: str) -> None:
    x, y = random_features(1, 6, 3), random_features(2, 6, 3)
    costs = {"cosine": references.cosine, "euclidean": references.euclidean}[distance](x, y)
    exact = min(costs[np.arange(6), list(order)].mean() for order in itertools.permutations(range(6)))
    relaxed = float(relaxed_earth_movers_distance(x, y, distance=distance))
    np.testing.assert_allclose(relaxed, references.both_ways(costs), rtol=1e-5)
    assert 0 < relaxed <= exact + 1e-6


def test_contextual_loss_of_one_colour_is_log_m() -> None:
    """All distances are 1, so that each vector of x matches all m equally."""
    flat = jnp.full((6, 7, 5), 0.7)
    np.testing.assert_allclose(Contextual().loss(flat, Contextual().fit(flat)), np.log(42), rtol=1e-5)


@pytest.mark.parametrize(("bandwidth", "most"), [(2.0, 2**21), (0.1, 90), (0.5, 1)])
def test_contextual_loss_in_chunks(bandwidth: float, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one chunk, in chunks with a remainder, and row by row; the gradient against central differences."""
    monkeypatch.setattr(contextual_module, "LARGEST_CHUNK", most)
    unjitted: Any = inspect.unwrap(contextual_loss)
    x, y = random_features(1, 23, 5), random_features(2, 17, 5)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: unjitted(x, y, bandwidth=bandwidth)))(x)
    x64, y64, step = x.astype(np.float64), y.astype(np.float64), 1e-6
    np.testing.assert_allclose(value, references.contextual_of_rows(x64, y64, bandwidth), rtol=1e-4)
    direction = random_features(3, 23, 5).astype(np.float64)
    ends = [references.contextual_of_rows(x64 + sign * step * direction, y64, bandwidth) for sign in (1, -1)]
    scale = float(np.linalg.norm(gradient) * np.linalg.norm(direction))
    np.testing.assert_allclose(np.sum(gradient * direction), (ends[0] - ends[1]) / (2 * step), atol=1e-4 * scale)


def test_a_contextual_mixture_has_the_gradient_of_images_side_by_side() -> None:
    """The values differ by the logarithm of the number of target positions: 2m instead of m."""
    loss = Contextual()
    features, first, second = (random_features(seed, 6, 8, 5) for seed in (1, 2, 3))
    blended = loss.blend([loss.fit(first), loss.fit(second)], jnp.asarray([0.5, 0.5]))
    side_by_side = loss.fit(jnp.concatenate([first, second], axis=1))
    run = jax.value_and_grad(loss.loss)
    (value, gradient), (other, expected) = run(jnp.asarray(features), blended), run(jnp.asarray(features), side_by_side)
    np.testing.assert_allclose(other - value, np.log(2), rtol=1e-4)
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max())


def test_self_similarity_is_invariant_to_rotation_and_scale() -> None:
    x, y = random_features(1, 12, 5), random_features(2, 12, 5)
    rotation = np.linalg.qr(random_features(3, 5, 5))[0]
    np.testing.assert_allclose(self_similarity_loss(3 * x @ rotation, x), 0, atol=1e-5)
    value = self_similarity_loss(3 * x @ rotation, y)
    np.testing.assert_allclose(value, references.self_similarity_of_rows(*(a.astype(np.float64) for a in (x, y))), 1e-5)


def test_moments_by_hand() -> None:
    """Means 1 and 0, variances 0 and 4 in the first of two channels."""
    x, y = jnp.asarray([[1.0, 0.0], [1.0, 0.0]]), jnp.asarray([[2.0, 0.0], [-2.0, 0.0]])
    np.testing.assert_allclose(moment_distance(x, y), 1 / 2 + 4 / 4, rtol=1e-6)


@pytest.mark.parametrize("loss", [relaxed_earth_movers_distance, moment_distance, strotss_style_loss])
def test_a_weight_of_two_is_a_repeated_row(loss: Any) -> None:
    x, y = random_features(1, 9, 4), random_features(2, 8, 4)
    x_weights, y_weights = np.repeat([1.0, 2.0], [5, 4]), np.repeat([2.0, 1.0], [2, 6])
    twice = np.concatenate([x, x[5:]]), np.concatenate([y, y[:2]])
    np.testing.assert_allclose(loss(x, y, x_weights, y_weights), loss(*twice), rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
@pytest.mark.parametrize("formula", ["paper", "program"])
def test_strotss_on_images(alpha: float, formula: str) -> None:
    """The first layer is an image, so its colours count. The style is larger, and few positions are drawn."""
    image, style = random_image(1, 9, 8), random_image(2, 10, 12)
    coarse, coarse_style = random_features(3, 4, 4, 6), random_features(4, 5, 6, 6)
    loss = Strotss(alpha, formula, max_positions=30)
    value = loss.loss((image, coarse), loss.fit((style, coarse_style)))
    mine, theirs = ([each.astype(np.float64) for each in pair] for pair in ((image, coarse), (style, coarse_style)))
    np.testing.assert_allclose(value, references.strotss(mine, theirs, 30, alpha, formula), rtol=1e-4)


def test_strotss_without_an_image_ignores_colours() -> None:
    features, style = random_features(1, 6, 7, 5), random_features(2, 6, 7, 5)
    loss, mine, theirs = Strotss(), [features.astype(np.float64)], [style.astype(np.float64)]
    np.testing.assert_allclose(
        loss.loss((features,), loss.fit((style,))), references.strotss(mine, theirs, 99), rtol=1e-5
    )


def test_gradient_of_strotss_with_colours() -> None:
    image, style = random_image(1, 6, 5), random_image(2, 6, 5)
    loss = Strotss()
    gradient = jax.jit(jax.grad(lambda x: loss.loss((x, x[::2, ::2]), loss.fit((style, style[::2, ::2])))))(
        jnp.asarray(image)
    )
    direction, step = random_features(3, 6, 5, 3).astype(np.float64), 1e-6
    theirs = [style.astype(np.float64), style[::2, ::2].astype(np.float64)]
    moved = [image + sign * step * direction for sign in (1, -1)]
    ends = [references.strotss([each, each[::2, ::2]], theirs, 99) for each in moved]
    scale = float(np.linalg.norm(gradient) * np.linalg.norm(direction))
    np.testing.assert_allclose(np.sum(gradient * direction), (ends[0] - ends[1]) / (2 * step), atol=1e-4 * scale)


def test_mrf_loss_of_different_sizes_and_strides() -> None:
    features, style = random_features(1, 9, 8, 5), random_features(2, 7, 11, 5)
    for size, stride in [(3, 1), (3, 2), (2, 3)]:
        value = mrf_loss(features, style, size, stride)
        np.testing.assert_allclose(value, references.mrf(features, style, size, stride), rtol=1e-5)


def test_shuffled_tiles_have_the_style_of_the_image() -> None:
    style = random_features(1, 8, 8, 5)
    tiles = style.reshape(4, 2, 4, 2, 5).transpose(0, 2, 1, 3, 4).reshape(16, 2, 2, 5)
    tiles = tiles[np.random.default_rng(0).permutation(16)]
    shuffled = tiles.reshape(4, 4, 2, 2, 5).transpose(0, 2, 1, 3, 4).reshape(8, 8, 5)
    assert mrf_loss(shuffled, style, size=2, stride=2) == 0
    assert mrf_loss(shuffled, style, size=3) > 0


def test_mrf_guides_are_crops() -> None:
    """Patches that touch a position of weight 0 do not count, neither the image's nor the style's."""
    features, style = random_features(1, 9, 8, 5), random_features(2, 7, 9, 5)
    nothing, no_style = jnp.zeros((9, 8)), jnp.zeros((7, 9))
    guide, style_guide = nothing.at[2:, :6].set(0.5), no_style.at[:, 3:].set(0.2)
    value = mrf_loss(features, style, guide=guide, style_guide=style_guide)
    np.testing.assert_allclose(value, references.mrf(features[2:, :6], style[:, 3:]), rtol=1e-5)
    assert mrf_loss(features, style, guide=guide, style_guide=no_style) == 0
    assert mrf_loss(features, style, guide=nothing) == 0


def test_a_mixture_of_patches_has_the_nearest_patch_of_both_images() -> None:
    loss = MarkovRandomField()
    first, second = random_features(1, 6, 7, 5), random_features(2, 5, 9, 5)
    features = jnp.concatenate([first, second[:, :7]])
    targets = [loss.fit(first), loss.fit(second)]
    squares = loss.loss(features, loss.blend(targets, jnp.asarray([0.9, 0.1])))
    # Two of nine rows of patches lie across the seam. All others are in one of the images.
    assert 0 < squares < 0.5 * min(loss.loss(features, target) for target in targets)
    alone = loss.blend(targets, jnp.asarray([0.0, 1.0]))
    np.testing.assert_array_equal(loss.loss(features, alone), loss.loss(features, targets[1]))


@pytest.mark.parametrize("name", SETS)
def test_a_guide_of_zeros_and_ones_is_a_crop(name: str) -> None:
    """Positions of weight 0 are not part of the set."""
    loss, features, others = SETS[name](), random_features(1, 6, 9, 5), random_features(2, 6, 9, 5)
    guide = np.zeros((6, 9), np.float32)
    guide[1:5, 2:8] = 1
    cropped = features[1:5, 2:8], others[1:5, 2:8]
    value = loss.loss(features, loss.fit(others, guide), guide)
    np.testing.assert_allclose(value, loss.loss(cropped[0], loss.fit(cropped[1])), rtol=1e-5)


@pytest.mark.parametrize("name", SAMPLED)
def test_a_guide_of_zeros_gives_zero(name: str) -> None:
    loss, array = SAMPLED[name](), random_features(1, 6, 8, 5)
    guide = layers(loss, np.zeros((6, 8, 3), np.float32))
    guide = tuple(each[..., 0] for each in guide) if loss.joint else guide[..., 0]
    target = loss.fit(layers(loss, array), guide)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: loss.loss(layers(loss, x), target, guide)))(
        jnp.asarray(array + 1)
    )
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", SAMPLED)
def test_a_key_determines_the_sample(name: str) -> None:
    loss = SAMPLED[name](max_positions=10)
    features, others = random_features(1, 8, 8, 5), random_features(2, 8, 8, 5)
    target = loss.fit(layers(loss, others))
    keys = jax.random.split(jax.random.key(0), 3)
    values = np.asarray(jax.vmap(lambda key: loss.loss(layers(loss, features), target, key=key))(keys))
    assert len(set(values.tolist())) == 3
    np.testing.assert_allclose(loss.loss(layers(loss, features), target, key=keys[1]), values[1], rtol=1e-5)
    np.testing.assert_array_equal(*(loss.loss(layers(loss, features), target) for _ in range(2)))
    own = loss.loss(layers(loss, others), target, key=keys[2])
    np.testing.assert_allclose(own, 0, atol=1e-6 * values.max())


@pytest.mark.parametrize("name", ["contextual", "remd"])
def test_sampled_sets(name: str) -> None:
    features, others = random_features(1, 9, 8, 5), random_features(2, 10, 7, 5)
    loss = SETS[name](max_positions=20)
    value = loss.loss(features, loss.fit(others))
    np.testing.assert_allclose(value, references.NEAREST[name](features, others, max_positions=20), rtol=1e-4)


@pytest.mark.parametrize(("loss", "most"), [(Contextual(), 300), (MarkovRandomField(), 600)])
def test_memory_at_512_pixels(loss: Any, most: int) -> None:
    """Mebibytes of temporary memory for value and gradient at relu3_1."""
    shape = jax.ShapeDtypeStruct((128, 128, 256), jnp.float32)
    compiled = jax.jit(jax.value_and_grad(loss.loss)).lower(shape, jax.eval_shape(loss.fit, shape)).compile()
    analysis: Any = compiled.memory_analysis()
    assert analysis.temp_size_in_bytes < most * 2**20


def test_errors_say_what_to_do() -> None:
    features = jnp.ones((4, 5, 3))
    with pytest.raises(JnstError, match=r"distance 'cos' is unknown: choose one of cosine, euclidean, "):
        RelaxedEarthMover(distance="cos").loss(features, RelaxedEarthMover().fit(features))
    with pytest.raises(JnstError, match="bandwidth 0 is invalid"):
        Contextual(bandwidth=0).loss(features, Contextual().fit(features))
    with pytest.raises(JnstError, match="a sample of 0 positions: draw at least 1"):
        RelaxedEarthMover(max_positions=0).loss(features, RelaxedEarthMover().fit(features))
    with pytest.raises(JnstError, match="formula 'book' is unknown: choose one of paper, program"):
        Strotss(formula="book").loss((features,), Strotss().fit((features,)))
    with pytest.raises(JnstError, match=r"alpha 0\.0 .*above 0"):
        Strotss(alpha=0.0).loss((features,), Strotss().fit((features,)))
    with pytest.raises(JnstError, match=r"\(4, 5\) positions, the target has \(5, 4\).*same image size"):
        SelfSimilarity().loss(features, jnp.ones((5, 4, 3)))
    with pytest.raises(JnstError, match=r"\[3, 3\] channels, the target's layers \[3\]: fit the target"):
        Strotss().loss((features, features), Strotss().fit((features,)))
