"""Jobs of one shape and structure through all sizes together: each is a lane of the same programs."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jnst.errors import ArgumentError, NumericsError
from jnst.solve import devices as parallel
from jnst.solve import run as optimize
from jnst.solve.optimizers import Settings, build_with_rate, neutral, rate_of, with_rate
from jnst.solve.run import Method, Result, State, image, shown
from jnst.transfer import lanes, memory
from jnst.transfer.coarse_to_fine import Finished, Solution, carry_out, enlarged, initial
from jnst.transfer.fitting import TargetStore
from jnst.transfer.inputs import Inputs
from jnst.transfer.lanes import Axes, Callback, Early, Lanes, Report, lane, stack
from jnst.transfer.plan import Job, Plan, Scale
from jnst.types import Image, Params

AXES: Axes = (0, 0, None, 0)
"""Of the arguments of `jnst.transfer.plan.TransferLoss`, the network's parameters are shared."""


class Ending(NamedTuple):
    """How a lane ended: its solution, why its loss stopped being finite (or None), whether a callback stopped it."""

    solution: Finished
    error: NumericsError | None
    stopped: bool


def share_programs(jobs: Sequence[Job]) -> list[Job]:
    """The jobs with learning rates in the optimisers' states where they differ in them, so that all are one program."""
    sizes = zip(*(job.plan.scales for job in jobs), strict=True)
    shared = [[scale._replace(method=_common_method(scales, jobs[0])) for scale in scales] for scales in sizes]
    plans = [job.plan._replace(scales=scales) for job, scales in zip(jobs, zip(*shared, strict=True), strict=True)]
    return [job._replace(plan=plan) for job, plan in zip(jobs, plans, strict=True)]


def _common_method(scales: Sequence[Scale], job: Job) -> Method:
    first = scales[0]
    if not isinstance(first.optimizer, Settings) or all(scale.optimizer == first.optimizer for scale in scales):
        return first.method
    optimizer = build_with_rate(neutral(first.optimizer), job.plan.settings.unit)
    return dataclasses.replace(first.method, optimizer=optimizer)


@memory.reported
def run_together(
    numbers: Sequence[int],
    jobs: Sequence[Job],
    params: Params,
    store: TargetStore,
    *,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    callback: Callback | None = None,
) -> list[Ending]:
    """Minimise every lane at every size.

    Args:
        numbers: What reports call the jobs. There may be more jobs than numbers: those behind fill lanes.
        jobs: Of one shape and structure, after `share_programs`; as many as the mesh divides.
        params: The network's parameters, on all devices of the mesh.
        store: Where targets are kept.
        mesh: The devices; None: the default one.
        chunk: Steps in one compiled program; None chooses by device.
        callback: See `jnst.transfer.batches.carry_out_many`.
    """
    begun, wanted, plan = time.perf_counter(), len(numbers), jobs[0].plan
    early: dict[int, tuple[int, Early]] = {}
    sizes: list[Lanes] = []
    state = None
    for index, scale in enumerate(plan.scales):
        images, args = _arguments(jobs, index, params, store)
        if state is None:
            starts = [initial(job, given) for job, given in zip(jobs, images, strict=True)]
            state = lanes.start(jnp.stack(starts), scale.method)
        else:
            state = jax.vmap(partial(enlarged, plan, index))(state)
        state = _with_rates(state, jobs, index)
        if mesh is not None:
            state, args = _placed(state, args, mesh)
        part = lanes.minimise(
            scale.method,
            state,
            args,
            AXES,
            num_steps=scale.num_steps,
            chunk=chunk,
            mesh=mesh,
            callback=_in_whole_run(callback, numbers, len(jobs), plan, index, begun),
            early=(*early, *range(wanted, len(jobs))),
        )
        # Without the optimisers' states, the bulk of what a run holds.
        sizes.append(part._replace(state=dataclasses.replace(part.state, optimizer=None)))
        state = part.state
        early |= {number: (index, end) for number, end in part.early.items()}
        if len(early) == wanted:
            break
    return [_ending(job, number, sizes, early.get(number)) for number, job in enumerate(jobs[:wanted])]


def _arguments(jobs: Sequence[Job], index: int, params: Params, store: TargetStore) -> tuple[list[Inputs], Any]:
    """Every job's images at one size, and the loss' arguments."""
    images, targets = zip(*(store.at(job, index, params) for job in jobs), strict=True)
    objectives = stack([job.plan.scales[index].objective for job in jobs])
    keys = jnp.stack([jax.random.fold_in(job.key, index) for job in jobs])
    return list(images), (objectives, stack(targets), params, keys)


