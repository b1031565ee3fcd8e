"""L-BFGS with its products of pictures as two products of matrices.

The usual two loops read the memory, up to 200 pictures, one picture after the other; here all of a memory is multiplied
at once, and what is left are triangular systems of numbers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jnst.types import Array


class LBFGSState(NamedTuple):
    """The last steps and what they did to the gradient, each in the slot of its number modulo m.

    Attributes:
        num_updates: So far.
        params: The variables at the last update, x.
        updates: The gradient at the last update, g.
        scaled: The same as the first guess H of the inverse curvature scales it, H g.
        diff_params_memory: ``(m, ...)``, s: differences of x.
        diff_scaled_memory: ``(m, ...)``, H y, where y are the differences of g.
        curvatures: ``(m, m)``, sᵢᵀyⱼ where step i is not younger than step j.
        squares: ``(m, m)``, yᵢᵀH yⱼ.
    """

    num_updates: Array
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
    """Multiply gradients of one array by L-BFGS' approximation of the inverse Hessian; as `optax.scale_by_lbfgs` does.

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
        return LBFGSState(jnp.int32(0), nothing, nothing, nothing, memory, memory, table, table)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, LBFGSState]:
        begun, newest = state.num_updates > 0, (state.num_updates - 1) % memory_size
        scaled = updates if inverse_curvature is None else inverse_curvature(updates)
        step, change, scaled_change = (
            jnp.where(begun, now - before, 0)
            for now, before in ((params, state.params), (updates, state.updates), (scaled, state.scaled))
        )
        # Behind a barrier the memory is written in place; XLA would else write another copy for every use of it.
        steps, changes = jax.lax.optimization_barrier(
            (_put(state.diff_params_memory, step, newest), _put(state.diff_scaled_memory, scaled_change, newest))
        )
        seen = jnp.stack([change, updates])
        by_step, by_change = _products(steps, seen), _products(changes, seen)
        curvatures = state.curvatures.at[:, newest].set(by_step[:, 0])
        squares = state.squares.at[:, newest].set(by_change[:, 0]).at[newest].set(by_change[:, 0])
        first = jnp.minimum(1.0, 1.0 / jnp.sqrt(jnp.vdot(updates, scaled)))  # Optax begins like this.
        gamma = jnp.where(begun, _ratio(curvatures[newest, newest], squares[newest, newest]), first)
        order = (newest + 1 + jnp.arange(memory_size)) % memory_size
        of_steps, of_changes = (
            jnp.zeros_like(weights).at[order].set(weights)
            for weights in _weights(
                jnp.triu(curvatures[order][:, order]),
                squares[order][:, order],
                by_step[order, 1],
                by_change[order, 1],
                gamma,
            )
        )
        direction = gamma * scaled + _sum(of_steps, steps) + _sum(of_changes, changes)
        after = LBFGSState(state.num_updates + 1, params, updates, scaled, steps, changes, curvatures, squares)
        return direction, after

    return optax.GradientTransformation(init, update)


def divide_waves(image: Array, power: float) -> Array:
    """Divide a picture's waves of frequency f by ``(2 f) ** power``, f in cycles a pixel, at least one a longer side.

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
    factor = (2 * jnp.maximum(frequency, 1 / max(height, width))) ** -power
    return jnp.fft.irfft2(jnp.fft.rfft2(image, axes=(0, 1)) * factor[..., None], (height, width), axes=(0, 1))


def _weights(curvatures: Array, squares: Array, by_step: Array, by_change: Array, gamma: Array) -> tuple[Array, Array]:
    """The weights of the steps s and of the changes H y in the direction, oldest first.

    With R the upper triangle of sᵢᵀyⱼ, D its diagonal and p = R⁻¹ Sᵀg they are R⁻ᵀ (D p + γ YᵀHY p - γ YᵀHg) and -γ p.
    """
    curvature = jnp.diag(curvatures)
    held = curvature != 0  # Slots that are still empty, and steps that changed nothing, weigh nothing.
    system = jnp.where(held[:, None] & held, curvatures, 0) + jnp.diag(jnp.where(held, 0, 1).astype(curvature.dtype))
    p = jax.scipy.linalg.solve_triangular(system, jnp.where(held, by_step, 0))
    known = curvature * p + gamma * (jnp.matmul(squares, p, precision="highest") - by_change)
    return jax.scipy.linalg.solve_triangular(system, jnp.where(held, known, 0), trans=1), -gamma * p


def _ratio(curvature: Array, square: Array) -> Array:
    return jnp.where(square > 0, curvature / jnp.where(square > 0, square, 1), 1)


def _put(memory: Array, array: Array, slot: Array) -> Array:
    return jax.lax.dynamic_update_index_in_dim(memory, array, slot, 0)


def _products(memory: Array, arrays: Array) -> Array:
    """``(m, ...)`` and ``(k, ...)`` to ``(m, k)``: the sums of products over all other axes."""
    axes = tuple(range(1, memory.ndim))
    return jnp.tensordot(memory, arrays, axes=(axes, axes), precision="highest")


def _sum(weights: Array, memory: Array) -> Array:
    return jnp.tensordot(weights, memory, axes=1, precision="highest")
