"""Work divided among eight pretend devices against the same work on one; and how many runs fit on a device.

Run as a script, this file does the work, in a process that sees eight devices, and prints what differs as JSON.
"""

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from contracts import compilations, many_devices, random_image, random_params, tiny_backbone
from jax.sharding import Mesh

import jnst
from jnst.errors import ArgumentError
from jnst.losses.objective import TransferArgs
from jnst.solve import driver
from jnst.solve.devices import check_mesh, free_bytes, needed_bytes, row_sharding, shard_rows
from jnst.solve.driver import lower_steps, start_runs
from jnst.solve.solver import as_program
from jnst.transfer.batches import runs_that_fit
from jnst.transfer.inputs import check_inputs
from jnst.transfer.memory import run_bytes
from jnst.transfer.plan import make_job
from jnst.transfer.target_store import target_shapes

pytestmark = pytest.mark.usefixtures("unoptimised")

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)


def batch() -> dict[str, Any]:
    """Ten images, which eight devices cannot share evenly, through a pyramid; one of them meets NaN."""
    preset = jnst.preset(style_weight=10.0, optimizer=jnst.LBFGS(memory_size=4), num_steps=(3, 2), min_size=12)
    contents, styles = [random_image(seed, 24, 20) for seed in (1, 2)], [random_image(3, 18, 26)]
    over = {"learning_rate": (1.0, 0.5, 1e38, 0.25, 0.1)}
    arguments: Any = {"backbone": BACKBONE, "preset": preset, "over": over, "init": "noise"}
    one = jax.tree.map(np.asarray, jnst.stylize_grid(contents, styles, PARAMS, **arguments))
    count = compilations(driver._make_steps)
    eight = jnst.stylize_grid(contents, styles, PARAMS, mesh=jnst.local_mesh(), **arguments)
    eight = jax.tree.map(np.asarray, eight)
    arguments["over"] = {"learning_rate": (1.0, 0.5, 1.0, 0.25, 0.1)}
    pair = jnst.local_mesh(jax.local_devices()[:2])
    two = jnst.stylize_grid(contents, styles, PARAMS, mesh=pair, width=2, **arguments).losses
    return {
        "image": float(np.abs(one.image - eight.image).max()),
        "loss": float(np.nanmax(np.abs(one.losses - eight.losses) / one.losses)),
        "finite": [one.finite.tolist(), eight.finite.tolist()],
        "programs": compilations(driver._make_steps) - count,
        "width": float(np.abs(one.losses[..., 0] / two[..., 0] - 1).max()),
    }


def rows() -> dict[str, Any]:
    """An image of 1024 x 1024, and one whose height eight does not divide; gradient descent amplifies no rounding."""
    settings = jnst.preset("jnst", pyramid=None, num_steps=2, style_weight=10.0)
    differences = {}
    for height, side in ((1024, 1024), (50, 64)):
        content = jnst.resize(jnp.asarray(random_image(1, 16, 16)), (height, side))
        arguments: Any = {"backbone": BACKBONE, "preset": settings, "optimizer": optax.sgd(1.0), "init": "content"}
        one = jnst.stylize(content, random_image(2, 64, 64), PARAMS, **arguments)
        eight = jnst.stylize(content, random_image(2, 64, 64), PARAMS, mesh=jnst.local_mesh(), **arguments)
        moved = np.abs(np.asarray(one.image) - np.asarray(content)).max()
        differences[f"{height}x{side}"] = {
            "moved": float(moved),
            "image": float(np.abs(np.asarray(one.image) - np.asarray(eight.image)).max()),
            "loss": float(np.abs(one.losses / eight.losses - 1).max()),
        }
    return differences


def memory() -> list[int]:
    """Bytes that a step at 1024 x 1024 takes on each device, whole and divided."""
    content = jnp.full((1024, 1024, 3), 0.5)
    settings = jnst.preset("jnst", pyramid=None, num_steps=1, optimizer=jnst.Adam())
    job = make_job(check_inputs(content, content[:64, :64]), settings, BACKBONE)
    (scale,) = job.plan.scales
    targets = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), target_shapes(job, 0, PARAMS))
    needed = []
    for mesh in (None, jnst.local_mesh()):
        program = as_program(jnst.transfer_loss(BACKBONE, mesh=mesh), scale.solver, content)
        state, args = start_runs(program, content), TransferArgs(scale.objective, targets, PARAMS, job.key)
        if mesh is not None:
            state, args = shard_rows((state, args), mesh)
            assert state.image.sharding == row_sharding(mesh)
        needed.append(needed_bytes(lower_steps(program, state, args).compile()))
    return needed


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    environment = many_devices(8)
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.long
def test_a_batch_over_eight_devices_is_the_same(found: dict[str, Any]) -> None:
    assert found["batch"]["image"] < 1e-3  # five steps of L-BFGS amplify rounding
    assert found["batch"]["loss"] < 1e-4
    assert found["batch"]["finite"] == [[[[True, True, False, True, True]]] * 2] * 2
    assert found["batch"]["width"] < 1e-5


def test_a_batch_over_devices_is_one_program_for_each_size(found: dict[str, Any]) -> None:
    """Two sizes of the pyramid over eight devices, and two with two runs on each of two."""
    assert found["batch"]["programs"] == 4


@pytest.mark.parametrize("size", ["1024x1024", "50x64"])
def test_an_image_divided_by_its_rows_is_the_same(found: dict[str, Any], size: str) -> None:
    differences = found["rows"][size]
    assert differences["moved"] > 1e-3
    assert differences["image"] < 1e-5
    assert differences["loss"] < 1e-5


def test_a_device_needs_its_share_of_the_memory(found: dict[str, Any]) -> None:
    whole, share = found["memory"]
    assert share < 0.3 * whole


@pytest.fixture(scope="module")
def job() -> Any:
    preset = jnst.preset(optimizer=jnst.LBFGS(memory_size=4), pyramid=None, num_steps=2)
    return make_job(check_inputs(random_image(1, 24, 20), random_image(2, 18, 26)), preset, BACKBONE)


def test_as_many_runs_at_once_as_memory_allows(job: Any) -> None:
    needed = {width: run_bytes(job, PARAMS, width=width) for width in (1, 2, 4)}
    assert needed[1] < needed[2] < needed[4]
    assert runs_that_fit(job, PARAMS, 4, free=needed[4]) == 4
    assert runs_that_fit(job, PARAMS, 4, free=needed[4] - 1) in (2, 3)
    assert runs_that_fit(job, PARAMS, 4, free=1) == 1
    assert runs_that_fit(job, PARAMS, 1000, free=10**12) == 64


def test_one_run_at_once_where_the_device_does_not_report_its_memory(job: Any) -> None:
    assert free_bytes(jax.local_devices()[0]) is None
    assert runs_that_fit(job, PARAMS, 4) == 1


def test_a_reserve_of_a_devices_memory_is_kept() -> None:
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 1000, "bytes_in_use": 200})
    assert free_bytes(device) == 720


def test_devices_of_other_processes_are_refused() -> None:
    foreign = SimpleNamespace(process_index=7)
    mesh: Any = SimpleNamespace(devices=np.array([jax.local_devices()[0], foreign], object))
    with pytest.raises(ArgumentError, match="1 devices of other processes"):
        check_mesh(mesh)
    own = Mesh(np.asarray(jax.local_devices()), ("devices",))
    assert check_mesh(own) is own


if __name__ == "__main__":
    assert jax.device_count() == 8
    print(json.dumps({"batch": batch(), "rows": rows(), "memory": memory()}))
