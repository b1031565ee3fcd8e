"""What a run will do at each of its sizes."""

from typing import Any

import numpy as np
import optax
import pytest
from contracts import tiny_backbone

import jnst
from jnst.errors import JnstError
from jnst.solve.optimizers import SGD, RMSprop, build
from jnst.transfer.plan import Plan, make_plan

BACKBONE = tiny_backbone()
SETTINGS = jnst.preset(
    content_layers=("relu2_1",), style_layers=("relu1_1", "relu2_1"), pyramid=jnst.Pyramid(2.0, min_size=64)
)


def plan(shape: tuple[int, int] = (192, 256), *, size: int | None = None, given: Any = None, **changes: Any) -> Plan:
    return make_plan(jnst.preset(SETTINGS, **changes), BACKBONE, shape, size=size, **(given or {}))


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


def test_small_sizes_have_the_proportions_of_the_image_given() -> None:
    """Not those of the full size, which is rounded."""
    made = shapes(plan((1000, 1499), size=128))
    assert made == [(round(64 * 1000 / 1499), 64), (85, 128)]


def test_steps_at_each_size_the_last_number_for_all_further_ones() -> None:
    assert [scale.num_steps for scale in plan(num_steps=(7, 5)).scales] == [7, 5, 5]
    assert [scale.num_steps for scale in plan(num_steps=(9, 7, 5, 3)).scales] == [9, 7, 5]


def test_the_content_weight_changes_from_size_to_size() -> None:
    made = plan(content_weight=8.0, content_weight_per_size=0.5)
    assert content_weights(made) == [8.0, 4.0, 2.0]
    styles = {float(term.weight) for scale in made.scales for term in scale.objective.style}
    assert len(styles) == 1
    assert content_weights(plan(content_weight=8.0)) == [8.0, 8.0, 8.0]


def test_an_objective_of_ones_own_changes_too() -> None:
    given = {"objective": jnst.make_objective(content_layers=["relu1_1"], content_weight=3.0)}
    assert content_weights(plan(given=given, content_weight_per_size=2.0)) == [3.0, 6.0, 12.0]


def test_the_last_learning_rate_is_for_the_last_size() -> None:
    made = plan(optimizer=RMSprop(2e-3, levels=5), last_learning_rate=1e-3, unit=1.0)
    first, middle, last = (scale.method.optimizer for scale in made.scales)
    assert first is middle is build(RMSprop(2e-3, levels=5), 1.0)
    assert last is build(RMSprop(1e-3, levels=5), 1.0)
    same = plan(optimizer=RMSprop(2e-3)).scales
    assert same[0].method == same[-1].method


@pytest.mark.parametrize("given", [SGD(0.5), optax.sgd(0.5)])
def test_an_optimizer_that_is_given_keeps_its_own_learning_rate(given: Any) -> None:
    made = plan(last_learning_rate=1e-3, given={"optimizer": given})
    methods = {scale.method.optimizer for scale in made.scales}
    assert methods == {build(given, SETTINGS.unit) if isinstance(given, SGD) else given}


def test_strotss_as_published() -> None:
    """Content weight 16 α, α halved at each of four sizes, one unit for the style terms; 2e-3, and 1e-3 at the last."""
    settings = jnst.preset("strotss")
    vgg = jnst.make_backbone("vgg19", training="torchvision")
    made = make_plan(settings, vgg, (512, 384))
    assert shapes(made) == [(64, 48), (128, 96), (256, 192), (512, 384)]
    weights = np.array(content_weights(made))
    np.testing.assert_allclose(weights[:-1] / weights[1:], 2.0)
    rates = [build(RMSprop(rate, levels=5), 1.0) for rate in (2e-3, 2e-3, 2e-3, 1e-3)]
    assert [scale.method.optimizer for scale in made.scales] == rates


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size 0: expected the longer side in pixels, at least 1"),
        ({"size": -5}, "size -5: expected"),
        ({"init": "photo"}, "init 'photo' is unknown: choose one of content, style, noise, or pass an image"),
        ({"num_steps": ()}, r"num_steps \(\): expected whole numbers of at least 0"),
        ({"average": 1.0}, "average 1.0: expected a decay of at least 0 and below 1"),
        ({"style_scale": float("inf")}, "style_scale inf: expected a positive number"),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(JnstError, match=f"^{message}"):
        plan(**options)
