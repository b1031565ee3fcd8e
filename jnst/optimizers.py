"""Optimisers by name, and what is put around Optax's transformations to use published settings as they stand."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnst.errors import JnstError
from jnst.types import Array


def in_units(optimizer: optax.GradientTransformation, unit: float) -> optax.GradientTransformationExtraArgs:
    """Let ``optimizer`` see the picture multiplied by ``unit``, so that its step lengths are in those units.

    Programs that optimise 0-255 pictures state learning rates in units of 1/255 of ours: with ``unit=255.0``
    they can be used as published.
    """
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Any:
        return inner.init(_scaled(params, unit))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        if "grad" in extra:
            extra["grad"] = _scaled(extra["grad"], 1 / unit)
        if "value_fn" in extra:
            value_fn = extra["value_fn"]
            extra["value_fn"] = lambda scaled: value_fn(_scaled(scaled, 1 / unit))
        updates, state = inner.update(_scaled(updates, 1 / unit), state, _scaled(params, unit), **extra)
        return _scaled(updates, 1 / unit), state

    return optax.GradientTransformationExtraArgs(init, update)


def _scaled(tree: Any, factor: float | Array) -> Any:
    return jax.tree.map(lambda leaf: leaf * factor, tree)


def in_laplacian_pyramid(optimizer: optax.GradientTransformation, levels: int) -> optax.GradientTransformationExtraArgs:
    """Let ``optimizer`` move the levels of a Laplacian pyramid instead of the pixels.

    The picture is the finest level plus the next one, enlarged, which is itself a sum of that kind, and so on; so the
    gradient by a level is the picture's gradient carried back through the enlargements between, and an update of the
    levels is one of the picture.

    Args:
        optimizer: Sees a tuple of ``levels + 1`` arrays, each half as high and wide as the one before; no picture.
        levels: How often the picture is halved; fewer where that would leave a side of 1.

    References:
        Kolkin, Salavon & Shakhnarovich, Style Transfer by Relaxed Optimal Transport and Self-Similarity, CVPR 2019.
    """
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Any:
        return inner.init(tuple(jnp.zeros(shape, params.dtype) for shape in _level_shapes(params.shape, levels)))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        shapes = _level_shapes(updates.shape, levels)
        back = jax.linear_transpose(_summed, tuple(jax.ShapeDtypeStruct(shape, updates.dtype) for shape in shapes))
        (gradients,) = back(updates)
        updates_of_levels, state = inner.update(gradients, state, None, **extra)
        return _summed(updates_of_levels), state

    return optax.GradientTransformationExtraArgs(init, update)


def _level_shapes(shape: tuple[int, ...], levels: int) -> list[tuple[int, ...]]:
    shapes = [tuple(shape)]
    while len(shapes) <= levels and min(shapes[-1][:2]) > 3:
        height, width, channels = shapes[-1]
        shapes.append((height // 2, width // 2, channels))
    return shapes


def _summed(levels: Any) -> Array:
    """The picture of a pyramid, finest level first: from the coarsest on, enlarged bilinearly and added."""
    *finer, picture = levels
    for level in reversed(finer):
        picture = level + jax.image.resize(picture, level.shape, "linear", antialias=False)
    return picture


class UnitState(NamedTuple):
    """The factor that `from_unit_gradient` found at the first step; 0 before it."""

    factor: Array


def from_unit_gradient() -> optax.GradientTransformation:
    """Scale all gradients by one over the norm of the first, as if the loss had been divided by it.

    In front of L-BFGS without a line search, whose steps otherwise depend on the loss' scale in one place, the first
    step, this makes a run the same whether the loss is in units of 1e-3 or 1e9.
    """

    def init(params: Any) -> UnitState:
        return UnitState(jnp.float32(0.0))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, UnitState]:
        norm = _norm(updates)
        first = jnp.where(norm > 0, 1.0 / jnp.where(norm > 0, norm, 1.0), 0.0)
        factor = jnp.where(state.factor == 0, first, state.factor)
        return jax.tree.map(lambda leaf: leaf * factor, updates), UnitState(factor)

    return optax.GradientTransformation(init, update)


def _norm(tree: Any) -> Array:
    """The Euclidean norm, also where squares would leave float32's range."""
    largest = functools.reduce(jnp.maximum, (jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)))
    return largest * optax.tree.norm(_scaled(tree, 1.0 / jnp.where(largest > 0, largest, 1.0)))


@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015). Without a learning rate, steps are 0.02 of a picture's range."""

    learning_rate: float | None = None
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def transformation(self, unit: float = 1.0) -> optax.GradientTransformation:
        """The Optax transformation, for pictures whose range is ``unit``."""
        return optax.adam(rate_of(self, unit), self.b1, self.b2, self.eps)


