"""The optimisation run as a function: `init`, `step` and `run` work under `jit`, `vmap`, `grad` and `scan`."""

import dataclasses
import operator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnst.errors import ArgumentError
from jnst.solve.closures import split
from jnst.solve.compilation import Jit, is_traced, on_host
from jnst.solve.driver import as_array, copied, drive, evaluates_on_host, start_runs, step_on_host
from jnst.solve.loops import loop_steps, scan_steps
from jnst.solve.optimizers import Optimizer
from jnst.solve.solver import Loss, Program, Record, Solver, State, advance, as_program, result
from jnst.types import Array

MAX_STEPS = 1024
"""How many losses a run with a traced number of steps records, unless told otherwise."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["image", "losses", "parts", "num_steps", "finite", "state", "fell", "diverged"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class Solution:
    """The end of a run, or of a batch of runs: a pytree. ``...`` stands for the axes of a batch, none for a single run.

    Attributes:
        image: The result, ``(..., h, w, 3)``, or whatever pytree was optimised.
        losses: The total at every step, ``(..., n)``. Step n records the n-th evaluation, before its update, so the
            first loss is the initial image's. NaN after the end of a run that ended early.
        parts: The weighted parts of the total by name (``content/LAYER``, ``style/LAYER``, ``tv``), likewise.
        num_steps: ``(...)``: how many steps were made. All losses after them are NaN.
        finite: ``(...)``: False for runs whose loss or image stopped being finite; their image is the last finite one.
        state: The state from which a run continues; None from `jnst.stylize_batch` and its relatives.
        fell: ``(...)``: False for runs whose loss ended no lower than it began, at any size. None from `run`.
        diverged: ``(...)``: True for runs whose loss climbed again at the last size, above its first value or far above
            its lowest one; their image is the one with the lowest loss. None from `run`.
    """

    image: Any
    losses: Any
    parts: dict[str, Any]
    num_steps: Any
    finite: Any
    state: State | None = None
    fell: Any = None
    diverged: Any = None

    def error(self, *index: int) -> str | None:
        """What went wrong in a run, or None if everything stayed finite.

        Args:
            *index: The place of the run in a batch.
        """
        if np.asarray(self.finite)[index]:
            return None
        made = int(np.asarray(self.num_steps)[index])
        if made == 0:
            return "this state comes from a run that already failed: start from another one"
        losses = np.asarray(self.losses)[index]
        last = min(made, len(losses)) - 1  # a traced run may have made more steps than it recorded
        terms = [name for name, values in self.parts.items() if not np.isfinite(np.asarray(values)[index][last])]
        what = f"term {', '.join(terms)}" if terms else "the image" if np.isfinite(losses[last]) else "the total"
        return (
            f"{what} stopped being finite at step {made}: lower the learning rate or the weights "
            "(the last finite image is kept)"
        )

    def warning(self, *index: int) -> str | None:
        """What is wrong with a run although everything stayed finite, or None if the loss fell as it should.

        Args:
            *index: The place of the run in a batch.
        """
        losses = np.asarray(self.losses)[index]
        losses = losses[np.isfinite(losses)]
        if self.diverged is not None and np.asarray(self.diverged)[index]:
            return (
                f"the loss climbed to {losses[-1]:.3g} at the end: lower the learning rate (the image with the lowest "
                "loss is kept)"
            )
        if self.fell is not None and not np.asarray(self.fell)[index]:
            return (
                f"the loss has not fallen, from {losses[0]:.5g} to {losses[-1]:.5g}: change the learning rate, make "
                "more steps, or start from another image"
            )
        return None


@on_host
def init(loss: Loss, solver: Solver | Optimizer, image: Any) -> State:
    """Return the state before the first step.

    Args:
        loss: ``loss(image, args, step) -> (total, parts)``, see `jnst.transfer_loss`. Not evaluated here.
        solver: A `Solver`, one of its optimisers such as `jnst.solve.LBFGS`, or any `optax.GradientTransformation`.
        image: ``(h, w, 3)``, or any pytree of floating-point arrays that the optimiser accepts.

    Raises:
        ArgumentError: The solver cannot be used.
    """
    return start_runs(as_program(loss, solver, image), image)


@on_host
def step(loss: Loss, solver: Solver | Optimizer, state: State, args: Any = None) -> tuple[State, Record]:
    """Evaluate the loss and its gradient once, and update the image once.

    Args:
        loss: As in `init`, like ``solver``.
        solver: See `init`.
        state: From `init` or an earlier step. It stays valid.
        args: A pytree handed to the loss: for `jnst.transfer_loss`, ``(objective, targets, params)``.

    Returns:
        The next state, and what was evaluated before the update: the total and its parts by name.

    Raises:
        ArgumentError: The solver cannot be used.
    """
    program, args = as_program(loss, solver, state.image), jax.tree.map(as_array, args)
    if is_traced((program, state, args)) or closes_over_tracers(loss):
        return jax.jit(partial(advance, program))(state, args)
    return step_on_host(state, program, args) if evaluates_on_host(program, state) else _step(program, state, args)


@on_host
def run(
    loss: Loss,
    solver: Solver | Optimizer,
    image: Any,
    args: Any = None,
    *,
    num_steps: int | Array,
    max_steps: int | None = None,
) -> Solution:
    """Minimise a loss over an image.

    A pure function: use it under `jax.jit`, `jax.vmap` (over anything in ``image``, ``args`` and the solver's numbers)
    and `jax.grad`. Equal solvers share compiled programs, however often they are built anew, and so do equal losses, as
    for `jax.jit`. Changing a number in ``args`` or a learning rate compiles nothing again.

    * With ``num_steps`` a Python integer, a traced run can be differentiated in reverse mode. Steps are rematerialised:
      the gradient of n steps stores about 2 √n states, at the cost of two further forward passes. (Line searches are
      loops of unknown length, which JAX cannot differentiate in this way.)
    * With ``num_steps`` a traced integer, one program serves any number of steps, without a gradient.
    * Called with concrete arrays, outside of any transformation, steps are dispatched in chunks; there too one program
      serves any number of steps. On CPUs this is several times faster than a loop inside one program, in which XLA runs
      convolutions on a single thread.

    A run whose loss or image stops being finite keeps its last finite image. In a batch, the others do not change.

    Args:
        loss: As in `init`, like ``solver``.
        solver: See `init`.
        image: The initial image, or the `State` of an earlier run to continue from.
        args: See `step`.
        num_steps: How many steps to make, beyond those of a `State`.
        max_steps: How many losses are recorded if ``num_steps`` is traced, 1024 by default; NaN where no step was made.

    Raises:
        ArgumentError: The solver cannot be used, or ``num_steps`` is negative.

    >>> def loss(image, args, step):
    ...     return ((image - args) ** 2).sum()
    >>> from jnst.solve import Adam
    >>> solution = run(loss, Adam(0.1), jnp.zeros(3), jnp.ones(3), num_steps=100)
    >>> bool(solution.losses[-1] < 1e-3)
    True
    """
    traced = isinstance(num_steps, Tracer)
    if not traced and operator.index(num_steps) < 0:
        raise ArgumentError(f"num_steps {num_steps}: expected at least 0")
    continues = isinstance(image, State)
    program, args = as_program(loss, solver, image.image if continues else image), jax.tree.map(as_array, args)
    first = image if continues else start_runs(program, image)
    if not traced and not is_traced((program, first, args)) and not closes_over_tracers(loss):
        # `drive` reuses buffers: the caller's must stay valid, and so must what is read of the first state below.
        last_step = int(first.step) + operator.index(num_steps)
        driven = drive(program, copied(first), args, last_step=last_step)
        state, losses, parts = driven.state, jnp.asarray(driven.losses), jax.tree.map(jnp.asarray, driven.parts)
    else:
        # Kept for later calls of eager transformations, unless tracers of this one are part of the loss.
        scan, loop = (_scan, _loop) if closes_over_tracers(loss) else (_kept_scan, _kept_loop)
        if traced:
            room = MAX_STEPS if max_steps is None else max_steps
            state, (losses, parts) = loop(program, first, args, num_steps, room)
        else:
            state, (losses, parts) = scan(program, first, args, operator.index(num_steps))
    made = state.step - first.step + (first.running & ~state.running).astype(state.step.dtype)
    return Solution(result(state, program.solver), losses, parts, made, state.running, state)


def _scan(program: Program, first: State, args: Any, num_steps: int) -> tuple[State, Record]:
    return scan_steps(_compiled_step(program, args), first, num_steps)


def _loop(program: Program, first: State, args: Any, num_steps: Array, max_steps: int) -> tuple[State, Record]:
    return loop_steps(_compiled_step(program, args), first, num_steps, max_steps)


_kept_scan = jax.jit(_scan, static_argnames="num_steps")
_kept_loop = jax.jit(_loop, static_argnames="max_steps")


def _compiled_step(program: Program, args: Any) -> Any:
    """A step whose loss is traced once, however often a loop calls it."""
    return jax.jit(partial(advance, program, args=args))


@Jit
def _step(program: Program, state: State, args: Any) -> tuple[State, Record]:
    return advance(program, state, args)


def closes_over_tracers(loss: Loss) -> bool:
    """Whether a loss was made within a transformation, whose values it uses without taking them as arguments."""
    owner = getattr(loss, "__self__", None)
    values, _ = split((loss, getattr(loss, "__dict__", None), getattr(owner, "__dict__", None)), floats=False)
    return any(isinstance(value, Tracer) for value in values)
