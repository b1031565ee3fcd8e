"""One step: evaluate a loss and its gradient, update the variables. Pure, and ignorant of images and styles.

The variables are called the image, but may be any pytree that the optimiser accepts.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from jnst.errors import ArgumentError
from jnst.solve.closures import Structure, join, split
from jnst.solve.optimizers import Named, Optimizer, check_optimizer
from jnst.solve.reparametrise import in_units
from jnst.types import Array, sum_dtype

Loss: TypeAlias = Callable[[Any, Any, Array], Any]
"""``loss(image, args, step) -> (total, parts)``: the total is a scalar, the parts are scalars by name. A loss without
parts may return the total alone. ``step`` counts the updates made so far, for stochastic losses. As for `jax.jit`,
equal losses share a program (a function equals only itself), and everything but ``args`` is a constant of it.

A loss may have an attribute ``on_host``: None, or a function ``(image, args, step) -> ((total, parts), gradient)`` that
runs several programs and replaces the loss and its derivative on CPUs, where nothing is traced."""

LEAST_CHANGE = 1e-3
"""A relative change of the loss that counts as one."""

Record: TypeAlias = tuple[Array, dict[str, Array]]
"""What a step evaluated, before its update: the total and its parts."""


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["optimizer"],
    meta_fields=["unit", "bounds", "average", "keep_best", "track_best"],
)
@dataclasses.dataclass(frozen=True)
class Solver:
    """An optimiser, and the post-processing of its updates: clipping, and a choice of the image that is returned.

    Attributes:
        optimizer: Any Optax transformation, or one of `jnst.solve.OPTIMIZERS`. Line searches get ``value``, ``grad``
            and ``value_fn``.
        unit: The optimiser sees the image times this: 255 for learning rates that belong to images in [0, 255].
        bounds: Clip the image to this range after every update; None for no clipping.
        average: The decay of an exponential moving average of the image, from the initial one on, in [0, 1); 0 for
            none. The result is that average, whose weights sum to 1 at any step.
        keep_best: Whether the result is the image with the lowest total, instead of the last one.
        track_best: Whether the state holds that image in any case, for runs that turn out to diverge.

    Raises:
        ArgumentError: A decay that is none, or ``average`` together with ``keep_best``.
    """

    optimizer: Optimizer
    unit: float = 1.0
    bounds: tuple[float, float] | None = None
    average: float = 0.0
    keep_best: bool = False
    track_best: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.average < 1:
            raise ArgumentError(f"average {self.average}: expected a decay of at least 0 and below 1, for example 0.99")
        if self.average and self.keep_best:
            raise ArgumentError("average and keep_best both choose the image that is returned: leave one of them out")

    def transformation(self) -> optax.GradientTransformationExtraArgs:
        """The Optax transformation of the image as it is."""
        optimizer = self.optimizer
        transformation = optimizer.transformation(self.unit) if isinstance(optimizer, Named) else optimizer
        return in_units(transformation, self.unit) if self.unit != 1 else optax.with_extra_args_support(transformation)


class Best(NamedTuple):
    """The course of a run: from its state one can tell whether it went well, also after it continued.

    Attributes:
        loss: The lowest total so far; the largest number before the first step.
        first: The first total.
        last: The last total that was evaluated.
        image: The image with the lowest total.
    """

    loss: Array
    first: Array
    last: Array
    image: Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["image", "optimizer", "step", "running", "average", "best"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True)
class State:
    """Everything a run needs to continue exactly as if it had never stopped.

    Attributes:
        image: The image after ``step`` updates.
        optimizer: The state of the Optax transformation.
        step: The number of updates so far, an int32 scalar.
        running: False once the loss or the image was not finite: the image then stays the last finite one for good.
        average: The average so far, see `Solver.average`; None without averaging.
        best: See `Best`; None unless the `Solver` keeps it.
    """

    image: Any
    optimizer: Any
    step: Array
    running: Array
    average: Any = None
    best: Best | None = None


@partial(jax.tree_util.register_dataclass, data_fields=["numbers"], meta_fields=["loss", "structure"])
@dataclasses.dataclass(frozen=True)
class Program:
    """A loss and a solver as a pytree, split into numbers and what a compiled program is compiled for.

    Attributes:
        numbers: The numbers of the solver, such as its learning rate.
        loss: The loss (static).
        structure: The rest of the solver (static).
    """

    numbers: list[Any]
    loss: Loss
    structure: Structure

    @property
    def solver(self) -> Solver:
        """The solver."""
        return join(self.numbers, self.structure)


def as_program(loss: Loss, solver: Solver | Optimizer, image: Any) -> Program:
    """Split a solver so that equal ones share compiled programs, however often they are built anew.

    Args:
        loss: See `Loss`.
        solver: A `Solver`, or an optimiser alone.
        image: What will be optimised.

    Raises:
        ArgumentError: The solver cannot be used.
    """
    if not isinstance(solver, Solver):
        check_optimizer(solver)
        solver = Solver(solver)
    check_optimizer(solver.optimizer)
    numbers, structure = split(solver, floats=True)
    if not isinstance(solver.optimizer, Named):
        flat, tree = jax.tree.flatten(image)
        shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in flat)
        if not _accepts_tracers(structure, len(numbers), shapes, tree):
            numbers, structure = split(solver, floats=False)
    return Program([jnp.asarray(number) for number in numbers], loss, structure)


@lru_cache(maxsize=256)
def _accepts_tracers(structure: Structure, count: int, shapes: tuple[Any, ...], tree: Any) -> bool:
    """Whether a transformation's floats can be arguments: some transformations branch on their values in Python."""
    image = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*shape) for shape in shapes])

    def update(numbers: list[Any], image: Any) -> Any:
        transformation = join(numbers, structure).transformation()
        value = jnp.float32(0.0)
        return transformation.update(
            image, transformation.init(image), image, value=value, grad=image, value_fn=lambda image: value
        )

    try:
        jax.eval_shape(update, [1.0] * count, image)
    except (jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError):
        return False
    except Exception:  # whatever is wrong is reported by the real call, where it is not in disguise
        return True
    return True


