"""`jnst grid --ray`: what workers take of a cluster, and workers that are lost."""

import contextlib
import dataclasses
import itertools
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from grid_runs import grid, images, index_of, made
from small_images import save

import jnst
from jnst.apps.catalogue import ray_workers
from jnst.apps.catalogue.entries import Entry
from jnst.apps.catalogue.journal import Record
from jnst.apps.catalogue.ray_workers import MAX_ATTEMPTS, MEMORY_VARIABLES, Outcome, Resources, cluster, plan_resources
from jnst.apps.catalogue.work import Setup, Task, failure
from jnst.errors import ArgumentError, JnstError, ResourceError

pytestmark = pytest.mark.usefixtures("unoptimised")

RESOURCES = 6


def nodes(*resources: dict[str, float]) -> Any:
    """A cluster of machines with these resources, and one that is gone."""
    alive = [{"Alive": True, "Resources": own} for own in resources]
    return SimpleNamespace(nodes=lambda: [*alive, {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}}])


@pytest.mark.parametrize(
    ("machines", "asked", "expected"),
    [
        ([{"CPU": 8.0}], (None, None), (0, 8, 1)),
        ([{"CPU": 8.0}, {"CPU": 16.0}, {}], (None, None), (0, 8, 3)),
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0}], (None, None), (1, 1, 4)),
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 8.0}], (0.0, None), (0, 8, 2)),
        ([{"CPU": 2.0, "GPU": 4.0}, {"CPU": 8.0, "GPU": 1.0}], (0.5, 1.0), (0.5, 1, 4)),
    ],
)
def test_workers_take_what_is_asked_for(machines, asked, expected):
    assert plan_resources(nodes(*machines), *asked) == expected


def test_impossible_resources_are_refused():
    with pytest.raises(ArgumentError, match=r"--gpus-per-task 2.* 1 GPUs and 4 CPUs; 1 GPUs and 8 CPUs"):
        plan_resources(nodes({"CPU": 4.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}), 2.0, None)


def test_ray_is_an_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ArgumentError, match=r"pip install .*jnst\[ray\]"), cluster(None):
        pass


def test_an_address_without_a_cluster_is_refused():
    pytest.importorskip("ray")
    with pytest.raises(ArgumentError, match=r"--ray 127\.0\.0\.1:1: no cluster answers"), cluster("127.0.0.1:1"):
        pass


class Loss(Exception):
    """Takes the place of Ray's errors about workers that are lost."""


