"""Minimise losses over many images in one program: each lane has its own loss, optimiser state and end.

Where a lane stands, and what stands beside it, changes nothing in it: no operation crosses lanes.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jnst.errors import ArgumentError, NumericsError
from jnst.solve import run as optimize
from jnst.solve.compilation import DeviceJit
from jnst.solve.run import Method, Result, State
from jnst.transfer.pace import Pace
from jnst.types import Array, Image

Axes = tuple[int | None, ...]
"""For each element of a loss' arguments: 0 if every lane has its own, None if all share it."""


class Report(NamedTuple):
    """What a callback gets between two chunks of a batch; arrays have a leading axis of lanes.

    Attributes:
        lanes: The numbers of the lanes.
        first: The number of the chunk's first step, from 1.
        num_steps: How many steps the run has in all.
        total: The total at each step of the chunk, ``(lanes, n)``.
        parts: Its parts, each ``(lanes, n)``.
        seconds: Wall time since these lanes began, compilation included, at the end of the chunk.
        images: Returns the images, see `image`; to be called during the callback only.
    """

    lanes: tuple[int, ...]
    first: int
    num_steps: int
    total: np.ndarray
    parts: dict[str, np.ndarray]
    seconds: float
    images: Callable[[], Image]

    @property
    def image(self) -> Image:
        """Copies of the images as they stand, ``(lanes, h, w, 3)``, perhaps outside [0, 1]."""
        return self.images()


Callback = Callable[[Report], bool | Sequence[bool] | np.ndarray | None]
"""Called between chunks; True ends the run, a sequence with a value for each lane ends those where it is True."""

Early = Result | NumericsError
"""How a lane ended before the last step: stopped, or not finite."""


class Lanes(NamedTuple):
    """The end of a run: states, and what each step evaluated (``(lanes, n)`` arrays).

    Of the lanes in ``early`` it holds only where they ended; their states and records here mean nothing.
    """

    state: State
    total: np.ndarray
    parts: dict[str, np.ndarray]
    early: dict[int, Early]


def stack(trees: Sequence[Any]) -> Any:
    """Trees of one structure as one, whose leaves have a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def lane(tree: Any, index: int) -> Any:
    """One of `stack`'s trees."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


@partial(DeviceJit, static_argnames="method")
def start(images: Image, method: Method) -> State:
    """The states before the first step of images ``(lanes, h, w, 3)``."""
    return jax.vmap(partial(optimize.start, method=method))(images)


@partial(DeviceJit, static_argnames=("method", "length", "axes", "mesh"), donate_argnames="state")
def advance(
    state: State, args: tuple[Any, ...], method: Method, length: int, axes: Axes, mesh: Mesh | None = None
) -> tuple[State, tuple[Array, dict[str, Array]]]:
    """Make ``length`` steps of every lane in one compiled program; records are ``(lanes, length)``.

    Args:
        state: With a leading axis of lanes; its buffers are taken.
        args: The loss' arguments.
        method: How steps are made.
        length: The number of steps.
        axes: Which of ``args`` have an axis of lanes.
        mesh: The devices among which the lanes are divided, evenly; None: all on one.
    """
    run = partial(_local, axes=axes, function=partial(optimize.steps, method=method, length=length))
    if mesh is None:
        return run(state, args)
    own = PartitionSpec(mesh.axis_names)
    specs = tuple(PartitionSpec() if axis is None else own for axis in axes)
    return jax.shard_map(run, mesh=mesh, in_specs=(own, specs), out_specs=own, check_vma=False)(state, args)


def _local(state: State, args: tuple[Any, ...], axes: Axes, function: Callable[[State, Any], Any]) -> Any:
    """The lanes of one device; one alone without an axis, which would make another program of it."""
    if state.step.shape[0] > 1:
        return jax.vmap(function, in_axes=(0, axes))(state, args)
    only = tuple(arg if axis is None else lane(arg, 0) for arg, axis in zip(args, axes, strict=True))
    return jax.tree.map(lambda leaf: leaf[None], function(lane(state, 0), only))


def minimise(
    method: Method,
    state: State,
    args: tuple[Any, ...],
    axes: Axes,
    *,
    num_steps: int,
    chunk: int | None = None,
    mesh: Mesh | None = None,
    callback: Callable[[int, np.ndarray, dict[str, np.ndarray], State], Sequence[bool] | np.ndarray] | None = None,
    early: Sequence[int] = (),
) -> Lanes:
    """Make ``num_steps`` steps of every lane.

    Args:
        method: How steps are made.
        state: From `start`; its buffers are taken.
        args: The loss' arguments.
        axes: Which of ``args`` have an axis of lanes.
        num_steps: How many.
        chunk: Steps in one compiled program; None chooses by device.
        mesh: See `advance`.
        callback: Called after every chunk with its first step, totals, parts and states; returns for each lane
            whether it ends.
        early: Lanes that have ended before; they are carried along for their place.

    Raises:
        ArgumentError: A chunk below 1.
    """
    if chunk is not None and chunk < 1:
        raise ArgumentError(f"chunk {chunk}: expected at least 1")
    count, pace = state.step.shape[0], Pace(state.image, chunk)
    records: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
    ended: dict[int, Early] = {}
    done, over = 0, set(early)
    while done < num_steps and len(over) < count:
        length, since = min(pace.length, num_steps - done), time.perf_counter()
        state, record = advance(state, args, method, length, axes, mesh)
        total, parts = jax.device_get(record)
        pace.took(length, time.perf_counter() - since)
        records.append((total, parts))
        stopped = np.zeros(count, bool) if callback is None else callback(done + 1, total, parts, state)
        finite = np.asarray(state.finite)
        for index in sorted(set(range(count)) - over):
            if not finite[index] or stopped[index]:
                result = _result(index, state, records, bool(finite[index]))
                ended[index] = result if finite[index] else optimize.not_finite(result, 0)
                over.add(index)
        done += length
    whole = optimize.join(state, records)
    return Lanes(state, whole.total, whole.parts, ended)


def _result(index: int, state: State, records: list[tuple[np.ndarray, dict[str, np.ndarray]]], stopped: bool) -> Result:
    own = [(total[index], {name: values[index] for name, values in parts.items()}) for total, parts in records]
    return optimize.join(jax.tree.map(jnp.copy, lane(state, index)), own, stopped)
