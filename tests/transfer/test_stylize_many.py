"""Batches, grids and sweeps: every lane against its own single run, and what is compiled and fitted how often."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import compilations, random_image, random_params, same_trees, tiny_backbone
from jax.core import Tracer

import jnst
from jnst.errors import ImageError, JnstError
from jnst.images import FITS
from jnst.solve import run as optimize
from jnst.solve.optimizers import Settings
from jnst.transfer import lanes
from jnst.transfer.fitting import TargetStore, targets_at
from jnst.transfer.jobs import check_images, stylize_job

pytestmark = pytest.mark.usefixtures("unoptimised")

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
CONTENTS = [random_image(seed, 24, 20) for seed in (1, 2)]
STYLES = [random_image(3, 18, 26), random_image(4, 30, 22), random_image(5, 18, 26)]
BASE = jnst.preset(style_weight=10.0, optimizer=jnst.LBFGS(memory_size=4), pyramid=None, num_steps=(4,))
PYRAMID = jnst.preset(BASE, pyramid=jnst.Pyramid(min_size=16), num_steps=(3, 2), optimizer=jnst.Adam(2.0))
COMMON: dict[str, Any] = {"backbone": BACKBONE, "preset": BASE}


def single(content: Any, style: Any, **options: Any) -> jnst.Solution:
    return jnst.transfer.stylize(content, style, PARAMS, **(COMMON | options))


@pytest.mark.parametrize("preset", [BASE, PYRAMID, jnst.preset(PYRAMID, average=0.9, carry_optimizer=True)])
def test_every_lane_is_its_own_single_run(preset: jnst.Preset) -> None:
    """On a CPU to the last bit, also of styles of another size, and through a pyramid."""
    batch = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, backbone=BACKBONE, preset=preset)
    for index in range(2):
        alone = single(CONTENTS[index], STYLES[index], preset=preset)
        assert same_trees(batch.image[index], alone.image)
        assert same_trees(batch.losses[index], alone.losses)
        assert same_trees({name: part[index] for name, part in batch.parts.items()}, alone.parts)


@pytest.mark.parametrize("preset", [BASE, PYRAMID])
def test_lanes_side_by_side_differ_by_rounding_only(preset: jnst.Preset) -> None:
    apart = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, backbone=BACKBONE, preset=preset)
    beside = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, backbone=BACKBONE, preset=preset, width=2)
    np.testing.assert_allclose(beside.image, apart.image, atol=2e-3)
    np.testing.assert_allclose(beside.losses, apart.losses, rtol=2e-3)
    np.testing.assert_allclose(beside.losses[:, 0], apart.losses[:, 0], rtol=1e-5)


def test_a_grid_is_its_pairs_compiled_once() -> None:
    count = compilations(optimize.advance)
    grid = jnst.stylize_grid(CONTENTS, STYLES, PARAMS, **COMMON)
    assert compilations(optimize.advance) <= count + 1
    assert grid.image.shape == (2, 3, 24, 20, 3)
    assert grid.losses.shape == grid.parts["style/relu1_1"].shape == (2, 3, 4)
    assert grid.finite.shape == (2, 3)
    pairs = [(content, style) for content in CONTENTS for style in STYLES]
    batch = jnst.stylize_batch([content for content, _ in pairs], [style for _, style in pairs], PARAMS, **COMMON)
    assert same_trees(batch.image.reshape(grid.image.shape), grid.image)
    assert not np.array_equal(grid.image[0, 0], grid.image[0, 1])
    assert not np.array_equal(grid.image[0, 0], grid.image[1, 0])


@pytest.mark.parametrize("preset", [BASE, PYRAMID])
def test_targets_are_fitted_once_for_each_image_and_size(preset: jnst.Preset, monkeypatch: Any) -> None:
    fitted = []

    def counted(plan: Any, scale: Any, images: Any, params: Any) -> Any:
        if not isinstance(jax.tree.leaves(images)[0], Tracer):
            fitted.append("content" if scale.objective.content else "style")
        return targets_at(plan, scale, images, params)

    monkeypatch.setattr("jnst.transfer.fitting.targets_at", counted)
    jnst.stylize_grid(CONTENTS, STYLES, PARAMS, backbone=BACKBONE, preset=preset, over={"seed": (0, 1)})
    sizes = 1 if preset.pyramid is None else 2
    assert (fitted.count("content"), fitted.count("style")) == (2 * sizes, 3 * sizes)


def test_a_sweep_is_its_separate_runs_compiled_once() -> None:
    count = compilations(optimize.advance)
    over = {"style_weight": (1.0, 50.0), "seed": (0, 1), "learning_rate": (1.0, 0.3)}
    swept = jnst.sweep(CONTENTS[0], STYLES[0], over, PARAMS, init="noise", **COMMON)
    assert compilations(optimize.advance) <= count + 1
    assert swept.losses.shape == (2, 2, 2, 4)
    for (i, weight), (j, seed), (k, rate) in [
        ((0, 1.0), (0, 0), (0, 1.0)),
        ((1, 50.0), (0, 0), (1, 0.3)),
        ((1, 50.0), (1, 1), (0, 1.0)),
    ]:
        settings = jnst.preset(BASE, style_weight=weight, optimizer=jnst.LBFGS(rate, memory_size=4))
        alone = single(CONTENTS[0], STYLES[0], preset=settings, init="noise", key=jax.random.key(seed))
        np.testing.assert_allclose(swept.image[i, j, k], alone.image, atol=1e-5)
        np.testing.assert_allclose(swept.losses[i, j, k], alone.losses, rtol=1e-4)


@pytest.mark.parametrize("optimizer", [jnst.Adam(), jnst.RMSprop(0.01, levels=2), jnst.SGD(1e-3, decay=0.5)])
def test_a_learning_rate_in_the_state_is_the_same_learning_rate(optimizer: Settings) -> None:
    rates = (0.7, 2.0)
    swept = jnst.sweep(CONTENTS[0], STYLES[0], {"learning_rate": rates}, PARAMS, optimizer=optimizer, **COMMON)
    for index, rate in enumerate(rates):
        alone = single(CONTENTS[0], STYLES[0], optimizer=dataclasses.replace(optimizer, learning_rate=rate))
        np.testing.assert_allclose(swept.image[index], alone.image, atol=1e-5)
    assert not np.array_equal(swept.image[0], swept.image[1])


def test_grids_and_sweeps_compose() -> None:
    both = jnst.stylize_grid(CONTENTS, STYLES[:2], PARAMS, over={"content_weight": (1.0, 9.0, 90.0)}, **COMMON)
    assert both.image.shape == (2, 2, 3, 24, 20, 3)
    settings = jnst.preset(BASE, content_weight=90.0)
    assert same_trees(both.image[1, 0, 2], single(CONTENTS[1], STYLES[0], preset=settings).image)
    pairs = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, over={"content_weight": (90.0,)}, **COMMON)
    assert same_trees(pairs.image[1, 0], both.image[1, 1, 2])


def test_sweeps_over_layers_and_objectives_put_each_value_in_its_place() -> None:
    layers = (("relu1_1",), ("relu1_1", "relu2_1"))
    swept = jnst.sweep(CONTENTS[0], STYLES[0], {"style_layers": layers}, PARAMS, **COMMON)
    assert np.isnan(swept.parts["style/relu2_1"][0]).all()
    assert np.isfinite(swept.parts["style/relu2_1"][1]).all()
    objectives = tuple(jnst.preset(BASE, style_layers=names).objective(BACKBONE) for names in layers)
    same = jnst.sweep(CONTENTS[0], STYLES[0], {"objective": objectives}, PARAMS, **COMMON)
    assert same_trees(same.image, swept.image)


def test_layer_weights_are_swept_without_compiling_again() -> None:
    settings = jnst.preset(BASE, style_layers=("relu1_1", "relu2_1"))
    arguments: dict[str, Any] = {"backbone": BACKBONE, "preset": settings}
    over = {"style_layer_weights": ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0))}
    count = compilations(optimize.advance)
    swept = jnst.sweep(CONTENTS[0], STYLES[0], over, PARAMS, **arguments)
    assert compilations(optimize.advance) <= count + 1
    assert swept.parts["style/relu2_1"][0, 0] == 0 < swept.parts["style/relu2_1"][1, 0]
    np.testing.assert_allclose(
        swept.parts["style/relu2_1"][:, 0], swept.parts["style/relu2_1"][2, 0] * np.r_[0, 0.5, 1]
    )


@pytest.mark.parametrize("width", [1, 3])
def test_a_lane_that_meets_nan_is_frozen_and_reported_and_changes_no_other(width: int) -> None:
    arguments: dict[str, Any] = COMMON | {"init": "noise", "width": width}
    poisoned = jnst.sweep(CONTENTS[0], STYLES[0], {"learning_rate": (1.0, 1e38, 0.5)}, PARAMS, **arguments)
    sound = jnst.sweep(CONTENTS[0], STYLES[0], {"learning_rate": (1.0, 0.7, 0.5)}, PARAMS, **arguments)
    assert poisoned.finite.tolist() == [True, False, True]
    ((index, message),) = poisoned.errors
    assert index == (1,)
    assert "stopped being finite at step" in message
    for lane in (0, 2):
        assert same_trees(poisoned.image[lane], sound.image[lane])
        assert same_trees(poisoned.losses[lane], sound.losses[lane])
    assert np.isfinite(poisoned.image[1]).all()
    assert np.isnan(poisoned.losses[1, -1])
    with pytest.raises(jnst.NumericsError) as alone:
        single(CONTENTS[0], STYLES[0], init="noise", optimizer=jnst.LBFGS(1e38, memory_size=4))
    assert str(alone.value) == message


@pytest.mark.parametrize("width", [1, 2])
def test_a_callback_ends_one_lane_or_all(width: int) -> None:
    def listen(report: lanes.Report) -> list[bool]:
        assert report.total.shape == (len(report.lanes), 1)
        assert report.image.shape == (len(report.lanes), 24, 20, 3)
        return [lane == 1 and report.first == 2 for lane in report.lanes]

    batch = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, width=width, callback=listen, **COMMON)
    whole = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, width=width, **COMMON)
    assert same_trees(batch.image[0], whole.image[0])
    assert np.isfinite(batch.losses).sum(-1).tolist() == [4, 2]
    assert batch.finite.all()
    short = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, width=width, num_steps=2, **COMMON)
    assert same_trees(batch.image[1], short.image[1])
    ended = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, width=width, callback=lambda report: True, **COMMON)
    assert np.isfinite(ended.losses).sum(-1).tolist() == [1, 1]


def test_a_lane_that_ends_at_a_small_size_is_enlarged() -> None:
    stopped = jnst.stylize_batch(
        CONTENTS, STYLES[:2], PARAMS, backbone=BACKBONE, preset=PYRAMID, callback=lambda report: report.lanes[0] == 0
    )
    assert stopped.image.shape == (2, 24, 20, 3)
    assert np.isfinite(stopped.losses).sum(-1).tolist() == [1, 5]


@pytest.mark.parametrize("name", ["patches"])
def test_styles_whose_targets_have_different_shapes_share_no_lanes(name: str) -> None:
    settings = jnst.with_style_statistic(BASE, name)
    arguments: dict[str, Any] = {"backbone": BACKBONE, "preset": settings, "num_steps": 1, "optimizer": jnst.Adam()}
    count = compilations(lanes.advance)
    grid = jnst.stylize_grid(CONTENTS[:1], STYLES, PARAMS, width=3, **arguments)
    assert compilations(lanes.advance) <= count + 2
    for index, style in enumerate(STYLES[:2]):
        job = stylize_job(check_images(CONTENTS[0], style), jnst.preset(settings, num_steps=(1,)), BACKBONE)
        targets = TargetStore().at(job, 0, PARAMS)[1]
        objective, key = job.plan.scales[0].objective, jax.random.fold_in(jax.random.fold_in(job.key, 0), 0)
        expected, _ = jnst.total_loss(CONTENTS[0], objective, targets, PARAMS, backbone=BACKBONE, key=key)
        np.testing.assert_allclose(grid.losses[0, index, 0], expected, rtol=1e-5)


def test_mixtures_and_kept_colours_are_those_of_single_runs() -> None:
    mixture = (STYLES[0], STYLES[1])
    for control in ("luminance", "match"):
        grid = jnst.stylize_grid(CONTENTS, [mixture, STYLES[2]], PARAMS, keep_color=control, **COMMON)
        assert same_trees(grid.image[1, 0], single(CONTENTS[1], mixture, keep_color=control).image)
        assert same_trees(grid.image[0, 1], single(CONTENTS[0], STYLES[2], keep_color=control).image)


@pytest.mark.parametrize("fit", FITS)
def test_contents_of_several_shapes_are_fitted_as_asked(fit: str) -> None:
    wide = random_image(6, 24, 40)
    batch = jnst.stylize_batch([CONTENTS[0], wide], STYLES[:2], PARAMS, fit=fit, num_steps=0, **COMMON)
    expected = wide[:, 10:30] if fit == "crop" else jnst.resize(jnp.asarray(wide), (24, 20))
    np.testing.assert_allclose(batch.image[1], expected, atol=1e-6)


def test_a_solution_of_many_is_a_pytree() -> None:
    batch = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, num_steps=1, **COMMON)
    assert jax.tree.map(lambda leaf: leaf[0], batch).image.shape == (24, 20, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jnst.stylize_batch(CONTENTS, STYLES, PARAMS, **COMMON), JnstError, "2 contents and 3 styles"),
        (lambda: jnst.stylize_grid([], STYLES, PARAMS, **COMMON), JnstError, "`contents` is empty"),
        (lambda: jnst.stylize_grid(CONTENTS, [], PARAMS, **COMMON), JnstError, "`styles` is empty"),
        (lambda: jnst.stylize_grid([CONTENTS[0], STYLES[0]], STYLES, PARAMS, **COMMON), ImageError, "fit='crop'"),
        (lambda: jnst.stylize_grid(CONTENTS, STYLES, PARAMS, fit="corp", **COMMON), JnstError, "did you mean crop"),
        (lambda: jnst.sweep(CONTENTS[0], STYLES[0], {}, PARAMS, **COMMON), JnstError, "`over` is empty"),
        (
            lambda: jnst.sweep(CONTENTS[0], STYLES[0], {"style_wieght": (1.0,)}, PARAMS, **COMMON),
            JnstError,
            "did you mean style_weight",
        ),
        (lambda: jnst.sweep(CONTENTS[0], STYLES[0], {"seed": ()}, PARAMS, **COMMON), JnstError, "at least one"),
        (
            lambda: jnst.sweep(CONTENTS[0], STYLES[0], {"style_weight": (-1.0,)}, PARAMS, **COMMON),
            JnstError,
            "weights lie between",
        ),
        (
            lambda: jnst.sweep(
                CONTENTS[0],
                STYLES[0],
                {"style_weight": (1.0, 2.0)},
                PARAMS,
                objective=BASE.objective(BACKBONE),
                **COMMON,
            ),
            JnstError,
            "sweep over objectives instead",
        ),
        (
            lambda: jnst.sweep(
                CONTENTS[0], STYLES[0], {"learning_rate": (1.0,)}, PARAMS, optimizer=optax.adam(1.0), **COMMON
            ),
            JnstError,
            "jnst.Adam",
        ),
        (lambda: jnst.stylize_grid(CONTENTS, STYLES, PARAMS, width=0, **COMMON), JnstError, "0 images at once"),
        (lambda: jnst.stylize_grid(CONTENTS, STYLES, PARAMS, chunk=0, **COMMON), JnstError, "chunk 0"),
        (
            lambda: jnst.stylize_grid(CONTENTS, STYLES, PARAMS, width=3, callback=lambda _: [True], **COMMON),
            JnstError,
            "one for all, or one each",
        ),
    ],
)
def test_mistakes_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_store_gives_up_what_was_not_used_for_longest() -> None:
    jobs = [stylize_job(check_images(CONTENTS[0], style), BASE, BACKBONE) for style in STYLES]
    roomy, tight = TargetStore(), TargetStore(limit=1)
    for store in (roomy, tight):
        for job in (jobs[0], jobs[1], jobs[1], jobs[0]):
            store.style(job, 0, PARAMS)
    assert (roomy.styles, tight.styles) == (2, 3)


def test_another_objective_has_targets_of_its_own() -> None:
    first = stylize_job(check_images(CONTENTS[0], STYLES[0]), BASE, BACKBONE)
    other = stylize_job(first.images, jnst.with_style_statistic(BASE, "mean-std"), BACKBONE)
    store = TargetStore()
    targets = [store.style(job, 0, PARAMS)[1] for job in (first, other)]
    assert jax.tree.structure(targets[0]) != jax.tree.structure(targets[1])
