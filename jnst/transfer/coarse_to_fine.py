"""A run from its smallest image to its full size."""

import dataclasses
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jnst.apps.checkpoint import SavedState, fitted, leaves_of
from jnst.errors import ArgumentError, NumericsError
from jnst.images import resample, resize, size_of
from jnst.solve import devices as parallel
from jnst.solve import run as optimize
from jnst.solve.optimizers import Settings, rate_of, with_rate
from jnst.solve.run import RunState
from jnst.transfer import memory
from jnst.transfer.fitting import TargetStore
from jnst.transfer.inputs import INITS, Inputs
from jnst.transfer.plan import Job, Plan, Scale, divided
from jnst.types import Array, Image, Params


@dataclasses.dataclass(frozen=True)
class Finished:
    """An image and how it came about.

    Attributes:
        image: The image, ``(h, w, 3)`` float32 in [0, 1].
        losses: The total at every step of this call, ``(n,)``; step 1 is the start image's.
        parts: Its weighted parts by name (``content/LAYER``, ``style/LAYER``, ``tv``), each ``(n,)``.
    """

    image: Image
    losses: np.ndarray
    parts: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Solution(Finished):
    """What `jnst.transfer.stylize`, `jnst.synthesize` and `jnst.reconstruct` return: an image, its losses, and the state.

    Attributes:
        state: Hand it to the same function to go on; `jnst.save_state` keeps it in a file.
    """

    state: RunState


@memory.reported
def carry_out(
    job: Job,
    params: Params,
    *,
    store: TargetStore | None = None,
    state: RunState | SavedState | None = None,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    callback: optimize.Callback | None = None,
) -> Solution:
    """Minimise at every size, each from the result of the one before; with ``mesh``, the rows divided among devices.

    Raises:
        ArgumentError: ``state`` is another run's.
        NumericsError: The loss stopped being finite; its ``result`` is the `Solution` with the last finite image.
    """
    begun, plan = time.perf_counter(), job.plan if mesh is None else divided(job.plan, mesh)
    place = (lambda tree: tree) if mesh is None else partial(parallel.split_images, mesh=mesh)
    # Rows divided among devices need XLA's own convolution, which knows how to exchange their borders.
    params = plan.backbone.lay_out(params) if mesh is None else place(params)
    store = store or TargetStore(limit=0, place=place)
    if mesh is None:
        memory.check(job, params, chunk=chunk)
    first, current = (0, None) if state is None else _position(state, plan)
    records: list[optimize.Result] = []
    index = first
    for index in range(first, len(plan.scales)):
        scale, (small, targets) = plan.scales[index], store.at(job, index, params)
        if current is None:
            current = with_rate_of(scale, job, optimize.start(initial(job, small), scale.method))
        elif current.image.shape[:2] != scale.shape:
            current = with_rate_of(scale, job, enlarged(plan, index, current))
        noise_key = jax.random.fold_in(job.key, index)
        try:
            result = optimize.minimise(
                scale.method,
                place(current),
                place((scale.objective, targets, params, noise_key)),
                num_steps=scale.num_steps,
                chunk=chunk,
                callback=_in_whole_run(callback, plan, index, begun),
            )
        except NumericsError as error:
            error.result = _solution(job, [*records, error.result], index)
            raise
        records.append(result)
        current = result.state
        if result.stopped:
            break
    return _solution(job, records, index)


def _in_whole_run(callback: optimize.Callback | None, plan: Plan, index: int, begun: float) -> optimize.Callback | None:
    """Let the callback count steps and seconds through all sizes."""
    if callback is None:
        return None
    steps = [scale.num_steps for scale in plan.scales]
    before, total = sum(steps[:index]), sum(steps)

    def report(part: optimize.Report) -> bool | None:
        seconds = time.perf_counter() - begun
        whole = part._replace(first=before + part.first, num_steps=total, seconds=seconds, scale=index)
        return callback(whole)

    return report


def _position(state: RunState | SavedState, plan: Plan) -> tuple[int, optimize.State]:
    """The size at which a state stands, and the state there, if they are of this plan."""
    leaves = leaves_of(state)
    scale, image = leaves.get(".scale"), leaves.get(".run.image")
    if scale is None or image is None or scale.shape or image.ndim != 3:
        raise ArgumentError("`state` is not that of a run: expected `Solution.state`, or what `jnst.load_state` returns")
    index, shape = int(scale), image.shape[:2]
    shapes = [scale.shape for scale in plan.scales]
    if not 0 <= index < len(shapes) or shape != shapes[index]:
        raise ArgumentError(
            f"`state` holds an image of {shape} at size {index + 1} of its pyramid, but this run has the sizes "
            f"{shapes}: continue with the same images and settings"
        )
    image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    run = jax.eval_shape(partial(optimize.start, method=plan.scales[index].method), image)
    return index, fitted(leaves, RunState(jnp.int32(index), run)).run


def initial(job: Job, images: Inputs) -> Image:
    """The start, given the images at the first size."""
    shape, settings = job.plan.scales[0].shape, job.plan.settings
    if job.init is not None:
        return resize(job.init, shape, settings.resample)
    return INITS[settings.init](job.key, images, shape, settings.noise_std)


def with_rate_of(scale: Scale, job: Job, state: optimize.State) -> optimize.State:
    """The state with the scale's learning rate, where that is a number in it (`jnst.solve.optimizers.build_with_rate`)."""
    if not isinstance(scale.optimizer, Settings):
        return state
    rate = jnp.float32(rate_of(scale.optimizer, job.plan.settings.unit))
    return dataclasses.replace(state, optimizer=with_rate(state.optimizer, rate))


def enlarged(plan: Plan, index: int, state: optimize.State) -> optimize.State:
    """The state before the first step at the next size."""
    scale, before = plan.scales[index], plan.scales[index - 1]
    image = optimize.image(state, before.method) if plan.settings.carry_average else state.image
    fresh = optimize.start(resize(image, scale.shape, plan.settings.enlarge), scale.method)
    pairs = zip(jax.tree.leaves(state.optimizer), jax.tree.leaves(fresh.optimizer), strict=True)
    # L-BFGS's pairs and the levels of a pyramid have no place in a larger image, and half a state misleads the rest.
    if not plan.settings.carry_optimizer or any(old.shape not in (state.image.shape, new.shape) for old, new in pairs):
        return fresh
    carry = partial(_carried, old_shape=state.image.shape, method=plan.settings.enlarge)
    carried = jax.tree.map(carry, state.optimizer, fresh.optimizer)
    return dataclasses.replace(fresh, optimizer=carried)


def _carried(old: Array, fresh: Array, old_shape: tuple[int, ...], method: str) -> Array:
    """Moments of the image are resized with it (those that cannot be negative stay so), counts are kept."""
    if old.shape != old_shape:
        return old
    resized = resample(old, size_of(fresh), method)
    return jnp.where(jnp.min(old) >= 0, jnp.maximum(resized, 0.0), resized)


def _solution(job: Job, records: list[optimize.Result], index: int) -> Solution:
    last = records[-1].state
    with_steps = [record for record in records if record.parts]
    names = with_steps[0].parts if with_steps else ()
    return Solution(
        image=job.finish(optimize.shown(last, job.plan.scales[index].method)),
        losses=np.concatenate([record.total for record in records]),
        parts={name: np.concatenate([record.parts[name] for record in with_steps]) for name in names},
        state=RunState(jnp.int32(index), last),
    )