@contextlib.contextmanager
def _usual_promotion() -> Iterator[None]:
    """Let Optax mix dtypes and ranks, as its arithmetic does, where JAX is set to forbid that."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def start(solver: Solver, image: Any) -> State:
    """The state before the first step, for use in traced code: `init` without its compilation."""
    # With their dtypes, arrays are not weakly typed, and keep their types when they are updated.
    image = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), image)
    odd = [leaf.dtype for leaf in jax.tree.leaves(image) if not jnp.issubdtype(leaf.dtype, jnp.inexact)]
    if odd:
        raise ArgumentError(f"the image has dtype {odd[0]}: expected floating-point arrays")
    dtype, keeps_best = sum_dtype(*jax.tree.leaves(image)), solver.keep_best or solver.track_best
    with _usual_promotion():
        optimizer = solver.transformation().init(image)
    highest = jnp.asarray(jnp.finfo(dtype).max, dtype)
    return State(
        image=image,
        optimizer=optimizer,
        step=jnp.int32(0),
        running=jnp.asarray(True),
        average=image if solver.average else None,
        best=Best(highest, highest, highest, image) if keeps_best else None,
    )


def advance(program: Program, state: State, args: Any) -> tuple[State, Record]:
    """One step, for use in traced code: `step` without its compilation. Records of a run that has ended are NaN."""
    evaluated = jax.value_and_grad(partial(_evaluate, program, args, state.step), has_aux=True)(state.image)
    return update(program, state, args, *evaluated)


def _evaluate(program: Program, args: Any, step: Array, image: Any) -> Record:
    return _checked(program.loss(image, args, step))


def _checked(value: Any) -> Record:
    """What a loss returned, as a total and its parts."""
    total, parts = value if isinstance(value, tuple) else (value, {})
    for name, part in {"the total": total, **parts}.items():
        if jnp.ndim(part) != 0:
            raise ArgumentError(f"the loss returned {name} of shape {jnp.shape(part)}: expected a scalar")
    return total, {name: jnp.asarray(part, sum_dtype(part)) for name, part in parts.items()}


def update(program: Program, state: State, args: Any, evaluated: Any, gradient: Any) -> tuple[State, Record]:
    """The second half of `advance`, from the loss and its gradient at the state's image."""
    solver, (total, parts) = program.solver, _checked(evaluated)
    with _usual_promotion():
        updates, optimizer = solver.transformation().update(
            gradient,
            state.optimizer,
            state.image,
            value=total,
            grad=gradient,
            value_fn=lambda image: _evaluate(program, args, state.step, image)[0],
        )
        image = optax.apply_updates(state.image, updates)
    if solver.bounds is not None:
        image = jax.tree.map(partial(jnp.clip, min=solver.bounds[0], max=solver.bounds[1]), image)
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(image)]
    running = state.running & jnp.isfinite(total) & jnp.stack(finite).all()
    image = _where(running, image, state.image)
    average = state.average
    if average is not None:
        # The newest of n + 2 images. By expm1, because 1 - decayⁿ loses digits where the decay is close to 1.
        share = (1 - solver.average) / -jnp.expm1((state.step + 2).astype(jnp.float32) * math.log(solver.average))
        mixed = jax.tree.map(lambda old, new: old + share * (new - old), average, image)
        average = _where(running, mixed, average)
    best = state.best
    if best is not None:
        value, better = total.astype(best.loss.dtype), state.running & (total < best.loss)
        best = Best(
            loss=jnp.where(better, value, best.loss),
            first=jnp.where(state.running & (state.step == 0), value, best.first),
            last=jnp.where(state.running, value, best.last),
            image=_where(better, state.image, best.image),
        )
    record = jax.tree.map(lambda value: jnp.where(state.running, value, jnp.nan), (total, parts))
    return State(image, optimizer, state.step + running.astype(state.step.dtype), running, average, best), record


def _where(condition: Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda new, old: jnp.where(condition, new, old), new, old)


def fell(state: State) -> Array:
    """Whether the last total of a run is below the first; True if there are no two of them."""
    assert state.best is not None
    return (state.step < 2) | (state.best.last < state.best.first - LEAST_CHANGE * abs(state.best.first))


def diverged(state: State, solver: Solver) -> Array:
    """Whether the last total is above the first, or tenfold the lowest with a tenth of the descent lost.

    Averages are taken where losses are stochastic: there, the last total must be twice the first.
    """
    assert state.best is not None
    lowest, first, last, _ = state.best
    climbed = (last > 10 * lowest) & (last - lowest > 0.1 * (first - lowest))
    rose = last - first > (1.0 if solver.average else LEAST_CHANGE) * abs(first)
    return (state.step > 1) & (climbed | rose)


def result(state: State, solver: Solver) -> Any:
    """The image a run returns: the best one, the average, or the last one."""
    if state.best is not None and solver.keep_best:
        return state.best.image
    if state.average is not None:
        return state.average
    return state.image
