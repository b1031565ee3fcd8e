"""Settings of a whole run that are checked or worked out before it begins."""

import pytest
from contracts import random_image, random_params, tiny_backbone

import jnst
from jnst.errors import JnstError

pytestmark = pytest.mark.usefixtures("unoptimised")


def test_a_pyramid_leaves_out_what_is_too_small_for_the_network() -> None:
    """A narrow image and a small style run on the sizes that they allow."""
    content, style = random_image(0, 20, 160), random_image(1, 20, 20)
    backbone = jnst.make_backbone("convnet", widths=((4,), (4,), (4,), (4,), (4,)))
    settings = jnst.preset("jnst", pyramid=jnst.Pyramid(factor=2.0, min_size=40), num_steps=(1,))
    solution = jnst.transfer.stylize(content, style, random_params(backbone), backbone=backbone, preset=settings)
    assert solution.image.shape == (20, 160, 3)
    assert len(solution.losses) == 1


@pytest.mark.parametrize("average", [-0.5, 1.0, 1.5])
def test_a_decay_that_is_none_is_refused(average: float) -> None:
    image = random_image(0, 32, 32)
    with pytest.raises(JnstError, match="expected a decay of at least 0 and below 1"):
        jnst.transfer.stylize(image, image, preset=jnst.preset("jnst", average=average))


def test_a_presets_pooling_is_used() -> None:
    content, style = random_image(0, 32, 40), random_image(1, 32, 32)
    backbone = tiny_backbone()
    params = random_params(backbone)
    layers = {"content_layers": ("relu2_1",), "style_layers": ("relu1_1",), "num_steps": (1,)}
    preset = {name: jnst.preset("gatys2016", init="style", pooling=name, **layers) for name in ("avg", "max")}
    first = {
        name: jnst.transfer.stylize(content, style, params, backbone=backbone, preset=value).losses[0]
        for name, value in preset.items()
    }
    averaging = jnst.transfer.stylize(
        content, style, params, backbone=tiny_backbone("avg"), preset=jnst.preset(preset["max"], pooling=None)
    )
    assert first["avg"] == averaging.losses[0]
    assert first["avg"] != first["max"]