class Fault(Loss):
    """Takes the place of Ray's error about an exception in a worker."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause


Behaviour = Callable[[int, int, Sequence[Task]], None]
"""Raises an exception in a worker, given its number, how often it was called before, and its tasks."""


class FakeRay:
    """Takes the place of Ray: workers do their tasks when they are told to."""

    exceptions = SimpleNamespace(RayError=Loss, RayTaskError=Fault)

    def __init__(self, behave: Behaviour) -> None:
        self._behave, self._numbers = behave, itertools.count()

    def put(self, value: object) -> object:
        return value

    def remote(self, worker: type) -> Any:
        return SimpleNamespace(options=lambda **resources: SimpleNamespace(remote=self._hire))

    def _hire(self, *arguments: object) -> Any:
        number, calls, lost = next(self._numbers), itertools.count(), list[Exception]()

        def run(tasks: Sequence[Task]) -> Callable[[], Any]:
            try:
                if lost:
                    raise lost[0]
                self._behave(number, next(calls), tasks)
            except Exception as error:
                if not isinstance(error, Fault):
                    lost.append(error)
                outcome = error
                return lambda: outcome
            records = [dataclasses.replace(failure(task, JnstError()), error=None, code=0) for task in tasks]
            return lambda: ([(record, b"image") for record in records], 0)

        return SimpleNamespace(run=SimpleNamespace(remote=run))

    def wait(self, references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return references[:1], references[1:]

    def get(self, reference: Callable[[], Any]) -> Outcome:
        outcome = reference()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def carry_out(folder: Path, behave: Behaviour, names: str = "abc", gpus: float = 0) -> Any:
    """Carry out a block of tasks with these names on one worker at a time; return the errors and codes of those failed.

    Without GPUs each task is a call of its own.
    """
    entries = [Entry(Path("c"), (Path("s"),), (), 0, f"{name}.png") for name in names]
    block = tuple(Task(entry, "", jnst.preset("jnst"), (), "", 0) for entry in entries)
    setup, noted = Setup("", {}, "", "keep", None, 95), list[Record]()  # pyright: ignore[reportArgumentType]
    ray_workers.run_blocks_on_ray(
        FakeRay(behave),
        [block],
        setup,
        folder,
        Resources(gpus, 1, 1),
        prepare=lambda: None,
        note=noted.append,
        stop=lambda: False,
    )
    assert sorted(record.file for record in noted) == sorted(entry.file for entry in entries)
    assert sorted(path.name for path in folder.iterdir()) == sorted(r.file for r in noted if r.error is None)
    return {record.file: (record.error, record.code) for record in noted if record.error is not None}


def test_workers_that_die_idle_cost_no_attempts(tmp_path: Path) -> None:
    def die_idle(number: int, calls: int, tasks: Sequence[Task]) -> None:
        if number < 3 * MAX_ATTEMPTS and calls == 1:
            raise Loss("gone")

    assert carry_out(tmp_path, die_idle) == {}


def test_rare_failures_to_start_do_not_add_up(tmp_path: Path) -> None:
    begun = Counter[str]()

    def behave(number: int, calls: int, tasks: Sequence[Task]) -> None:
        begun.update(task.entry.file for task in tasks)
        if (number % 2 and not calls) or any(begun[task.entry.file] == 1 for task in tasks):
            raise Loss("gone")

    assert carry_out(tmp_path, behave, "abcdefgh") == {}


def test_a_crew_that_cannot_be_started_ends_the_command(tmp_path: Path) -> None:
    def behave(number: int, calls: int, tasks: Sequence[Task]) -> None:
        raise Loss("Something. More\nThe reason. More")

    with pytest.raises(ResourceError, match=r"no worker could be started \(The reason\)"):
        carry_out(tmp_path, behave)


@pytest.mark.parametrize("gpus", [0, 1])
def test_a_job_whose_workers_are_lost_is_given_up(tmp_path: Path, gpus: int) -> None:
    begun = Counter[str]()

    def behave(number: int, calls: int, tasks: Sequence[Task]) -> None:
        begun.update(task.entry.file for task in tasks)
        if any(task.entry.file == "b.png" for task in tasks):
            raise Loss("killed")

    error, code = carry_out(tmp_path, behave, gpus=gpus).pop("b.png")
    assert error == f"its worker process was lost {MAX_ATTEMPTS} times (killed)"
    assert code == RESOURCES
    assert begun["b.png"] == MAX_ATTEMPTS


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Fault(ZeroDivisionError("by zero\nat once")), ("ZeroDivisionError: by zero", 1)),
        (Fault(ResourceError("full")), ("full", RESOURCES)),
        (KeyError("answer"), ("KeyError: 'answer'", 1)),
    ],
)
def test_a_job_that_raises_an_exception_has_failed(tmp_path: Path, gpus: int, error: Exception, expected) -> None:
    def behave(number: int, calls: int, tasks: Sequence[Task]) -> None:
        if any(task.entry.file == "b.png" for task in tasks):
            raise error

    assert carry_out(tmp_path, behave, gpus=gpus) == {"b.png": expected}


@pytest.mark.parametrize(
    ("gpus", "own", "expected"), [(0, "", None), (0.5, "", "0.375"), (0.5, "0.2", None), (1, "", None)]
)
def test_workers_that_share_a_gpu_share_its_memory(
    monkeypatch: pytest.MonkeyPatch, gpus: float, own: str, expected
) -> None:
    for name, value in zip(MEMORY_VARIABLES, ("", own), strict=True):
        monkeypatch.setenv(name, value)
        if not value:
            monkeypatch.delenv(name)
    monkeypatch.setattr(ray_workers, "Worker", lambda setup: None)
    ray_workers._RayWorker(Setup("", {}, "", "keep", None, 95), int, gpus)  # pyright: ignore[reportArgumentType]
    assert os.environ.get(MEMORY_VARIABLES[0]) == expected


@pytest.mark.parametrize(("gpus", "device"), [("0", "cpu"), ("0.5", "auto"), ("auto", "auto")])
def test_workers_that_take_no_gpu_compute_on_the_cpu(capsys, monkeypatch, again: Path, gpus: str, device: str) -> None:
    devices = list[str]()

    def note_device(*where: object, prepare: Any, **rest: object) -> int:
        devices.append(prepare.args[0])
        return 0

    machine = nodes({"CPU": 1.0, "GPU": 1.0})
    monkeypatch.setattr("jnst.apps.cli.grid.cluster", lambda address: contextlib.nullcontext(machine))
    monkeypatch.setattr("jnst.apps.cli.grid.run_blocks_on_ray", note_device)
    grid(capsys, again, "--force", "--no-sheet", "--ray", "--gpus-per-task", gpus)
    assert devices == [device]


@pytest.fixture
def terminations() -> Iterator[list[int]]:
    """The numbers that this process's own handler of SIGTERM has received."""
    received = list[int]()
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, before)


