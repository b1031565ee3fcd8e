"""L-BFGS in its compact form: the whole memory in two matrix products.

The usual two-loop recursion reads the memory, up to 200 images, one image after the other. Here the rest of the work is
in small triangular systems.
"""

from collections.abc import Callable
from functools import partial, reduce
from operator import add
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnst.types import Array


class LBFGSState(NamedTuple):
    """The last m steps and the changes of the gradient along them, step i in slot i modulo m.

    Attributes:
        num_updates: The number of updates so far.
        num_kept: How many of the steps between them were kept.
        gamma: The last multiple of H that served as the initial inverse Hessian.
        params: The variables at the last update, x.
        updates: The gradient at the last update, g.
        scaled: The gradient scaled by H, H g.
        diff_params_memory: ``(m, ...)``, s: differences of x.
        diff_scaled_memory: ``(m, ...)``, H y, where y are the differences of g.
        curvatures: ``(m, m)``, sᵢᵀyⱼ where step i is not younger than step j.
        squares: ``(m, m)``, yᵢᵀH yⱼ.
    """

    num_updates: Array
    num_kept: Array
    gamma: Array
    params: Any
    updates: Any
    scaled: Any
    diff_params_memory: Any
    diff_scaled_memory: Any
    curvatures: Array
    squares: Array


def scale_by_lbfgs(
    memory_size: int,
    precondition: Callable[[Array], Array] | None = None,
    memory_dtype: str | None = None,
) -> optax.GradientTransformation:
    """Multiply gradients by L-BFGS's approximation of the inverse Hessian, for any pytree of variables.

    As `optax.scale_by_lbfgs`, except that steps along which the gradient fell are not kept, as in PyTorch: with them
    the approximation is not positive definite, and runs with a fixed step length may climb.

    Args:
        memory_size: How many earlier steps are kept, m.
        precondition: Multiplies each leaf of a gradient by a symmetric positive definite matrix H, of which a multiple
            γ is the initial inverse Hessian; None for the identity. With H = P Pᵀ this is L-BFGS of z, where x = P z.
        memory_dtype: What earlier steps and changes are rounded to; None keeps the dtype of the variables.

    References:
        Byrd, Nocedal & Schnabel, Representations of quasi-Newton matrices and their use in limited memory methods,
        Mathematical Programming 63 (1994), equation 3.1.
    """

    def init(params: Any) -> LBFGSState:
        memory = jax.tree.map(lambda leaf: jnp.zeros((memory_size, *leaf.shape), memory_dtype or leaf.dtype), params)
        dtype = jnp.result_type(*jax.tree.leaves(params))
        table, zeros = jnp.zeros((memory_size, memory_size), dtype), jax.tree.map(jnp.zeros_like, params)
        none, one = jnp.int32(0), jnp.ones((), dtype)
        return LBFGSState(none, none, one, zeros, zeros, zeros, memory, memory, table, table)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, LBFGSState]:
        scaled = updates if precondition is None else jax.tree.map(precondition, updates)
        step, change = _difference(params, state.params), _difference(updates, state.updates)
        begun, slot = state.num_updates > 0, state.num_kept % memory_size
        rounding = jnp.finfo(state.gamma.dtype).eps * jnp.sqrt(_dot(step, step)) * jnp.sqrt(_dot(change, change))
        keep = begun & (_dot(step, change) > jax.lax.stop_gradient(rounding))
        # Behind a barrier the memory is written in place; otherwise XLA writes another copy for every use of it.
        steps, changes = jax.lax.optimization_barrier(
            (
                _put(state.diff_params_memory, step, slot, keep),
                _put(state.diff_scaled_memory, _difference(scaled, state.scaled), slot, keep),
            )
        )
        by_step, by_change = _products(steps, change), _products(changes, change)
        curvatures = _put(state.curvatures, by_step, slot, keep, axis=1)
        squares = _put(_put(state.squares, by_change, slot, keep, axis=1), by_change, slot, keep)
        length = _dot(updates, scaled)
        first = jnp.minimum(1.0, 1.0 / jnp.sqrt(jnp.where(length > 0, length, 1.0)))  # as Optax begins
        ratio = by_step[slot] / jnp.where(keep, by_change[slot], 1.0)
        gamma = jnp.where(keep, ratio, jnp.where(begun, state.gamma, first))
        num_kept = state.num_kept + keep.astype(state.num_kept.dtype)
        order = (num_kept + jnp.arange(memory_size)) % memory_size
        by_step, by_change = _products(steps, updates), _products(changes, updates)
        of_steps, of_changes = _weights(curvatures, squares, by_step, by_change, gamma, order)
        direction = jax.tree.map(
            lambda scaled, steps, changes: gamma * scaled + _sum(of_steps, steps) + _sum(of_changes, changes),
            *(scaled, steps, changes),
        )
        # Where gradients are nothing but rounding, the systems may overflow: then follow the gradient alone.
        slope = _dot(direction, updates)
        is_descent = (slope > 0) & (slope < jnp.inf)
        direction = jax.tree.map(lambda leaf, scaled: jnp.where(is_descent, leaf, first * scaled), direction, scaled)
        now = state.num_updates + 1, num_kept, gamma, params, updates, scaled
        return direction, LBFGSState(*now, steps, changes, curvatures, squares)

    return optax.GradientTransformation(init, update)


