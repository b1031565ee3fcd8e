"""A catalogue's work on a Ray cluster: worker processes on one machine or many, which may be lost without harm."""

import contextlib
import importlib
import logging
import math
import os
import socket
import sys
import tempfile
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jnst.apps.catalogue.journal import Record
from jnst.apps.catalogue.work import Block, Setup, Task, Worker, failure, save_result
from jnst.errors import ArgumentError, ResourceError
from jnst.weights.files import write_atomically

MAX_ATTEMPTS = 3
"""How often a job is begun whose worker process is lost each time."""

POLL_SECONDS = 0.2
"""Between two looks at whether the command was interrupted."""

CONNECT_SECONDS = 10.0

PATIENCE = 60.0
"""Seconds without a worker after which the command says what it is waiting for."""

FORWARDED = ("JAX_", "JNST_", "XLA_")
"""Environment variables that begin with these hold for the workers too."""

Result = tuple[Record, bytes | None]
"""A record, and the content of the image's file, if there is one."""

Outcome = tuple[list[Result], int]
"""The results of a worker's tasks, and how many programs it compiled for them."""


class Resources(NamedTuple):
    """What each worker takes of the cluster, and how many workers fit."""

    gpus: float
    cpus: float
    workers: int


@contextlib.contextmanager
def cluster(address: str | None) -> Iterator[Any]:
    """Connect to a Ray cluster, or start one on this machine and stop it afterwards. Yields the module ``ray``.

    Args:
        address: As for `ray.init`, such as "10.0.0.1:6379", or "auto" for the cluster of this machine; None starts one.

    Raises:
        ArgumentError: Ray is not installed, or there is no such cluster.
        ResourceError: Ray could not be started on this machine.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report the use of a cluster that we start.
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise ArgumentError('--ray needs the package ray: pip install "jnst[ray]"') from None
    own = {name: value for name, value in os.environ.items() if name.startswith(FORWARDED)}
    local = {"include_dashboard": False} if address is None else {}
    try:
        _check_reachable(address)
        with warnings.catch_warnings():
            # JAX warns of any fork. Ray's are followed by the start of another program at once.
            warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
            ray.init(
                address or "local",
                runtime_env={"env_vars": own},
                log_to_driver=False,
                logging_level=logging.ERROR,
                **local,
            )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        if address is None:
            raise ResourceError(f"--ray: Ray could not be started on this machine ({reason})") from None
        raise ArgumentError(f"--ray {address}: no cluster answers ({reason}): check the address") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Raise an `OSError` if nothing answers at HOST:PORT. Ray itself tries for several minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def plan_resources(ray: Any, gpus: float | None, cpus: float | None) -> Resources:
    """Choose what each worker takes of the cluster.

    Args:
        ray: From `cluster`.
        gpus: GPUs for each worker; None: 1 if the cluster has any, otherwise 0.
        cpus: CPUs for each worker; None: 1 beside a GPU, otherwise all of a machine, since JAX uses all its cores.

    Raises:
        ArgumentError: No machine has as many.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU") for node in nodes) else 0.0
    if cpus is None:
        cpus = 1.0 if gpus else float(min((node["CPU"] for node in nodes if node.get("CPU")), default=1.0))
    needed = {"CPU": cpus} | ({"GPU": gpus} if gpus else {})
    fitting = [min(math.floor(node.get(name, 0) / number) for name, number in needed.items()) for node in nodes]
    if not any(fitting):
        found = "; ".join(f"{node.get('GPU', 0):g} GPUs and {node.get('CPU', 0):g} CPUs" for node in nodes)
        raise ArgumentError(
            f"--gpus-per-task {gpus:g}, --cpus-per-task {cpus:g}: no machine of the cluster has as many, "
            f"they have {found or 'none'}: ask for fewer"
        )
    return Resources(gpus, cpus, sum(fitting))


def run_blocks_on_ray(
    ray: Any,
    blocks: Sequence[Block],
    setup: Setup,
    folder: Path,
    resources: Resources,
    *,
    prepare: Callable[[], None],
    note: Callable[[Record], None],
    stop: Callable[[], bool],
) -> int:
    """Carry out blocks on a cluster's workers; this process writes the images, and notes what became of each task.

    Workers keep parameters, targets and compiled programs from call to call. The tasks of a lost worker are given to
    another one, each by itself, until they were begun `MAX_ATTEMPTS` times. Input files must have the same paths on all
    machines; only this process writes to the output folder.

    Args:
        ray: From `cluster`.
        blocks: What is to be done.
        setup: What all jobs have in common.
        folder: The output folder.
        resources: From `plan_resources`.
        prepare: Called in each worker before anything is computed.
        note: Called with every record after its image is written.
        stop: Returns whether to stop. What runs then is given up.

    Returns:
        How many programs made the steps, counted in every worker.

    Raises:
        ResourceError: The disk is full, or no worker could be started.
    """
    crew = _Crew(ray, setup, resources, prepare)
    queue, attempts, programs = deque(_parts(blocks, setup, resources)), Counter[str](), 0
    for _ in range(min(resources.workers, len(queue))):
        crew.hire()
    while (queue or crew.is_working) and not stop():
        while queue and crew.idle:
            part = queue.popleft()
            attempts.update(task.entry.file for task in part)
            crew.give(part)
        for tasks, outcome in crew.wait():
            if outcome is None:
                for task in tasks:
                    if attempts[task.entry.file] < MAX_ATTEMPTS:
                        queue.append((task,))
                    else:
                        note(failure(task, ResourceError(f"its worker process was lost {MAX_ATTEMPTS} times")))
                continue
            results, compiled = outcome
            programs += compiled
            for record, data in results:
                if data is not None:
                    write_atomically(folder / record.file, data)
                note(record)
    return programs


