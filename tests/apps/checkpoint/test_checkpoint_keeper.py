"""`Keeper`: when it saves the state of a run, and what another thread can save of a run that does not respond."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_runs import make, same_bits

import jnst
from jnst.apps.cli import checkpointing
from jnst.apps.cli.checkpointing import Keeper

pytestmark = pytest.mark.usefixtures("unoptimised")


def in_a_thread(function: Callable[[], None]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def interrupt(path: Path | None, name: str, stop: int, late: bool) -> list[np.ndarray]:
    """Let a keeper hear the reports up to a step only, and call its last resort then, or after the next step.

    Returns:
        The images that the last resort saved.
    """
    images = list[np.ndarray]()
    keeper = Keeper(path, 1000, {"run": {}}, lambda image: images.append(np.asarray(image)))

    def listen(report: jnst.Report) -> bool:
        if report.first <= stop:
            keeper.listen(report)
        if report.first == stop + late:
            in_a_thread(keeper.last_resort)
        return report.first > stop

    make(name, callback=listen)
    return images


def test_an_image_that_cannot_be_written_leaves_the_state(tmp_path: Path) -> None:
    def fail() -> None:
        raise jnst.ImageError("too large")

    keeper = Keeper(tmp_path / "state", None, {"run": {}}, lambda image: None)
    solution = make("adam", callback=lambda report: bool(keeper.listen(report)) and False)
    with pytest.raises(jnst.ImageError, match="too large"):
        keeper.end(fail, solution)
    assert same_bits(make("adam", state=jnst.load_state(tmp_path / "state")).state, solution.state)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", ["adam", "line search"])
@pytest.mark.parametrize("stop", [2, 3, 4])
def test_the_last_image_and_state_are_saved(
    name: str, stop: int, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If there is time for copies, even if the next step has taken the buffers of the state before it."""
    monkeypatch.setattr(checkpointing, "SHARE", 1e15)
    (image,) = interrupt(tmp_path / "state", name, stop, late)
    part = make(name, callback=lambda report: report.first == stop)
    assert np.array_equal(image, part.image)
    assert len(jnst.load_state(tmp_path / "state").records["total"]) == stop
    rest, whole = make(name, state=jnst.load_state(tmp_path / "state")), make(name)
    assert same_bits(rest.state, whole.state)


def test_an_older_copy_is_saved_with_the_losses_up_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there was time for a single copy, after the first step."""
    monkeypatch.setattr(checkpointing, "SHARE", 1e-15)
    (image,) = interrupt(tmp_path / "state", "adam", 2, True)
    assert np.array_equal(image, make("adam", callback=lambda report: True).image)
    assert len(jnst.load_state(tmp_path / "state").records["total"]) == 1
    assert same_bits(make("adam", state=jnst.load_state(tmp_path / "state")).state, make("adam").state)


def test_large_states_are_saved_only_as_long_as_they_are_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpointing, "MAX_COPY", 0)
    assert len(interrupt(tmp_path / "early", "adam", 2, False)) == 1
    assert len(jnst.load_state(tmp_path / "early").records["total"]) == 2
    assert "continue from" in capsys.readouterr().err
    assert len(interrupt(tmp_path / "late", "adam", 2, True)) == 1
    assert not (tmp_path / "late").exists()
    assert "was not updated: a step takes long, and the state is large" in capsys.readouterr().err


def test_without_a_checkpoint_the_image_alone_is_saved(tmp_path: Path) -> None:
    assert len(interrupt(None, "adam", 2, True)) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_last_resort_does_nothing_before_the_first_step_and_after_the_end(tmp_path: Path) -> None:
    images = list[np.ndarray]()
    keeper = Keeper(tmp_path / "state", 1000, {}, lambda image: images.append(np.asarray(image)))
    keeper.last_resort()
    solution = make("adam", callback=lambda report: bool(keeper.listen(report)) and False)
    keeper.end(lambda: None, solution)
    saved = (tmp_path / "state").read_bytes()
    in_a_thread(keeper.last_resort)
    assert images == []
    assert (tmp_path / "state").read_bytes() == saved


def test_the_last_resort_waits_until_the_result_is_saved(tmp_path: Path) -> None:
    images, order = list[np.ndarray](), list[str]()
    keeper = Keeper(tmp_path / "state", None, {}, lambda image: images.append(np.asarray(image)))
    begun = threading.Event()

    def save_slowly() -> None:
        begun.set()
        time.sleep(0.2)
        order.append("image")

    def last_resort() -> None:
        begun.wait()
        keeper.last_resort()
        order.append("last resort")

    thread = threading.Thread(target=last_resort)
    solution = make("adam", callback=lambda report: bool(keeper.listen(report)) and False)
    thread.start()
    keeper.end(save_slowly, solution)
    thread.join()
    assert order == ["image", "last resort"]
    assert images == []


def test_without_a_number_of_steps_the_state_is_saved_every_30_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But less often if saving takes more than a twentieth of the time."""
    state = make("adam", num_steps=(1, 1)).state
    assert state is not None
    now, saved = [0.0], list[int]()
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now[0])

    def save(path: Path, state: Any, *, records: dict[str, np.ndarray], **options: Any) -> None:
        saved.append(len(records["total"]))
        now[0] += 3.0

    monkeypatch.setattr(checkpointing, "save_state", save)
    keeper = Keeper(tmp_path / "state", None, {}, lambda image: None)
    for step in range(1, 100):
        now[0] += 2.0
        report = jnst.Report((0,), step, 200, np.ones(1), {}, 2.0 * step, 0.0, 0, state, lambda: state.image)
        keeper.listen(report)
    # After 30 seconds, and then 3 / 0.05 = 60 seconds after each.
    assert saved == [15, 45, 75]