def _with_rates(state: State, jobs: Sequence[Job], index: int) -> State:
    """See `jnst.transfer.coarse_to_fine.with_rate_of`."""
    chosen = [(job.plan.scales[index].optimizer, job.plan.settings.unit) for job in jobs]
    rates = [rate_of(optimizer, unit) for optimizer, unit in chosen if isinstance(optimizer, Settings)]
    return dataclasses.replace(state, optimizer=with_rate(state.optimizer, jnp.asarray(rates, jnp.float32)))


def _placed(state: State, args: Any, mesh: Mesh) -> tuple[State, Any]:
    """Lanes divided among the devices; what they share is there already."""
    own = [arg if axis is None else parallel.place(arg, mesh, True) for arg, axis in zip(args, AXES, strict=True)]
    return parallel.place(state, mesh, True), tuple(own)


def _in_whole_run(
    callback: Callback | None, numbers: Sequence[int], count: int, plan: Plan, index: int, begun: float
) -> Callable[..., np.ndarray] | None:
    """Let the callback count steps and seconds through all sizes, and see the wanted lanes only."""
    if callback is None:
        return None
    steps, wanted = [scale.num_steps for scale in plan.scales], len(numbers)
    before, method = sum(steps[:index]), plan.scales[index].method

    def report(first: int, total: np.ndarray, parts: dict[str, np.ndarray], state: State) -> np.ndarray:
        seen = {name: values[:wanted] for name, values in parts.items()}
        seconds = time.perf_counter() - begun
        images = partial(_images, state, method, wanted)
        answer = callback(Report(tuple(numbers), before + first, sum(steps), total[:wanted], seen, seconds, images))
        ends = np.zeros(count, bool)
        ends[:wanted] = ends_of(answer, wanted)
        return ends

    return report


def _images(state: State, method: Method, count: int) -> Image:
    return jnp.copy(jax.vmap(partial(image, method=method))(state)[:count])


def run_alone(
    number: int,
    job: Job,
    params: Params,
    store: TargetStore,
    *,
    chunk: int | None = None,
    callback: Callback | None = None,
) -> Ending:
    """A job by itself, through the programs of `jnst.transfer.stylize`; arguments as of `run_together`."""
    stopped = False

    def listen(report: optimize.Report) -> bool:
        nonlocal stopped
        if callback is None:
            return False
        seen = {name: values[None] for name, values in report.parts.items()}
        first, steps, total, seconds = report.first, report.num_steps, report.total[None], report.seconds
        answer = callback(Report((number,), first, steps, total, seen, seconds, lambda: report.image[None]))
        stopped = bool(ends_of(answer, 1)[0])
        return stopped

    try:
        return Ending(_without_state(carry_out(job, params, store=store, chunk=chunk, callback=listen)), None, stopped)
    except NumericsError as error:
        error.result = _without_state(error.result)
        return Ending(error.result, error, stopped=False)


def _without_state(solution: Solution) -> Finished:
    return Finished(solution.image, solution.losses, solution.parts)


def ends_of(answer: Any, count: int) -> np.ndarray:
    """Which of ``count`` lanes a callback's answer ends.

    Raises:
        ArgumentError: As many values as lanes were expected, or one for all.
    """
    ends = np.asarray(False if answer is None else answer, bool)
    if ends.shape not in ((), (count,)):
        raise ArgumentError(f"the callback returned {ends.size} values for {count} lanes: one for all, or one each")
    return np.broadcast_to(ends, count)


def _ending(job: Job, number: int, sizes: Sequence[Lanes], early: tuple[int, Early] | None) -> Ending:
    """A lane's own share of what was recorded at every size, and its image."""
    last, end = (len(sizes) - 1, None) if early is None else early
    result = end.result if isinstance(end, NumericsError) else end or _own(sizes[-1], number)
    records = [_own(size, number) for size in sizes[:last]] + [result]
    with_steps = [record for record in records if record.parts]
    names = with_steps[0].parts if with_steps else ()
    solution = Finished(
        image=job.finish(shown(result.state, job.plan.scales[last].method)),
        losses=np.concatenate([record.total for record in records]),
        parts={name: np.concatenate([record.parts[name] for record in with_steps]) for name in names},
    )
    if isinstance(end, NumericsError):
        end.result = solution
        return Ending(solution, end, stopped=False)
    return Ending(solution, None, stopped=end is not None)


def _own(size: Lanes, number: int) -> Result:
    """One lane at one size."""
    return Result(lane(size.state, number), size.total[number], lane(size.parts, number))
