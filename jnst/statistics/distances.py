"""Distances between two sets of feature vectors, and nearest neighbours, in float32 and in bounded memory.

A set is a matrix with a row for each vector, ``(..., n, c)``. Searches have no gradient: a loss differentiates the
distance of the pairs that were found, which is the gradient of the minimum.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jnst.types import Array

LARGEST_MATRIX = 2**24
"""Entries of a matrix of distances that is held at once: 64 MiB."""
SHORTEST = 1e-8
"""A vector shorter than this has no direction."""


def products(x: Array, y: Array) -> Array:
    """Inner products ``x yᵀ`` of rows ``(..., n, c)`` and ``(..., m, c)``: ``(..., n, m)`` in float32."""
    return jnp.einsum("...nc,...mc->...nm", x, y, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)


def normalize_rows(rows: Array) -> Array:
    """Scale rows ``(..., n, c)`` to length 1, in float32; one shorter than `SHORTEST` becomes 0, with gradient 0."""
    rows = rows.astype(jnp.float32)
    squares = jnp.sum(rows**2, -1, keepdims=True)
    long = squares > SHORTEST**2
    return jnp.where(long, rows, 0.0) / jnp.sqrt(jnp.where(long, squares, 1.0))


def cosine_distances(x: Array, y: Array) -> Array:
    """``1 - cos(xᵢ, yⱼ)`` for all pairs of rows.

    Args:
        x: ``(..., n, c)``.
        y: ``(..., m, c)``; leading axes broadcast.

    Returns:
        ``(..., n, m)`` in float32, from 0 to 2; 1 where a row is 0.
    """
    return jnp.maximum(1.0 - products(normalize_rows(x), normalize_rows(y)), 0.0)


def squared_distances(x: Array, y: Array) -> Array:
    """``|xᵢ - yⱼ|²`` for all pairs of rows, as ``|x|² + |y|² - 2xy``: near 0 it has the rounding errors of ``|x|²``.

    Args:
        x: ``(..., n, c)``.
        y: ``(..., m, c)``; leading axes broadcast.

    Returns:
        ``(..., n, m)`` in float32, at least 0, in squared units of the rows.
    """
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    squares = jnp.sum(x**2, -1)[..., :, None] + jnp.sum(y**2, -1)[..., None, :]
    return jnp.maximum(squares - 2.0 * products(x, y), 0.0)


def euclidean_distances(x: Array, y: Array) -> Array:
    """``|xᵢ - yⱼ| / √c`` for all pairs of rows: `squared_distances` per channel, and their root."""
    return jnp.sqrt(squared_distances(x, y) / x.shape[-1])


def paired_cosine_distances(x: Array, y: Array) -> Array:
    """``1 - cos(xᵢ, yᵢ)`` of rows ``(..., n, c)``: ``(..., n)``, exactly 0 (with gradient 0) where they are equal.

    Computed as half the squared difference of unit vectors. Two rows without direction have the distance 0.
    """
    return 0.5 * jnp.sum((normalize_rows(x) - normalize_rows(y)) ** 2, -1)


def paired_euclidean_distances(x: Array, y: Array) -> Array:
    """``|xᵢ - yᵢ| / √c`` of rows ``(..., n, c)``: ``(..., n)``, with gradient 0 where they are equal."""
    squares = jnp.mean((x.astype(jnp.float32) - y.astype(jnp.float32)) ** 2, -1)
    differ = squares > 0
    return jnp.where(differ, jnp.sqrt(jnp.where(differ, squares, 1.0)), 0.0)


class Distance(NamedTuple):
    """A distance in two forms: ``between`` all pairs ``(..., n, m)``, and ``along`` matched rows ``(..., n)``."""

    between: Callable[[Array, Array], Array]
    along: Callable[[Array, Array], Array]


DISTANCES: dict[str, Distance] = {
    "cosine": Distance(cosine_distances, paired_cosine_distances),
    "euclidean": Distance(euclidean_distances, paired_euclidean_distances),
    "cosine+euclidean": Distance(
        lambda x, y: cosine_distances(x, y) + euclidean_distances(x, y),
        lambda x, y: paired_cosine_distances(x, y) + paired_euclidean_distances(x, y),
    ),
}
"""``"cosine+euclidean"`` is what Kolkin et al. 2019 compare colours by."""


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
    """Find every row's nearest neighbour in the other set, both ways in one pass.

    Args:
        x: ``(..., n, c)``.
        y: ``(..., m, c)``; leading axes broadcast.
        distances: From rows ``(n, c)`` and ``(m, c)`` to ``(n, m)``.
        x_allowed: ``(..., n)``, False for rows that are no neighbour of any y; None: all are.
        y_allowed: ``(..., m)`` likewise.

    Returns:
        The indices, without gradient; the first among equals, and 0 where no row is allowed. At most
        `LARGEST_MATRIX` distances of a pair of sets are held at once.
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
    of_x, least, of_y = lax.map(search, (in_chunks(x, size), in_chunks(x_allowed, size)))
    chunk = jnp.argmin(least, 0)
    return of_x.reshape(-1)[: x.shape[0]], chunk * size + jnp.take_along_axis(of_y, chunk[None], 0)[0]


def chunk_size(rows: int, columns: int, most: int) -> int:
    """How many rows of a matrix have at most ``most`` entries; at least one, at most all."""
    return min(rows, max(1, most // columns))


def in_chunks(rows: Array, size: int) -> Array:
    """Cut ``(n, ...)`` into ``(chunks, size, ...)``, filled up with zeros (False)."""
    chunks = -(-rows.shape[0] // size)
    padding = [(0, chunks * size - rows.shape[0])] + [(0, 0)] * (rows.ndim - 1)
    return jnp.pad(rows, padding).reshape(chunks, size, *rows.shape[1:])
