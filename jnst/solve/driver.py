"""The host's side of a run: chunks of steps, between which callbacks look at it, show it and save it."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jnst.errors import ArgumentError
from jnst.solve.compilation import Jit
from jnst.solve.devices import platform_of
from jnst.solve.loops import loop_steps
from jnst.solve.solver import Program, Record, State, advance, start, update

CHUNK = 25
"""The most steps of one program on accelerators, unless a caller asks for more."""
CHUNK_SECONDS = 1.0
"""Chunks become shorter where they would take longer: a run can be shown, saved and ended only between two chunks."""

Axes: TypeAlias = tuple[int | None, Any]
"""For batches: the axis of the program's numbers (0 if every run has its own, None if they share them), and the
axes of the loss's arguments, as `jax.vmap` takes them."""

Callback: TypeAlias = Callable[[int, np.ndarray, dict[str, np.ndarray], State], Any]
"""``callback(first, losses, parts, state)``: the number of the chunk's first step, from 1, what its steps evaluated,
and the state after it, which is valid during the call only. Returns what ends: True for all, or one value per run."""


class Drive(NamedTuple):
    """The end of a run, or of a batch of runs.

    Attributes:
        state: The last state.
        losses: The total at each step of this call, ``(..., n)``; NaN after the end of a run that ended early.
        parts: Its parts by name, likewise.
        num_steps: ``(...)``: the number of steps made in this call.
        failed: ``(...)``: whether the loss or the image stopped being finite in this call.
        running: ``(...)``: False for runs that failed, now or before, or were ended by a callback.
    """

    state: State
    losses: np.ndarray
    parts: dict[str, np.ndarray]
    num_steps: np.ndarray
    failed: np.ndarray
    running: np.ndarray


def start_runs(program: Program, images: Any, axes: Axes | None = None) -> State:
    """Compile and run `jnst.solve.init`; with ``axes``, for a batch of images."""
    return _start(program, images, axes=axes)


@partial(Jit, static_argnames="axes")
def _start(program: Program, images: Any, *, axes: Axes | None) -> State:
    def one(program: Program, image: Any) -> State:
        # Copies, because Optax repeats one array in its states, and a buffer can be donated only once.
        return jax.tree.map(jnp.copy, start(program.solver, image))

    return one(program, images) if axes is None else jax.vmap(one, in_axes=(axes[0], 0))(program, images)


@partial(Jit, static_argnames=("room", "axes", "mesh"), donate_argnames="state")
def _make_steps(
    state: State, program: Program, args: Any, count: Any, *, room: int, axes: Axes | None, mesh: Mesh | None
) -> tuple[State, Record]:
    """Make one step (``room`` 0), or ``count`` of them in a loop with room for so many records."""

    def run(state: State, program: Program, args: Any) -> tuple[State, Record]:
        step = partial(advance, program, args=args)
        if room:
            return loop_steps(step, state, count, room)
        state, record = step(state)
        return state, jax.tree.map(lambda leaf: leaf[None], record)

    if axes is None:
        return run(state, program, args)
    batched = partial(_batched, run, axes=axes)
    if mesh is None:
        return batched(state, program, args)
    own = PartitionSpec(mesh.axis_names)
    program_spec, arg_specs = (
        jax.tree.map(lambda axis: PartitionSpec() if axis is None else own, part, is_leaf=_is_axis) for part in axes
    )
    divided = jax.shard_map(batched, mesh=mesh, in_specs=(own, program_spec, arg_specs), out_specs=own, check_vma=False)
    return divided(state, program, args)


def evaluates_on_host(program: Program, tree: Any) -> bool:
    """Whether the loss of a run is evaluated by several programs, see `jnst.solve.solver.Loss`."""
    return getattr(program.loss, "on_host", None) is not None and platform_of(tree) == "cpu"


def step_on_host(state: State, program: Program, args: Any, *, in_place: bool = False) -> tuple[State, Record]:
    """One step whose loss `evaluates_on_host`. In place, it reuses the buffers of ``state``."""
    loss: Any = program.loss
    finish = _update_in_place if in_place else _update
    return finish(state, program, args, *loss.on_host(state.image, args, state.step))


def _make_steps_on_host(
    state: State, program: Program, args: Any, count: Any, *, room: int, **static: Any
) -> tuple[State, Record]:
    """`_make_steps` by `step_on_host`."""
    records = []
    for _ in range(int(count) if room else 1):
        state, record = step_on_host(state, program, args, in_place=True)
        records.append(record)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *records)


def _finish(state: State, program: Program, args: Any, value: Record, gradient: Any) -> tuple[State, Record]:
    return update(program, state, args, value, gradient)


_update, _update_in_place = Jit(_finish), Jit(_finish, donate_argnames="state")


def _is_axis(value: Any) -> bool:
    return value is None or isinstance(value, int)


def _batched(run: Any, state: State, program: Program, args: Any, *, axes: Axes) -> tuple[State, Record]:
    """``run`` for a batch; a single run without its axis, which would make a slower program."""
    if state.step.shape[0] > 1:
        return jax.vmap(run, in_axes=(0, *axes))(state, program, args)

    def first(tree: Any, axis: Any) -> Any:
        return tree if axis is None else jax.tree.map(lambda leaf: leaf[0], tree)

    own = jax.tree.map(lambda axis, part: first(part, axis), axes[1], args, is_leaf=_is_axis)
    return jax.tree.map(lambda leaf: leaf[None], run(first(state, 0), first(program, axes[0]), own))


