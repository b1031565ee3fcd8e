"""L-BFGS with its products of images as two products of matrices.

The usual two loops read the memory, up to 200 images, one image after the other; here all of a memory is multiplied
at once, and what is left are triangular systems of numbers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnst.types import Array


class LBFGSState(NamedTuple):
    """The last steps that are kept, and what they did to the gradient, each in the slot of its number modulo m.

    Attributes:
        num_updates: So far.
        num_kept: So many of the steps between them have been kept.
        gamma: The multiple of H that was last the first guess.
        params: The variables at the last update, x.
        updates: The gradient at the last update, g.
        scaled: The same as the first guess H of the inverse curvature scales it, H g.
        diff_params_memory: ``(m, ...)``, s: differences of x.
        diff_scaled_memory: ``(m, ...)``, H y, where y are the differences of g.
        curvatures: ``(m, m)``, sᵢᵀyⱼ where step i is not younger than step j.
        squares: ``(m, m)``, yᵢᵀH yⱼ.
    """

    num_updates: Array
    num_kept: Array
    gamma: Array
    params: Array
    updates: Array
    scaled: Array
    diff_params_memory: Array
    diff_scaled_memory: Array
    curvatures: Array
    squares: Array


def scale_by_lbfgs(
    memory_size: int, inverse_curvature: Callable[[Array], Array] | None = None
) -> optax.GradientTransformation:
    """Multiply gradients of one array by L-BFGS' approximation of the inverse Hessian.

    As `optax.scale_by_lbfgs`, but steps along which the gradient fell are not kept, as in PyTorch: with them the
    approximation is not positive definite, and runs with a fixed step length may climb.

    Args:
        memory_size: Earlier steps that are kept, m.
        inverse_curvature: Multiplies a gradient by a symmetric positive definite matrix H, of which a multiple γ is the
            approximation that the kept steps improve on; None for the unit matrix. With H = P Pᵀ this is L-BFGS of z,
            where x = P z.

    References:
        Byrd, Nocedal & Schnabel, Representations of quasi-Newton matrices and their use in limited memory methods,
        Mathematical Programming 63 (1994), equation 3.1.
    """

    def init(params: Any) -> LBFGSState:
        memory = jnp.zeros((memory_size, *params.shape), params.dtype)
        table = jnp.zeros((memory_size, memory_size), params.dtype)
        nothing = jnp.zeros_like(params)
        none, one = jnp.int32(0), jnp.ones((), params.dtype)
        return LBFGSState(none, none, one, nothing, nothing, nothing, memory, memory, table, table)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, LBFGSState]:
        scaled = updates if inverse_curvature is None else inverse_curvature(updates)
        step, change, scaled_change = params - state.params, updates - state.updates, scaled - state.scaled
        begun, slot = state.num_updates > 0, state.num_kept % memory_size
        rounding = jnp.finfo(step.dtype).eps * jnp.linalg.norm(step.ravel()) * jnp.linalg.norm(change.ravel())
        keep = begun & (jnp.vdot(step, change) > rounding)
        # Behind a barrier the memory is written in place; XLA would else write another copy for every use of it.
        steps, changes = jax.lax.optimization_barrier(
            (
                _put(state.diff_params_memory, step, slot, keep),
                _put(state.diff_scaled_memory, scaled_change, slot, keep),
            )
        )
        by_step, by_change = _products(steps, change), _products(changes, change)
        curvatures = _put(state.curvatures, by_step, slot, keep, axis=1)
        squares = _put(_put(state.squares, by_change, slot, keep, axis=1), by_change, slot, keep)
        first = jnp.minimum(1.0, 1.0 / jnp.sqrt(jnp.vdot(updates, scaled)))  # Optax begins like this.
        gamma = jnp.where(keep, by_step[slot] / by_change[slot], jnp.where(begun, state.gamma, first))
        num_kept = state.num_kept + keep
        order = (num_kept + jnp.arange(memory_size)) % memory_size
        by_step, by_change = _products(steps, updates), _products(changes, updates)
        of_steps, of_changes = _weights(curvatures, squares, by_step, by_change, gamma, order)
        direction = gamma * scaled + _sum(of_steps, steps) + _sum(of_changes, changes)
        # Where gradients are nothing but rounding the systems may overflow: then by the gradient alone.
        slope = jnp.vdot(direction, updates)
        direction = jnp.where((slope > 0) & (slope < jnp.inf), direction, first * scaled)
        now = state.num_updates + 1, num_kept, gamma, params, updates, scaled
        return direction, LBFGSState(*now, steps, changes, curvatures, squares)

    return optax.GradientTransformation(init, update)


def divide_waves(image: Array, power: float) -> Array:
    """Divide an image's waves of frequency f by ``(2 f) ** power``, f in cycles a pixel, at least one a longer side.

    As an inverse curvature it lets large forms move further than fine grain at the same gradient, as in photographs,
    whose amplitudes fall with the frequency (waves in units of ``f ** -1``: power 2).

    Args:
        image: ``(h, w, c)``.
        power: 0 changes nothing.

    References:
        Olah, Mordvintsev & Schubert, Feature Visualization, Distill 2017, "Preconditioning and parameterization".
    """
    height, width = image.shape[:2]
    frequency = jnp.hypot(jnp.fft.fftfreq(height)[:, None], jnp.fft.rfftfreq(width))
    factor = ((2 * jnp.maximum(frequency, 1 / max(height, width))) ** -power).astype(image.dtype)
    return jnp.fft.irfft2(jnp.fft.rfft2(image, axes=(0, 1)) * factor[..., None], (height, width), axes=(0, 1))


def _weights(
    curvatures: Array, squares: Array, by_step: Array, by_change: Array, gamma: Array, order: Array
) -> tuple[Array, Array]:
    """The weights of the steps s and of the changes H y in the direction; ``order`` names their slots, oldest first.

    With R the upper triangle of sᵢᵀyⱼ, D its diagonal and p = R⁻¹ Sᵀg they are R⁻ᵀ (D p + γ YᵀHY p - γ YᵀHg) and -γ p.
    """
    system, squares = jnp.triu(curvatures[order][:, order]), squares[order][:, order]
    curvature = jnp.diag(system)
    system += jnp.diag(jnp.where(curvature == 0, 1, 0).astype(curvature.dtype))  # Empty slots weigh nothing.
    p = jax.scipy.linalg.solve_triangular(system, by_step[order])
    known = curvature * p + gamma * (jnp.matmul(squares, p, precision="highest") - by_change[order])
    of_steps = jax.scipy.linalg.solve_triangular(system, known, trans=1)
    nothing = jnp.zeros_like(p)
    return nothing.at[order].set(of_steps), nothing.at[order].set(-gamma * p)


def _put(memory: Array, array: Array, slot: Array, keep: Array, axis: int = 0) -> Array:
    """The memory with ``array`` in a slot, unless it is not to be kept."""
    before = jax.lax.dynamic_index_in_dim(memory, slot, axis, keepdims=False)
    return jax.lax.dynamic_update_index_in_dim(memory, jnp.where(keep, array, before), slot, axis)


def _products(memory: Array, array: Array) -> Array:
    """``(m, ...)`` and ``(...)`` to ``(m,)``: the sums of products over all other axes."""
    return jnp.tensordot(memory, array, axes=array.ndim, precision="highest")


def _sum(weights: Array, memory: Array) -> Array:
    return jnp.tensordot(weights, memory, axes=1, precision="highest")
