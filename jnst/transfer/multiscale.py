"""The one driver of `jnst.stylize` and its relatives: one image, or a batch, from the smallest size to the full one."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jnst.errors import ArgumentError
from jnst.images import resample, resize, size_of
from jnst.losses.objective import TransferArgs
from jnst.solve import Solution, Solver, State
from jnst.solve.compilation import Jit
from jnst.solve.devices import place, platform_of, shard_rows
from jnst.solve.driver import Axes, Drive, copied, drive, start_runs
from jnst.solve.saved import leaves_of, restore
from jnst.solve.solver import Program, diverged, fell, result, start
from jnst.transfer.plan import Job, Plan, finish, initial_image
from jnst.transfer.stages import AXES, OnCompile, Stages, background
from jnst.transfer.target_store import TargetStore
from jnst.types import Array, Image, Params, Wrap


@dataclasses.dataclass(frozen=True)
class Report:
    """What a callback learns between two chunks. ``...`` stands for the axis of a batch, none for a single run.

    Attributes:
        runs: The numbers of the runs in the batch, from 0; ``(0,)`` for a single run.
        first: The number of the chunk's first step, from 1, counted over all sizes.
        num_steps: How many steps the run has in all, over all sizes.
        losses: The total at each step of the chunk, ``(..., n)``.
        parts: Its weighted parts by name, likewise.
        seconds: Wall time since the run began, compilation included.
        compile_seconds: How much of it the run has waited for targets and compilation.
        scale: The size at which the run is, from 0.
        state: The state after the chunk, valid during the callback only; `jnst.save_state` can save it. None in a
            batch.
        make_image: See ``image``.
    """

    runs: tuple[int, ...]
    first: int
    num_steps: int
    losses: np.ndarray
    parts: Mapping[str, np.ndarray]
    seconds: float
    compile_seconds: float
    scale: int
    state: State | None
    make_image: Callable[[], Image]

    @property
    def last(self) -> int:
        """The number of the chunk's last step."""
        return self.first + self.losses.shape[-1] - 1

    @property
    def image(self) -> Image:
        """The image as the run would return it now, ``(..., h, w, 3)`` in [0, 1]; ask for it during the callback."""
        return self.make_image()


Callback = Callable[[Report], Any]
"""Called on the host after every chunk of steps, except one in which the last run failed. Returning True ends the run;
for a batch, a sequence with one value for each run ends those where it is True."""


RUN_LIMIT = 2**28
"""Bytes of targets and resized inputs that a run keeps for its other sizes."""


def run_jobs(
    jobs: Sequence[Job],
    params: Params,
    *,
    batched: bool,
    runs: Sequence[int] = (0,),
    store: TargetStore | None = None,
    state: Any = None,
    run_mesh: Mesh | None = None,
    row_mesh: Mesh | None = None,
    chunk: int | None = None,
    callback: Callback | None = None,
    on_compile: OnCompile | None = None,
) -> Solution:
    """Minimise at every size, each from the result of the one before.

    Args:
        jobs: Of one structure, each a run of the batch; a single one if not ``batched``.
        params: The network's parameters, prepared for the device.
        batched: Whether arrays have an axis of runs.
        runs: What reports call the runs. Jobs beyond them only fill the devices.
        store: Where targets are kept; None: in one of this run alone.
        state: Of an earlier call for the same single job: the run continues from there.
        run_mesh: Devices among which the runs of a batch are divided.
        row_mesh: Devices that share the image of a single job, each some of its rows.
        chunk: Steps between two callbacks; None chooses.
        callback: See `Callback`.
        on_compile: Called before the run waits for a program.

    Raises:
        ArgumentError: ``state`` belongs to another run.
    """
    begun, plan, axes = time.perf_counter(), jobs[0].plan, AXES if batched else None
    schedule = plan.settings.schedule
    put = partial(shard_rows, mesh=row_mesh) if row_mesh is not None else lambda tree: tree
    store = store or TargetStore(RUN_LIMIT, put)
    first, current = (0, None) if state is None else _position(state, jobs[0])
    driven: list[Drive] = []
    verdicts: list[_Verdict] = []
    finite = np.ones((len(jobs),) if batched else (), bool) if current is None else np.asarray(current.running)
    with background(platform_of(params)) as pool:
        # What is placed on a mesh before its steps cannot be compiled ahead.
        own_pool = pool if run_mesh is None and row_mesh is None else None
        stages = Stages(jobs, params, own_pool, store=store, batched=batched, mesh=row_mesh, chunk=chunk)
        for index in range(first, len(plan.scales)):
            program, inputs, args, _ = stages.enter(index, on_compile, makes_steps=not _is_done(current, plan, index))
            if current is None:
                starts = [initial_image(job, own) for job, own in zip(jobs, inputs, strict=True)]
                current = start_runs(program, jnp.stack(starts) if batched else starts[0], axes)
            elif current.image.shape[-3:-1] != plan.scales[index].shape:
                current = _enlarged(
                    current,
                    program,
                    shape=plan.scales[index].shape,
                    method=schedule.enlarge,
                    wrap=plan.settings.wrap,
                    carry_average=schedule.carry_average,
                    carry_optimizer=schedule.carry_optimizer,
                    worse=verdicts[-1].diverged if verdicts else np.zeros_like(finite),
                    axes=axes,
                )
            if run_mesh is not None:
                program, current, args = _divided(program, current, args, run_mesh)
            part = drive(
                program,
                put(current),
                put(args),
                last_step=plan.scales[index].num_steps,
                axes=axes,
                mesh=run_mesh,
                chunk=chunk,
                callback=_reporting(callback, jobs, runs, index, begun, stages, batched),
            )
            driven.append(part)
            evaluate = partial(drive, program, args=put(args), axes=axes, mesh=run_mesh, chunk=chunk)
            verdicts.append(_judge(part.state, plan.scales[index].solver, evaluate))
            finite = finite & ~part.failed
            current = part.state
            if not part.running.any():
                break
    # A run that failed keeps its last finite image.
    worse = finite & verdicts[-1].diverged
    images = _images(jobs, driven[-1].state, batched, worse)
    solution = _solution(images, driven, finite, None if batched else current)
    return dataclasses.replace(solution, fell=np.any([verdict.fell for verdict in verdicts], 0), diverged=worse)


