"""3x3 correlations of a zero-padded map in bfloat16, as matrix products over shifted rows.

    y[i, j] = Σ_r  [x[i + r, j - 1], x[i + r, j], x[i + r, j + 1]] @ k[r]        r = -1, 0, 1

Factors are bfloat16, sums are float32. XLA's convolutions do not use the bfloat16 matrix units of CPUs (AMX), but its
matrix products do.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jnst.types import Array

STRIP_BYTES = 3 * 2**19
"""Maps are computed in strips of rows, whose three shifted copies take about this many bytes: the size of a core's
cache."""


@jax.jit
def prepare_kernel(kernel: Array) -> Array:
    """Cast ``(3, 3, c_in, c_out)`` to bfloat16."""
    return kernel.astype(jnp.bfloat16)


def correlate(x: Array, kernel: Array, padding: int = 1) -> Array:
    """Cross-correlate a map. Differentiable in reverse mode, to any order.

    Args:
        x: ``(n, h, w, c_in)``, rounded to bfloat16.
        kernel: ``(3, 3, c_in, c_out)``, bfloat16.
        padding: The rows and columns of zeros on each side: 1, or 0.

    Returns:
        ``(n, h, w, c_out)``, float32; without padding two rows and columns less.
    """
    y = _correlate(x, kernel)
    return y if padding else y[:, 1 : y.shape[1] - 1, 1 : y.shape[2] - 1]


@jax.custom_vjp
def _correlate(x: Array, kernel: Array) -> Array:
    """`correlate` with padding."""
    h, w, c = x.shape[1:]
    columns = _stack_columns(x)
    kernel_rows = kernel.reshape(3, 3 * c, -1)
    size = max(1, STRIP_BYTES // (w * 3 * c * columns.dtype.itemsize))
    strips = []
    for top in range(0, h, size):
        bottom = min(top + size, h)
        upper, middle, lower = (_product(columns[:, top + row : bottom + row], kernel_rows[row]) for row in range(3))
        strips.append(upper + middle + lower)
    return jnp.concatenate(strips, axis=1)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _correlate(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    rotated = kernel[::-1, ::-1].swapaxes(2, 3)
    return _correlate(gradient, rotated).astype(x.dtype), _kernel_gradient(x, gradient).astype(kernel.dtype)


_correlate.defvjp(_forward, _backward)


def _stack_columns(x: Array) -> Array:
    """Put each pixel beside its left and right neighbours, with zero rows above and below: ``(n, h + 2, w, 3 c)``."""
    n, h, w, c = x.shape
    x = jnp.pad(x.astype(jnp.bfloat16), ((0, 0), (1, 1), (1, 1), (0, 0)))
    # XLA writes a stack in one pass, but a concatenation of channels in several.
    return jnp.stack([x[:, :, shift : shift + w] for shift in range(3)], axis=3).reshape(n, h + 2, w, 3 * c)


def _product(columns: Array, kernel: Array) -> Array:
    return lax.dot_general(columns, kernel, (((3,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def _kernel_gradient(x: Array, gradient: Array) -> Array:
    """One product over all pixels for each row of the kernel."""
    h, c = x.shape[1], x.shape[3]
    columns, gradient = _stack_columns(x), gradient.astype(jnp.bfloat16)
    contract = (((0, 1, 2), (0, 1, 2)), ((), ()))
    rows = [
        lax.dot_general(columns[:, row : row + h], gradient, contract, preferred_element_type=jnp.float32)
        for row in range(3)
    ]
    return jnp.stack(rows).reshape(3, 3, c, -1)
