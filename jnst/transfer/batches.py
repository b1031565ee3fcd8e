"""Many jobs through few programs: jobs of one shape run together, as many as memory allows."""

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jnst.errors import ArgumentError, NumericsError
from jnst.solve import devices as parallel
from jnst.solve.optimizers import Settings, neutral
from jnst.transfer import lanes
from jnst.transfer.coarse_to_fine import Finished
from jnst.transfer.fitting import TargetStore
from jnst.transfer.lanes import Callback
from jnst.transfer.memory import target_shapes
from jnst.transfer.pace import chunk_length
from jnst.transfer.plan import Job, Scale
from jnst.transfer.together import AXES, run_alone, run_together, share_programs
from jnst.types import Params

MOST_LANES = 64
"""On one accelerator: more than it takes to keep it busy."""


class Outcome(NamedTuple):
    """The end of a job.

    Attributes:
        number: Its place among the jobs, from 0.
        solution: Its image and losses. Of a job that ended early, the image at the size that it had reached.
        error: Why its loss stopped being finite; the solution has the last finite image then.
        stopped: Whether the callback ended it.
        seconds: Wall time, shared evenly by the jobs that ran together.
    """

    number: int
    solution: Finished
    error: NumericsError | None
    stopped: bool
    seconds: float


def carry_out_many(
    jobs: Sequence[Job],
    params: Params,
    *,
    width: int | None = None,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    callback: Callback | None = None,
    store: TargetStore | None = None,
) -> Iterator[Outcome]:
    """Carry out jobs, those of one shape and structure together, and yield each when it ends.

    On CPUs one job after the other runs through one compiled program, since a single image keeps all threads busy;
    each result is that of `jnst.transfer.stylize` to the last bit. On accelerators as many run at once as memory allows, and
    results differ from those of single runs by rounding, which L-BFGS amplifies; so they do on a mesh.

    Args:
        jobs: From `jnst.transfer.jobs`.
        params: The network's parameters.
        width: How many jobs run at once on each device; None chooses.
        mesh: This process' devices that share the jobs which run together; None: the default device.
        chunk: Steps in one compiled program; None chooses by device.
        callback: Called after every chunk of steps with a `jnst.transfer.lanes.Report`; see `jnst.transfer.lanes.Callback`.
        store: Where targets are kept; None: a new one.

    Raises:
        ArgumentError: A width or chunk below 1, or devices of other processes.
    """
    if width is not None and width < 1:
        raise ArgumentError(f"{width} images at once: expected at least 1")
    store = TargetStore() if store is None else store
    devices = 1 if mesh is None else parallel.check_mesh(mesh).size
    params = jobs[0].plan.backbone.lay_out(params) if jobs else params
    shared = params if mesh is None else parallel.place(params, mesh, divided=False)
    for group in _groups(jobs, params):
        together = dict(zip(group, share_programs([jobs[number] for number in group]), strict=True))
        most = math.ceil(len(group) / devices)
        count = devices * min(most, width or lanes_that_fit(together[group[0]], params, most, chunk=chunk))
        for first in range(0, len(group), count):
            begun, numbers = time.perf_counter(), group[first : first + count]
            if count == 1:
                job = together[numbers[0]]
                endings = [run_alone(numbers[0], job, params, store, chunk=chunk, callback=callback)]
            else:
                lanes_of = [together[number] for number in [*numbers, *[numbers[-1]] * (count - len(numbers))]]
                endings = run_together(numbers, lanes_of, shared, store, mesh=mesh, chunk=chunk, callback=callback)
            seconds = (time.perf_counter() - begun) / len(numbers)
            for number, ending in zip(numbers, endings, strict=True):
                yield Outcome(number, *ending, seconds)


def lanes_that_fit(job: Job, params: Params, most: int, *, chunk: int | None = None, free: int | None = None) -> int:
    """How many jobs like this one run at once on one device: by the memory of the compiled program on accelerators.

    Args:
        job: One of them.
        params: The network's parameters.
        most: No more than these.
        chunk: See `carry_out_many`.
        free: Bytes that may be used; None: what the device has left. Where it does not say (CPUs), 1.
    """
    free = parallel.free_bytes(jax.local_devices()[0]) if free is None else free
    width = 1 if free is None else min(most, MOST_LANES)
    while width > 1 and free is not None:
        needed = step_bytes(job, params, width, chunk=chunk)
        if needed <= free:
            break
        width = max(1, min(width - 1, int(width * free / needed)))
    return width


def step_bytes(job: Job, params: Params, width: int = 1, *, chunk: int | None = None) -> int:
    """The memory, in bytes, of a program that makes steps of ``width`` jobs at full size: compiled, not run."""
    index, scale = len(job.plan.scales) - 1, job.plan.scales[-1]
    images = jax.ShapeDtypeStruct((width, *scale.shape, 3), jnp.float32)
    state = jax.eval_shape(partial(lanes.start, method=scale.method), images)
    own = (scale.objective, target_shapes(job, index, params), job.key)
    objective, targets, key = jax.eval_shape(lambda own: lanes.stack([own] * width), own)
    length = min(scale.num_steps, chunk or chunk_length(jax.tree.leaves(params)[0]))
    args = (objective, targets, params, key)
    return parallel.needed_bytes(lanes.advance.lower(state, args, scale.method, max(1, length), AXES).compile())


def _groups(jobs: Sequence[Job], params: Params) -> list[list[int]]:
    """The places of jobs that the same programs can run together, in order."""
    groups: dict[Any, list[int]] = {}
    known: dict[Any, Any] = {}
    for number, job in enumerate(jobs):
        seen = (_static(job), _signature(job.images))
        if seen not in known:
            known[seen] = tuple(_signature(target_shapes(job, index, params)) for index in range(len(job.plan.scales)))
        groups.setdefault((_static(job), known[seen]), []).append(number)
    return list(groups.values())


def _static(job: Job) -> Any:
    """What a job's programs are compiled for, apart from its images and its learning rates."""
    settings = job.plan.settings
    carried = (settings.carry_average, settings.carry_optimizer, settings.enlarge)
    scales = tuple(
        (scale.shape, scale.num_steps, _method(scale), jax.tree.structure(scale.objective)) for scale in job.plan.scales
    )
    return job.plan.backbone, carried, scales


def _method(scale: Scale) -> Any:
    method, optimizer = scale.method, scale.optimizer
    kind = neutral(optimizer) if isinstance(optimizer, Settings) else optimizer
    return kind, method.bounds, method.average, method.keep_best


def _signature(tree: Any) -> Any:
    return jax.tree.structure(tree), tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree))
