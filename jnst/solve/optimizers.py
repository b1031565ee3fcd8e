"""Optimisers by name, with the settings that style transfer uses."""

import dataclasses
import functools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnst.errors import ArgumentError
from jnst.solve.lbfgs import divide_waves, scale_by_lbfgs
from jnst.solve.reparametrise import in_laplacian_pyramid, in_units, scaled
from jnst.types import Array


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


class BegunState(NamedTuple):
    """Whether there has been a step."""

    begun: Array


def limit_steps(longest: float) -> optax.GradientTransformation:
    """Shorten steps whose root mean square is above ``longest``, and give the first one a fifth of that.

    Behind L-BFGS, which knows no curvature before its first step: as long as the gradient is then, this one would be
    next to nothing, and the second, which takes its measure from it, often far too long.
    """

    def init(params: Any) -> BegunState:
        return BegunState(jnp.asarray(False))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, BegunState]:
        length = _norm(updates) / optax.tree.size(updates) ** 0.5
        wanted = jnp.where(state.begun, jnp.minimum(length, longest), longest / 5)
        factor = jnp.where(length > 0, wanted / jnp.where(length > 0, length, 1.0), 1.0)
        return scaled(updates, factor), BegunState(jnp.asarray(True))

    return optax.GradientTransformation(init, update)


def _norm(tree: Any) -> Array:
    """The Euclidean norm, also where squares would leave float32's range."""
    largest = functools.reduce(jnp.maximum, (jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)))
    return largest * optax.tree.norm(scaled(tree, 1.0 / jnp.where(largest > 0, largest, 1.0)))


@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015). Without a learning rate, steps are 0.02 of an image's range."""

    learning_rate: float | None = None
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def transformation(self, unit: float = 1.0) -> optax.GradientTransformation:
        """The Optax transformation, for images whose range is ``unit``."""
        return optax.adam(rate_of(self, unit), self.b1, self.b2, self.eps)


@dataclasses.dataclass(frozen=True)
class LBFGS:
    """L-BFGS (Liu & Nocedal 1989), as style transfer programs use it: fixed step length, one evaluation a step.

    ``memory_size`` is the number of earlier steps that are kept, two images each. ``zoom`` adds a zoom line search,
    which chooses the step length itself: several evaluations a step, and a loss that does not rise (unless the image
    is clipped after the step). With ``decay_power`` above 0 large forms are taken for less curved than fine grain, see
    `jnst.solve.lbfgs.divide_waves`: on VGG19 0.25 comes to the same loss in four fifths of the steps. ``longest_step``
    is the largest root mean square that a step may have, as a share of an image's range, see `limit_steps`; 0 for any.
    """

    learning_rate: float = 1.0
    memory_size: int = 100
    zoom: bool = False
    decay_power: float = 0.0
    longest_step: float = 0.0

    def transformation(self, unit: float = 1.0) -> optax.GradientTransformation:
        """The Optax transformation, for images whose range is ``unit``."""
        # Waves in units of f ** -p have this as the square of their filter.
        inverse_curvature = partial(divide_waves, power=2 * self.decay_power) if self.decay_power else None
        method = scale_by_lbfgs(self.memory_size, inverse_curvature)
        if self.zoom:
            search = optax.scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")
            return optax.chain(method, optax.scale(-1.0), search)
        limit = [limit_steps(self.longest_step * unit)] if self.longest_step else []
        return optax.chain(from_unit_gradient(), method, *limit, optax.scale_by_learning_rate(self.learning_rate))


@dataclasses.dataclass(frozen=True)
class RMSprop:
    """RMSprop (Hinton 2012), on the levels of a Laplacian pyramid if ``levels`` is above 0, as STROTSS uses it."""

    learning_rate: float = 2e-3
    decay: float = 0.99
    eps: float = 1e-8
    levels: int = 0

    def transformation(self, unit: float = 1.0) -> optax.GradientTransformation:
        """The Optax transformation, for images of any range."""
        plain = optax.rmsprop(self.learning_rate, decay=self.decay, eps=self.eps, eps_in_sqrt=False)
        return in_laplacian_pyramid(plain, self.levels) if self.levels else plain


@dataclasses.dataclass(frozen=True)
class SGD:
    """Gradient descent; the learning rate is multiplied by ``decay`` after every ``decay_steps`` steps."""

    learning_rate: float = 0.01
    decay: float = 1.0
    decay_steps: int = 100

    def transformation(self, unit: float = 1.0) -> optax.GradientTransformation:
        """The Optax transformation, for images of any range."""
        return optax.sgd(optax.exponential_decay(self.learning_rate, self.decay_steps, self.decay, staircase=True))


Settings = Adam | LBFGS | RMSprop | SGD
Optimizer = optax.GradientTransformation | Settings

OPTIMIZERS: dict[str, Callable[..., Settings]] = {
    "adam": Adam,
    "lbfgs": LBFGS,
    "lbfgs-zoom": partial(LBFGS, zoom=True),
    "lbfgs-waves": partial(LBFGS, memory_size=20, decay_power=0.25, longest_step=0.04),
    "rmsprop": RMSprop,
    "sgd": SGD,
}
"""Optimisers by the names that the command line knows. From Python any Optax transformation will do."""


@functools.cache
def build(optimizer: Settings, unit: float) -> optax.GradientTransformation:
    """The transformation of ``optimizer`` for images in units of ``1 / unit``; the same object for equal arguments.

    Raises:
        ArgumentError: A learning rate that is not a positive number, or one for a line search, or a limit for its steps.
    """
    rate = optimizer.learning_rate
    if rate is not None and not 0 < rate < float("inf"):
        raise ArgumentError(f"learning rate {rate}: expected a positive number")
    if isinstance(optimizer, LBFGS):
        _check_steps(optimizer)
    return in_units(optimizer.transformation(unit), unit)


def _check_steps(optimizer: LBFGS) -> None:
    rate, longest = optimizer.learning_rate, optimizer.longest_step
    if not 0 <= longest < float("inf"):
        raise ArgumentError(f"longest_step {longest}: expected a share of an image's range, or 0 for steps of any length")
    if optimizer.zoom and rate != 1.0:
        raise ArgumentError(f"learning rate {rate} with lbfgs-zoom: its line search chooses the step, leave it out")
    if optimizer.zoom and longest:
        raise ArgumentError(f"longest_step {longest} with zoom: a line search chooses the step, leave it out")


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
        return scaled(updates, state.rate), RateState(state.rate, after)

    return in_units(optax.GradientTransformationExtraArgs(init, update), unit)


def rate_of(optimizer: Settings, unit: float) -> float:
    """The learning rate for images whose range is ``unit``; without one, steps are 0.02 of it."""
    return 0.02 * unit if optimizer.learning_rate is None else optimizer.learning_rate


def with_rate(state: Any, rate: Array) -> Any:
    """The state of `build_with_rate` with another learning rate; any other state as it is."""
    return state._replace(rate=rate) if isinstance(state, RateState) else state
