"""A catalogue's work on a Ray cluster: worker processes on one machine or many, which may be lost without harm."""

import contextlib
import importlib
import logging
import math
import os
import signal
import socket
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jnst.apps.catalogue.journal import Record
from jnst.apps.catalogue.work import Block, Result, Setup, Task, Worker, failure, save_result
from jnst.errors import ArgumentError, JnstError, ResourceError

MAX_ATTEMPTS = 3
"""How often a job is begun whose worker is lost each time, and how often in a row workers may fail to start."""

POLL_SECONDS = 0.2
"""Between two looks at whether the command was interrupted."""

CONNECT_SECONDS = 10.0

PATIENCE = 60.0
"""Seconds without a worker after which the command says what it is waiting for."""

FORWARDED = ("JAX_", "JNST_", "XLA_")
"""Environment variables that begin with these hold for the workers too."""

MEMORY_SHARE = 0.75
"""The share of a GPU's memory that JAX takes by default; workers that share a GPU divide it."""

MEMORY_VARIABLES = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION")
"""The names of the environment variable that changes it: JAX accepts only one of them at a time."""

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
    try:
        _connect(ray, address)
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    own = {name: value for name, value in os.environ.items() if name.startswith(FORWARDED)}
    local = {"include_dashboard": False} if address is None else {}
    handler: Any = signal.getsignal(signal.SIGTERM)
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
    except SystemExit:  # raised by Ray's own handler of SIGTERM
        if callable(handler):
            handler(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)


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
    other ones, each by itself. A task fails if `MAX_ATTEMPTS` workers were lost while they worked on it, if it raises
    an exception, or as described for `Worker.run`. Input files must have the same paths on all machines; only this
    process writes to the output folder.

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
        ResourceError: The disk is full, so that no other image could be written either, or no worker could be started.
    """
    crew = _Crew(ray, setup, resources, prepare)
    queue, programs = deque(_parts(blocks, setup, resources)), 0
    for _ in range(min(resources.workers, len(queue))):
        crew.hire()
    while (queue or crew.is_working) and not stop():
        while queue and crew.idle:
            crew.give(queue.popleft())
        for part, outcome in crew.wait():
            if outcome is None:
                queue.append(part)
            elif isinstance(outcome, JnstError):
                lost = isinstance(outcome, _Lost)
                again = len(part.tasks) > 1 or (lost and part.attempts + 1 < MAX_ATTEMPTS)
                for task in part.tasks:
                    if again:
                        queue.append(_Part((task,), part.attempts + lost))
                    else:
                        note(failure(task, outcome))
            else:
                results, compiled = outcome
                programs += compiled
                for result in results:
                    save_result(result, folder, note)
    return programs


class _Part(NamedTuple):
    """What a worker does in one call.

    Attributes:
        tasks: What is to be done; empty for a worker that starts.
        attempts: How many workers were lost while they worked on it.
    """

    tasks: tuple[Task, ...] = ()
    attempts: int = 0


class _Lost(ResourceError):
    """A worker process was lost."""


def _parts(blocks: Sequence[Block], setup: Setup, resources: Resources) -> Iterator[_Part]:
    """Cut blocks so that every worker gets some of each: by single tasks, or by batches where GPUs run many at once."""
    for block in blocks:
        length = 1 if not resources.gpus else setup.batch_size or math.ceil(len(block) / resources.workers)
        for begin in range(0, len(block), length):
            yield _Part(tuple(task._replace(program=None) for task in block[begin : begin + length]))


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
        # By the reference to what a worker will return: the worker, its part, and a call that ends when it begins that.
        self._busy: dict[Any, tuple[Any, _Part, Any]] = {}
        self._failed_starts, self._reminder = 0, time.monotonic() + PATIENCE

    @property
    def is_working(self) -> bool:
        """Whether any worker has tasks."""
        return any(part.tasks for _, part, _ in self._busy.values())

    def hire(self) -> None:
        """Start a worker. It becomes idle when the cluster has found room for it and it has started."""
        worker = self._class.remote(self._setup, self._prepare, self._resources.gpus)
        self._busy[worker.run.remote(())] = worker, _Part(), None

    def give(self, part: _Part) -> None:
        """Let an idle worker carry out a part."""
        worker = self.idle.pop()
        ready = worker.run.remote(())  # Calls are carried out in order. This one fails if the worker is dead already.
        self._busy[worker.run.remote(part.tasks)] = worker, part, ready

    def wait(self) -> Iterator[tuple[_Part, Outcome | JnstError | None]]:
        """Wait a little, and yield what ended with its outcome: None if the worker was lost before it began."""
        for reference in self._ray.wait(list(self._busy), timeout=POLL_SECONDS)[0]:
            worker, part, ready = self._busy.pop(reference)
            outcome = self._get(reference)
            if isinstance(outcome, _Lost):
                self._replace_lost(str(outcome), starting=not part.tasks)
                begun = part.tasks and not isinstance(self._get(ready), _Lost)
                times = f"{part.attempts + 1} times ({outcome})"
                outcome = _Lost(f"its worker process was lost {times}") if begun else None
            elif isinstance(outcome, JnstError):
                self.hire()  # After an exception that nobody expected, a process may not be fit for other tasks.
            else:
                self.idle.append(worker)
                self._failed_starts = 0 if not part.tasks else self._failed_starts
            if part.tasks:
                yield part, outcome
        if self.idle or self.is_working:
            self._reminder = time.monotonic() + PATIENCE
        elif time.monotonic() > self._reminder:
            self._reminder = math.inf
            need = f"{self._resources.gpus:g} GPUs and {self._resources.cpus:g} CPUs"
            print(f"jnst: waiting for a machine of the cluster that has {need} to spare", file=sys.stderr)

    def _get(self, reference: Any) -> Outcome | JnstError:
        """What a worker returned, or why it did not, in one line."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except Exception as error:
            if isinstance(error, errors.RayError) and not isinstance(error, errors.RayTaskError):
                return _Lost((str(error).strip() or repr(error)).splitlines()[-1].strip().partition(". ")[0])
            cause = getattr(error, "cause", error)
            if isinstance(cause, JnstError):
                return cause
            return JnstError(f"{type(cause).__name__}: {cause}".splitlines()[0])

    def _replace_lost(self, reason: str, *, starting: bool) -> None:
        print(f"jnst: a worker was lost ({reason})", file=sys.stderr)
        self._failed_starts += starting
        if not starting or self._failed_starts < MAX_ATTEMPTS:
            self.hire()
        elif not self._busy and not self.idle:
            raise ResourceError(f"--ray: no worker could be started ({reason})")


class _RayWorker:
    """A `Worker` in a process of its own, a Ray actor, which sends the images' files back."""

    def __init__(self, setup: Setup, prepare: Callable[[], None], gpus: float) -> None:
        if 0 < gpus < 1 and not any(name in os.environ for name in MEMORY_VARIABLES):
            os.environ[MEMORY_VARIABLES[0]] = f"{MEMORY_SHARE * gpus:.3f}"
        prepare()
        self._worker = Worker(setup)

    def run(self, tasks: Sequence[Task]) -> Outcome:
        """Carry out tasks."""
        before = self._worker.programs
        return list(self._worker.run(tasks)), self._worker.programs - before
