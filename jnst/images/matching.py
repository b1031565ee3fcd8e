"""The colours of an image, mapped linearly to another's mean and covariance."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.types import Array, Image, Matrix

FLAT = 1e-7
"""The variance added to every colour direction: of a deviation of 0.0003, a tenth of a step of 8 bits."""

_product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def _in_basis(vectors: Matrix, matrix: Matrix) -> Matrix:
    return _product(_product(jnp.swapaxes(vectors, -1, -2), matrix), vectors)


@jax.custom_jvp
def _square_root(matrix: Matrix) -> Matrix:
    """The symmetric root of a positive semi-definite matrix."""
    values, vectors = jnp.linalg.eigh(matrix)
    return _product(vectors * jnp.sqrt(jnp.maximum(values, 0.0))[..., None, :], jnp.swapaxes(vectors, -1, -2))


@_square_root.defjvp
def _square_root_jvp(primals: tuple[Matrix], tangents: tuple[Matrix]) -> tuple[Matrix, Matrix]:
    # From S S = M follows dS S + S dS = dM, solved entry by entry in the basis of the eigenvectors; unlike the
    # eigenvectors' own derivatives it is finite where eigenvalues are equal.
    values, vectors = jnp.linalg.eigh(primals[0])
    roots = jnp.sqrt(jnp.maximum(values, 0.0))
    sums = jnp.maximum(roots[..., :, None] + roots[..., None, :], FLAT)
    change = _in_basis(jnp.swapaxes(vectors, -1, -2), _in_basis(vectors, tangents[0]) / sums)
    return _square_root(primals[0]), change


def _cholesky(source: Matrix, target: Matrix) -> Matrix:
    return _product(jnp.linalg.cholesky(target), jnp.linalg.inv(jnp.linalg.cholesky(source)))


def _pca(source: Matrix, target: Matrix) -> Matrix:
    return _product(_square_root(target), jnp.linalg.inv(_square_root(source)))


def _symmetric(source: Matrix, target: Matrix) -> Matrix:
    root = _square_root(source)
    return _in_basis(jnp.linalg.inv(root), _square_root(_in_basis(root, target)))


COLOUR_MAPS: dict[str, Callable[[Matrix, Matrix], Matrix]] = {
    "cholesky": _cholesky,
    "pca": _pca,
    "symmetric": _symmetric,
}
"""Matrices A with ``A S Aᵀ = T`` for covariances S and T, from their Cholesky factors (``L_T L_S⁻¹``), from their roots
along principal axes (``T^½ S^-½``), and the symmetric one ``S^-½ (S^½ T S^½)^½ S^-½``, which moves colours least."""


def match_histogram(source: Image, target: Image, method: str = "symmetric", *, clip: bool = True) -> Image:
    """Map the colours of an image linearly so that their mean and covariance become another image's.

    ``x' = A (x - mean(source)) + mean(target)``

    Args:
        source: ``(..., h, w, 3)`` in [0, 1].
        target: ``(..., h', w', 3)`` in [0, 1]; leading axes broadcast.
        method: A key of `COLOUR_MAPS`.
        clip: Whether the result is clipped to [0, 1]. Without it mean and covariance are the target's, except
            along colours in which the source hardly varies (see `FLAT`): what is grey stays on a line.

    Returns:
        ``(..., h, w, 3)`` in float32.

    Raises:
        ArgumentError: An unknown method.

    References:
        Gatys, Bethge, Hertzmann & Shechtman, Preserving Color in Neural Artistic Style Transfer, 2016 (``"cholesky"``,
        and ``"pca"`` of Hertzmann et al., Image Analogies, SIGGRAPH 2001); Pitié & Kokaram, The Linear
        Monge-Kantorovitch Linear Colour Mapping, CVMP 2007 (``"symmetric"``).
    """
    if method not in COLOUR_MAPS:
        raise ArgumentError(f"method {method!r} is unknown: choose one of {', '.join(COLOUR_MAPS)}")
    (mean, covariance), (goal_mean, goal_covariance) = _moments(source), _moments(target)
    matrix = COLOUR_MAPS[method](covariance, goal_covariance)[..., None, :, :]
    mapped = _product(source.astype(jnp.float32) - mean, jnp.swapaxes(matrix, -1, -2)) + goal_mean
    return jnp.clip(mapped, 0.0, 1.0) if clip else mapped


def _moments(image: Image) -> tuple[Array, Matrix]:
    """The mean ``(..., 1, 1, 3)`` and the covariance ``(..., 3, 3)`` of colours."""
    image = image.astype(jnp.float32)
    mean = jnp.mean(image, (-3, -2), keepdims=True)
    products = jnp.einsum("...hwi,...hwj->...ij", image - mean, image - mean, precision=lax.Precision.HIGHEST)
    return mean, products / (image.shape[-3] * image.shape[-2]) + FLAT * jnp.eye(3)
