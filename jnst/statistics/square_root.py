"""Square roots of positive semi-definite matrices, from matrix products only.

All functions use Newton-Schulz iterations, which bring the singular values x of a matrix of norm 1 towards 1 by
``x → x (3 - x²) / 2``. A small one grows by a factor of 3/2 per iteration, so after k iterations those below 1.5⁻ᵏ are
still too small. Scaled iterations grow small singular values faster.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.types import Array, Matrix, PerImage, sum_dtype

MOST_ITERATIONS = 18
"""After 18 iterations a negative eigenvalue of -1e-7 |A|, from float32 rounding, has grown to -0.2. Below -1, each
iteration squares it."""


class _Convergence(NamedTuple):
    """How far scaled iterations go.

    Attributes:
        root: The smallest singular value that `matrix_square_root` brings to 1: the square root of the smallest
            eigenvalue relative to ``|A|``. Rounding errors of eigenvalues must stay well below its square.
        polar: The smallest singular value that the polar factor brings to 1.
        error: The distance from 1 that counts as converged.
    """

    root: float
    polar: float
    error: float


_CONVERGENCE = {
    "float32": _Convergence(root=2e-3, polar=1e-5, error=1e-7),
    "float64": _Convergence(root=1e-6, polar=1e-12, error=1e-15),
}

_product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def matrix_square_root(matrix: Matrix, iterations: int | None = 12) -> Matrix:
    """``A^½``, with ``A^½ A^½ = A``, by the coupled Newton-Schulz iteration on ``A / |A|`` (Frobenius norm).

    Args:
        matrix: ``(..., c, c)``, symmetric and positive semi-definite up to rounding.
        iterations: From 1 to 18. The roots of eigenvalues below ``1.5^(-2 iterations) |A|`` are too small; with more
            than 18 iterations, negative eigenvalues from rounding would grow without bounds. None uses scaled
            iterations, which converge for all eigenvalues above ``4e-6 |A|`` (``1e-12 |A|`` in float64).

    Returns:
        ``(..., c, c)``.

    Raises:
        ArgumentError: Iterations outside 1 to 18.

    References:
        Higham, Functions of Matrices, SIAM 2008, section 6.3; for the scaling: Chen & Chow, A Stable Scaling of
        Newton-Schulz for Improving the Sign Function Computation of a Hermitian Matrix, 2014.
    """
    return _coupled_roots(matrix, iterations)[0]


def root_fidelity(covariance: Matrix, root: Matrix, iterations: int | None = 12) -> PerImage:
    """``tr (A^½ B A^½)^½``, the cross term of the Wasserstein distance between two normal distributions.

    The gradient with respect to B is ``½ T``, where ``T = A^½ (A^½ B A^½)^-½ A^½`` is the optimal transport map from
    B to A. It is computed in closed form, without differentiating the iterations.

    Args:
        covariance: B, ``(..., c, c)``, symmetric and positive semi-definite up to rounding.
        root: ``A^½``, likewise; leading axes broadcast.
        iterations: Iterations of `matrix_square_root` on the product, whose condition number is about that of A times
            that of B; the gradient takes as many again. None computes the sum of the singular values of
            ``A^½ B^½`` instead, which avoids that product: accurate to 1e-4 in float32, at about the cost of 12
            iterations.

    Returns:
        ``(...)``.

    Raises:
        ArgumentError: Iterations outside 1 to 18.

    References:
        Takatsu, Wasserstein Geometry of Gaussian Measures, Osaka Journal of Mathematics 2011; for the inverse root in
        the gradient: Lin & Maji, Improved Bilinear Pooling with CNNs, BMVC 2017.
    """
    if iterations is None:
        return _nuclear_norm_of_roots(covariance, root)
    return _trace_of_root(_product(_product(root, covariance), root), iterations)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _trace_of_root(matrix: Matrix, iterations: int) -> PerImage:
    return jnp.trace(matrix_square_root(matrix, iterations), axis1=-2, axis2=-1)


@_trace_of_root.defjvp
def _trace_of_root_jvp(iterations: int, primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[PerImage, PerImage]:
    """The derivative: d tr M^½ = ½ tr(M^-½ dM)."""
    root = matrix_square_root(primals[0], iterations)
    # The coupled iteration has an inverse root as well, but where neither converges, the published gradient is this.
    norm = _frobenius_norm(root)
    inverse = _newton_schulz(_product(root / norm, root / norm), _scales(iterations, root.dtype))[1] / norm
    return jnp.trace(root, axis1=-2, axis2=-1), 0.5 * _inner(inverse, tangents[0])


@jax.custom_jvp
def _nuclear_norm_of_roots(covariance: Matrix, root: Matrix) -> PerImage:
    product = _product(root, matrix_square_root(covariance, None))
    return _inner(_polar_factor(product), product)


@_nuclear_norm_of_roots.defjvp
def _nuclear_norm_of_roots_jvp(
    primals: tuple[Matrix, Matrix], tangents: tuple[Matrix, Matrix]
) -> tuple[PerImage, PerImage]:
    """With X = A^½ B^½ = U H, the transport map is A^½ U B^-½, and d tr H = tr Uᵀ dX."""
    covariance, root = primals
    half, inverse = _coupled_roots(covariance, None)
    product = _product(root, half)
    factor = _polar_factor(product)
    transport = _symmetric_map(_product(_product(root, factor), inverse), _product(inverse, half))
    tangent = 0.5 * _inner(transport, tangents[0]) + _inner(_product(factor, half), tangents[1])
    return _inner(factor, product), tangent


def _symmetric_map(transport: Matrix, projection: Matrix) -> Matrix:
    """The symmetric map that agrees with ``transport`` on the subspace where B has variance.

    ``projection`` projects onto that subspace. Outside it, ``transport`` multiplies rounding errors by the inverse
    root, and plain symmetrisation would mix them into the subspace.
    """
    projected = _product(transport, projection)
    half = projected - 0.5 * _product(jnp.matrix_transpose(projection), projected)
    return half + jnp.matrix_transpose(half)


def _inner(left: Matrix, right: Matrix) -> PerImage:
    return jnp.sum(left * right, (-2, -1))


def _coupled_roots(matrix: Matrix, iterations: int | None) -> tuple[Matrix, Matrix]:
    """The square root and its inverse."""
    matrix = matrix.astype(sum_dtype(matrix))
    norm = _frobenius_norm(matrix)
    root, inverse = _newton_schulz(matrix / norm, _scales(iterations, matrix.dtype))
    return root * jnp.sqrt(norm), inverse / jnp.sqrt(norm)


def _newton_schulz(matrix: Matrix, scales: Array) -> tuple[Matrix, Matrix]:
    """The square root and its inverse, for eigenvalues up to 1. The inverse is bounded by the product of all growth."""
    eye = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)

    def step(roots: tuple[Matrix, Matrix], scale: Array) -> tuple[tuple[Matrix, Matrix], None]:
        root, inverse = roots
        factor = (0.5 * scale) * (3.0 * eye - scale**2 * _product(inverse, root))
        return (_product(root, factor), _product(factor, inverse)), None

    return lax.scan(step, (matrix, jnp.broadcast_to(eye, matrix.shape)), scales)[0]


def _polar_factor(matrix: Matrix) -> Matrix:
    """U of ``X = U H``, with U orthogonal and H positive semi-definite.

    Singular values of X below 1e-5 |X| (1e-12 |X| in float64) stay below 1 in U.
    """
    eye = jnp.eye(matrix.shape[-1], dtype=matrix.dtype)
    goal = _CONVERGENCE[matrix.dtype.name]

    def step(factor: Matrix, scale: Array) -> tuple[Matrix, None]:
        square = _product(jnp.matrix_transpose(factor), factor)
        return _product(factor, (0.5 * scale) * (3.0 * eye - scale**2 * square)), None

    scales = jnp.asarray(_growing_scales(goal.polar, goal.error), matrix.dtype)
    return lax.scan(step, matrix / _frobenius_norm(matrix), scales)[0]


def _frobenius_norm(matrix: Matrix) -> Array:
    """``(..., 1, 1)``; 1 for a matrix of zeros. Scaled by the largest entry first, so that squares do not overflow."""
    largest = lax.stop_gradient(jnp.max(jnp.abs(matrix), (-2, -1), keepdims=True))
    largest = jnp.where(largest > 0, largest, 1.0)
    squares = jnp.sum((matrix / largest) ** 2, (-2, -1), keepdims=True)
    return largest * jnp.sqrt(jnp.where(squares > 0, squares, 1.0))


def _scales(iterations: int | None, dtype: jnp.dtype) -> Array:
    """The scale of each coupled iteration."""
    if iterations is None:
        goal = _CONVERGENCE[dtype.name]
        return jnp.asarray(_growing_scales(goal.root, goal.error), dtype)
    if not 1 <= iterations <= MOST_ITERATIONS:
        raise ArgumentError(
            f"iterations {iterations} is out of range: choose 1 to {MOST_ITERATIONS} (12 as published), or None to "
            "iterate until convergence"
        )
    return jnp.ones(iterations, dtype)


def _growing_scales(smallest: float, error: float) -> list[float]:
    """Factors that bring all singular values from ``smallest`` up to 1 within ``error`` of 1 soonest.

    They stay below √3, beyond which a singular value of 1 would vanish.
    """
    scales = []
    while smallest < 1 - error:
        scales.append(min(1.7, (3 / (1 + smallest + smallest**2)) ** 0.5))
        smallest *= 0.5 * scales[-1] * (3 - (scales[-1] * smallest) ** 2)
    return scales
