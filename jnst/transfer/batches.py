"""Many jobs through few programs: jobs of one structure run together, as many as memory allows."""

import dataclasses
import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from jnst.errors import ArgumentError
from jnst.solve import Solution
from jnst.solve.devices import check_mesh, free_bytes, place
from jnst.solve.driver import ends_of
from jnst.transfer import memory
from jnst.transfer.memory import reports_exhaustion
from jnst.transfer.multiscale import Callback, Report, run_jobs
from jnst.transfer.plan import Job
from jnst.transfer.stages import make_program
from jnst.transfer.target_store import TargetStore, target_shapes
from jnst.types import Params

MAX_RUNS = 64
"""On one accelerator: more than it takes to keep it busy."""


class Batch(NamedTuple):
    """Jobs that ran together.

    Attributes:
        numbers: Their places among all jobs, from 0.
        solution: With an axis of runs. Images of a batch that ended early have the size it had reached.
    """

    numbers: tuple[int, ...]
    solution: Solution


def solve_jobs(
    jobs: Sequence[Job],
    params: Params,
    *,
    width: int | None = None,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    check_memory: bool = True,
    callback: Callback | None = None,
    store: TargetStore | None = None,
) -> Iterator[Batch]:
    """Carry out jobs, those of one structure together, and yield them as they end.

    On CPUs jobs follow one another through one compiled program, since a single image keeps all threads busy, and each
    result equals that of `jnst.stylize` bit for bit. On accelerators as many run at once as memory allows; results then
    differ from those of single runs by rounding, which L-BFGS amplifies. So they do on a mesh.

    Args:
        jobs: From `jnst.transfer.plan.make_job`.
        params: The network's parameters.
        width: How many jobs run at once on each device; None chooses.
        mesh: Devices of this process among which the jobs that run together are divided; None: the default device.
        chunk: Steps between two callbacks; None chooses by device.
        check_memory: Whether to refuse large images that do not fit into memory, see `jnst.transfer.memory.check`.
        callback: See `jnst.transfer.multiscale.Callback`.
        store: Where targets are kept; None: a new one.

    Raises:
        ArgumentError: A width or chunk below 1, or devices of other processes.
        ResourceError: There is not enough memory.
    """
    if width is not None and width < 1:
        raise ArgumentError(f"{width} images at once: expected at least 1")
    if not jobs:
        return
    store = TargetStore() if store is None else store
    devices = 1 if mesh is None else check_mesh(mesh).size
    params = jobs[0].plan.backbone.prepare(params)
    shared = params if mesh is None else place(params, mesh, divided=False)
    # A single job at a time needs no group.
    alone = devices == 1 and (width == 1 or (width is None and free_bytes(jax.local_devices()[0]) is None))
    for group in [[number] for number in range(len(jobs))] if alone else _groups(jobs, params):
        most = math.ceil(len(group) / devices)
        count = devices * min(most, width or runs_that_fit(jobs[group[0]], params, most, chunk=chunk))
        for begin in range(0, len(group), count):
            numbers = group[begin : begin + count]
            together = [jobs[number] for number in numbers]
            if count == 1:
                own = together[0]
                if check_memory and mesh is None:
                    own = memory.check(own, params, chunk=chunk)
                yield Batch(tuple(numbers), _alone(own, numbers[0], shared, store, chunk, callback))
                continue
            # The last batch is filled up with copies, so that it needs no program of its own.
            filled = [*together, *[together[-1]] * (count - len(together))]
            solution = reports_exhaustion(run_jobs)(
                filled, shared, batched=True, runs=numbers, store=store, run_mesh=mesh, chunk=chunk, callback=callback
            )
            yield Batch(tuple(numbers), jax.tree.map(operator.itemgetter(slice(len(numbers))), solution))


def _alone(
    job: Job, number: int, params: Params, store: TargetStore, chunk: int | None, callback: Callback | None
) -> Solution:
    """A single job through the program of `jnst.stylize`, as a batch of one."""

    def report(single: Report) -> bool:
        assert callback is not None
        batch = dataclasses.replace(
            single,
            losses=single.losses[None],
            parts={name: values[None] for name, values in single.parts.items()},
            state=None,
            make_image=lambda: single.image[None],
        )
        return ends_of(callback(batch), (1,))[0]

    solution = reports_exhaustion(run_jobs)(
        [job],
        params,
        batched=False,
        runs=(number,),
        store=store,
        chunk=chunk,
        callback=None if callback is None else report,
    )
    return jax.tree.map(lambda leaf: leaf[None], dataclasses.replace(solution, state=None))


def runs_that_fit(job: Job, params: Params, most: int, *, chunk: int | None = None, free: int | None = None) -> int:
    """How many jobs like this one run at once on one device, by the memory that the compiled program needs.

    Args:
        job: One of them.
        params: The network's parameters, prepared.
        most: The largest answer.
        chunk: Steps in one compiled program; None: as the run chooses.
        free: Bytes that may be used; None: what the device has left. Where it does not say (CPUs), 1.
    """
    free = free_bytes(jax.local_devices()[0]) if free is None else free
    width = 1 if free is None else min(most, MAX_RUNS)
    while width > 1 and free is not None:
        needed = memory.run_bytes(job, params, width=width, chunk=chunk)
        if needed <= free:
            break
        width = max(1, min(width - 1, int(width * free / needed)))
    return width


def _groups(jobs: Sequence[Job], params: Params) -> list[list[int]]:
    """The places of jobs that run together in one program, in order."""
    groups: dict[Any, list[int]] = {}
    known: dict[Any, Any] = {}
    for number, job in enumerate(jobs):
        structure = _structure(job)
        seen = (structure, _signature(job.inputs))
        if seen not in known:
            known[seen] = tuple(_signature(target_shapes(job, index, params)) for index in range(len(job.plan.scales)))
        groups.setdefault((structure, known[seen]), []).append(number)
    return list(groups.values())


def _structure(job: Job) -> Any:
    """What a job's programs are compiled for, apart from its inputs."""
    settings, schedule = job.plan.settings, job.plan.settings.schedule
    carried = (schedule.carry_average, schedule.carry_optimizer, schedule.enlarge, settings.wrap)
    scales = tuple(
        (
            scale.shape,
            scale.num_steps,
            jax.tree.structure(make_program([job], index, batched=False)),
            jax.tree.structure(scale.objective),
        )
        for index, scale in enumerate(job.plan.scales)
    )
    return carried, scales


def _signature(tree: Any) -> Any:
    return jax.tree.structure(tree), tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree))
