"""Patches, square neighbourhoods of features, and the search for the nearest patches of another image."""

import functools
import operator
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.statistics.distances import LARGEST_MATRIX, SHORTEST, chunk_size
from jnst.types import Array, Features, of_rank, sum_dtype


def patch_counts(features: Array, size: int, stride: int) -> tuple[int, int]:
    """Number of patches of ``(..., h, w, c)``, vertically and horizontally.

    Raises:
        ArgumentError: Features smaller than a patch, or a size or stride below 1.
    """
    if size < 1 or stride < 1:
        raise ArgumentError(f"patches of size {size} at stride {stride}: choose whole numbers of at least 1")
    height, width = features.shape[-3:-1]
    if min(height, width) < size:
        raise ArgumentError(
            f"features of {height}x{width} positions have no {size}x{size} patch: "
            "use a larger image, an earlier layer or smaller patches"
        )
    return (height - size) // stride + 1, (width - size) // stride + 1


def patch_entries(features: Array, size: int, stride: int) -> Iterator[Array]:
    """Yield the entries of all patches at each of the ``size²`` offsets, row by row: ``(..., p, q, c)`` each."""
    rows, columns = patch_counts(features, size, stride)
    for top in range(size):
        for left in range(size):
            bottom, right = top + (rows - 1) * stride + 1, left + (columns - 1) * stride + 1
            yield features[..., top:bottom:stride, left:right:stride, :]


def patches(features: Features, size: int = 3, stride: int = 1) -> Array:
    """Collect the patches of an image as vectors.

    Args:
        features: ``(..., h, w, c)``.
        size: Side of a patch.
        stride: Step between patches, in both directions.

    Returns:
        ``(..., p, q, size² c)`` with ``p = (h - size) // stride + 1``, and q likewise. A vector holds the patch's
        positions row by row, channels last.

    Raises:
        ArgumentError: Features smaller than a patch, or a size or stride below 1.
    """
    stacked = jnp.stack(list(patch_entries(features, size, stride)), -2)
    return stacked.reshape(*stacked.shape[:-2], -1)


@functools.partial(jax.jit, static_argnames=("size", "stride"))
def nearest_patches(
    features: Features, others: Features, allowed: Array, size: int = 3, stride: int = 1
) -> tuple[Array, Array]:
    """Find each patch's nearest patch in another image by normalised cross-correlation, ``max_j ⟨p, s_j⟩ / |s_j|``.

    Inner products of patches are sums of inner products of positions along diagonals, which takes ``size²`` times
    fewer operations than multiplying the patches. The inner products held in memory at once are about
    `LARGEST_MATRIX`, but at least those of one row of patches.

    Args:
        features: ``(..., h, w, c)``.
        others: ``(..., h', w', c)``; leading axes broadcast.
        allowed: ``(..., p', q')``, True for the patches of ``others`` that may be chosen.
        size: Side of a patch.
        stride: Step between patches, in both images.

    Returns:
        Flat indices ``(..., p, q)`` into ``(p', q')``, and the correlations ``(..., p, q)``, divided by the length of
        the other patch only. Both are without gradient. Among equal correlations the first is chosen. Where no patch
        is allowed, the index is 0 and the correlation -inf.

    Raises:
        ArgumentError: Features smaller than a patch, or a size or stride below 1.
    """
    search = jnp.vectorize(
        functools.partial(_nearest_patches, size=size, stride=stride), signature="(h,w,c),(a,b,c),(r,s)->(p,q),(p,q)"
    )
    return search(lax.stop_gradient(features), lax.stop_gradient(others), allowed)


def _nearest_patches(features: Array, others: Array, allowed: Array, *, size: int, stride: int) -> tuple[Array, Array]:
    dtype = sum_dtype(features, others)
    features, others = features.astype(dtype), others.astype(dtype)
    height, width, channels = features.shape
    rows, columns = patch_counts(features, size, stride)
    squares = jnp.sum(others**2, -1, keepdims=True)
    lengths = jnp.sqrt(functools.reduce(operator.add, patch_entries(squares, size, stride)))[..., 0]
    scale = jnp.where(lengths > SHORTEST, 1.0 / jnp.maximum(lengths, SHORTEST), 0.0)

    band_rows = chunk_size(rows, width * others.shape[0] * others.shape[1] * stride, LARGEST_MATRIX)
    bands = -(-rows // band_rows)
    band_height = (band_rows - 1) * stride + size
    features = jnp.pad(features, ((0, max(0, (bands * band_rows - 1) * stride + size - height)), (0, 0), (0, 0)))

    def search(band: Array) -> tuple[Array, Array]:
        strip = lax.dynamic_slice(features, (band * band_rows * stride, 0, 0), (band_height, width, channels))
        inner = jnp.einsum("hwc,abc->hwab", strip, others, precision=lax.Precision.HIGHEST)
        scores = jnp.where(allowed, _patch_products(inner, size, stride) * of_rank(scale, 4), -jnp.inf)
        scores = scores.reshape(band_rows, columns, -1)
        return jnp.argmax(scores, -1), jnp.max(scores, -1)

    indices, scores = lax.map(search, jnp.arange(bands))
    return indices.reshape(-1, columns)[:rows], scores.reshape(-1, columns)[:rows]


def _patch_products(inner: Array, size: int, stride: int) -> Array:
    """Sum inner products of positions ``(h, w, a, b)`` over a patch's offsets, to those of patches ``(p, q, r, s)``."""
    return _sum_shifted(_sum_shifted(inner, (1, 3), size, stride), (0, 2), size, stride)


def _sum_shifted(array: Array, axes: tuple[int, int], size: int, stride: int) -> Array:
    def shifted(offset: int) -> Array:
        part = array
        for axis in axes:
            stop = offset + (array.shape[axis] - size) // stride * stride + 1
            part = lax.slice_in_dim(part, offset, stop, stride, axis)
        return part

    return functools.reduce(operator.add, map(shifted, range(size)))
