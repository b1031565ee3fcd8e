"""Minimise a loss over an image with any Optax transformation. Nothing here knows what style is.

A step evaluates the loss and its gradient at the current image, updates the image, and records what it
evaluated: step n records the n-th evaluation, before its update.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jnst.errors import ArgumentError, NumericsError
from jnst.solve.compilation import DeviceJit
from jnst.transfer.pace import Pace
from jnst.types import Array, Image


class Loss(Protocol):
    """What is minimised: hashable, so that equal losses share one compiled program."""

    def __call__(self, image: Image, args: Any, step: Array) -> tuple[Array, dict[str, Array]]:
        """Return the total, a scalar, and its parts by name; ``step`` counts the updates made, for what is random."""
        ...


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["image", "optimizer", "step", "finite", "average", "best"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class State:
    """Everything that a run needs to go on exactly as if it had never stopped.

    Attributes:
        image: The image after ``step`` updates, ``(h, w, 3)``.
        optimizer: The Optax transformation's state.
        step: The number of updates made, an int32 scalar.
        finite: False once a loss or an update was not finite; the image is the last finite one then, and stays so.
        average: The running sum of `Method.average`, None without averaging.
        best: The lowest total seen and its image, None unless `Method.keep_best`.
    """

    image: Image
    optimizer: Any
    step: Array
    finite: Array
    average: Image | None = None
    best: tuple[Array, Image] | None = None


@partial(jax.tree_util.register_dataclass, data_fields=["scale", "run"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class RunState:
    """Where a run of several sizes stands: which size it is at, 0 for the first, and the state there."""

    scale: Array
    run: State


@dataclasses.dataclass(frozen=True)
class Method:
    """How a step is made: static, hashable.

    Attributes:
        loss: ``loss(image, args, step) -> (total, parts)``.
        optimizer: Any Optax transformation; line searches get ``value``, ``grad`` and ``value_fn``.
        bounds: The image is clipped to this range after every update; None for no clipping.
        average: The decay of an exponential average of iterates in [0, 1); 0 for none.
        keep_best: Whether the image with the lowest total is kept.
    """

    loss: Loss
    optimizer: optax.GradientTransformation
    bounds: tuple[float, float] | None = None
    average: float = 0.0
    keep_best: bool = False


class Report(NamedTuple):
    """What a callback gets between two chunks.

    Attributes:
        first: The number of the chunk's first step, from 1.
        num_steps: How many steps the run has in all.
        total: The total at each step of the chunk, ``(n,)``.
        parts: Its parts, each ``(n,)``.
        seconds: Wall time since the run began, compilation included, at the end of the chunk.
        state: The state after the chunk; its arrays are valid during the callback only.
        method: How steps are made.
        scale: Which size the run is at, 0 for the first.
    """

    first: int
    num_steps: int
    total: np.ndarray
    parts: dict[str, np.ndarray]
    seconds: float
    state: State
    method: Method
    scale: int = 0

    @property
    def run_state(self) -> RunState:
        """What a run can go on from; valid during the callback only, where `jnst.save_state` can save it."""
        return RunState(jnp.int32(self.scale), self.state)

    @property
    def image(self) -> Image:
        """The image as it stands, perhaps outside [0, 1]: a copy, valid also after the callback."""
        return jnp.copy(image(self.state, self.method))


Callback = Callable[[Report], bool | None]
"""Called between chunks, never under `jax.jit`; returning True ends the run."""


class Result(NamedTuple):
    """The end of a run: its state, what each step evaluated (``(n,)`` arrays), whether a callback ended it."""

    state: State
    total: np.ndarray
    parts: dict[str, np.ndarray]
    stopped: bool = False


@partial(DeviceJit, static_argnames="method")
def start(image: Image, method: Method) -> State:
    """The state before the first step."""
    state = State(
        image=image,
        optimizer=method.optimizer.init(image),
        step=jnp.int32(0),
        finite=jnp.asarray(True),
        average=jnp.zeros_like(image) if method.average else None,
        best=(jnp.float32(jnp.inf), image) if method.keep_best else None,
    )
    # Copies, because Optax repeats one array in its states and a buffer can be donated only once.
    return _copies(state)


def _copies(tree: Any) -> Any:
    return jax.tree.map(jnp.copy, tree)


copied = DeviceJit(_copies)
"""Copies of all arrays of a tree, by one program."""


def step(state: State, args: Any, method: Method) -> tuple[State, tuple[Array, dict[str, Array]]]:
    """Make one step; pure, to be compiled, scanned or vectorised."""
    (total, parts), gradient = jax.value_and_grad(method.loss, has_aux=True)(state.image, args, state.step)
    updates, optimizer = optax.with_extra_args_support(method.optimizer).update(
        gradient,
        state.optimizer,
        state.image,
        value=total,
        grad=gradient,
        value_fn=lambda image: method.loss(image, args, state.step)[0],
    )
    image: Array = optax.apply_updates(state.image, updates)  # pyright: ignore[reportAssignmentType]
    if method.bounds is not None:
        image = jnp.clip(image, *method.bounds)
    finite = state.finite & jnp.isfinite(total) & jnp.isfinite(image).all()
    image = jnp.where(finite, image, state.image)
    return State(
        image=image,
        optimizer=optimizer,
        step=state.step + finite,
        finite=finite,
        average=_accumulate(state.average, image, finite, method.average),
        best=_better(state.best, total, state.image),
    ), (total, parts)


def _accumulate(average: Array | None, image: Array, finite: Array, decay: float) -> Array | None:
    return None if average is None else jnp.where(finite, decay * average + (1 - decay) * image, average)


def _better(best: tuple[Array, Array] | None, total: Array, image: Array) -> tuple[Array, Array] | None:
    if best is None:
        return None
    better = total < best[0]
    return jnp.where(better, total, best[0]), jnp.where(better, image, best[1])


def image(state: State, method: Method) -> Image:
    """The image that a run is for: the best, the (debiased) average, or the last one."""
    if state.best is not None:
        return state.best[1]
    if state.average is not None:
        # 1 - decay^n, without cancellation where the decay is close to 1.
        weight = -jnp.expm1(state.step * math.log(method.average))
        return jnp.where(state.step > 0, state.average / jnp.maximum(weight, 1e-12), state.image)
    return state.image


@partial(DeviceJit, static_argnames="method")
def shown(state: State, method: Method) -> Image:
    """`image`, clipped to [0, 1]."""
    return jnp.clip(image(state, method), 0.0, 1.0)


def steps(state: State, args: Any, method: Method, length: int) -> tuple[State, tuple[Array, dict[str, Array]]]:
    """Make ``length`` steps; pure. Records have a leading axis of that length."""
    if length == 1:
        state, record = step(state, args, method)
        return state, jax.tree.map(lambda value: value[None], record)
    return lax.scan(lambda state, _: step(state, args, method), state, length=length)


advance = DeviceJit(steps, static_argnames=("method", "length"), donate_argnames="state")
"""`steps` as one compiled program, which takes the state's buffers."""


