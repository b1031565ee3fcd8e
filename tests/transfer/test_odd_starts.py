"""Canvases without features, textures without grain, runs that diverge, and starts at the optimum."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image, random_params, tiny_backbone

import jnst
from jnst.losses import Gram, MeanStd, Relative, SquaredError
from jnst.losses.targets import find_floors

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
CONTENT, STYLE = random_image(1, 32, 40), random_image(2, 28, 24)
PAINTING = jnst.resize(jnst.demo_images()[1], (64, 64))


def canvas(*colour: float) -> Any:
    return jnp.broadcast_to(jnp.asarray(colour, jnp.float32), (64, 64, 3))


CANVASES = {
    "the network's mean": canvas(0.485, 0.458, 0.408),
    "grey": canvas(*[160 / 255] * 3),
    "white": canvas(1.0, 1.0, 1.0),
    "a faint gradient": canvas(0.49, 0.46, 0.41) + jnp.linspace(0, 0.02, 64, dtype=jnp.float32)[:, None, None],
}


@pytest.mark.parametrize("name", CANVASES)
def test_blank_canvases_are_painted(name: str) -> None:
    result = jnst.stylize(CANVASES[name], PAINTING, num_steps=100)
    assert result.losses[-1] < 0.4 * result.losses[0]
    assert float(jnp.std(result.image)) > 0.5 * float(jnp.std(PAINTING))


def test_a_plain_style_leaves_the_content_recognisable() -> None:
    content, _ = (jnst.resize(image, (64, 64)) for image in jnst.demo_images())
    result = jnst.stylize(content, CANVASES["grey"], num_steps=60)
    correlation = np.corrcoef(np.asarray(result.image).mean(-1).ravel(), np.asarray(content).mean(-1).ravel())[0, 1]
    assert correlation > 0.5


@pytest.mark.parametrize(
    ("relative", "plain"),
    [(Relative(SquaredError()), SquaredError("relative")), (Relative(Gram()), Gram("chw", "relative"))],
)
def test_the_floor_does_not_touch_ordinary_images(relative: Any, plain: Any) -> None:
    backbone, params = jnst.load_backbone()
    content, style = (jnst.resize(image, (64, 64)) for image in jnst.demo_images())
    losses = []
    for loss in (relative, plain):
        objective = jnst.make_objective(content_layers=("relu2_1", "relu4_1"), content_loss=loss)

        @jax.jit
        def evaluate(content: Any, style: Any, objective: Any = objective) -> Any:
            targets = jnst.fit_content(content, objective, params, backbone=backbone)
            return jnst.total_loss(style, objective, targets, params, backbone=backbone)[0]

        losses.append(evaluate(content, style))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


@pytest.mark.parametrize("loss", [SquaredError(), Gram(), MeanStd()])
def test_the_floor_belongs_to_the_network(loss: Any) -> None:
    """Of a featureless target the loss is divided by the floor, which scales with the network as the loss does."""
    objective = jnst.make_objective(content_layers=("relu2_1",), content_loss=Relative(loss))
    terms = objective.content
    (floor,) = find_floors(terms, PARAMS, backbone=BACKBONE)
    assert floor is not None
    black = jnp.zeros((16, 16, 3))
    targets = jnst.fit_content(black, objective, PARAMS, backbone=BACKBONE)
    features = BACKBONE.apply(PARAMS, black, ("relu2_1",))["relu2_1"]
    own = float(loss.loss(jnp.zeros_like(features), loss.fit(features)))
    assert float(targets.content[0][1]) == pytest.approx(max(own, float(floor)), rel=1e-5)
    assert find_floors(jnst.make_objective(content_layers=("relu1_1",)).content, PARAMS, backbone=BACKBONE) == (None,)


def test_a_mixture_of_relative_losses_is_1_without_features() -> None:
    objective = jnst.make_objective(style_layers=("relu2_1",), style_loss=Relative(Gram()))
    targets = jnst.fit_style([STYLE, CONTENT], objective, PARAMS, backbone=BACKBONE)
    nothing = jnp.zeros_like(BACKBONE.apply(PARAMS, STYLE, ("relu2_1",))["relu2_1"])
    assert float(objective.style[0].loss.loss(nothing, targets.style[0][0].target)) == pytest.approx(1.0, rel=1e-5)


def grain(image: Any) -> float:
    """The mean absolute Laplacian."""
    x = np.asarray(image, np.float64)
    around = (x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:]) / 4
    return float(np.abs(x[1:-1, 1:-1] - around).mean())


@pytest.mark.long
@pytest.mark.parametrize(("shape", "preset"), [((64, 64), "jnst"), ((80, 72), jnst.preset(pyramid=False))])
def test_textures_keep_no_grain_from_their_start(shape: tuple[int, int], preset: Any) -> None:
    result = jnst.synthesize(PAINTING, shape, preset=preset, num_steps=100)
    assert 0.5 * grain(PAINTING) < grain(result.image) < 1.5 * grain(PAINTING)
    assert result.losses[-1] < 0.05 * result.losses[0]


def test_presets_that_state_white_noise_keep_it() -> None:
    white = {name for name, row in jnst.presets.PRESETS.items() if row.schedule.noise_power == 0}
    assert white == {"gatys2016", "neural-style", "neural-style-pt", "anishathalye", "sliced-wasserstein"}
    assert white == {name for name, row in jnst.presets.PRESETS.items() if row.schedule.init == "noise"}


QUICK = jnst.preset(pyramid=False, num_steps=8)
SIZES = jnst.preset(pyramid=jnst.Pyramid(2.0, min_size=20), num_steps=6)


def run(**options: Any) -> Any:
    given: Any = {"preset": QUICK} | options
    return jnst.stylize(CONTENT, STYLE, PARAMS, backbone=BACKBONE, **given)


@pytest.mark.parametrize(
    ("optimizer", "clamp"),
    [(jnst.Adam(1e4), False), (jnst.RMSprop(1e3), False), (jnst.SGD(1e9), True)],
    ids=["adam", "rmsprop", "sgd"],
)
def test_a_run_that_diverges_keeps_the_best_image(optimizer: Any, clamp: bool) -> None:
    preset = jnst.preset(QUICK, clamp=clamp)
    result = run(optimizer=optimizer, preset=preset)
    best = int(np.argmin(result.losses))
    assert bool(result.finite)
    assert bool(result.diverged)
    assert "the loss climbed to" in result.warning()
    expected = run(optimizer=optimizer, preset=preset, num_steps=best).image if best else CONTENT
    np.testing.assert_allclose(result.image, expected, atol=1e-5)


def test_a_size_that_diverges_does_not_spoil_the_next() -> None:
    result = run(preset=SIZES, optimizer=jnst.Adam(1e4))
    assert bool(result.diverged)
    assert result.losses[6] < 1.5 * result.losses[0]  # the next size starts from the best image
    np.testing.assert_allclose(
        result.image, jnst.resize(jnst.resize(jnp.asarray(CONTENT), (16, 20)), (32, 40)), atol=1e-5
    )


def test_ordinary_runs_have_nothing_to_say() -> None:
    result = run()
    assert (bool(result.fell), bool(result.diverged), result.warning()) == (True, False, None)


def test_a_run_whose_loss_has_not_fallen_says_so() -> None:
    result = run(optimizer=jnst.SGD(1e-12))
    assert (bool(result.fell), bool(result.diverged)) == (False, False)
    assert result.warning().startswith("the loss has not fallen, from ")


def test_runs_of_a_batch_are_judged_one_by_one() -> None:
    swept = jnst.sweep(
        CONTENT,
        STYLE,
        {"learning_rate": (1e4, 1.0)},
        PARAMS,
        backbone=BACKBONE,
        preset=jnst.preset(QUICK, optimizer="adam"),
        width=2,
    )
    assert swept.diverged.tolist() == [True, False]
    assert swept.warning(0) is not None
    assert swept.warning(1) is None
    np.testing.assert_allclose(swept.image[0], CONTENT, atol=1e-5)


@pytest.mark.parametrize(("preset", "brightness"), [("jnst", 1.0), ("neural-style", 1.0), ("gatys2017", 0.3)])
def test_lbfgs_does_not_leave_an_optimum(preset: str, brightness: float) -> None:
    settings = jnst.preset(
        preset,
        **{"pyramid": False, "num_steps": 12, "init": "content"},
        **{"content_layers": ("relu2_1",), "style_layers": ("relu1_1", "relu2_1")},
    )
    image = jnp.asarray(brightness * CONTENT)
    result = jnst.stylize(image, image, PARAMS, backbone=BACKBONE, preset=settings)
    scale = jnst.stylize(image, STYLE, PARAMS, backbone=BACKBONE, preset=settings).losses[0]
    assert result.losses.max() < 1e-6 * scale
    np.testing.assert_allclose(result.image, image, atol=1e-3)


def test_lbfgs_still_reaches_minima_at_zero() -> None:
    def loss(x: Any, goal: Any, step: Any) -> Any:
        return jnp.sum(jnp.linspace(0.1, 10, 12) * (x - goal) ** 2)

    goal = jnp.linspace(1, 2, 12)
    end = jnst.solve.run(loss, jnst.LBFGS(), jnp.zeros(12), goal, num_steps=60).image
    np.testing.assert_allclose(end, goal, rtol=1e-4)
