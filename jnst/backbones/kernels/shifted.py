"""3x3 correlations of a zero-padded map in bfloat16, as matrix products over shifted rows.

y[i] = Σ_r  [x[i + r, j - 1], x[i + r, j], x[i + r, j + 1]] @ k[r]        r = -1, 0, 1

Factors are bfloat16, sums float32. This is how a CPU's bfloat16 units (AMX) are reached through XLA: its convolutions
do not use them, its matrix products do.
"""

import jax
import jax.numpy as jnp
from jax import lax

from jnst.types import Array

STRIP_BYTES = 3 * 2**19
"""Maps are computed in strips of rows; three columns side by side of one are about as large as a core's cache."""


def lay_out_kernel(kernel: Array) -> Array:
    """``(3, 3, c_in, c_out)`` to bfloat16 of the same shape."""
    return kernel.astype(jnp.bfloat16)


@jax.custom_vjp
def correlate(x: Array, kernel: Array) -> Array:
    """Cross-correlate over zeros; the gradient is the same with the turned kernel (reverse mode only).

    Args:
        x: ``(n, h, w, c_in)``, rounded to bfloat16.
        kernel: ``(3, 3, c_in, c_out)``, bfloat16.

    Returns:
        ``(n, h, w, c_out)``, float32.
    """
    return _correlate(x, kernel)


def _forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _correlate(x, kernel), (x, kernel)


def _backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, kernel = saved
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    return _correlate(gradient, turned).astype(x.dtype), _by_kernel(x, gradient).astype(kernel.dtype)


correlate.defvjp(_forward, _backward)


def _columns(x: Array) -> Array:
    """Every pixel with its neighbours left and right, a zero row above and below: ``(n, h + 2, w, 3 c)``, bfloat16."""
    n, h, w, c = x.shape
    x = jnp.pad(x.astype(jnp.bfloat16), ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Stacked, not concatenated: XLA writes a stack in one pass, and a concatenation of channels in many.
    return jnp.stack([x[:, :, shift : shift + w] for shift in range(3)], axis=3).reshape(n, h + 2, w, 3 * c)


def _correlate(x: Array, kernel: Array) -> Array:
    h, w, c = x.shape[1:]
    columns = _columns(x)
    rows_of_kernel = kernel.reshape(3, 3 * c, -1)
    size = max(1, STRIP_BYTES // (w * 3 * c * columns.dtype.itemsize))
    strips = []
    for top in range(0, h, size):
        bottom = min(top + size, h)
        upper, middle, lower = (_product(columns[:, top + row : bottom + row], rows_of_kernel[row]) for row in range(3))
        strips.append(upper + middle + lower)
    return jnp.concatenate(strips, axis=1)


def _product(columns: Array, kernel: Array) -> Array:
    return lax.dot_general(columns, kernel, (((3,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def _by_kernel(x: Array, gradient: Array) -> Array:
    """The gradient by the kernel: for each row of it, one product over all pixels."""
    h, c = x.shape[1], x.shape[3]
    columns, gradient = _columns(x), gradient.astype(jnp.bfloat16)
    contract = (((0, 1, 2), (0, 1, 2)), ((), ()))
    rows = [
        lax.dot_general(columns[:, row : row + h], gradient, contract, preferred_element_type=jnp.float32)
        for row in range(3)
    ]
    return jnp.stack(rows).reshape(3, 3, c, -1)
