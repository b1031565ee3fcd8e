"""What a run needs, what there is, and what is said when that is less."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from contracts import random_params, tiny_backbone

import jnst
from jnst.solve import compilation
from jnst.solve import run as optimize
from jnst.solve.optimizers import LBFGS, Adam
from jnst.transfer import memory
from jnst.transfer.jobs import check_images, stylize_job
from jnst.transfer.plan import Job

pytestmark = pytest.mark.usefixtures("unoptimised")

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
SETTINGS = jnst.preset("jnst", content_layers=("relu1_1",), style_layers=("relu1_1",), num_steps=(1,))


def job(height: int, width: int, optimizer: Any = Adam()) -> Job:  # noqa: B008 - frozen
    content, style = jnp.full((height, width, 3), 0.5), jnp.full((8, 8, 3), 0.5)
    return stylize_job(check_images(content, style), SETTINGS, BACKBONE, optimizer=optimizer)


def test_a_run_needs_at_least_its_state_and_about_so_much_for_every_pixel() -> None:
    small, large = (memory.run_bytes(job(side, side), PARAMS) for side in (64, 128))
    # The state three times: taken, given back in the same place, and the one that the run began with.
    assert small > 2 * memory.size_of(memory._state(job(64, 64)))
    assert 3.5 < large / small < 4.5


def test_the_run_takes_the_program_that_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_dropped", itertools.count(1))  # other tests' may be about to forget all traces
    compiled: list[str] = []

    def note(event: str, duration_secs: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and "steps" in str(about.get("fun_name")):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    memory.check(job(19, 17), PARAMS, free=19 * 17 * memory.MOST_PER_PIXEL - 1)
    assert len(compiled) == 1
    content = jnp.full((19, 17, 3), 0.5)
    jnst.transfer.stylize(content, content[:8, :8], PARAMS, backbone=BACKBONE, preset=SETTINGS, optimizer=Adam())
    assert len(compiled) == 1


def test_small_images_cost_no_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimize, "advance", None)
    memory.check(job(16, 16), PARAMS, free=16 * 16 * memory.MOST_PER_PIXEL)
    memory.check(job(16, 16), PARAMS)


def test_what_does_not_fit_is_refused_with_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 20_000_000)
    content = jnp.full((300, 400, 3), 0.5)
    with pytest.raises(jnst.ResourceError) as caught:
        jnst.transfer.stylize(content, content[:8, :8], PARAMS, backbone=BACKBONE, preset=SETTINGS, optimizer=LBFGS())
    message = str(caught.value)
    assert "\n" not in message
    for words in ("400x300 pixels need about", "there are 20 MB", "--size ", "--optimizer adam"):
        assert words in message
    size = int(message.partition("--size ")[2].partition(" ")[0])
    smaller = stylize_job(check_images(content, content[:8, :8]), SETTINGS, BACKBONE, optimizer=LBFGS(), size=size)
    assert 2 * memory.size_of(memory._state(smaller)) < 20_000_000


@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")])
def test_memory_that_runs_out_is_an_error_of_ours_and_the_next_call_works(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: Any) -> None:
        raise error

    content = jnp.full((19, 17, 3), 0.5)

    def run() -> jnst.Solution:
        return jnst.transfer.stylize(
            content, content[:8, :8], PARAMS, backbone=BACKBONE, preset=SETTINGS, optimizer=Adam()
        )

    with monkeypatch.context() as patch:
        patch.setattr(optimize, "advance", fail)
        with pytest.raises(jnst.ResourceError, match=r"^memory ran out.*: choose a smaller size"):
            run()
    assert run().image.shape == (19, 17, 3)


def test_other_faults_stay_what_they_are() -> None:
    @memory.reported
    def fail() -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        fail()


LIMITED = """
import resource, sys
import jax, jax.numpy as jnp, numpy as np
import jnst
from jnst.transfer import memory
layers = {"content_layers": ("relu1_1",), "style_layers": ("relu1_1",)}
settings = jnst.preset("jnst", optimizer=jnst.Adam(), num_steps=(1,), **layers)

def run(side=16):
    return jnst.transfer.stylize(np.full((side, side, 3), 0.5, np.float32), np.zeros((16, 16, 3), np.float32), preset=settings)

before = run().image
vm = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (vm + 2**28, resource.RLIM_INFINITY))
free = memory.free_bytes()
assert 0 < free <= 2**28, free

@memory.reported
def large():
    return jnp.zeros(2**28).block_until_ready()

try:
    large()
except jnst.ResourceError as error:
    print(error)
try:
    run(1600)
except jnst.ResourceError as error:
    print(error)
print(bool((run().image == before).all()))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux' /proc")
def test_a_process_with_little_memory_left_goes_on_working() -> None:
    finished = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=600)
    assert finished.returncode == 0, finished.stderr
    real, refused, same = finished.stdout.splitlines()
    assert real.startswith("memory ran out (")
    assert refused.startswith("1600x1600 pixels need about ")
    assert same == "True"


def cgroup(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)


@pytest.mark.parametrize(
    ("line", "files", "left"),
    [
        ("0::/a/b", {"memory.max": "5000", "memory.current": "3000", "memory.stat": "inactive_file 700\n"}, [2700]),
        ("0::/a/b", {"memory.max": "max", "memory.current": "3000"}, []),
        (
            "4:cpu,memory:/a/b",
            {
                "memory.limit_in_bytes": "5000",
                "memory.usage_in_bytes": "3000",
                "memory.stat": "total_inactive_file 1\n",
            },
            [2001],
        ),
        ("2:cpu:/a/b", {"memory.max": "5000", "memory.current": "3000"}, []),
    ],
)
def test_a_container_s_limit_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, files: dict[str, str], left: list[int]
) -> None:
    root = tmp_path / "memory" if "memory" in line else tmp_path
    cgroup(root / "a", files)
    lines: Callable[[Path], list[str]] = memory._lines
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    monkeypatch.setattr(memory, "_lines", lambda path: [line] if path.name == "cgroup" else lines(path))
    assert list(memory._left_in_cgroups()) == left


def test_this_machine_has_memory() -> None:
    assert (memory.free_bytes() or 2**40) > 2**27
    assert jnp.zeros(1).nbytes == memory.size_of(jnp.zeros(1))
