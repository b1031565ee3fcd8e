"""What goes from one size of a pyramid to the next: the image, and where asked for the optimiser's moments."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image, random_params, same_trees

import jnst
from jnst.solve import run as optimize
from jnst.transfer.stylize import Solution, stylize

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


def run(**changes: Any) -> Solution:
    return stylize(CONTENT, STYLE, PARAMS, backbone=BACKBONE, preset=jnst.preset(SETTINGS, **changes))


def before(**changes: Any) -> optimize.State:
    """The state at the end of the first size."""
    settings = jnst.preset(SETTINGS, **changes)
    given: Any = {"backbone": BACKBONE, "preset": settings, "callback": lambda report: report.first == 3}
    return stylize(CONTENT, STYLE, PARAMS, **given).state.run


def moments(state: optimize.State) -> Any:
    """Adam's count, first and second moments."""
    (adam,) = (part for part in jax.tree.leaves(state.optimizer, is_leaf=_is_adam) if _is_adam(part))
    return adam.count, np.asarray(adam.mu), np.asarray(adam.nu)


def _is_adam(part: Any) -> bool:
    return hasattr(part, "mu")


def test_without_it_the_optimizer_begins_anew() -> None:
    count, first, second = moments(run().state.run)
    assert int(count) == 0
    assert first.shape == second.shape == (20, 24, 3)
    assert not first.any()
    assert not second.any()


@pytest.mark.parametrize("enlarge", ["bicubic", "bilinear"])
def test_moments_are_enlarged_and_the_count_goes_on(enlarge: str) -> None:
    old = before(enlarge=enlarge)
    new = run(carry_optimizer=True, enlarge=enlarge).state.run
    (old_count, *olds), (count, *news) = moments(old), moments(new)
    assert int(old_count) == int(count) == 3
    assert int(new.step) == 0
    method = {"bicubic": "cubic", "bilinear": "linear"}[enlarge]
    wanted = [np.asarray(jax.image.resize(array, (20, 24, 3), method)) for array in olds]
    np.testing.assert_allclose(news[0], wanted[0], rtol=1e-4, atol=1e-6 * np.abs(wanted[0]).max())
    np.testing.assert_allclose(news[1], np.maximum(wanted[1], 0), rtol=1e-4, atol=1e-6 * wanted[1].max())


@pytest.mark.parametrize("enlarge", ["bicubic", "bicubic-sharp"])
def test_second_moments_never_become_negative(enlarge: str) -> None:
    """Although these filters overshoot: of moments with a peak in one place."""
    _, first, second = moments(run(carry_optimizer=True, enlarge=enlarge).state.run)
    assert first.min() < 0 < first.max()
    assert second.min() >= 0
    peaked = np.zeros((10, 12, 3), np.float32)
    peaked[5, 6] = 1.0
    assert jnst.images.resample(jnp.asarray(peaked), (20, 24), enlarge).min() < 0


def test_the_first_step_at_the_next_size_is_made_with_them() -> None:
    """A fresh Adam moves every value by its learning rate, one in motion does not."""
    moved = {}
    for carry in (False, True):
        start, end = (run(carry_optimizer=carry, num_steps=(3, steps)).state.run.image for steps in (0, 1))
        moved[carry] = 255 * np.abs(np.asarray(end) - np.asarray(start))
    assert np.median(moved[False]) == pytest.approx(4.0, rel=1e-2)
    assert np.median(moved[True]) < 3.5


def test_the_next_size_begins_from_the_last_image_or_from_the_average() -> None:
    old = before(average=0.9, clamp=True)
    assert old.average is not None
    average = old.average / (1 - 0.9**3)
    assert np.abs(average - old.image).max() > 0.005
    for carry, image in ((False, old.image), (True, average)):
        started = run(average=0.9, clamp=True, carry_average=carry).image
        np.testing.assert_allclose(started, jnst.resize(image, (20, 24)), atol=1e-5)


def test_or_from_the_best() -> None:
    """With steps so long that the start remains the best."""
    changes = {"keep_best": True, "optimizer": jnst.Adam(200.0)}
    image = run(carry_average=True, **changes).image
    small = jnst.resize(jnp.asarray(CONTENT), (10, 12))
    np.testing.assert_allclose(image, jnst.resize(small, (20, 24)), atol=1e-5)


def test_the_average_begins_anew_at_each_size() -> None:
    state = run(average=0.9, carry_average=True).state.run
    assert state.average is not None
    assert not np.asarray(state.average).any()


def test_going_on_across_sizes_with_everything_carried() -> None:
    """As crowson does it, bit for bit."""
    settings = jnst.preset(
        SETTINGS, average=0.9, carry_average=True, carry_optimizer=True, clamp=True, num_steps=(3, 2)
    )
    given: Any = {"backbone": BACKBONE, "preset": settings}
    whole = stylize(CONTENT, STYLE, PARAMS, **given)
    for stop in (2, 3, 4):
        part = stylize(CONTENT, STYLE, PARAMS, **given, callback=lambda report, stop=stop: report.first == stop)
        rest = stylize(CONTENT, STYLE, PARAMS, **given, state=part.state)
        assert same_trees(rest.state, whole.state)


@pytest.mark.parametrize("optimizer", [jnst.LBFGS(memory_size=4), jnst.RMSprop(levels=2)])
def test_a_state_that_cannot_be_enlarged_begins_anew_as_a_whole(optimizer: Any) -> None:
    """Pairs of L-BFGS, and levels: half of them with counts that go on would be worse than nothing."""
    carried, fresh = (run(optimizer=optimizer, carry_optimizer=carry).state.run for carry in (True, False))
    assert same_trees(carried.optimizer, fresh.optimizer)
