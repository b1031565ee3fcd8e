"""Runs with a loss that draws at random: what is drawn depends on the key, the size and the step alone."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import random_image, random_params, same_trees

import jnst
from jnst.losses import SlicedWasserstein
from jnst.losses.objective import make_objective, total_loss
from jnst.losses.targets import fit_targets
from jnst.transfer.stylize import Solution, stylize

pytestmark = pytest.mark.usefixtures("unoptimised")
BACKBONE = jnst.make_backbone("convnet", widths=((4,), (6,)), pooling="avg")
PARAMS = random_params(BACKBONE)
CONTENT, STYLE = random_image(1, 16, 20), random_image(2, 14, 18)
SETTINGS = jnst.preset(
    content_layers=(),
    style_layers=("relu1_1",),
    style_loss=SlicedWasserstein(directions=2),
    optimizer=jnst.Adam(2.0),
    pyramid=jnst.Pyramid(2.0, min_size=10),
    num_steps=(3, 4),
)
FLAT = jnst.preset(SETTINGS, pyramid=None, num_steps=(6,))
STILL = optax.sgd(0.0)


def run(settings: jnst.Preset = SETTINGS, **options: Any) -> Solution:
    return stylize(CONTENT, STYLE, PARAMS, **({"backbone": BACKBONE, "preset": settings} | options))


def test_every_step_draws_afresh() -> None:
    """The image stands still; what the loss says of it does not."""
    losses = run(FLAT, optimizer=STILL).losses
    assert len(set(losses.tolist())) == 6
    gram = run(jnst.preset(FLAT, style_loss=jnst.Gram()), optimizer=STILL).losses
    assert len(set(gram.tolist())) == 1


def test_every_size_draws_afresh() -> None:
    """At two sizes of the same flat image, beside the same style."""
    settings = jnst.preset(SETTINGS, num_steps=(1,), fixed_style=True, style_layers=("image",))
    grey = jnp.full((16, 20, 3), 0.5)
    losses = stylize(grey, STYLE, PARAMS, backbone=BACKBONE, preset=settings, optimizer=STILL).losses
    assert losses[0] != pytest.approx(losses[1], rel=1e-2)
    gram = jnst.preset(settings, style_loss=jnst.Gram())
    losses = stylize(grey, STYLE, PARAMS, backbone=BACKBONE, preset=gram, optimizer=STILL).losses
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_keys() -> None:
    one, again, other = (run(FLAT, optimizer=STILL, key=jax.random.key(seed)).losses for seed in (3, 3, 4))
    assert same_trees(one, again)
    assert not np.isin(one, other).any()


def test_terms_draw_apart() -> None:
    """An image that is compared twice is not compared along the same directions, but without a key it is."""
    one = make_objective(style_layers=["image"], style_loss=SlicedWasserstein(1))
    two = jnst.Objective(style=one.style * 2)

    @jax.jit
    def values(key: Any) -> Any:
        targets = [fit_targets(terms, {}, None, jnp.asarray(STYLE), backbone=BACKBONE) for terms in (one, two)]
        pairs = list(zip((one, two), targets, strict=True))
        return [
            [
                total_loss(jnp.asarray(CONTENT), terms, target, {}, backbone=BACKBONE, key=drawn)[0]
                for terms, target in pairs
            ]
            for drawn in (key, None)
        ]

    drawn, fixed = values(jax.random.key(0))
    assert float(drawn[1]) != pytest.approx(2 * float(drawn[0]), rel=1e-2)
    assert float(fixed[1]) == pytest.approx(2 * float(fixed[0]), rel=1e-5)


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_going_on_equals_never_having_stopped(stop: int) -> None:
    """Within a size, between two, and in the second, bit for bit."""
    whole = run(key=jax.random.key(9))
    part = run(key=jax.random.key(9), callback=lambda report: report.first == stop)
    rest = run(key=jax.random.key(9), state=part.state)
    np.testing.assert_array_equal(np.concatenate([part.losses, rest.losses]), whole.losses)
    assert same_trees(rest.state, whole.state)


def test_scanned_chunks_draw_the_same() -> None:
    single, chunked = run(FLAT, chunk=1), run(FLAT, chunk=5)
    np.testing.assert_allclose(chunked.losses, single.losses, rtol=1e-4)
    np.testing.assert_allclose(chunked.image, single.image, atol=1e-3)


def test_the_loss_falls_all_the_same() -> None:
    losses = run(FLAT, num_steps=60).losses
    assert losses[-10:].mean() < 0.3 * losses[:10].mean()
