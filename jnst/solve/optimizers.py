"""Optimisers with the settings that style transfer uses. Any Optax transformation will do in their place."""

import dataclasses
import functools
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from jnst.errors import ArgumentError
from jnst.solve.lbfgs import fourier_precondition, scale_by_lbfgs
from jnst.solve.reparametrise import in_laplacian_pyramid, scaled
from jnst.types import NO_WRAP, Array, Wrap

Rate = float | Array
T = TypeVar("T")


def _pytree(cls: type[T]) -> type[T]:
    """Make a dataclass a pytree whose only leaf is the learning rate: another rate compiles nothing again."""
    fields: Any = cls
    others = [field.name for field in dataclasses.fields(fields) if field.name != "learning_rate"]
    return jax.tree_util.register_dataclass(cls, data_fields=["learning_rate"], meta_fields=others)


@_pytree
@dataclasses.dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015).

    Attributes:
        learning_rate: None for 0.02 of the image's range.
        b1: Decay of the first moment.
        b2: Decay of the second moment.
        eps: Added to the root of the second moment.
        eps_root: Added under the root. Above 0 it keeps the derivative of a whole run finite where a gradient is 0.
    """

    learning_rate: Rate | None = None
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    eps_root: float = 0.0

    def transformation(self, unit: float = 1.0) -> optax.GradientTransformation:
        """The Optax transformation for images whose range is ``unit``."""
        rate = 0.02 * unit if self.learning_rate is None else self.learning_rate
        return optax.adam(rate, self.b1, self.b2, self.eps, self.eps_root)


@_pytree
@dataclasses.dataclass(frozen=True)
class LBFGS:
    """L-BFGS (Liu & Nocedal 1989) as style transfer programs use it: a fixed step length, one evaluation a step.

    Attributes:
        learning_rate: The step length.
        memory_size: How many earlier steps are kept, two images each.
        zoom: Choose the step length by a zoom line search: several evaluations a step, and a loss that does not rise
            (unless the image is clipped after the step).
        fourier_power: Above 0, Fourier preconditioning: low frequencies are taken to be less curved than high ones,
            see `jnst.solve.fourier_precondition`. On VGG19, 0.25 reaches the same loss in three quarters of the steps.
        max_step: The largest root mean square of a step, as a share of the image's range; 0 for no limit.
        memory_dtype: What the steps are kept in; ``"bfloat16"`` takes half the memory. None: the image's dtype.
    """

    learning_rate: Rate = 1.0
    memory_size: int = 100
    zoom: bool = False
    fourier_power: float = 0.0
    max_step: float = 0.0
    memory_dtype: str | None = None

    def transformation(self, unit: float = 1.0) -> optax.GradientTransformation:
        """The Optax transformation for images whose range is ``unit``."""
        # Optimising F z instead of x, where F scales frequencies by f ** -p, has F² as the first inverse Hessian.
        power = 2 * self.fourier_power
        precondition = partial(fourier_precondition, power=power) if power else None
        method = scale_by_lbfgs(self.memory_size, precondition, self.memory_dtype)
        if self.zoom:
            search = optax.scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy="one")
            return optax.chain(method, optax.scale(-1.0), search)
        limit = [limit_steps(self.max_step * unit)] if self.max_step else []
        rate = optax.scale_by_learning_rate(self.learning_rate)
        return hold_at_optimum(optax.chain(normalize_by_first_gradient(), method, *limit, rate))


@_pytree
@dataclasses.dataclass(frozen=True)
class RMSprop:
    """RMSprop (Hinton 2012).

    Attributes:
        learning_rate: The step length.
        decay: Of the second moment.
        eps: Added to the root of the second moment.
        levels: Above 0, optimise so many levels of a Laplacian pyramid instead of the pixels, as STROTSS does.
        wrap: See `jnst.solve.in_laplacian_pyramid`; runs with ``seamless`` set it.
    """

    learning_rate: Rate = 2e-3
    decay: float = 0.99
    eps: float = 1e-8
    levels: int = 0
    wrap: Wrap = NO_WRAP

    def transformation(self, unit: float = 1.0) -> optax.GradientTransformation:
        """The Optax transformation, the same for images of any range."""
        plain = optax.rmsprop(self.learning_rate, decay=self.decay, eps=self.eps, eps_in_sqrt=False)
        return in_laplacian_pyramid(plain, self.levels, self.wrap) if self.levels else plain


@_pytree
@dataclasses.dataclass(frozen=True)
class SGD:
    """Gradient descent; the learning rate is multiplied by ``decay`` after every ``decay_steps`` steps."""

    learning_rate: Rate = 0.01
    decay: float = 1.0
    decay_steps: int = 100

    def transformation(self, unit: float = 1.0) -> optax.GradientTransformation:
        """The Optax transformation, the same for images of any range."""
        return optax.sgd(optax.exponential_decay(self.learning_rate, self.decay_steps, self.decay, staircase=True))


Named = Adam | LBFGS | RMSprop | SGD
Optimizer = optax.GradientTransformation | Named

OPTIMIZERS: dict[str, Callable[..., Named]] = {
    "adam": Adam,
    "lbfgs": LBFGS,
    "lbfgs-zoom": partial(LBFGS, zoom=True),
    "lbfgs-fourier": partial(LBFGS, memory_size=20, fourier_power=0.25, max_step=0.04),
    "rmsprop": RMSprop,
    "sgd": SGD,
}
"""Optimisers by name, for the command line and for presets."""


def check_optimizer(optimizer: Any) -> None:
    """Check that an optimiser can be used.

    Raises:
        ArgumentError: It is no optimiser, or its settings contradict each other.
    """
    if not isinstance(optimizer, Named):
        if hasattr(optimizer, "init") and hasattr(optimizer, "update"):
            return
        known = f" (jnst.solve.OPTIMIZERS[{optimizer!r}]())" if optimizer in list(OPTIMIZERS) else ""
        raise ArgumentError(f"optimizer {optimizer!r}: expected jnst.LBFGS(), jnst.Adam()..., or one of Optax's{known}")
    rate = optimizer.learning_rate
    if isinstance(rate, int | float) and not 0 < rate < math.inf:
        raise ArgumentError(f"learning rate {rate}: expected a positive number")
    if not isinstance(optimizer, LBFGS):
        return
    if optimizer.memory_size < 1:
        raise ArgumentError(f"memory_size {optimizer.memory_size}: expected at least 1")
    if optimizer.memory_dtype not in (None, "bfloat16"):
        raise ArgumentError(f'memory_dtype {optimizer.memory_dtype!r}: expected "bfloat16", or None for no rounding')
    if not 0 <= optimizer.max_step < math.inf:
        raise ArgumentError(f"max_step {optimizer.max_step}: expected a share of the image's range, or 0 for no limit")
    if optimizer.zoom and isinstance(rate, int | float) and rate != 1.0:
        raise ArgumentError(f"learning rate {rate} with zoom: the line search chooses the step length, leave it out")
    if optimizer.zoom and optimizer.max_step:
        raise ArgumentError(f"max_step {optimizer.max_step} with zoom: the line search chooses it, leave it out")


ROUNDINGS = 100
"""How many times the rounding of the variables, relative to their norm, counts as none."""


class _FirstNorm(NamedTuple):
    """One over the norm of the first gradient; 0 before it is known."""

    factor: Array


def normalize_by_first_gradient() -> optax.GradientTransformation:
    """Scale all gradients by one over the norm of the first, as if the loss had been divided by it.

    L-BFGS without a line search depends on the scale of the loss in its first step only. In front of it, this makes
    runs independent of that scale, whether the loss is of the order of 1e-3 or 1e9.
    """

    def init(params: Any) -> _FirstNorm:
        return _FirstNorm(jnp.zeros((), jnp.result_type(*jax.tree.leaves(params))))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, _FirstNorm]:
        norm = _norm(updates)
        first = jnp.where(norm > 0, 1.0 / jnp.where(norm > 0, norm, 1.0), 0.0)
        factor = jnp.where(state.factor == 0, first, state.factor)
        return scaled(updates, factor), _FirstNorm(factor)

    return optax.GradientTransformation(init, update)


def hold_at_optimum(inner: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Make no step where all that is left of a loss is rounding: its gradient points nowhere.

    Where the minimum of a quadratic loss f is 0, it is at a distance of 2 f / |g|; where it is above 0, it is nearer. A
    step is made only if that distance exceeds `ROUNDINGS` times the rounding of the variables. Other runs are not
    affected.
    """

    def update(updates: Any, state: Any, params: Any = None, *, value: Any = None, **_: Any) -> tuple[Any, Any]:
        steps, state = inner.update(updates, state, params)
        if value is None:
            return steps, state
        eps = jnp.finfo(jnp.result_type(*jax.tree.leaves(params))).eps
        factor = jnp.where((value >= 0) & (2 * value <= ROUNDINGS * eps * _norm(params) * _norm(updates)), 0.0, 1.0)
        return scaled(steps, factor), state

    return optax.GradientTransformationExtraArgs(inner.init, update)


