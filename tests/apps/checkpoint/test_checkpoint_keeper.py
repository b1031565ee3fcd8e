"""What is saved of a run that does not come to an end by itself, by another thread: `Keeper.last_resort`."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_runs import make, same_bits

import jnst
from jnst.apps.cli import checkpointing
from jnst.apps.cli.checkpointing import Keeper
from jnst.solve.run import Report

pytestmark = pytest.mark.usefixtures("unoptimised")


def elsewhere(function: Any) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def kept(path: Path | None, name: str, stop: int, late: bool, images: list[np.ndarray]) -> Keeper:
    """A keeper to whom nobody listens any more after a step: at once, or when the next step has been begun."""
    keeper = Keeper(path, 1000, {"run": {}}, lambda image: images.append(np.asarray(image)))

    def listen(report: Report) -> bool:
        if report.first <= stop:
            keeper.listen(report)
        if report.first == stop + late:
            elsewhere(keeper.last_resort)
        return report.first > stop

    make(name, callback=listen)
    return keeper


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", ["adam", "search"])
@pytest.mark.parametrize("stop", [2, 3, 4])
def test_the_last_known_image_and_state_are_saved(
    name: str, stop: int, late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where copies pay, also in the middle of a step, which has taken the buffers of the state before it."""
    monkeypatch.setattr(checkpointing, "COPIED_PER_SECOND", 1e15)
    images = list[np.ndarray]()
    kept(tmp_path / "state", name, stop, late, images)
    part = make(name, callback=lambda report: report.first == stop)
    (image,) = images
    assert np.array_equal(np.clip(image, 0, 1), part.image)
    rest, whole = make(name, state=jnst.load_state(tmp_path / "state")), make(name)
    assert same_bits(rest.state, whole.state)


def test_where_copies_do_not_pay_the_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(checkpointing, "MOST_COPIED", 0)
    images = list[np.ndarray]()
    kept(tmp_path / "state", "adam", 2, True, images)
    assert len(images) == 1
    assert not (tmp_path / "state").exists()
    assert "stays as it was: steps are long, and the state is large" in capsys.readouterr().err


def test_without_a_checkpoint_the_image_alone_is_saved(tmp_path: Path) -> None:
    images = list[np.ndarray]()
    kept(None, "adam", 2, True, images)
    assert len(images) == 1
    assert list(tmp_path.iterdir()) == []


def test_it_does_nothing_before_the_first_step_and_after_the_end(tmp_path: Path) -> None:
    images = list[np.ndarray]()
    keeper = Keeper(tmp_path / "state", 1000, {}, lambda image: images.append(np.asarray(image)))
    keeper.last_resort()
    solution = make("adam", callback=lambda report: bool(keeper.listen(report)) and False)
    keeper.end(lambda: None, solution)
    saved = (tmp_path / "state").read_bytes()
    elsewhere(keeper.last_resort)
    assert images == []
    assert (tmp_path / "state").read_bytes() == saved


def test_it_waits_until_what_is_being_saved_is_saved(tmp_path: Path) -> None:
    images, order = list[np.ndarray](), list[str]()
    keeper = Keeper(tmp_path / "state", None, {}, lambda image: images.append(np.asarray(image)))
    begun = threading.Event()

    def save_slowly() -> None:
        begun.set()
        time.sleep(0.2)
        order.append("image")

    def resort() -> None:
        begun.wait()
        keeper.last_resort()
        order.append("last resort")

    thread = threading.Thread(target=resort)
    solution = make("adam", callback=lambda report: bool(keeper.listen(report)) and False)
    thread.start()
    keeper.end(save_slowly, solution)
    thread.join()
    assert order == ["image", "last resort"]
    assert images == []


def test_without_a_number_of_steps_it_is_saved_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every so many seconds, and so seldom that saving takes no more than its share of the time."""
    state = make("adam", num_steps=(1, 1)).state.run
    now, saved = [0.0], list[int]()
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now[0])

    def save(path: Path, state: Report, **options: Any) -> None:
        saved.append(state.first)
        now[0] += 3.0

    monkeypatch.setattr(checkpointing, "save_state", save)
    keeper = Keeper(tmp_path / "state", None, {}, lambda image: None)
    method: Any = None  # of which nothing is asked here
    for step in range(1, 100):
        now[0] += 2.0
        keeper.listen(Report(step, 200, np.ones(1), {}, 2.0 * step, state, method))
    # After 30 seconds, and then 3 / 0.05 = 60 seconds after each.
    assert saved == [15, 45, 75]
