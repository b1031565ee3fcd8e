"""Work divided among eight pretend devices, in a process of its own, against the same on one."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from contracts import many_devices, random_image, random_params, tiny_backbone
from jax.sharding import Mesh

import jnst
from jnst.errors import JnstError
from jnst.solve.devices import check_mesh, free_bytes
from jnst.transfer.batches import lanes_that_fit, step_bytes
from jnst.transfer.jobs import check_images, stylize_job

pytestmark = pytest.mark.usefixtures("unoptimised")


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    script = Path(__file__).with_name("over_devices.py")
    environment = many_devices(8)
    # With the quick emitters images on eight devices differ by 5e-5 from those on one after five steps of L-BFGS.
    environment["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=true"
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_batch_over_eight_devices_is_the_same(found: dict[str, Any]) -> None:
    assert found["batch"]["image"] < 1e-5
    assert found["batch"]["loss"] < 1e-5
    assert found["batch"]["finite"] == [[[[True, True, False, True, True]]] * 2] * 2
    assert found["batch"]["width"] < 1e-5


def test_a_batch_over_devices_is_one_program_a_size(found: dict[str, Any]) -> None:
    """Two sizes of the pyramid over eight devices, and two with two lanes on each of two."""
    assert found["batch"]["programs"] == 4


@pytest.mark.parametrize("size", ["1024x1024", "50x64"])
def test_a_image_divided_by_its_rows_is_the_same(found: dict[str, Any], size: str) -> None:
    differences = found["image"][size]
    assert differences["moved"] > 1e-3
    assert differences["image"] < 1e-5
    assert differences["loss"] < 1e-5


def test_a_device_needs_its_share_of_the_memory(found: dict[str, Any]) -> None:
    whole, share = found["memory"]
    assert share < 0.3 * whole


@pytest.fixture(scope="module")
def job() -> Any:
    preset = jnst.preset(optimizer=jnst.LBFGS(memory_size=4), pyramid=None, num_steps=(2,))
    return stylize_job(check_images(random_image(1, 24, 20), random_image(2, 18, 26)), preset, tiny_backbone())


def test_as_many_lanes_as_memory_allows(job: Any) -> None:
    params = random_params(tiny_backbone())
    needed = {width: step_bytes(job, params, width) for width in (1, 2, 4)}
    assert needed[1] < needed[2] < needed[4]
    assert lanes_that_fit(job, params, 4, free=needed[4]) == 4
    assert lanes_that_fit(job, params, 4, free=needed[4] - 1) in (2, 3)
    assert lanes_that_fit(job, params, 4, free=1) == 1
    assert lanes_that_fit(job, params, 1000, free=10**12) == 64


def test_without_a_word_about_memory_one_lane_runs_at_once(job: Any) -> None:
    assert free_bytes(jax.local_devices()[0]) is None
    assert lanes_that_fit(job, random_params(tiny_backbone()), 4) == 1


def test_a_device_that_says_what_it_has_keeps_a_reserve() -> None:
    device = SimpleNamespace(memory_stats=lambda: {"bytes_limit": 1000, "bytes_in_use": 200})
    assert free_bytes(device) == 720


def test_devices_of_other_processes_are_refused() -> None:
    foreign = SimpleNamespace(process_index=7)
    mesh: Any = SimpleNamespace(devices=np.array([jax.local_devices()[0], foreign], object))
    with pytest.raises(JnstError, match="1 devices of other processes"):
        check_mesh(mesh)
    own = Mesh(np.asarray(jax.local_devices()), ("devices",))
    assert check_mesh(own) is own
