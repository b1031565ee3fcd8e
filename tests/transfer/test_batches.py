"""Batches, grids and sweeps: every run against its own `jnst.stylize`, and how often programs and targets are made."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import compilations, random_image, random_params, same_trees, tiny_backbone

import jnst
from jnst.errors import ArgumentError, ImageError
from jnst.images import FITS
from jnst.solve import driver
from jnst.solve.optimizers import Named
from jnst.transfer.inputs import check_inputs
from jnst.transfer.plan import Job, make_job
from jnst.transfer.target_store import TargetStore

pytestmark = pytest.mark.usefixtures("unoptimised")

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
CONTENTS = [random_image(seed, 24, 20) for seed in (1, 2)]
STYLES = [random_image(3, 18, 26), random_image(4, 30, 22), random_image(5, 18, 26)]
BASE = jnst.preset(style_weight=10.0, optimizer=jnst.LBFGS(memory_size=4), pyramid=None, num_steps=4)
PYRAMID = jnst.preset(BASE, pyramid=jnst.Pyramid(min_size=16), num_steps=(3, 2), optimizer=jnst.Adam(2.0))
COMMON: dict[str, Any] = {"backbone": BACKBONE, "preset": BASE}


def single(content: Any, style: Any, **options: Any) -> jnst.Solution:
    return jnst.stylize(content, style, PARAMS, **(COMMON | options))


def job(content: Any, style: Any, settings: jnst.Preset = BASE) -> Job:
    return make_job(check_inputs(content, style), settings, BACKBONE)


# Against single runs.


@pytest.mark.parametrize("preset", [BASE, PYRAMID, jnst.preset(PYRAMID, average=0.9, carry_optimizer=True)])
def test_every_run_is_its_own_single_run(preset: jnst.Preset) -> None:
    """Bit for bit on a CPU, also for styles of different sizes, and through a pyramid."""
    batch = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, backbone=BACKBONE, preset=preset)
    assert batch.state is None
    for index in range(2):
        alone = single(CONTENTS[index], STYLES[index], preset=preset)
        assert same_trees(batch.image[index], alone.image)
        assert same_trees(batch.losses[index], alone.losses)
        assert same_trees({name: part[index] for name, part in batch.parts.items()}, alone.parts)
        assert int(batch.num_steps[index]) == int(alone.num_steps)


@pytest.mark.parametrize("preset", [BASE, PYRAMID, jnst.preset(PYRAMID, average=0.9, carry_optimizer=True)])
def test_runs_at_once_differ_by_rounding_only(preset: jnst.Preset) -> None:
    apart = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, backbone=BACKBONE, preset=preset)
    at_once = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, backbone=BACKBONE, preset=preset, width=2)
    np.testing.assert_allclose(at_once.image, apart.image, atol=2e-3)
    np.testing.assert_allclose(at_once.losses, apart.losses, rtol=2e-3)
    np.testing.assert_allclose(at_once.losses[:, 0], apart.losses[:, 0], rtol=1e-5)


def test_a_grid_is_its_pairs_and_compiles_once() -> None:
    count = compilations(driver._make_steps)
    grid = jnst.stylize_grid(CONTENTS, STYLES, PARAMS, **COMMON)
    assert compilations(driver._make_steps) <= count + 1
    assert grid.image.shape == (2, 3, 24, 20, 3)
    assert grid.losses.shape == grid.parts["style/relu1_1"].shape == (2, 3, 4)
    assert grid.finite.shape == grid.num_steps.shape == (2, 3)
    pairs = [(content, style) for content in CONTENTS for style in STYLES]
    batch = jnst.stylize_batch([content for content, _ in pairs], [style for _, style in pairs], PARAMS, **COMMON)
    assert same_trees(batch.image.reshape(grid.image.shape), grid.image)
    assert not np.array_equal(grid.image[0, 0], grid.image[0, 1])
    assert not np.array_equal(grid.image[0, 0], grid.image[1, 0])


def test_the_last_batch_is_filled_up_and_needs_no_program_of_its_own() -> None:
    """Three runs, two at a time: the copy that fills the second batch is neither reported nor returned."""
    seen: list[tuple[int, ...]] = []
    count = compilations(driver._make_steps)
    arguments: dict[str, Any] = {"width": 2, "callback": lambda report: seen.append(report.runs), **COMMON}
    grid = jnst.stylize_grid(CONTENTS[:1], [STYLES[0], STYLES[2], STYLES[0]], PARAMS, **arguments)
    assert compilations(driver._make_steps) <= count + 1
    assert set(seen) == {(0, 1), (2,)}
    assert grid.image.shape[:2] == (1, 3)
    np.testing.assert_allclose(grid.image[0, 2], grid.image[0, 0], atol=1e-5)


def test_a_sweep_is_its_separate_runs_and_compiles_once() -> None:
    count = compilations(driver._make_steps)
    over = {"style_weight": (1.0, 50.0), "seed": (0, 1), "learning_rate": (1.0, 0.3)}
    swept = jnst.sweep(CONTENTS[0], STYLES[0], over, PARAMS, init="noise", **COMMON)
    assert compilations(driver._make_steps) <= count + 1
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


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("optimizer", [jnst.Adam(), jnst.RMSprop(0.01, levels=2), jnst.SGD(1e-3, decay=0.5)])
def test_swept_learning_rates_are_those_of_single_runs(optimizer: Named, width: int) -> None:
    rates, arguments = (0.7, 2.0), {"optimizer": optimizer, "width": width, **COMMON}
    swept = jnst.sweep(CONTENTS[0], STYLES[0], {"learning_rate": rates}, PARAMS, **arguments)
    for index, rate in enumerate(rates):
        alone = single(CONTENTS[0], STYLES[0], optimizer=dataclasses.replace(optimizer, learning_rate=rate))
        np.testing.assert_allclose(swept.image[index], alone.image, atol=1e-5 if width == 1 else 2e-3)
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
    objectives = tuple(jnst.preset(BASE, style_layers=names).terms.objective(BACKBONE) for names in layers)
    same = jnst.sweep(CONTENTS[0], STYLES[0], {"objective": objectives}, PARAMS, **COMMON)
    assert same_trees(same.image, swept.image)


def test_sweeps_over_settings_that_change_the_program() -> None:
    """Optimisers, statistics, numbers of steps and sizes: records are padded with NaN to the longest run."""
    over = {"optimizer": ("adam", "sgd"), "style_statistic": ("gram", "mean-std"), "num_steps": (1, 3)}
    swept = jnst.sweep(CONTENTS[0], STYLES[0], over, PARAMS, **COMMON)
    assert swept.losses.shape == (2, 2, 2, 3)
    assert np.isfinite(swept.losses).sum(-1).tolist() == swept.num_steps.tolist() == [[[1, 3]] * 2] * 2
    settings = jnst.preset(BASE, optimizer="sgd", style_statistic="mean-std", num_steps=3)
    assert same_trees(swept.image[1, 1, 1], single(CONTENTS[0], STYLES[0], preset=settings).image)
    pyramids = jnst.sweep(CONTENTS[0], STYLES[0], {"pyramid": (True, False)}, PARAMS, backbone=BACKBONE, preset=PYRAMID)
    assert pyramids.num_steps.tolist() == [5, 3]


def test_layer_weights_are_swept_without_compiling_again() -> None:
    arguments: dict[str, Any] = COMMON | {"preset": jnst.preset(BASE, style_layers=("relu1_1", "relu2_1"))}
    over = {"style_layer_weights": ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0))}
    count = compilations(driver._make_steps)
    swept = jnst.sweep(CONTENTS[0], STYLES[0], over, PARAMS, **arguments)
    assert compilations(driver._make_steps) <= count + 1
    part = swept.parts["style/relu2_1"][:, 0]
    assert part[0] == 0 < part[1]
    np.testing.assert_allclose(part, part[2] * np.r_[0, 0.5, 1])


def test_mixtures_and_kept_colours_are_those_of_single_runs() -> None:
    mixture = (STYLES[0], STYLES[1])
    for control in ("luminance", "match"):
        grid = jnst.stylize_grid(CONTENTS, [mixture, STYLES[2]], PARAMS, keep_color=control, **COMMON)
        assert same_trees(grid.image[1, 0], single(CONTENTS[1], mixture, keep_color=control).image)
        assert same_trees(grid.image[0, 1], single(CONTENTS[0], STYLES[2], keep_color=control).image)


def test_kept_colours_of_runs_at_once() -> None:
    """Every run keeps the colours of its own content."""
    batch = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, keep_color="luminance", width=2, **COMMON)
    for index in range(2):
        alone = single(CONTENTS[index], STYLES[index], keep_color="luminance")
        np.testing.assert_allclose(batch.image[index], alone.image, atol=2e-3)


@pytest.mark.parametrize("fit", FITS)
def test_contents_of_several_shapes_are_fitted(fit: str) -> None:
    wide = random_image(6, 24, 40)
    batch = jnst.stylize_batch([CONTENTS[0], wide], STYLES[:2], PARAMS, fit=fit, num_steps=0, **COMMON)
    expected = wide[:, 10:30] if fit == "crop" else jnst.resize(jnp.asarray(wide), (24, 20))
    np.testing.assert_allclose(batch.image[1], expected, atol=1e-6)


def test_solutions_are_pytrees() -> None:
    batch = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, num_steps=1, **COMMON)
    assert jax.tree.map(lambda leaf: leaf[0], batch).image.shape == (24, 20, 3)


# Runs that end early.


@pytest.mark.parametrize("width", [1, 3])
def test_a_run_that_meets_nan_is_frozen_and_reported_and_changes_no_other(width: int) -> None:
    arguments: dict[str, Any] = COMMON | {"init": "noise", "width": width}
    poisoned = jnst.sweep(CONTENTS[0], STYLES[0], {"learning_rate": (1.0, 1e38, 0.5)}, PARAMS, **arguments)
    sound = jnst.sweep(CONTENTS[0], STYLES[0], {"learning_rate": (1.0, 0.7, 0.5)}, PARAMS, **arguments)
    assert poisoned.finite.tolist() == [True, False, True]
    message = poisoned.error(1)
    assert message is not None
    assert "stopped being finite at step" in message
    for run in (0, 2):
        assert poisoned.error(run) is None
        assert same_trees(poisoned.image[run], sound.image[run])
        assert same_trees(poisoned.losses[run], sound.losses[run])
    assert np.isfinite(poisoned.image[1]).all()
    assert np.isnan(poisoned.losses[1, -1])
    assert poisoned.num_steps[1] < 4
    with pytest.raises(jnst.NumericsError) as alone:
        single(CONTENTS[0], STYLES[0], init="noise", optimizer=jnst.LBFGS(1e38, memory_size=4))
    assert str(alone.value) == message


@pytest.mark.parametrize("width", [1, 2])
def test_a_callback_ends_one_run_or_all(width: int) -> None:
    def listen(report: jnst.Report) -> list[bool]:
        assert report.losses.shape == report.parts["style/relu1_1"].shape == (len(report.runs), 1)
        assert report.image.shape == (len(report.runs), 24, 20, 3)
        return [run == 1 and report.first == 2 for run in report.runs]

    batch = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, width=width, callback=listen, **COMMON)
    whole = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, width=width, **COMMON)
    assert same_trees(batch.image[0], whole.image[0])
    assert np.isfinite(batch.losses).sum(-1).tolist() == batch.num_steps.tolist() == [4, 2]
    assert batch.finite.all()
    assert batch.error(1) is None
    short = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, width=width, num_steps=2, **COMMON)
    assert same_trees(batch.image[1], short.image[1])
    ended = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, width=width, callback=lambda report: True, **COMMON)
    assert np.isfinite(ended.losses).sum(-1).tolist() == [1, 1]


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("changes", [{}, {"average": 0.5}, {"keep_best": True, "learning_rate": 200.0}])
def test_the_result_of_a_run_that_ends_at_a_small_size_is_enlarged(width: int, changes: dict[str, Any]) -> None:
    """Ended by a callback after two steps. The other run goes on."""
    settings = jnst.preset(PYRAMID, **changes)

    def listen(report: jnst.Report) -> list[bool]:
        return [run == 0 and report.first == 2 for run in report.runs]

    arguments: dict[str, Any] = {"backbone": BACKBONE, "preset": settings}
    batch = jnst.stylize_batch(CONTENTS, STYLES[:2], PARAMS, width=width, callback=listen, **arguments)
    assert batch.image.shape == (2, 24, 20, 3)
    assert np.isfinite(batch.losses).sum(-1).tolist() == batch.num_steps.tolist() == [2, 5]
    small = single(CONTENTS[0], STYLES[0], preset=settings, callback=lambda report: report.first == 2)
    atol = 1e-5 if width == 1 else 2e-3
    np.testing.assert_allclose(batch.image[0], jnst.resize(small.image, (24, 20)), atol=atol)
    other = single(CONTENTS[1], STYLES[1], preset=settings)
    np.testing.assert_allclose(batch.image[1], other.image, atol=atol)


# Targets.


@pytest.mark.parametrize("preset", [BASE, PYRAMID])
@pytest.mark.parametrize("width", [1, 2])
def test_targets_are_computed_once_for_each_image_and_size(
    preset: jnst.Preset, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: list[TargetStore] = []

    class Counted(TargetStore):
        def __init__(self) -> None:
            super().__init__()
            stores.append(self)

    monkeypatch.setattr("jnst.transfer.batches.TargetStore", Counted)
    arguments: dict[str, Any] = {"backbone": BACKBONE, "preset": preset, "width": width, "over": {"seed": (0, 1)}}
    jnst.stylize_grid(CONTENTS, STYLES, PARAMS, **arguments)
    (store,) = stores
    sizes = 1 if preset.schedule.pyramid is None else 2
    assert (store.contents, store.styles) == (2 * sizes, 3 * sizes)


@pytest.mark.long
@pytest.mark.parametrize("name", ["patches"])
def test_styles_whose_targets_have_different_shapes_run_apart(name: str) -> None:
    settings = jnst.preset(BASE, style_statistic=name, num_steps=1, optimizer=jnst.Adam())
    count = compilations(driver._make_steps)
    grid = jnst.stylize_grid(CONTENTS[:1], STYLES, PARAMS, backbone=BACKBONE, preset=settings, width=3)
    assert compilations(driver._make_steps) <= count + 2
    for index, style in enumerate(STYLES[:2]):
        objective = settings.terms.objective(BACKBONE)
        targets = jnst.fit_targets(CONTENTS[0], style, objective, PARAMS, backbone=BACKBONE)
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0)
        expected, _ = jnst.total_loss(CONTENTS[0], objective, targets, PARAMS, backbone=BACKBONE, key=key)
        np.testing.assert_allclose(grid.losses[0, index, 0], expected, rtol=1e-5)


def test_a_store_evicts_what_was_used_least_recently() -> None:
    jobs = [job(CONTENTS[0], style) for style in STYLES]
    roomy, tight = TargetStore(), TargetStore(limit=1)
    for store in (roomy, tight):
        for each in (jobs[0], jobs[1], jobs[1], jobs[0]):
            store.at(each._replace(inputs=each.inputs._replace(content=None)), 0, PARAMS)
    assert (roomy.styles, tight.styles) == (2, 3)


def test_another_objective_has_targets_of_its_own() -> None:
    first = job(CONTENTS[0], STYLES[0])
    other = make_job(first.inputs, jnst.preset(BASE, style_statistic="mean-std"), BACKBONE)
    store = TargetStore()
    targets = [store.at(each, 0, PARAMS)[1] for each in (first, other)]
    assert jax.tree.structure(targets[0]) != jax.tree.structure(targets[1])


# Errors.


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jnst.stylize_batch(CONTENTS, STYLES, PARAMS, **COMMON), ArgumentError, "2 contents and 3 styles"),
        (lambda: jnst.stylize_grid([], STYLES, PARAMS, **COMMON), ArgumentError, "`contents` is empty"),
        (lambda: jnst.stylize_grid(CONTENTS, [], PARAMS, **COMMON), ArgumentError, "`styles` is empty"),
        (lambda: jnst.stylize_grid([CONTENTS[0], STYLES[0]], STYLES, PARAMS, **COMMON), ImageError, "fit='crop'"),
        (lambda: jnst.stylize_grid(CONTENTS, STYLES, PARAMS, fit="corp", **COMMON), ArgumentError, "did you mean crop"),
        (lambda: jnst.sweep(CONTENTS[0], STYLES[0], {}, PARAMS, **COMMON), ArgumentError, "`over` is empty"),
        (
            lambda: jnst.sweep(CONTENTS[0], STYLES[0], {"style_wieght": (1.0,)}, PARAMS, **COMMON),
            ArgumentError,
            "did you mean style_weight",
        ),
        (lambda: jnst.sweep(CONTENTS[0], STYLES[0], {"seed": ()}, PARAMS, **COMMON), ArgumentError, "at least one"),
        (
            lambda: jnst.sweep(CONTENTS[0], STYLES[0], {"init": "noise"}, PARAMS, **COMMON),
            ArgumentError,
            "sweep over init: expected a sequence of values",
        ),
        (
            lambda: jnst.sweep(CONTENTS[0], STYLES[0], {"style_weight": (-1.0,)}, PARAMS, **COMMON),
            ArgumentError,
            r"style weight -1\.0 is not usable",
        ),
        (
            lambda: jnst.sweep(
                CONTENTS[0],
                STYLES[0],
                {"style_weight": (1.0, 2.0)},
                PARAMS,
                objective=BASE.terms.objective(BACKBONE),
                **COMMON,
            ),
            ArgumentError,
            "sweep over objectives instead",
        ),
        (
            lambda: jnst.sweep(
                CONTENTS[0], STYLES[0], {"learning_rate": (1.0,)}, PARAMS, optimizer=optax.adam(1.0), **COMMON
            ),
            ArgumentError,
            "a learning rate for an Optax transformation: set it in the transformation",
        ),
        (lambda: jnst.stylize_grid(CONTENTS, STYLES, PARAMS, width=0, **COMMON), ArgumentError, "0 images at once"),
        (lambda: jnst.stylize_grid(CONTENTS, STYLES, PARAMS, chunk=0, **COMMON), ArgumentError, "chunk 0"),
        (
            lambda: jnst.stylize_grid(CONTENTS, STYLES, PARAMS, width=3, callback=lambda _: [True], **COMMON),
            ArgumentError,
            "one for all, or one each",
        ),
    ],
)
def test_mistakes_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
