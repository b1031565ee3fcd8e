"""Square roots of positive semi-definite matrices, by matrix products alone.

All of them are Newton-Schulz iterations, which bring every singular value x of a matrix of norm 1 to 1: x becomes
x (3 - x²) / 2, and so a small one grows by 3/2 at a time. After k iterations those below 1.5⁻ᵏ are still too small.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.types import Array, Matrix, PerImage

MOST_ITERATIONS = 18
"""After them an eigenvalue of -1e-7 |A|, as rounding makes it, has become -0.2; from -1 on it squares at every step."""

_product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def matrix_square_root(matrix: Matrix, iterations: int | None = 12) -> Matrix:
    """``A^½``, with ``A^½ A^½ = A``, by the coupled Newton-Schulz iteration on ``A / |A|`` (Frobenius).

    Args:
        matrix: ``(..., c, c)``, symmetric and positive semi-definite but for rounding.
        iterations: 1 to 18; eigenvalues below ``1.5^(-2 iterations) |A|`` get too small a root. After more, negative
            eigenvalues by rounding would grow without bounds. None: scaled iterations, which converge for all
            eigenvalues above ``4e-6 |A|``.

    Returns:
        ``(..., c, c)`` in float32.

    Raises:
        ArgumentError: Another number of iterations.

    References:
        Higham, Functions of Matrices, SIAM 2008, section 6.3; the scaling: Chen & Chow, A Stable Scaling of
        Newton-Schulz for Improving the Sign Function Computation of a Hermitian Matrix, 2014.
    """
    return _coupled_roots(matrix, _scales(iterations))[0]


def root_fidelity(covariance: Matrix, root: Matrix, iterations: int | None = 12) -> PerImage:
    """``tr (A^½ B A^½)^½``, the part of the Wasserstein distance of two normal distributions where covariances meet.

    Args:
        covariance: B, ``(..., c, c)``, symmetric and positive semi-definite but for rounding.
        root: ``A^½``, likewise; leading axes broadcast.
        iterations: Of `matrix_square_root` on the product, whose eigenvalues are spread twice as wide as those of A
            and B, and as many again for the gradient. None: as the sum of the singular values of ``A^½ B^½``, which
            squares nothing: to 1e-4 in float32, for about the same work as 12.

    Returns:
        ``(...)`` in float32. The gradient by B is ``½ T`` with ``T = A^½ (A^½ B A^½)^-½ A^½``, the optimal transport
        map from B to A: in closed form, not through the iterations.

    Raises:
        ArgumentError: Another number of iterations than 1 to 18.

    References:
        Takatsu, Wasserstein Geometry of Gaussian Measures, Osaka Journal of Mathematics 2011; the inverse root in the
        gradient: Lin & Maji, Improved Bilinear Pooling with CNNs, BMVC 2017.
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
    # The coupled iteration has an inverse root too, but where neither converges the published gradient is this one.
    norm = _frobenius_norm(root)
    inverse = _newton_schulz(_product(root / norm, root / norm), _scales(iterations))[1] / norm
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
    half, inverse = _coupled_roots(covariance, _scales(None))
    product = _product(root, half)
    factor = _polar_factor(product)
    transport = _symmetric_map(_product(_product(root, factor), inverse), _product(inverse, half))
    tangent = 0.5 * _inner(transport, tangents[0]) + _inner(_product(factor, half), tangents[1])
    return _inner(factor, product), tangent


def _symmetric_map(transport: Matrix, projection: Matrix) -> Matrix:
    """The symmetric map that agrees with ``transport`` where B has variance, onto which ``projection`` projects.

    Elsewhere ``transport``, right for vectors that B produces, is rounding times the inverse root; its transpose would
    apply that to them.
    """
    projected = _product(transport, projection)
    half = projected - 0.5 * _product(jnp.matrix_transpose(projection), projected)
    return half + jnp.matrix_transpose(half)


def _inner(left: Matrix, right: Matrix) -> PerImage:
    return jnp.sum(left * right, (-2, -1))


def _coupled_roots(matrix: Matrix, scales: Array) -> tuple[Matrix, Matrix]:
    """The square root and its inverse."""
    matrix = matrix.astype(jnp.float32)
    norm = _frobenius_norm(matrix)
    root, inverse = _newton_schulz(matrix / norm, scales)
    return root * jnp.sqrt(norm), inverse / jnp.sqrt(norm)


def _newton_schulz(matrix: Matrix, scales: Array) -> tuple[Matrix, Matrix]:
    """The same where no eigenvalue is above 1; the inverse stays below the product of all growth."""
    eye = jnp.eye(matrix.shape[-1], dtype=jnp.float32)

    def step(roots: tuple[Matrix, Matrix], scale: Array) -> tuple[tuple[Matrix, Matrix], None]:
        root, inverse = roots
        factor = (0.5 * scale) * (3.0 * eye - scale**2 * _product(inverse, root))
        return (_product(root, factor), _product(factor, inverse)), None

    return lax.scan(step, (matrix, jnp.broadcast_to(eye, matrix.shape)), scales)[0]


def _polar_factor(matrix: Matrix) -> Matrix:
    """U of ``X = U H``, orthogonal and H positive semi-definite; singular values below 1e-5 |X| stay below 1 in U."""
    eye = jnp.eye(matrix.shape[-1], dtype=jnp.float32)

    def step(factor: Matrix, scale: Array) -> tuple[Matrix, None]:
        square = _product(jnp.matrix_transpose(factor), factor)
        return _product(factor, (0.5 * scale) * (3.0 * eye - scale**2 * square)), None

    return lax.scan(step, matrix / _frobenius_norm(matrix), _growing_scales(1e-5))[0]


def _frobenius_norm(matrix: Matrix) -> Array:
    """``(..., 1, 1)``; 1 for a matrix of zeros. Divided by its largest entry first: fourth powers would overflow."""
    largest = lax.stop_gradient(jnp.max(jnp.abs(matrix), (-2, -1), keepdims=True))
    largest = jnp.where(largest > 0, largest, 1.0)
    squares = jnp.sum((matrix / largest) ** 2, (-2, -1), keepdims=True)
    return largest * jnp.sqrt(jnp.where(squares > 0, squares, 1.0))


def _scales(iterations: int | None) -> Array:
    if iterations is None:
        return _growing_scales(2e-3)
    if not 1 <= iterations <= MOST_ITERATIONS:
        raise ArgumentError(
            f"iterations {iterations} gives no square root in float32: take 1 to {MOST_ITERATIONS}, 12 as published, "
            "or None to converge"
        )
    return jnp.ones(iterations, jnp.float32)


def _growing_scales(smallest: float) -> Array:
    """Factors that bring every x from ``smallest`` to 1 soonest; below √3 for a singular value of 1 not to vanish."""
    scales = []
    while smallest < 1 - 1e-7:
        scales.append(min(1.7, (3 / (1 + smallest + smallest**2)) ** 0.5))
        smallest *= 0.5 * scales[-1] * (3 - (scales[-1] * smallest) ** 2)
    return jnp.asarray(scales, jnp.float32)
