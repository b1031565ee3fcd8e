"""The optimisation run as a function: `init`, `step` and `run` work under `jit`, `vmap`, `grad` and `scan`."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jnst.errors import ArgumentError
from jnst.solve.compilation import Jit, is_traced
from jnst.solve.driver import drive, start_runs
from jnst.solve.loops import loop_steps, scan_steps
from jnst.solve.optimizers import Optimizer
from jnst.solve.solver import Loss, Program, Record, Solver, State, advance, as_program, result
from jnst.types import Array

MAX_STEPS = 1024
"""How many losses a run with a traced number of steps records, unless told otherwise."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["image", "losses", "parts", "num_steps", "finite", "state"],
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
        num_steps: ``(...)``: how many steps were made, and so how many losses are there.
        finite: ``(...)``: False for runs whose loss or image stopped being finite; their image is the last finite one.
        state: From which a run continues; None for batches.
    """

    image: Any
    losses: Any
    parts: dict[str, Any]
    num_steps: Any
    finite: Any
    state: State | None = None

    def error(self, *index: int) -> str | None:
        """What went wrong in a run, or None if everything stayed finite.

        Args:
            *index: The place of the run in a batch.
        """
        if np.asarray(self.finite)[index]:
            return None
        last = int(np.asarray(self.num_steps)[index]) - 1
        if last < 0:
            return "the run had stopped being finite before it was continued: start from another state"
        total = np.asarray(self.losses)[index][last]
        terms = [name for name, values in self.parts.items() if not np.isfinite(np.asarray(values)[index][last])]
        what = f"term {', '.join(terms)}" if terms else "the image" if np.isfinite(total) else "the total"
        return (
            f"{what} stopped being finite at step {last + 1}: lower the learning rate or the weights "
            "(the last finite image is kept)"
        )


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
    program = as_program(loss, solver, state.image)
    return _step(program.leaves, state, args, structure=program.structure)


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
    and `jax.grad`. Equal losses and solvers share compiled programs, however often they are built anew; changing a
    number, such as a learning rate, a weight or a random key, compiles nothing again.

    * With ``num_steps`` a Python integer, a traced run can be differentiated in reverse mode. Steps are rematerialised:
      the gradient of n steps stores about 2 √n states, at the cost of two further forward passes.
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
        num_steps: How many steps to make.
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
    begun = isinstance(image, State)
    program = as_program(loss, solver, image.image if begun else image)
    state = image if begun else start_runs(program, image)
    before = state.step
    static = not isinstance(num_steps, Tracer)
    if static and int(num_steps) < 0:
        raise ArgumentError(f"num_steps {num_steps}: expected at least 0")
    if static and not is_traced((program.leaves, state, args)):
        driven = drive(program, state, args, num_steps=int(state.step) + int(num_steps))
        state, losses, parts = driven.state, jnp.asarray(driven.losses), jax.tree.map(jnp.asarray, driven.parts)
    else:
        one = _traced_once(program, args)
        if static:
            state, (losses, parts) = scan_steps(one, state, int(num_steps))
        else:
            state, (losses, parts) = loop_steps(one, state, num_steps, max_steps or MAX_STEPS)
    made = state.step - before + ~state.running
    return Solution(result(state, program.build()[1]), losses, parts, made, state.running, state)


@partial(Jit, static_argnames="structure")
def _step(leaves: Any, state: State, args: Any, *, structure: Any) -> tuple[State, Record]:
    return advance(Program(leaves, structure), state, args)


def _traced_once(program: Program, args: Any) -> Any:
    """One step as a function of the state, whose loss is traced only once however often the function is called."""
    compiled = jax.jit(lambda leaves, state, args: advance(Program(leaves, program.structure), state, args))
    return lambda state: compiled(program.leaves, state, args)