@Jit
def copied(tree: Any) -> Any:
    """Copies of all arrays of a pytree, for a `drive` that must leave the original valid."""
    return jax.tree.map(jnp.copy, tree)


def drive(
    program: Program,
    state: State,
    args: Any,
    *,
    last_step: int,
    axes: Axes | None = None,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    callback: Callback | None = None,
) -> Drive:
    """Make steps until ``state.step`` is ``last_step``, in one run or in every run of a batch.

    Args:
        program: From `as_program`; for a batch with ``axes``, its numbers have a leading axis.
        state: From `start_runs`, or a copy of the state of an earlier run: continuing equals never having stopped. Its
            buffers are reused, so it is no longer valid afterwards.
        args: The loss's arguments.
        last_step: The number of the last step.
        axes: None for a single run; for a batch see `Axes`.
        mesh: Devices among which the runs of a batch are divided evenly.
        chunk: Steps between two callbacks; None chooses by device and by the time that steps take.
        callback: Called after every chunk in which a run is still going.

    Raises:
        ArgumentError: A negative number of steps, or a chunk below 1.
    """
    if last_step < 0 or (chunk is not None and chunk < 1):
        raise ArgumentError(f"num_steps {last_step}, chunk {chunk}: expected num_steps >= 0 and chunk >= 1")
    room = _room(state, chunk)
    static = {"room": room, "axes": axes, "mesh": mesh}
    arguments = (program, jax.tree.map(as_array, args))
    # Found once, because looking a program up takes longer than dispatching it.
    is_hosted = axes is None and evaluates_on_host(program, state)
    compiled = _make_steps_on_host if is_hosted else _make_steps.program(state, *arguments, np.int32(0), **static)
    length = room or 1
    running, updates = jax.device_get((state.running, state.step))
    before = done = int(updates.max())
    ended, failed = np.where(running, max(last_step, before), before), np.zeros_like(running)
    records = list[tuple[np.ndarray, dict[str, np.ndarray]]]()
    while done < last_step and running.any():
        begun, count = time.perf_counter(), min(length, last_step - done)
        state, record = compiled(state, *arguments, np.int32(count), **static)
        (losses, parts), still, updates = jax.device_get((record, state.running, state.step))
        losses, parts = losses[..., :count], {name: values[..., :count] for name, values in parts.items()}
        records.append((losses, parts))
        failed, ended, running = failed | (running & ~still), np.where(running & ~still, updates + 1, ended), still
        if chunk is None and room and len(records) > 1:  # the first chunk's time includes its compilation
            length = max(1, min(room, int(count * CHUNK_SECONDS / (time.perf_counter() - begun))))
        if callback is not None and running.any():
            stops = ends_of(callback(done + 1, losses, parts, state), running.shape) & running
            if stops.any():
                running, ended = running & ~stops, np.where(stops, done + count, ended)
                state = _freeze(state, running) if running.any() else state
        done += count
    made = np.minimum(ended, done) - before
    return Drive(state, *_joined(records, running.shape), made, failed, running)


def lower_steps(program: Program, state: Any, args: Any, *, axes: Axes | None = None, chunk: int | None = None) -> Any:
    """Lower the program that `drive` would use, for its memory analysis; arguments may be `jax.ShapeDtypeStruct`."""
    return _make_steps.lower(state, program, args, np.int32(0), room=_room(args, chunk), axes=axes, mesh=None)


def as_array(leaf: Any) -> Any:
    """Numbers as arrays, of which only dtypes and shapes matter to a program."""
    return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)


def _room(tree: Any, chunk: int | None) -> int:
    """How many records a program keeps, and so the most steps it makes; 0 for a single step without a loop.

    On CPUs steps are dispatched one by one: XLA runs convolutions inside loops on a single thread there.
    """
    length = chunk or (1 if platform_of(tree) == "cpu" else CHUNK)
    return 0 if length == 1 else length


def _freeze(state: State, running: np.ndarray) -> State:
    """Let only some runs go on: the images of the others no longer change."""
    return dataclasses.replace(state, running=jax.device_put(running, state.running.sharding))


def ends_of(answer: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Which runs a callback's answer ends.

    Raises:
        ArgumentError: It is neither one value for all runs nor one for each.
    """
    ends = np.asarray(False if answer is None else answer, bool)
    if ends.shape not in ((), shape):
        raise ArgumentError(
            f"the callback returned {ends.size} values for {shape[0] if shape else 1} runs: "
            "expected one for all, or one each"
        )
    return np.broadcast_to(ends, shape)


def _joined(records: Sequence[Any], batch: tuple[int, ...]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Join what the chunks recorded along the axis of steps."""
    if not records:
        return np.zeros((*batch, 0), np.float32), {}
    losses, parts = zip(*records, strict=True)
    return np.concatenate(losses, -1), {name: np.concatenate([part[name] for part in parts], -1) for name in parts[0]}