def minimise(
    method: Method,
    state: State,
    args: Any,
    *,
    num_steps: int,
    chunk: int | None = None,
    callback: Callback | None = None,
) -> Result:
    """Run until ``state.step`` is ``num_steps``.

    Args:
        method: How steps are made.
        state: From `start`, or from an earlier run: continuing equals never having stopped. It is left as it is.
        args: A pytree handed to the loss.
        num_steps: The number of the last step; a state that is there already makes none.
        chunk: Steps in one compiled program; None chooses by device.
        callback: Called after every chunk.

    Raises:
        ArgumentError: A negative number of steps, or a chunk below 1.
        NumericsError: The loss or the image stopped being finite. Its ``result`` ends with the last finite image.
    """
    if num_steps < 0 or (chunk is not None and chunk < 1):
        raise ArgumentError(f"num_steps {num_steps}, chunk {chunk}: expected num_steps >= 0 and chunk >= 1")
    pace = Pace(state.image, chunk)
    begun, before = time.perf_counter(), int(state.step)
    done = before
    state = copied(state)
    records: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
    stopped = False
    while done < num_steps and not stopped:
        length, since = min(pace.length, num_steps - done), time.perf_counter()
        state, record = advance(state, args, method, length)
        total, parts = jax.device_get(record)
        pace.took(length, time.perf_counter() - since)
        records.append((total, parts))
        if not bool(state.finite):
            raise not_finite(join(state, records), before)
        seconds = time.perf_counter() - begun
        stopped = bool(callback and callback(Report(done + 1, num_steps, total, parts, seconds, state, method)))
        done += length
    return join(state, records, stopped)


def join(state: State, records: list[tuple[np.ndarray, dict[str, np.ndarray]]], stopped: bool = False) -> Result:
    """The result of a run from what its chunks recorded, steps along the last axis."""
    if not records:
        return Result(state, np.zeros((*state.step.shape, 0), np.float32), {}, stopped)
    totals, parts = zip(*records, strict=True)
    joined = {name: np.concatenate([part[name] for part in parts], -1) for name in parts[0]}
    return Result(state, np.concatenate(totals, -1), joined, stopped)


def not_finite(result: Result, before: int) -> NumericsError:
    """The error of a run that met a number that is not finite; its ``result`` is cut there.

    Args:
        result: The run up to there, or further: a chunk goes on, without effect, with the last finite image.
        before: The updates made before the first step that ``result`` recorded.
    """
    at = int(result.state.step) - before
    terms = [name for name, values in result.parts.items() if not np.isfinite(values[at])]
    what = f"term {', '.join(terms)}" if terms else "the image" if np.isfinite(result.total[at]) else "the total"
    error = NumericsError(
        f"{what} stopped being finite at step {before + at + 1}: lower the learning rate or the weights "
        "(the last finite image is kept)"
    )
    parts = {name: values[: at + 1] for name, values in result.parts.items()}
    error.result = result._replace(total=result.total[: at + 1], parts=parts)
    return error