@dataclasses.dataclass(frozen=True)
class LBFGS:
    """L-BFGS (Liu & Nocedal 1989), as style transfer programs use it: fixed step length, one evaluation a step.

    ``zoom`` adds a zoom line search, which chooses the step length itself: several evaluations a step, and a loss that
    does not rise (unless the picture is clipped after the step).
    """

    learning_rate: float = 1.0
    memory_size: int = 100
    zoom: bool = False

    def transformation(self, unit: float = 1.0) -> optax.GradientTransformation:
        """The Optax transformation, for pictures whose range is ``unit``."""
        if not self.zoom:
            fixed = optax.lbfgs(self.learning_rate, memory_size=self.memory_size, linesearch=None)
            return optax.chain(from_unit_gradient(), fixed)
        search = optax.scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")
        return optax.lbfgs(memory_size=self.memory_size, linesearch=search)


@dataclasses.dataclass(frozen=True)
class RMSprop:
    """RMSprop (Hinton 2012), on the levels of a Laplacian pyramid if ``levels`` is above 0, as STROTSS uses it."""

    learning_rate: float = 2e-3
    decay: float = 0.99
    eps: float = 1e-8
    levels: int = 0

    def transformation(self, unit: float = 1.0) -> optax.GradientTransformation:
        """The Optax transformation, for pictures of any range."""
        plain = optax.rmsprop(self.learning_rate, decay=self.decay, eps=self.eps, eps_in_sqrt=False)
        return in_laplacian_pyramid(plain, self.levels) if self.levels else plain


@dataclasses.dataclass(frozen=True)
class SGD:
    """Gradient descent; the learning rate is multiplied by ``decay`` after every ``decay_steps`` steps."""

    learning_rate: float = 0.01
    decay: float = 1.0
    decay_steps: int = 100

    def transformation(self, unit: float = 1.0) -> optax.GradientTransformation:
        """The Optax transformation, for pictures of any range."""
        return optax.sgd(optax.exponential_decay(self.learning_rate, self.decay_steps, self.decay, staircase=True))


Settings = Adam | LBFGS | RMSprop | SGD
Optimizer = optax.GradientTransformation | Settings

OPTIMIZERS: dict[str, Callable[..., Settings]] = {
    "adam": Adam,
    "lbfgs": LBFGS,
    "lbfgs-zoom": partial(LBFGS, zoom=True),
    "rmsprop": RMSprop,
    "sgd": SGD,
}
"""Optimisers by the names that the command line knows. From Python any Optax transformation will do."""


@functools.cache
def build(optimizer: Settings, unit: float) -> optax.GradientTransformation:
    """The transformation of ``optimizer`` for pictures in units of ``1 / unit``; the same object for equal arguments.

    Raises:
        JnstError: A learning rate that is not a positive number, or one for a line search.
    """
    rate = optimizer.learning_rate
    if rate is not None and not 0 < rate < float("inf"):
        raise JnstError(f"learning rate {rate}: expected a positive number")
    if isinstance(optimizer, LBFGS) and optimizer.zoom and rate != 1.0:
        raise JnstError(f"learning rate {rate} with lbfgs-zoom: its line search chooses the step, leave it out")
    return in_units(optimizer.transformation(unit), unit)


def neutral(optimizer: Settings) -> Settings:
    """The same optimiser at a learning rate of 1."""
    return dataclasses.replace(optimizer, learning_rate=1.0)


class RateState(NamedTuple):
    """The learning rate of `build_with_rate`, a float32 scalar, and the optimiser's own state."""

    rate: Array
    inner: Any


@functools.cache
def build_with_rate(optimizer: Settings, unit: float) -> optax.GradientTransformation:
    """`build` with the learning rate in the state: 1 until `with_rate` sets another.

    Runs that differ in their learning rates alone then share one program, and each can be a lane of it.
    """
    inner = optax.with_extra_args_support(neutral(optimizer).transformation(unit))

    def init(params: Any) -> RateState:
        return RateState(jnp.float32(1.0), inner.init(params))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, RateState]:
        updates, after = inner.update(updates, state.inner, params, **extra)
        return _scaled(updates, state.rate), RateState(state.rate, after)

    return in_units(optax.GradientTransformationExtraArgs(init, update), unit)


def rate_of(optimizer: Settings, unit: float) -> float:
    """The learning rate for pictures whose range is ``unit``; without one, steps are 0.02 of it."""
    return 0.02 * unit if optimizer.learning_rate is None else optimizer.learning_rate


def with_rate(state: Any, rate: Array) -> Any:
    """The state of `build_with_rate` with another learning rate; any other state as it is."""
    return state._replace(rate=rate) if isinstance(state, RateState) else state
