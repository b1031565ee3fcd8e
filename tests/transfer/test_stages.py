"""Programs: how many a run compiles, in the background, and what a run says and does about them."""

import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

import jax
import pytest
from contracts import random_image, random_params, tiny_backbone

import jnst
from jnst.transfer import stages

pytestmark = pytest.mark.usefixtures("unoptimised")

BACKBONE = tiny_backbone()
PARAMS = random_params(BACKBONE)
COMPILED: Counter[str] = Counter()
"""How often each function was compiled, by its name."""


def note(event: str, duration_secs: float, **about: Any) -> None:
    if event.endswith("backend_compile_duration"):
        COMPILED[str(about.get("fun_name"))] += 1


jax.monitoring.register_event_duration_secs_listener(note)


def run(height: int, levels: int, steps: int = 4, style: tuple[int, int] = (30, 41), **options: Any) -> jnst.Solution:
    settings = jnst.preset(
        pyramid=jnst.Pyramid(factor=1.2, min_size=16, levels=levels), num_steps=steps, optimizer=jnst.Adam(2.0)
    )
    content = random_image(1, height, height - 3)
    return jnst.stylize(content, random_image(2, *style), PARAMS, backbone=BACKBONE, preset=settings, **options)


@pytest.mark.parametrize(("height", "levels"), [(61, 1), (67, 2), (71, 5)])
def test_one_program_of_steps_for_each_size_and_none_for_another_number_of_steps(height: int, levels: int) -> None:
    COMPILED.clear()
    run(height, levels)
    assert COMPILED["jit(_make_steps)"] == levels
    assert COMPILED["jit(_resize)"] == 0
    COMPILED.clear()
    run(height, levels)
    run(height, levels, steps=3)
    assert COMPILED.total() == 0


def test_images_on_a_chosen_device_compile_once() -> None:
    COMPILED.clear()
    settings = jnst.preset(pyramid=jnst.Pyramid(factor=2.0, min_size=16), num_steps=2, optimizer=jnst.Adam(2.0))
    content = jax.device_put(random_image(1, 46, 40), jax.local_devices()[0])
    jnst.stylize(content, random_image(2, 30, 41), PARAMS, backbone=BACKBONE, preset=settings)
    assert COMPILED["jit(_make_steps)"] == 2


def test_a_run_that_has_all_its_steps_compiles_none() -> None:
    done = run(53, 1)
    jax.clear_caches()
    COMPILED.clear()
    again = run(53, 1, state=done.state)
    assert again.losses.shape == (0,)
    assert COMPILED["jit(_make_steps)"] == 0


def test_a_style_of_other_proportions_compiles_its_targets_alone() -> None:
    run(73, 3)
    COMPILED.clear()
    run(73, 3, style=(44, 37))
    assert COMPILED == {"jit(_fit_styles)": 1}


def test_a_run_says_what_it_waits_for_and_how_long_it_waited() -> None:
    waits: list[jnst.Compiling] = []
    reports: list[jnst.Report] = []
    run(79, 3, on_compile=waits.append, callback=reports.append)
    assert waits[0] == jnst.Compiling((55, 53), 0, 3)
    assert [wait.scale for wait in waits] == sorted({wait.scale for wait in waits})
    compile_seconds = [report.compile_seconds for report in reports]
    assert compile_seconds == sorted(compile_seconds)
    assert 0 < compile_seconds[-1] < reports[-1].seconds
    again: list[jnst.Report] = []
    run(79, 3, callback=again.append)
    assert again[-1].compile_seconds < compile_seconds[-1]


def test_an_error_in_the_background_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError(f"in {threading.current_thread().name}")

    monkeypatch.setattr(stages, "lower_steps", lambda *args, **options: SimpleNamespace(compile=fail))
    with pytest.raises(RuntimeError, match="in jnst-compile"):
        run(83, 2)


def test_a_run_that_ends_early_does_not_wait_for_later_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    released, lower = threading.Event(), stages.lower_steps
    sizes: list[int] = []

    def slow(program: Any, state: Any, *args: Any, **options: Any) -> Any:
        lowered = lower(program, state, *args, **options)
        sizes.append(state.image.shape[0])
        return lowered if len(sizes) == 1 else SimpleNamespace(compile=released.wait)

    monkeypatch.setattr(stages, "lower_steps", slow)
    try:
        solution = run(89, 3, callback=lambda report: True)
        assert solution.image.shape[0] == sizes[0] == 62
        assert len(sizes) == 2  # not yet the third
    finally:
        released.set()
