"""3x3 correlations by Winograd's minimal filtering, F(4x4, 3x3).

    y = Aᵀ [ Σ_c (G k Gᵀ) ⊙ (Bᵀ d B) ] A        for each 6 x 6 window d of the input and its 4 x 4 outputs y

This takes a quarter of the multiplications of the definition, all of them in 36 matrix products. Everything is float32.
The entries of the matrices differ in magnitude, which limits the accuracy: errors are about 1e-5 of the largest value.

References:
    Winograd, Arithmetic Complexity of Computations, SIAM 1980.
    Lavin & Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016.
    Barabasz et al., Error Analysis and Improving the Accuracy of Winograd Convolution for DNNs, ACM TOMS 2020 (points).
"""

from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jnst.types import Array

TILE, WINDOW = 4, 6
"""The side of a tile of outputs, and of the window of inputs it is computed from."""

POINTS = (0.0, 1.0, -1.0, 2.0, -0.5)
"""Interpolation points of the polynomials, besides infinity."""


def _matrices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``A`` (6, 4), ``B`` (6, 6) and ``G`` (6, 3) by the Toom-Cook construction from `POINTS`, in float64."""
    others = [[other for other in POINTS if other != point] for point in POINTS]
    a, g, b = np.zeros((WINDOW, TILE)), np.zeros((WINDOW, 3)), np.zeros((WINDOW, WINDOW))
    a[:-1], a[-1, -1] = np.vander(POINTS, TILE, increasing=True), 1
    g[:-1], g[-1, -1] = np.vander(POINTS, 3, increasing=True), 1
    for row, point in enumerate(POINTS):
        g[row] /= np.prod([point - other for other in others[row]])
        b[:-1, row] = np.poly(others[row])[::-1]
    b[:, -1] = np.poly(POINTS)[::-1]
    return a, b, g


A, B, G = _matrices()


@jax.jit
def prepare_kernel(kernel: Array) -> Array:
    """Compute ``G k Gᵀ`` for each pair of channels: ``(3, 3, c_in, c_out)`` to ``(36, c_out, c_in)``."""
    matrix, kernel = jnp.asarray(np.kron(G, G), kernel.dtype), kernel.swapaxes(2, 3)
    transformed = jnp.matmul(matrix, kernel.reshape(9, -1), precision=lax.Precision.HIGHEST)
    return transformed.reshape(WINDOW**2, *kernel.shape[2:])


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def correlate(x: Array, transformed: Array, padding: int = 1) -> Array:
    """Cross-correlate a map. Differentiable in reverse mode, to any order.

    The gradient transposes the steps of the forward pass one by one.

    Args:
        x: ``(n, h, w, c_in)``.
        transformed: ``(36, c_out, c_in)``, from `prepare_kernel`.
        padding: The rows and columns of zeros on each side: 1, or 0.

    Returns:
        ``(n, h, w, c_out)``; without padding two rows and columns less.
    """
    height, width = (side + 2 * padding - 2 for side in x.shape[1:3])
    return _tile_outputs(_products(_transform_windows(x, padding), transformed, 2))[:, :height, :width]


def _forward(x: Array, transformed: Array, padding: int) -> tuple[Array, tuple[Array, Array]]:
    return correlate(x, transformed, padding), (x, transformed)


def _backward(padding: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    x, transformed = saved
    tiles = _transform_tiles(gradient)
    windows = _transform_windows(x, padding)
    kernel_gradient = lax.dot_general(_flat(tiles), _flat(windows), (((1,), (1,)), ((0,), (0,))))
    return _overlap_add(_products(tiles, transformed, 1), x.shape, padding), kernel_gradient


correlate.defvjp(_forward, _backward)


def _flat(tiles: Array) -> Array:
    """``(6, 6, n, H, W, c)`` to ``(36, n H W, c)``."""
    return tiles.reshape(WINDOW**2, -1, tiles.shape[-1])


def _products(tiles: Array, transformed: Array, axis: int) -> Array:
    """The 36 matrix products, contracting ``axis`` of ``transformed``: ``(6, 6, n, H, W, c')``."""
    y = lax.dot_general(_flat(tiles), transformed, (((2,), (axis,)), ((0,), (0,))))
    return lax.optimization_barrier(y).reshape(*tiles.shape[:-1], -1)


def _combine(matrix: np.ndarray, parts: Sequence[Array]) -> list[Array]:
    """``matrix @ parts``, unrolled so that zero entries cost nothing."""
    return [
        reduce(jnp.add, [float(factor) * part for factor, part in zip(row, parts, strict=True) if factor])
        for row in matrix
    ]


def _tile_count(size: int) -> int:
    return -(-size // TILE)


def _transform_windows(x: Array, padding: int) -> Array:
    """``Bᵀ d B`` of each 6 x 6 window, one direction after the other: ``(6, 6, n, H, W, c)``."""
    n, h, w, c = x.shape
    rows, columns = (_tile_count(side + 2 * padding - 2) for side in (h, w))
    zeros = [(padding, TILE * (count + 1) - padding - side) for count, side in ((rows, h), (columns, w))]
    x = jnp.pad(x, ((0, 0), *zeros, (0, 0))).reshape(n, rows + 1, TILE, -1, c)
    parts = [x[:, :-1, k] if k < TILE else x[:, 1:, k - TILE] for k in range(WINDOW)]
    # Without a barrier, XLA recomputes the first direction for each output of the second.
    x = lax.optimization_barrier(jnp.stack(_combine(B.T, parts)))
    x = x.reshape(WINDOW, n, rows, columns + 1, TILE, c)
    parts = [x[:, :, :, :-1, k] if k < TILE else x[:, :, :, 1:, k - TILE] for k in range(WINDOW)]
    return lax.optimization_barrier(jnp.stack(_combine(B.T, parts), 1))


def _tile_outputs(products: Array) -> Array:
    """``Aᵀ m A`` of each tile, assembled to a map: ``(n, 4 H, 4 W, c_out)``."""
    n, rows, columns, c = products.shape[2:]
    y = lax.optimization_barrier(jnp.stack(_combine(A.T, [products[k] for k in range(WINDOW)]), 3))
    y = jnp.stack(_combine(A.T, [y[k] for k in range(WINDOW)]), 4)
    return y.reshape(n, rows * TILE, columns * TILE, c)


def _transform_tiles(y: Array) -> Array:
    """``A y Aᵀ`` of each 4 x 4 tile, the transpose of `_tile_outputs`: ``(6, 6, n, H, W, c_out)``."""
    n, h, w, c = y.shape
    rows, columns = _tile_count(h), _tile_count(w)
    y = jnp.pad(y, ((0, 0), (0, TILE * rows - h), (0, TILE * columns - w), (0, 0)))
    y = y.reshape(n, rows, TILE, columns, TILE, c)
    y = lax.optimization_barrier(jnp.stack(_combine(A, [y[:, :, k] for k in range(TILE)])))
    return lax.optimization_barrier(jnp.stack(_combine(A, [y[:, :, :, :, k] for k in range(TILE)]), 1))


def _overlap_add(products: Array, shape: Sequence[int], padding: int) -> Array:
    """``B m Bᵀ`` of each window, summed where windows overlap: ``(n, h, w, c_in)``.

    The transpose of `_transform_windows`.
    """
    n, rows, columns, c = products.shape[2:]
    x = _add_overlaps(_combine(B, [products[:, k] for k in range(WINDOW)]), 3)
    x = x.reshape(WINDOW, n, rows, TILE * (columns + 1), c)[:, :, :, padding : shape[2] + padding]
    x = lax.optimization_barrier(x)
    x = _add_overlaps(_combine(B, [x[k] for k in range(WINDOW)]), 1)
    return x.reshape(n, TILE * (rows + 1), shape[2], c)[:, padding : shape[1] + padding]


def _add_overlaps(parts: Sequence[Array], axis: int) -> Array:
    """Reduce six rows for each window to four for each tile: the last two overlap the first two of the next tile."""

    def shifted(part: Array, before: int) -> Array:
        return jnp.pad(part, [(before, 1 - before) if i == axis else (0, 0) for i in range(part.ndim)])

    return jnp.stack(
        [
            shifted(parts[k], 0) + shifted(parts[k + TILE], 1) if k + TILE < WINDOW else shifted(parts[k], 0)
            for k in range(TILE)
        ],
        axis + 1,
    )