def fourier_precondition(image: Array, power: float) -> Array:
    """Divide an image's frequencies f by ``(2 f) ** power``, f in cycles per pixel, at least one per longer side.

    As an initial inverse Hessian it lets low frequencies move further than high ones at the same gradient, just as the
    amplitudes of photographs fall with the frequency (variables in units of ``f ** -1`` have power 2).

    Args:
        image: ``(h, w, c)``; arrays of another rank are returned unchanged.
        power: 0 changes nothing.

    References:
        Olah, Mordvintsev & Schubert, Feature Visualization, Distill 2017, "Preconditioning and parameterization".
    """
    if image.ndim != 3:
        return image
    height, width = image.shape[:2]
    frequency = jnp.hypot(jnp.fft.fftfreq(height)[:, None], jnp.fft.rfftfreq(width)[None])
    factor = ((2 * jnp.maximum(frequency, 1 / max(height, width))) ** -power).astype(image.dtype)
    spectrum = jnp.fft.rfft2(image, axes=(0, 1))
    return jnp.fft.irfft2(spectrum * factor[..., None].astype(spectrum.dtype), (height, width), axes=(0, 1))


def _weights(
    curvatures: Array, squares: Array, by_step: Array, by_change: Array, gamma: Array, order: Array
) -> tuple[Array, Array]:
    """The weights of the steps s and of the changes H y in the direction; ``order`` lists their slots, oldest first.

    With R the upper triangle of sᵢᵀyⱼ, D its diagonal and p = R⁻¹ Sᵀg they are R⁻ᵀ (D p + γ YᵀHY p - γ YᵀHg) and -γ p.
    """
    system, squares = jnp.triu(curvatures[order][:, order]), squares[order][:, order]
    curvature = jnp.diag(system)
    system += jnp.diag(jnp.where(curvature == 0, 1, 0).astype(curvature.dtype))  # empty slots weigh nothing
    p = jax.scipy.linalg.solve_triangular(system, by_step[order])
    known = curvature * p + gamma * (jnp.matmul(squares, p, precision="highest") - by_change[order])
    of_steps = jax.scipy.linalg.solve_triangular(system, known, trans=1)
    zeros = jnp.zeros_like(p)
    return zeros.at[order].set(of_steps), zeros.at[order].set(-gamma * p)


def _put(memory: Any, value: Any, slot: Array, keep: Array, axis: int = 0) -> Any:
    """``memory`` with ``value`` in a slot, if ``keep``."""

    def put(memory: Array, value: Array) -> Array:
        before = jax.lax.dynamic_index_in_dim(memory, slot, axis, keepdims=False)
        kept = jnp.where(keep, value.astype(memory.dtype), before)
        return jax.lax.dynamic_update_index_in_dim(memory, kept, slot, axis)

    return jax.tree.map(put, memory, value)


def _difference(left: Any, right: Any) -> Any:
    return jax.tree.map(jnp.subtract, left, right)


def _dot(left: Any, right: Any) -> Array:
    """The scalar product of two pytrees."""
    product = partial(jnp.vdot, precision="highest")
    return reduce(add, map(product, jax.tree.leaves(left), jax.tree.leaves(right)))


def _products(memory: Any, value: Any) -> Array:
    """The scalar products of every slot of a memory with ``value``: ``(m,)``."""

    def product(memory: Array, value: Array) -> Array:
        if memory.dtype == value.dtype:
            return jnp.tensordot(memory, value, axes=value.ndim, precision="highest")
        # One slot after the other: the product of two dtypes would hold all of the memory in the larger one.
        return jax.lax.map(lambda slot: jnp.vdot(slot.astype(value.dtype), value, precision="highest"), memory)

    return reduce(add, map(product, jax.tree.leaves(memory), jax.tree.leaves(value)))


def _sum(weights: Array, memory: Array) -> Array:
    if memory.dtype == weights.dtype:
        return jnp.tensordot(weights, memory, axes=1, precision="highest")

    def add(total: Array, slot: tuple[Array, Array]) -> tuple[Array, None]:
        weight, image = slot
        return total + weight * image.astype(weight.dtype), None

    return jax.lax.scan(add, jnp.zeros(memory.shape[1:], weights.dtype), (weights, memory))[0]