def _parts(blocks: Sequence[Block], setup: Setup, resources: Resources) -> Iterator[tuple[Task, ...]]:
    """Cut blocks so that every worker gets some of each: by single tasks, or by batches where GPUs run many at once."""
    for block in blocks:
        length = 1 if not resources.gpus else setup.batch_size or math.ceil(len(block) / resources.workers)
        for begin in range(0, len(block), length):
            yield tuple(task._replace(program=None) for task in block[begin : begin + length])


class _Crew:
    """The worker processes.

    Attributes:
        idle: Workers that have started and have no tasks.
    """

    def __init__(self, ray: Any, setup: Setup, resources: Resources, prepare: Callable[[], None]) -> None:
        self.idle: list[Any] = []
        self._ray, self._prepare, self._resources = ray, prepare, resources
        # As NumPy arrays, which all processes of a machine read from the same memory.
        self._setup = ray.put(setup._replace(params=jax.tree.map(np.asarray, setup.params)))
        self._class = ray.remote(_RayWorker).options(num_gpus=resources.gpus, num_cpus=resources.cpus)
        # Workers by the reference to what they will return, with their tasks: none while they start.
        self._busy: dict[Any, tuple[Any, tuple[Task, ...]]] = {}
        self._failed_starts, self._reminder = 0, time.monotonic() + PATIENCE

    @property
    def is_working(self) -> bool:
        """Whether any worker has tasks."""
        return any(tasks for _, tasks in self._busy.values())

    def hire(self) -> None:
        """Start a worker. It becomes idle when the cluster has found room for it and it has started."""
        worker = self._class.remote(self._setup, self._prepare)
        self._busy[worker.run.remote(())] = worker, ()

    def give(self, tasks: tuple[Task, ...]) -> None:
        """Let an idle worker carry out tasks."""
        worker = self.idle.pop()
        self._busy[worker.run.remote(tasks)] = worker, tasks

    def wait(self) -> Iterator[tuple[tuple[Task, ...], Outcome | None]]:
        """Wait a little, and yield the tasks that ended with their outcome: None if the worker was lost."""
        for reference in self._ray.wait(list(self._busy), timeout=POLL_SECONDS)[0]:
            worker, tasks = self._busy.pop(reference)
            try:
                outcome = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError:  # an exception in the worker, which is a fault of jnst
                raise
            except self._ray.exceptions.RayError as error:
                self._replace_worker(error, starting=not tasks)
                yield tasks, None
                continue
            self.idle.append(worker)
            yield tasks, outcome
        if self.idle or self.is_working:
            self._reminder = time.monotonic() + PATIENCE
        elif time.monotonic() > self._reminder:
            self._reminder = math.inf
            need = f"{self._resources.gpus:g} GPUs and {self._resources.cpus:g} CPUs"
            print(f"jnst: waiting for a machine of the cluster that has {need} to spare", file=sys.stderr)

    def _replace_worker(self, error: Exception, *, starting: bool) -> None:
        reason = str(error).strip().splitlines()[-1].strip().partition(". ")[0]
        print(f"jnst: a worker was lost ({reason})", file=sys.stderr)
        self._failed_starts += starting
        if not starting or self._failed_starts < MAX_ATTEMPTS:
            self.hire()
        elif not self._busy and not self.idle:
            raise ResourceError(f"--ray: no worker could be started ({reason})") from error


class _RayWorker:
    """A `Worker` in a process of its own, a Ray actor, which sends the images' files back instead of writing them."""

    def __init__(self, setup: Setup, prepare: Callable[[], None]) -> None:
        prepare()
        self._setup, self._worker = setup, Worker(setup)

    def run(self, tasks: Sequence[Task]) -> Outcome:
        """Carry out tasks."""
        before, results = self._worker.programs, list[Result]()
        with tempfile.TemporaryDirectory() as scratch:
            try:
                for record, image in self._worker.run(tasks):
                    if image is None:
                        results.append((record, None))
                        continue
                    path = Path(scratch) / record.file
                    record = save_result(record, image, path, self._setup.quality)
                    results.append((record, path.read_bytes()))
            except ResourceError as error:  # Others may fit, here or elsewhere.
                done = {record.file for record, _ in results}
                results += [(failure(task, error), None) for task in tasks if task.entry.file not in done]
        return results, self._worker.programs - before
