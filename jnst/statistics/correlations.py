"""Products of features at pairs of positions: of two layers, and of one layer with itself, shifted."""

import math

import jax.numpy as jnp
import numpy as np

from jnst.errors import ArgumentError
from jnst.statistics.moments import GRAM_NORMALIZATIONS, as_columns, product, unit_mean
from jnst.types import Array, Features, Guide


def cross_gram_matrix(
    first: Features, second: Features, normalization: str = "chw", guides: tuple[Guide, Guide] | None = None
) -> Array:
    """Gram matrix between two layers: ``G = F₁ F₂ᵀ / n``, the coarser enlarged to the finer by nearest neighbour.

    Every position of the finer layer is paired with the position of the coarser one that its centre falls into. The
    sum is taken the other way round, over the coarser positions and the finer features that fall into each: the same
    numbers, without the enlarged array and with fewer products.

    Args:
        first: ``(..., h₁, w₁, c₁)``.
        second: ``(..., h₂, w₂, c₂)`` of the same image.
        normalization: As in `gram_matrix`, with h·w of the finer layer and √(c₁c₂) for c.
        guides: ``(..., h₁, w₁)`` and ``(..., h₂, w₂)``: how much every position counts, in proportion; None: all
            alike. A pair counts as the geometric mean of its two positions, so that two layers of one size give
            what one guide on `gram_matrix` gives.

    Returns:
        ``(..., c₁, c₂)`` in float32, in squared units of the features.

    Raises:
        ArgumentError: An unknown normalization.

    References:
        Novak & Nikulin, Improving the Neural Algorithm of Artistic Style, 2016, arXiv:1605.04603; Yeh & Tang,
        Improved Style Transfer by Respecting Inter-layer Correlations, 2018, arXiv:1801.01933.
    """
    sizes = first.shape[-3:-1], second.shape[-3:-1]
    rows, columns = (min(pair) for pair in zip(*sizes, strict=True))
    positions = math.prod(max(pair) for pair in zip(*sizes, strict=True))
    layers = first.astype(jnp.float32), second.astype(jnp.float32)
    if guides is None:
        summed = [_cell_sums(layer, rows, columns) for layer in layers]
    else:
        roots = [jnp.sqrt(unit_mean(guide))[..., None] for guide in guides]
        summed = [_cell_sums(layer * root, rows, columns) for layer, root in zip(layers, roots, strict=True)]
        of_pairs = math.prod(_cell_sums(root, rows, columns) for root in roots)
        summed[0] = summed[0] / jnp.maximum(jnp.sum(of_pairs, (-3, -2), keepdims=True) / positions, 1e-12)
    return product(*map(as_columns, summed)) / _divisor(normalization, first.shape[-1], second.shape[-1], positions)


def shifted_gram_matrix(
    features: Features, shift: tuple[int, int], normalization: str = "chw", guide: Guide | None = None
) -> Array:
    """Gram matrix between features and themselves at some distance: ``G = Σ_p F(p) F(p + shift)ᵀ / n``.

    Args:
        features: ``(..., h, w, c)``.
        shift: Positions down and to the right, at least 0 and less than h and w. (0, 0) gives `gram_matrix`; a shift
            up or to the left would give the transposed matrix.
        normalization: As in `gram_matrix`, with the number of positions p that have a p + shift for h·w.
        guide: ``(..., h, w)``: how much every position counts, in proportion; None: all alike. A pair counts as the
            geometric mean of its two positions.

    Returns:
        ``(..., c, c)`` in float32, in squared units of the features; not symmetric.

    Raises:
        ArgumentError: A shift beyond the features, or an unknown normalization.

    References:
        Berger & Memisevic, Incorporating Long-range Consistency in CNN-based Texture Generation, ICLR 2017.
    """
    height, width, channels = features.shape[-3:]
    down, right = shift
    if not (0 <= down < height and 0 <= right < width):
        raise ArgumentError(f"shift {shift} is not within features of {height}x{width}: take 0 or more, less than the size")

    def pairs(array: Array) -> tuple[Array, Array]:
        return array[..., : height - down, : width - right, :], array[..., down:, right:, :]

    if guide is None:
        gram = product(*map(as_columns, pairs(features)))
    else:
        root = jnp.sqrt(unit_mean(guide))[..., None]
        mean = jnp.mean(math.prod(pairs(root)), (-3, -2))
        gram = product(*map(as_columns, pairs(features * root))) / jnp.maximum(mean, 1e-12)[..., None]
    return gram / _divisor(normalization, channels, channels, (height - down) * (width - right))


def _divisor(normalization: str, first: int, second: int, positions: int) -> float:
    if normalization not in GRAM_NORMALIZATIONS:
        raise ArgumentError(f"normalization {normalization!r} is unknown: choose one of {', '.join(GRAM_NORMALIZATIONS)}")
    divisors = (GRAM_NORMALIZATIONS[normalization](channels, positions) for channels in (first, second))
    return math.sqrt(math.prod(divisors))


def _cell_sums(features: Array, rows: int, columns: int) -> Array:
    """Sum ``(..., h, w, c)`` to ``(..., rows, columns, c)``, neither larger than h and w."""
    return _runs(_runs(features, columns, -2), rows, -3)


def _runs(array: Array, cells: int, axis: int) -> Array:
    """Sum along an axis what the centres of ``cells`` equal parts are nearest to."""
    size, axis = array.shape[axis], array.ndim + axis
    if size == cells:
        return array
    counts = np.bincount((2 * np.arange(size) + 1) * cells // (2 * size), minlength=cells)
    longest = int(counts.max())
    if counts.min() < longest:
        # One slot too many in some cells: filled with 0 from beyond the end, from a place of its own each.
        slots, beyond = np.arange(longest), size + np.arange(cells)[:, None]
        index = np.where(slots < counts[:, None], (np.cumsum(counts) - counts)[:, None] + slots, beyond)
        array = jnp.take(array, index.ravel(), axis, mode="fill", fill_value=0, unique_indices=True)
    return jnp.sum(array.reshape(*array.shape[:axis], cells, longest, *array.shape[axis + 1 :]), axis + 1)