class _Begun(NamedTuple):
    """Whether a step has been made."""

    begun: Array


def limit_steps(max_step: float) -> optax.GradientTransformation:
    """Shorten steps whose root mean square exceeds ``max_step``, and give the first step a fifth of that.

    For L-BFGS, which knows no curvature before its first step: a step as long as the gradient would be next to nothing,
    and the second, scaled by what was learnt from it, often far too long.
    """

    def init(params: Any) -> _Begun:
        return _Begun(jnp.asarray(False))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, _Begun]:
        length = _norm(updates) / optax.tree.size(updates) ** 0.5
        wanted = jnp.where(state.begun, jnp.minimum(length, max_step), max_step / 5)
        factor = jnp.where(length > 0, wanted / jnp.where(length > 0, length, 1.0), 1.0)
        return scaled(updates, factor), _Begun(jnp.asarray(True))

    return optax.GradientTransformation(init, update)


def _norm(tree: Any) -> Array:
    """The Euclidean norm, computed so that squares do not overflow float32, with a finite gradient at 0."""
    largest = functools.reduce(jnp.maximum, (jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)))
    largest = jax.lax.stop_gradient(largest)
    squares = optax.tree.norm(scaled(tree, 1.0 / jnp.where(largest > 0, largest, 1.0)), squared=True)
    return largest * jnp.sqrt(jnp.where(largest > 0, squares, 1.0))
