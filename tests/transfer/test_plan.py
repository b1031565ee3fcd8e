"""What a run will do at each of its sizes."""

from typing import Any

import numpy as np
import optax
import pytest
from contracts import random_image, tiny_backbone

import jnst
from jnst.errors import ArgumentError
from jnst.transfer.inputs import check_inputs
from jnst.transfer.plan import Plan, make_job, make_plan

BACKBONE = tiny_backbone()
SETTINGS = jnst.preset(
    content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"), pyramid=jnst.Pyramid(2.0, min_size=64)
)


def plan(
    shape: tuple[int, int] = (192, 256), *, size: int | None = None, objective: Any = None, **changes: Any
) -> Plan:
    return make_plan(jnst.preset(SETTINGS, **changes), BACKBONE, shape, size=size, objective=objective)


def shapes(made: Plan) -> list[tuple[int, int]]:
    return [scale.shape for scale in made.scales]


def content_weights(made: Plan) -> list[float]:
    return [float(scale.objective.content[0].weight) for scale in made.scales]


def test_sizes_end_at_the_size_asked_for() -> None:
    assert shapes(plan()) == [(48, 64), (96, 128), (192, 256)]
    assert shapes(plan(size=128)) == [(48, 64), (96, 128)]
    assert shapes(plan(size=300)) == [(56, 75), (112, 150), (225, 300)]
    assert shapes(plan(size=63)) == [(47, 63)]
    assert shapes(plan(size=300, pyramid=None)) == [(225, 300)]
    assert shapes(plan(size=256)) == shapes(plan())


def test_smaller_sizes_have_the_proportions_of_the_given_image() -> None:
    """Not those of the full size, which is rounded."""
    made = shapes(plan((1000, 1499), size=128))
    assert made == [(round(64 * 1000 / 1499), 64), (85, 128)]


def test_the_last_number_of_steps_holds_for_all_further_sizes() -> None:
    assert plan(num_steps=(7, 5)).num_steps == (7, 5, 5)
    assert plan(num_steps=(9, 7, 5, 3)).num_steps == (9, 7, 5)
    assert plan(num_steps=4).num_steps == (4, 4, 4)


def test_the_content_weight_changes_from_size_to_size() -> None:
    made = plan(content_weight=8.0, content_weight_per_size=0.5)
    assert content_weights(made) == [8.0, 4.0, 2.0]
    styles = {float(term.weight) for scale in made.scales for term in scale.objective.style}
    assert len(styles) == 1
    assert content_weights(plan(content_weight=8.0)) == [8.0, 8.0, 8.0]


def test_so_does_that_of_an_objective_of_ones_own() -> None:
    objective = jnst.make_objective(content_layers=["relu1_1"], content_weight=3.0)
    assert content_weights(plan(objective=objective, content_weight_per_size=2.0)) == [3.0, 6.0, 12.0]


def test_the_last_learning_rate_is_for_the_last_size() -> None:
    made = plan(optimizer=jnst.RMSprop(2e-3, levels=5), unit=1.0, last_learning_rate=1e-3)
    rates = (2e-3, 2e-3, 1e-3)
    assert [scale.solver.optimizer for scale in made.scales] == [jnst.RMSprop(rate, levels=5) for rate in rates]
    assert {scale.solver.unit for scale in made.scales} == {1.0}
    same = plan(optimizer=jnst.RMSprop(2e-3)).scales
    assert same[0].solver == same[-1].solver


@pytest.mark.parametrize("given", [jnst.SGD(0.5), optax.sgd(0.5)])
def test_another_optimizer_keeps_its_own_learning_rate_at_every_size(given: Any) -> None:
    """In place of one that has a rate of its own at the last size."""
    settings = jnst.preset("strotss", optimizer=given, num_steps=1, content_layers=("relu1_1",))
    made = make_plan(jnst.preset(settings, style_layers=("relu1_1",)), BACKBONE, (192, 256))
    assert len(made.scales) == 3
    assert all(scale.solver.optimizer is given for scale in made.scales)
    assert all(scale.solver.optimizer is given for scale in plan(optimizer=given).scales)


def test_strotss_as_published() -> None:
    """Content weight 16 α, α halved at each of four sizes, one unit for the style terms; 2e-3, and 1e-3 at the last."""
    vgg = jnst.make_backbone("vgg19", training="torchvision")
    made = make_plan(jnst.preset("strotss"), vgg, (512, 384))
    assert shapes(made) == [(64, 48), (128, 96), (256, 192), (512, 384)]
    weights = np.array(content_weights(made))
    np.testing.assert_allclose(weights[:-1] / weights[1:], 2.0)
    rates = (2e-3, 2e-3, 2e-3, 1e-3)
    assert [scale.solver.optimizer for scale in made.scales] == [jnst.RMSprop(rate, levels=5) for rate in rates]


def test_kept_colours_change_the_styles_and_nothing_is_kept_unless_asked() -> None:
    content, style = random_image(1, 20, 24), random_image(2, 18, 16)
    inputs = check_inputs(content, style)
    plain = make_job(inputs, SETTINGS, BACKBONE)
    assert plain.content is None
    assert plain.inputs.styles[0] is inputs.styles[0]
    kept = make_job(inputs, jnst.preset(SETTINGS, keep_color="match"), BACKBONE)
    assert kept.content is inputs.content
    assert np.abs(kept.inputs.styles[0] - style).max() > 0.01
    texture = make_job(
        check_inputs(None, style), jnst.preset(SETTINGS, keep_color="match", content_layers=()), BACKBONE
    )
    assert texture.content is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size 0: expected the longer side in pixels, at least 1"),
        ({"size": -5}, "size -5: expected"),
        ({"init": "photo"}, "init 'photo' is unknown: choose one of content, style, noise, or pass an image"),
        ({"num_steps": ()}, r"num_steps \(\): expected whole numbers of at least 0"),
        ({"average": 1.0}, r"average 1\.0: expected a decay of at least 0 and below 1"),
        ({"style_scale": float("inf")}, "style_scale inf: expected a positive number"),
        ({"content_layers": (), "style_layers": ()}, "the objective is empty, .* name at least one layer"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{message}"):
        plan(**options)
