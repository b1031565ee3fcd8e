"""What a run needs at each size: targets, and the program of its steps, which compiles in the background."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jnst.losses.objective import TransferArgs, transfer_loss
from jnst.solve.devices import platform_of
from jnst.solve.driver import Axes, lower_steps, start_runs
from jnst.solve.solver import Program, as_program
from jnst.transfer.inputs import Inputs
from jnst.transfer.plan import Job
from jnst.transfer.target_store import TargetStore
from jnst.types import Params

AXES: Axes = (0, TransferArgs(0, 0, None, 0))  # pyright: ignore[reportArgumentType] - a tree of axes
"""In a batch every run has its own solver, objective, targets and key; they share the network's parameters."""


class Compiling(NamedTuple):
    """What a run waits for before its first step at a size.

    Attributes:
        shape: Height and width at that size, in pixels.
        scale: The size, from 0.
        num_scales: How many sizes there are.
    """

    shape: tuple[int, int]
    scale: int
    num_scales: int


OnCompile = Callable[[Compiling], Any]
"""Called on the host before a run prepares a size, for whose program it may then wait."""

THREADS = "jnst-compile"
"""The names of threads in which programs compile begin with this."""


class Stage(NamedTuple):
    """Everything for the steps at one size.

    Attributes:
        program: The loss and the solver, stacked for a batch.
        inputs: Every job's images at this size.
        args: The arguments of the loss.
        compiled: Done when the program of the steps is compiled; None: it compiles when it is called.
    """

    program: Program
    inputs: Sequence[Inputs]
    args: TransferArgs
    compiled: Future[Any] | None


class Stages:
    """The stages of a run. While steps are made at one size, the program of the next one compiles.

    On accelerators all sizes compile at once: the steps of a size take less time there than its compilation.

    Args:
        jobs: Of one structure, each a run of the batch; a single one if not ``batched``.
        params: The network's parameters, prepared for the device.
        pool: Where programs compile; None: they compile when they are first called, as for arguments that are still to
            be placed on a mesh.
        store: Where targets are kept.
        batched: Whether arrays have an axis of runs.
        mesh: Devices that share the image of a single job.
        chunk: Steps between two callbacks.

    Attributes:
        seconds: How long the run has waited for targets, tracing and compilation.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        params: Params,
        pool: ThreadPoolExecutor | None,
        *,
        store: TargetStore,
        batched: bool,
        mesh: Mesh | None,
        chunk: int | None,
    ) -> None:
        self.seconds = 0.0
        self._jobs, self._params, self._pool, self._store = jobs, params, pool, store
        self._batched, self._mesh, self._chunk = batched, mesh, chunk
        self._ready: dict[int, Stage] = {}

    def enter(self, index: int, on_compile: OnCompile | None = None, *, makes_steps: bool = True) -> Stage:
        """Return a stage when its program is compiled.

        Args:
            index: The size, from 0.
            on_compile: See `OnCompile`.
            makes_steps: Whether there are steps to make at this size, which need a program.

        Raises:
            Exception: Whatever its compilation raised.
        """
        begun, scales = time.perf_counter(), self._jobs[0].plan.scales
        ahead = 1 if platform_of(self._params) == "cpu" else len(scales)
        known = self._ready.get(index)
        is_ready = known is not None and (known.compiled is None or known.compiled.done())
        if on_compile is not None and makes_steps and not is_ready:
            on_compile(Compiling(scales[index].shape, index, len(scales)))
        for later in range(index, min(index + ahead + 1, len(scales)) if self._pool else index + 1):
            if later not in self._ready:
                self._ready[later] = self._prepare(later, compiles=makes_steps or later > index)
        stage = self._ready.pop(index)
        if stage.compiled is not None:
            stage.compiled.result()
        self.seconds += time.perf_counter() - begun
        return stage

    def _prepare(self, index: int, *, compiles: bool) -> Stage:
        program = make_program(self._jobs, index, self._mesh, batched=self._batched)
        inputs, args = self._arguments(index)
        scale = self._jobs[0].plan.scales[index]
        # The state of a run whose arrays are committed to a device has a sharding that is not known yet.
        is_committed = any(getattr(leaf, "committed", False) for leaf in jax.tree.leaves((inputs, args)))
        # Programs for tiles are compiled when the first tile needs them.
        is_tiled = scale.tile is not None
        if self._pool is None or is_committed or is_tiled or not compiles or scale.num_steps == 0:
            return Stage(program, inputs, args, None)
        # Traced here, because JAX's configuration may differ from thread to thread.
        images = jax.ShapeDtypeStruct(
            (*[len(self._jobs)] * self._batched, *scale.shape, self._jobs[0].inputs.channels), jnp.float32
        )
        axes = AXES if self._batched else None
        state = jax.eval_shape(lambda program, images: start_runs(program, images, axes), program, images)
        lowered = lower_steps(program, state, args, axes=axes, chunk=self._chunk)
        return Stage(program, inputs, args, self._pool.submit(lowered.compile))

    def _arguments(self, index: int) -> tuple[Sequence[Inputs], TransferArgs]:
        """Every job's inputs at one size, and the arguments of the loss."""
        inputs, targets = zip(*(self._store.at(job, index, self._params) for job in self._jobs), strict=True)
        objectives = [job.plan.scales[index].objective for job in self._jobs]
        keys = [jax.random.fold_in(job.key, index) for job in self._jobs]
        if not self._batched:
            return inputs, TransferArgs(objectives[0], targets[0], self._params, keys[0])
        return inputs, TransferArgs(stack(objectives), stack(targets), self._params, jnp.stack(keys))


@contextmanager
def background(platform: str) -> Iterator[ThreadPoolExecutor]:
    """Threads in which programs compile; at the end, those that have not begun are given up."""
    pool = ThreadPoolExecutor(1 if platform == "cpu" else 8, thread_name_prefix=THREADS)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def is_compiling() -> bool:
    """Whether programs still compile in the background, for a run that has ended."""
    return any(thread.name.startswith(THREADS) and thread.is_alive() for thread in threading.enumerate())


def make_program(jobs: Sequence[Job], index: int, mesh: Mesh | None = None, *, batched: bool) -> Program:
    """The loss and the solver at one size, stacked for a batch."""
    plan = jobs[0].plan
    image = jax.ShapeDtypeStruct((*plan.scales[index].shape, plan.backbone.channels), jnp.float32)
    loss = transfer_loss(plan.backbone, mesh=mesh, tile=plan.scales[index].tile)
    programs = [as_program(loss, job.plan.scales[index].solver, image) for job in jobs]
    return stack(programs) if batched else programs[0]


def stack(trees: Sequence[Any]) -> Any:
    """Pytrees of one structure as one, whose leaves have a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