def test_the_command_handles_its_signals_itself(monkeypatch: pytest.MonkeyPatch, terminations: list[int]) -> None:
    """Ray's own handler raises `SystemExit`."""

    def init(*address: object, **options: object) -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        if terminations:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init, shutdown=lambda: None))
    with cluster(None):
        signal.raise_signal(signal.SIGTERM)
    assert terminations == [signal.SIGTERM]
    with pytest.raises(SystemExit), cluster(None):
        pass
    assert terminations == [signal.SIGTERM] * 2


def test_jobs_of_lost_workers_are_done_by_others(capsys, monkeypatch: pytest.MonkeyPatch, whole: Path, again: Path):
    """One content's workers die at first, those of another one always, and a third one raises an exception."""
    pytest.importorskip("ray")
    save(again / "contents" / "d.png", 3)
    save(again / "contents" / "e.png", 4)
    for name in ("a__x", "b__x"):
        (again / "out" / f"{name}.png").unlink()

    def prepare_fatal_images(*settings: object) -> None:
        import os

        from jnst.apps.catalogue import work

        load = work.load_with

        def load_or_die(path: Any, options: Any) -> Any:
            first = again / f"{path.name} was read"
            if path.name == "d.png" or (path.name == "b.png" and not first.exists()):
                first.touch()
                os._exit(1)
            if path.name == "e.png":
                raise ZeroDivisionError("in the worker")
            return load(path, options)

        work.load_with = load_or_die

    before, style = len(made(again)), ("--styles", again / "styles" / "x.png", "--no-sheet")
    monkeypatch.setattr(ray_workers, "MAX_ATTEMPTS", 2)
    monkeypatch.setattr("jnst.apps.cli.grid.choose_device", prepare_fatal_images)
    finished = grid(capsys, again, *style, "--ray", "--cpus-per-task", "1")
    assert finished.status == RESOURCES
    assert "2 done, 1 skipped (done before), 2 failed" in finished.out[-1]
    assert images(again) == images(whole)
    assert sorted(made(again)[before:]) == ["a__x.png", "b__x.png", "d__x.png", "e__x.png"]
    errors = [job["error"] for job in index_of(again)["jobs"] if job["status"] == "failed"]
    assert "lost 2 times" in errors[0]
    assert errors[1] == "ZeroDivisionError: in the worker"
    for name in "de":
        (again / "contents" / f"{name}.png").unlink()
    assert "0 done, 3 skipped" in grid(capsys, again, *style, "--ray").out[-1]
