"""Runs in tiles: the same results, sizes that are small enough as a whole, and tiles where memory would not do."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contracts import random_image, random_params, tiny_backbone

import jnst
from jnst.apps.cli import main
from jnst.apps.cli.progress import remarks
from jnst.errors import ArgumentError
from jnst.losses.tiles import plan_tiles
from jnst.transfer import memory
from jnst.transfer.inputs import check_inputs
from jnst.transfer.plan import Job, make_job, with_tiles

pytestmark = pytest.mark.usefixtures("unoptimised")

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
SETTINGS = jnst.preset("jnst", style_weight=10.0, pyramid=None, optimizer=jnst.Adam(), num_steps=2)


def job(side: int, **changes: Any) -> Job:
    content, style = jnp.full((side, side, 3), 0.5), jnp.full((32, 32, 3), 0.5)
    return make_job(check_inputs(content, style), jnst.preset(SETTINGS, **changes), BACKBONE)


def test_stylize_synthesize_and_reconstruct_make_the_same_in_tiles() -> None:
    content, style = jnp.asarray(random_image(1, 97, 135)), jnp.asarray(random_image(2, 70, 83))
    given: Any = {"backbone": BACKBONE, "preset": SETTINGS}
    mask = jnp.asarray(np.linspace(0, 1, 135, dtype=np.float32) * np.ones((97, 1), np.float32))

    def runs(tile: int | None) -> list[jnst.Solution]:
        return [
            jnst.stylize(content, [style, 1 - style], PARAMS, masks=[mask, 1 - mask], tile=tile, **given),
            jnst.synthesize(style, (97, 135), PARAMS, tile=tile, **given),
            jnst.reconstruct(content, ("relu2_1",), PARAMS, tile=tile, **given),
        ]

    for whole, tiled in zip(runs(None), runs(64), strict=True):
        assert tiled.parts.keys() == whole.parts.keys()
        np.testing.assert_allclose(tiled.losses, whole.losses, rtol=1e-4)
        np.testing.assert_allclose(tiled.image, whole.image, atol=1e-3)


def test_only_sizes_larger_than_a_tile_are_divided() -> None:
    scales = with_tiles(job(256, pyramid=jnst.Pyramid(factor=2.0, min_size=64)), 128).plan.scales
    assert [(scale.shape[0], scale.tile) for scale in scales] == [(64, None), (128, None), (256, 128)]


def test_tiles_are_used_where_the_whole_image_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    backbone = jnst.make_backbone("convnet", widths="64,64/64")
    params = random_params(backbone)
    content, style = jnp.full((1500, 1500, 3), 0.5), jnp.full((8, 8, 3), 0.5)
    made = make_job(check_inputs(content, style), SETTINGS, backbone)
    whole, tiled = memory.run_bytes(made, params), memory.tiled_bytes(with_tiles(made, memory.TILES[-1]), params)
    assert 2 * tiled < whole
    with remarks():
        assert memory.check(made, params, free=tiled).plan.scales[-1].tile == memory.TILES[-1]
    said = f"jnst: computed in tiles of 256: the whole image needs {memory.in_words(whole)}, "
    assert capsys.readouterr().err.startswith(said)
    assert memory.check(made, params, free=whole).plan.scales[-1].tile is None
    with pytest.raises(jnst.ResourceError, match="a longer side of"):
        memory.check(made, params, free=tiled - 1)


@pytest.mark.parametrize(("tile", "free"), [(1024, 0.5e9), (512, 0.45e9), (256, 0.4e9), (None, 0.4e9), (256, 0.1e9)])
def test_the_promised_size_fits(tile: int | None, free: float) -> None:
    backbone = jnst.make_backbone("vgg19")
    # Only the sizes of the parameters matter.
    params = jax.tree.map(
        lambda leaf: np.broadcast_to(leaf.dtype.type(0), leaf.shape), jax.eval_shape(backbone.init, jax.random.key(0))
    )

    def made(side: int, tile: int | None) -> Job:
        content: Any = np.broadcast_to(np.float32(0.5), (side * 2 // 3, side, 3))
        own = make_job(check_inputs(content, content[:300, :300]), SETTINGS, backbone)
        return own if tile is None else with_tiles(own, tile)

    with pytest.raises(jnst.ResourceError, match=r"a longer side of \d+ fits") as caught:
        memory.check(made(6000, tile), params, free=int(free))
    side = int(re.findall(r"longer side of (\d+)", str(caught.value))[0])
    tiles = [int(number) for number in re.findall(r"`tile` (\d+)", str(caught.value))]
    memory.check(made(side, tiles[0] if tiles else tile), params, free=int(free))


def test_smaller_tiles_are_proposed_where_they_fit() -> None:
    backbone = jnst.make_backbone("convnet", widths="32,32/32")
    params = random_params(backbone)
    content = jnp.full((1500, 1500, 3), 0.5)
    made = make_job(check_inputs(content, content[:8, :8]), SETTINGS, backbone)
    free = memory.tiled_bytes(with_tiles(made, 256), params)
    with pytest.raises(jnst.ResourceError, match=r"use smaller tiles \(`tile` 256\)"):
        memory.check(with_tiles(made, 1024), params, free=free)


def test_seamless_images_are_not_divided() -> None:
    with pytest.raises(ArgumentError, match="leave out `tile` or `seamless`"):
        jnst.synthesize(jnp.full((32, 32, 3), 0.5), (128, 128), PARAMS, backbone=BACKBONE, seamless=True, tile=64)


def test_batches_name_their_own_function() -> None:
    image, given = jnp.full((32, 32, 3), 0.5), dict[str, Any](tile=64)
    with pytest.raises(TypeError, match=r"stylize_batch\(\) got an unexpected keyword argument 'tile'"):
        jnst.stylize_batch([image], [image], PARAMS, backbone=BACKBONE, **given)


def test_huge_tiles_are_limited_by_the_image() -> None:
    huge, enough = (plan_tiles(BACKBONE, ("relu1_1",), (70, 97), tile) for tile in (8192, 128))
    assert huge == enough


@pytest.mark.parametrize(
    "changes", [{"optimizer": jnst.LBFGS()}, {"style_statistic": "patches"}], ids=["state", "loss"]
)
def test_what_tiles_cannot_help_is_refused(changes: Any) -> None:
    with pytest.raises(jnst.ResourceError, match="a longer side of"):
        memory.check(job(512, **changes), PARAMS, free=30_000_000)


def test_a_tile_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ArgumentError, match="tile 3: expected"):
        jnst.transfer_loss(BACKBONE, tile=3)
    assert main(["stylize", "a.png", "b.png", "-o", "c.png", "--tile", "large"]) != 0
    assert "--tile large" in capsys.readouterr().err
