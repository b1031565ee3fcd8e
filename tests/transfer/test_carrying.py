"""What is carried from one size of a pyramid to the next: the image, and on request the optimiser's moments."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image, random_params, same_trees

import jnst

pytestmark = pytest.mark.usefixtures("unoptimised")
BACKBONE = jnst.make_backbone("convnet", widths=((4,), (6,)), pooling="avg")
PARAMS = random_params(BACKBONE)
CONTENT, STYLE = random_image(1, 20, 24), random_image(2, 18, 16)
SETTINGS = jnst.preset(
    content_layers=("relu2_1",),
    style_layers=("relu1_1",),
    optimizer=jnst.Adam(4.0),
    pyramid=jnst.Pyramid(2.0, min_size=12),
    num_steps=(3, 0),
)


def run(content: Any = CONTENT, callback: Any = None, **changes: Any) -> jnst.Solution:
    settings = jnst.preset(SETTINGS, **changes)
    return jnst.stylize(content, STYLE, PARAMS, backbone=BACKBONE, preset=settings, callback=callback)


def end(**changes: Any) -> jnst.solve.State:
    """The state before the first step at the second size."""
    state = run(**changes).state
    assert state is not None
    return state


def before(**changes: Any) -> jnst.solve.State:
    """The state after the last step at the first size."""
    state = run(callback=lambda report: report.first == 3, **changes).state
    assert state is not None
    return state


def moments(state: jnst.solve.State) -> Any:
    """Adam's count, first and second moments."""
    (adam,) = (part for part in jax.tree.leaves(state.optimizer, is_leaf=_is_adam) if _is_adam(part))
    return adam.count, np.asarray(adam.mu), np.asarray(adam.nu)


def _is_adam(part: Any) -> bool:
    return hasattr(part, "mu")


def test_unless_asked_the_optimizer_starts_anew() -> None:
    count, first, second = moments(end())
    assert int(count) == 0
    assert first.shape == second.shape == (20, 24, 3)
    assert not first.any()
    assert not second.any()


@pytest.mark.parametrize("enlarge", ["bicubic", "bilinear"])
def test_moments_are_enlarged_and_the_count_continues(enlarge: str) -> None:
    old, new = before(enlarge=enlarge), end(carry_optimizer=True, enlarge=enlarge)
    (old_count, *olds), (count, *news) = moments(old), moments(new)
    assert int(old_count) == int(count) == 3
    assert int(new.step) == 0
    methods = {"bicubic": "cubic", "bilinear": "linear"}[enlarge], "linear"
    for old_moment, new_moment, method in zip(olds, news, methods, strict=True):
        wanted = np.asarray(jax.image.resize(old_moment, (20, 24, 3), method))
        np.testing.assert_allclose(new_moment, wanted, rtol=1e-4, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("enlarge", ["bicubic", "bicubic-sharp"])
def test_second_moments_stay_in_their_range(enlarge: str) -> None:
    """Although these filters overshoot, as they do for moments with a peak in one place."""
    _, _, old = moments(before(enlarge=enlarge))
    _, first, second = moments(end(carry_optimizer=True, enlarge=enlarge))
    assert first.min() < 0 < first.max()
    assert old.min() * (1 - 1e-6) <= second.min() < second.max() <= old.max() * (1 + 1e-6)
    peaked = np.zeros((10, 12, 3), np.float32)
    peaked[5, 6] = 1.0
    assert jnst.images.resample(jnp.asarray(peaked), (20, 24), enlarge).min() < 0


def test_the_first_step_at_the_next_size_uses_them() -> None:
    """A fresh Adam moves every value by its learning rate, one in motion does not."""
    moved = {}
    for carry in (False, True):
        first, second = (end(carry_optimizer=carry, num_steps=(3, steps)).image for steps in (0, 1))
        moved[carry] = 255 * np.abs(np.asarray(second) - np.asarray(first))
    assert np.median(moved[False]) == pytest.approx(4.0, rel=1e-2)
    assert np.median(moved[True]) < 3.5


def test_the_next_size_starts_from_the_last_image_or_from_the_average() -> None:
    old = before(average=0.9, clamp=True)
    assert old.average is not None
    assert np.abs(old.average - old.image).max() > 0.005
    for carry, image in ((False, old.image), (True, old.average)):
        started = run(average=0.9, clamp=True, carry_average=carry).image
        np.testing.assert_allclose(started, jnst.resize(image, (20, 24)), atol=1e-5)


def test_or_from_the_best_image() -> None:
    """With steps so long that the initial image remains the best."""
    image = run(keep_best=True, carry_average=True, optimizer=jnst.Adam(200.0)).image
    small = jnst.resize(jnp.asarray(CONTENT), (10, 12))
    np.testing.assert_allclose(image, jnst.resize(small, (20, 24)), atol=1e-5)


def test_the_average_starts_anew_at_each_size() -> None:
    state = end(average=0.9, carry_average=True)
    assert state.average is not None
    np.testing.assert_array_equal(state.average, state.image)


def test_continuing_across_sizes_with_everything_carried() -> None:
    """As in the preset crowson, bit for bit."""
    changes = {"average": 0.9, "carry_average": True, "carry_optimizer": True, "clamp": True, "num_steps": (3, 2)}
    settings = jnst.preset(SETTINGS, **changes)
    given: Any = {"backbone": BACKBONE, "preset": settings}
    whole = jnst.stylize(CONTENT, STYLE, PARAMS, **given)
    for stop in (2, 3, 4):
        part = jnst.stylize(CONTENT, STYLE, PARAMS, **given, callback=lambda report, stop=stop: report.first == stop)
        rest = jnst.stylize(CONTENT, STYLE, PARAMS, **given, state=part.state)
        assert same_trees(rest.state, whole.state)


@pytest.mark.parametrize("optimizer", [jnst.LBFGS(memory_size=4), jnst.RMSprop(levels=2)])
def test_a_state_that_cannot_be_enlarged_starts_anew_as_a_whole(optimizer: Any) -> None:
    """Pairs of L-BFGS, and levels: half of them with counts that continue would be worse than nothing."""
    carried, fresh = (end(optimizer=optimizer, carry_optimizer=carry) for carry in (True, False))
    assert same_trees(carried.optimizer, fresh.optimizer)


@pytest.mark.parametrize("carry", [False, True])
def test_a_larger_image_may_have_more_levels(carry: bool) -> None:
    """STROTSS's optimiser has as many levels as an image allows."""
    result = run(optimizer=jnst.RMSprop(2e-3, levels=5), carry_optimizer=carry, num_steps=(3, 1))
    assert result.image.shape == CONTENT.shape
    assert np.isfinite(result.losses).all()
