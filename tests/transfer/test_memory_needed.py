"""How much memory a run needs, how much there is, and what happens when that is less."""

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
from jnst.solve import driver
from jnst.transfer import memory
from jnst.transfer.inputs import check_inputs
from jnst.transfer.plan import Job, make_job

pytestmark = pytest.mark.usefixtures("unoptimised")

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
SETTINGS = jnst.preset("jnst", content_layers=("relu1_1",), style_layers=("relu1_1",), num_steps=1)


def job(height: int, width: int, optimizer: Any = jnst.Adam(), size: int | None = None) -> Job:  # noqa: B008 - frozen
    content, style = jnp.full((height, width, 3), 0.5), jnp.full((8, 8, 3), 0.5)
    return make_job(check_inputs(content, style), jnst.preset(SETTINGS, optimizer=optimizer), BACKBONE, size=size)


def run(height: int = 17, width: int = 19, optimizer: Any = jnst.Adam(), **options: Any) -> jnst.Solution:  # noqa: B008
    content = jnp.full((height, width, 3), 0.5)
    given: Any = {"backbone": BACKBONE, "preset": SETTINGS, "optimizer": optimizer, **options}
    return jnst.stylize(content, content[:8, :8], PARAMS, **given)


def state_bytes(made: Job) -> int:
    """The bytes of the state of a run at its full size."""
    image = jnp.zeros((*made.plan.scales[-1].shape, 3))
    start = lambda image: jnst.solve.init(jnst.transfer_loss(BACKBONE), made.plan.scales[-1].solver, image)  # noqa: E731
    return memory.bytes_of(jax.eval_shape(start, image))


@pytest.mark.parametrize("optimizer", [jnst.Adam(), jnst.LBFGS(memory_size=10)])
def test_a_run_needs_at_least_its_state_and_about_the_same_for_every_pixel(optimizer: Any) -> None:
    small, large = (memory.run_bytes(job(side, side, optimizer), PARAMS) for side in (64, 128))
    # The state twice: as the program takes and returns it in the same place, and as the run began with it.
    assert small > 2 * state_bytes(job(64, 64, optimizer))
    assert 3.5 < large / small < 4.5


def test_the_run_uses_the_program_that_was_examined() -> None:
    compiled: list[str] = []

    def note(event: str, duration_secs: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and "make_steps" in str(about.get("fun_name")):
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    memory.check(job(17, 19), PARAMS, free=17 * 19 * memory.MAX_PER_PIXEL - 1)
    assert len(compiled) == 1
    run()
    assert len(compiled) == 1


def test_small_images_cost_no_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_make_steps", None)
    memory.check(job(16, 16), PARAMS, free=16 * 16 * memory.MAX_PER_PIXEL)
    memory.check(job(16, 16), PARAMS)


def test_what_does_not_fit_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 20_000_000)
    with pytest.raises(jnst.ResourceError) as caught:
        run(300, 400, jnst.LBFGS())
    message = str(caught.value)
    assert "\n" not in message
    assert "--" not in message
    for words in (
        "400x300 pixels need about",
        "only 20 MB is available",
        "a longer side of ",
        "or use Adam (L-BFGS keeps",
    ):
        assert words in message
    size = int(message.partition("a longer side of ")[2].partition(" ")[0])
    assert 2 * state_bytes(job(300, 400, jnst.LBFGS(), size=size)) < 20_000_000


def test_the_estimate_can_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda: 100)
    with pytest.raises(jnst.ResourceError, match="19x17 pixels need about"):
        run()
    assert run(check_memory=False).image.shape == (17, 19, 3)
    textures: Any = {"backbone": BACKBONE, "preset": SETTINGS, "optimizer": "adam"}
    with pytest.raises(jnst.ResourceError):
        jnst.synthesize(jnp.full((8, 8, 3), 0.5), None, PARAMS, **textures)
    result = jnst.synthesize(jnp.full((8, 8, 3), 0.5), None, PARAMS, check_memory=False, **textures)
    assert result.image.shape == (8, 8, 3)


@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")])
@pytest.mark.parametrize("batch", [False, True])
def test_running_out_of_memory_is_a_resource_error_and_the_next_call_works(
    monkeypatch: pytest.MonkeyPatch, error: Exception, batch: bool
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    def call() -> jnst.Solution:
        if not batch:
            return run()
        image = jnp.full((17, 19, 3), 0.5)
        return jnst.stylize_batch([image], [image[:8, :8]], PARAMS, backbone=BACKBONE, preset=SETTINGS)

    with monkeypatch.context() as patch:
        patch.setattr(driver._make_steps, "program", fail)
        with pytest.raises(jnst.ResourceError, match=r"^memory ran out.*: choose a smaller image"):
            call()
    assert call().image.shape[-3:] == (17, 19, 3)


def test_other_errors_stay_what_they_are() -> None:
    @memory.reports_exhaustion
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
settings = jnst.preset("jnst", optimizer="adam", num_steps=1, **layers)

def run(side=16):
    return jnst.stylize(np.full((side, side, 3), 0.5, np.float32), np.zeros((16, 16, 3), np.float32), preset=settings)

before = run().image
vm = next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (vm + 2**28, resource.RLIM_INFINITY))
free = memory.free_bytes()
assert 0 < free <= 2**28, free

@memory.reports_exhaustion
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
def test_a_process_with_little_memory_left_continues_to_work() -> None:
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
def test_the_limit_of_a_container_counts(
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
    assert jnp.zeros(1).nbytes == memory.bytes_of(jnp.zeros(1))