class _Verdict(NamedTuple):
    """Which runs of a batch went well at a size, ``(...)`` each: see `Solution`."""

    fell: np.ndarray
    diverged: np.ndarray


def _judge(state: State, solver: Solver, evaluate: Callable[..., Drive]) -> _Verdict:
    """Judge runs by their state. The last image was not evaluated; for runs in doubt, it is."""
    verdict = _Verdict(np.asarray(fell(state)), np.asarray(diverged(state, solver)))
    in_doubt = ~verdict.fell | verdict.diverged
    if not in_doubt.any():
        return verdict
    assert state.best is not None
    final = evaluate(state=copied(state), last_step=int(np.max(state.step)) + 1).losses[..., -1]
    last = np.where(in_doubt & np.isfinite(final), final, state.best.last)
    state = dataclasses.replace(state, best=state.best._replace(last=last))
    return _Verdict(np.asarray(fell(state)), np.asarray(diverged(state, solver)))


def _is_done(state: State | None, plan: Plan, index: int) -> bool:
    """Whether the state of an earlier call has all steps of a size."""
    scale = plan.scales[index]
    return state is not None and state.image.shape[-3:-1] == scale.shape and int(np.min(state.step)) >= scale.num_steps


def _divided(program: Program, state: State, args: TransferArgs, mesh: Mesh) -> tuple[Program, State, TransferArgs]:
    """Divide the runs of a batch among devices. Parameters are on all of them already."""
    own = partial(place, mesh=mesh, divided=True)
    args = args._replace(objective=own(args.objective), targets=own(args.targets), key=own(args.key))
    return own(program), own(state), args


@partial(Jit, static_argnames=("shape", "method", "wrap", "carry_average", "carry_optimizer", "axes"))
def _enlarged(
    state: State,
    program: Program,
    *,
    shape: tuple[int, int],
    method: str,
    wrap: Wrap,
    carry_average: bool,
    carry_optimizer: bool,
    worse: Any,
    axes: Axes | None,
) -> State:
    """The state before the first step at the next size."""

    def enlarge(state: State, program: Program, worse: Any) -> State:
        solver = program.solver
        end = result(state, solver)
        image = end if carry_average else state.image
        if state.best is not None:
            image = jnp.where(worse, state.best.image, image)
        # In a batch, runs that have ended keep their result, which may be far outside [0, 1].
        image = jnp.where(state.running, image, jnp.clip(end, 0.0, 1.0))
        fresh = start(solver, resize(image, shape, method, wrap))
        # Copies, because a buffer can be donated only once, see `jnst.solve.driver`.
        fresh = jax.tree.map(jnp.copy, dataclasses.replace(fresh, running=state.running))
        smaller, larger = jax.tree.leaves(state.optimizer), jax.tree.leaves(fresh.optimizer)
        # L-BFGS's memory and the levels of a pyramid have no place in a larger image, and half a state is misleading.
        fits = len(smaller) == len(larger) and all(
            old.shape in (state.image.shape, new.shape) for old, new in zip(smaller, larger, strict=True)
        )
        if not carry_optimizer or not fits:
            return fresh
        carry = partial(_carried, old_shape=state.image.shape, method=method, wrap=wrap)
        return dataclasses.replace(fresh, optimizer=jax.tree.map(carry, state.optimizer, fresh.optimizer))

    if axes is None:
        return enlarge(state, program, worse)
    return jax.vmap(enlarge, in_axes=(0, axes[0], 0))(state, program, worse)


