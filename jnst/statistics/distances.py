"""Distances between two sets of feature vectors, and nearest neighbours, in bounded memory.

A set is a matrix with one vector per row, ``(..., n, c)``. The search for nearest neighbours has no gradient: losses
differentiate the distances of the pairs that it found, which is the gradient of the minimum.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jnst.statistics.moments import safe_sqrt
from jnst.types import Array, sum_dtype

LARGEST_MATRIX = 2**24
"""Maximum number of entries of a distance matrix held in memory at once: 64 MiB in float32."""
SHORTEST = 1e-8
"""Vectors shorter than this are treated as zero: they have no direction."""


def row_products(x: Array, y: Array) -> Array:
    """Inner products ``x yᵀ`` of rows ``(..., n, c)`` and ``(..., m, c)``: ``(..., n, m)``."""
    return jnp.einsum(
        "...nc,...mc->...nm", x, y, precision=lax.Precision.HIGHEST, preferred_element_type=sum_dtype(x, y)
    )


def normalize_rows(rows: Array) -> Array:
    """Scale rows ``(..., n, c)`` to length 1. Rows shorter than `SHORTEST` become 0, with gradient 0."""
    rows = rows.astype(sum_dtype(rows))
    squares = jnp.sum(rows**2, -1, keepdims=True)
    long = squares > SHORTEST**2
    return jnp.where(long, rows, 0.0) / jnp.sqrt(jnp.where(long, squares, 1.0))


def cosine_distances(x: Array, y: Array) -> Array:
    """``1 - cos(xᵢ, yⱼ)`` for all pairs of rows.

    Args:
        x: ``(..., n, c)``.
        y: ``(..., m, c)``; leading axes broadcast.

    Returns:
        ``(..., n, m)``, from 0 to 2; 1 for rows of zeros.

    >>> cosine_distances(jnp.asarray([[1.0, 0.0]]), jnp.asarray([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])).tolist()
    [[0.0, 1.0, 2.0]]
    """
    return jnp.maximum(1.0 - row_products(normalize_rows(x), normalize_rows(y)), 0.0)


def squared_distances(x: Array, y: Array) -> Array:
    """``|xᵢ - yⱼ|²`` for all pairs of rows, computed as ``|x|² + |y|² - 2xy``.

    Small distances have the rounding error of ``|x|²``.

    Args:
        x: ``(..., n, c)``.
        y: ``(..., m, c)``; leading axes broadcast.

    Returns:
        ``(..., n, m)``, at least 0, in squared units of the rows.
    """
    x, y = x.astype(sum_dtype(x)), y.astype(sum_dtype(y))
    squares = jnp.sum(x**2, -1)[..., :, None] + jnp.sum(y**2, -1)[..., None, :]
    return jnp.maximum(squares - 2.0 * row_products(x, y), 0.0)


def euclidean_distances(x: Array, y: Array) -> Array:
    """``|xᵢ - yⱼ| / √c`` for all pairs of rows: see `squared_distances`. Distances of 0 have gradient 0."""
    return safe_sqrt(squared_distances(x, y) / x.shape[-1])


def paired_cosine_distances(x: Array, y: Array) -> Array:
    """``1 - cos(xᵢ, yᵢ)`` of rows ``(..., n, c)``: ``(..., n)``, exactly 0 (with gradient 0) where they are equal.

    This is half the squared distance of the unit vectors. Two rows of zeros have distance 0.
    """
    return 0.5 * jnp.sum((normalize_rows(x) - normalize_rows(y)) ** 2, -1)


def paired_euclidean_distances(x: Array, y: Array) -> Array:
    """``|xᵢ - yᵢ| / √c`` of rows ``(..., n, c)``: ``(..., n)``, with gradient 0 where they are equal."""
    dtype = sum_dtype(x, y)
    return safe_sqrt(jnp.mean((x.astype(dtype) - y.astype(dtype)) ** 2, -1))


class Distance(NamedTuple):
    """A distance in two forms: ``all_pairs`` of rows gives ``(..., n, m)``; ``paired``, row by row, ``(..., n)``."""

    all_pairs: Callable[[Array, Array], Array]
    paired: Callable[[Array, Array], Array]


DISTANCES: dict[str, Distance] = {
    "cosine": Distance(cosine_distances, paired_cosine_distances),
    "euclidean": Distance(euclidean_distances, paired_euclidean_distances),
    "cosine+euclidean": Distance(
        lambda x, y: cosine_distances(x, y) + euclidean_distances(x, y),
        lambda x, y: paired_cosine_distances(x, y) + paired_euclidean_distances(x, y),
    ),
}
"""The distances by name. Kolkin et al. 2019 compare colours by ``"cosine+euclidean"``."""


class Nearest(NamedTuple):
    """Indices of nearest neighbours: ``of_x`` ``(..., n)`` into y, ``of_y`` ``(..., m)`` into x."""

    of_x: Array
    of_y: Array


@partial(jax.jit, static_argnames="distances")
def nearest_rows(
    x: Array,
    y: Array,
    distances: Callable[[Array, Array], Array] = cosine_distances,
    x_allowed: Array | None = None,
    y_allowed: Array | None = None,
) -> Nearest:
    """Find the nearest neighbour of each row in the other set, in both directions at once.

    At most `LARGEST_MATRIX` distances per pair of sets are held in memory.

    Args:
        x: ``(..., n, c)``.
        y: ``(..., m, c)``; leading axes broadcast.
        distances: Maps rows ``(n, c)`` and ``(m, c)`` to ``(n, m)``.
        x_allowed: ``(..., n)``, False for rows of x that may not be chosen as neighbours. None allows all.
        y_allowed: ``(..., m)``, likewise for rows of y.

    Returns:
        The indices, without gradient. Among equal distances the first is chosen. The index is 0 where no row is
        allowed.
    """
    x_allowed = jnp.ones(x.shape[-2], bool) if x_allowed is None else x_allowed
    y_allowed = jnp.ones(y.shape[-2], bool) if y_allowed is None else y_allowed
    search = jnp.vectorize(partial(_nearest_rows, distances), signature="(n,c),(m,c),(n),(m)->(n),(m)")
    return Nearest(*search(lax.stop_gradient(x), lax.stop_gradient(y), x_allowed, y_allowed))


def _nearest_rows(
    distances: Callable[[Array, Array], Array], x: Array, y: Array, x_allowed: Array, y_allowed: Array
) -> tuple[Array, Array]:
    def search(chunk: tuple[Array, Array]) -> tuple[Array, Array, Array]:
        rows, allowed = chunk
        matrix = distances(rows, y)
        to_x = jnp.where(allowed[:, None], matrix, jnp.inf)
        of_x = jnp.argmin(jnp.where(y_allowed, matrix, jnp.inf), 1)
        return of_x, jnp.min(to_x, 0), jnp.argmin(to_x, 0)

    size = chunk_size(x.shape[0], y.shape[0], LARGEST_MATRIX)
    of_x, least, of_y = lax.map(search, (split_rows(x, size), split_rows(x_allowed, size)))
    chunk = jnp.argmin(least, 0)
    return of_x.reshape(-1)[: x.shape[0]], chunk * size + jnp.take_along_axis(of_y, chunk[None], 0)[0]


def chunk_size(rows: int, columns: int, most: int) -> int:
    """Number of rows of a matrix that have at most ``most`` entries together; at least 1, at most all."""
    return min(rows, max(1, most // columns))


def split_rows(rows: Array, size: int) -> Array:
    """Split ``(n, ...)`` into ``(chunks, size, ...)``, padded with zeros (False)."""
    chunks = -(-rows.shape[0] // size)
    padding = [(0, chunks * size - rows.shape[0])] + [(0, 0)] * (rows.ndim - 1)
    return jnp.pad(rows, padding).reshape(chunks, size, *rows.shape[1:])