def _carried(old: Array, fresh: Array, old_shape: tuple[int, ...], method: str, wrap: Wrap) -> Array:
    """Moments of the image are enlarged with it, and counts are kept.

    Those that cannot be negative, such as Adam's second, are enlarged bilinearly as in Crowson's program. Filters that
    overshoot would leave steps without bounds where such a moment comes out near 0.
    """
    if old.shape != old_shape:
        return old
    first, second = (resample(old, size_of(fresh), each, wrap) for each in (method, "bilinear"))
    return jnp.where(jnp.min(old) >= 0, second, first)


def _reporting(
    callback: Callback | None,
    jobs: Sequence[Job],
    runs: Sequence[int],
    index: int,
    begun: float,
    stages: Stages,
    batched: bool,
) -> Any:
    """A callback of `jnst.solve.driver.drive` that counts over all sizes and sees only the runs that are wanted."""
    if callback is None:
        return None
    steps, wanted = jobs[0].plan.num_steps, slice(len(runs)) if batched else ...

    def report(first: int, losses: np.ndarray, parts: dict[str, np.ndarray], state: State) -> Any:
        answer = callback(
            Report(
                runs=tuple(runs),
                first=sum(steps[:index]) + first,
                num_steps=sum(steps),
                losses=losses[wanted],
                parts={name: values[wanted] for name, values in parts.items()},
                seconds=time.perf_counter() - begun,
                compile_seconds=stages.seconds,
                scale=index,
                state=None if batched else state,
                make_image=lambda: _images(jobs[: len(runs)], state, batched),
            )
        )
        if not batched or np.ndim(answer) == 0:
            return answer
        # Jobs that only fill the devices are copies of the last one, and end with it.
        return [*answer, *[answer[-1]] * (len(jobs) - len(runs))] if len(answer) == len(runs) else answer

    return report


def _images(jobs: Sequence[Job], state: State, batched: bool, worse: np.ndarray | None = None) -> Image:
    """The runs' images as they are returned and shown: the best ones of runs that became ``worse``."""
    choose = partial(result, solver=jobs[0].plan.settings.solver)
    images = jax.vmap(choose)(state) if batched else choose(state)
    if worse is not None and worse.any():
        assert state.best is not None
        images = jnp.where(worse[..., None, None, None], state.best.image, images)
    if not batched:
        return finish(jobs[0], images)
    return jnp.stack([finish(job, images[number]) for number, job in enumerate(jobs)])


def _position(state: Any, job: Job) -> tuple[int, State]:
    """The size at which a state stands, and a copy of the state, if they belong to this job."""
    leaves = leaves_of(state)
    image = leaves.get(".image")
    if image is None or getattr(image, "ndim", 0) != 3:
        raise ArgumentError("`state` is no state of a run: expected `Solution.state`, or the result of jnst.load_state")
    shapes = [scale.shape for scale in job.plan.scales]
    if image.shape[:2] not in shapes:
        raise ArgumentError(
            f"`state` holds an image of {image.shape[:2]}, but this run has the sizes {shapes}: continue with the same "
            "images and settings"
        )
    index = shapes.index(image.shape[:2])
    like = jax.eval_shape(
        partial(start, job.plan.scales[index].solver),
        jax.ShapeDtypeStruct((*shapes[index], job.inputs.channels), jnp.float32),
    )
    return index, copied(restore(leaves, like))


def _solution(image: Image, driven: Sequence[Drive], finite: np.ndarray, state: State | None) -> Solution:
    names = next((part.parts for part in driven if part.parts), {})

    def joined(values: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate(values, -1)

    return Solution(
        image=image,
        losses=joined([part.losses for part in driven]),
        parts={name: joined([part.parts[name] for part in driven if name in part.parts]) for name in names},
        num_steps=np.sum([part.num_steps for part in driven], 0),
        finite=finite,
        state=state,
    )
