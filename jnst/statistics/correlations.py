"""Products of features at pairs of positions: between two layers, and within one layer at a distance."""

import math

import jax.numpy as jnp
import numpy as np

from jnst.errors import ArgumentError
from jnst.statistics.moments import (
    channel_products,
    check_positions,
    flatten_positions,
    gram_divisor,
    safe_sqrt,
    unit_mean,
)
from jnst.types import NO_WRAP, Array, Features, Guide, Wrap, sum_dtype


def cross_gram_matrix(
    first: Features, second: Features, normalization: str = "chw", guides: tuple[Guide, Guide] | None = None
) -> Array:
    """Gram matrix between two layers: ``G = F₁ F₂ᵀ / n``, with the coarser layer enlarged to the finer one.

    The enlargement uses nearest neighbours: each position of the finer layer is paired with the coarser position
    that contains its centre. The coarser layer is never enlarged in memory. Instead, the finer features that fall
    into each coarser position are summed first, which gives the same result with fewer products.

    Args:
        first: ``(..., h₁, w₁, c₁)``.
        second: ``(..., h₂, w₂, c₂)``, of the same image.
        normalization: As in `gram_matrix`, with h·w of the finer layer, and √(c₁c₂) in place of c.
        guides: ``(..., h₁, w₁)`` and ``(..., h₂, w₂)``, the relative weight of each position. None weights all
            positions equally. A pair is weighted by the geometric mean of its two positions, so that two layers of the
            same size with the same guide are weighted as in `gram_matrix`.

    Returns:
        ``(..., c₁, c₂)``, in squared units of the features.

    Raises:
        ArgumentError: Unknown normalization, or features without positions.

    References:
        Novak & Nikulin, Improving the Neural Algorithm of Artistic Style, 2016, arXiv:1605.04603; Yeh & Tang,
        Improved Style Transfer by Respecting Inter-layer Correlations, 2018, arXiv:1801.01933.
    """
    check_positions(first)
    check_positions(second)
    sizes = first.shape[-3:-1], second.shape[-3:-1]
    rows, columns = (min(pair) for pair in zip(*sizes, strict=True))
    positions = math.prod(max(pair) for pair in zip(*sizes, strict=True))
    layers = first.astype(sum_dtype(first)), second.astype(sum_dtype(second))
    if guides is None:
        summed = [_cell_sums(layer, rows, columns) for layer in layers]
    else:
        roots = [safe_sqrt(unit_mean(guide))[..., None] for guide in guides]
        summed = [_cell_sums(layer * root, rows, columns) for layer, root in zip(layers, roots, strict=True)]
        pair_weights = math.prod(_cell_sums(root, rows, columns) for root in roots)
        summed[0] = summed[0] / jnp.maximum(jnp.sum(pair_weights, (-3, -2), keepdims=True) / positions, 1e-12)
    products = channel_products(*map(flatten_positions, summed))
    return products / _divisor(normalization, first.shape[-1], second.shape[-1], positions)


def shifted_gram_matrix(
    features: Features,
    shift: tuple[int, int],
    normalization: str = "chw",
    guide: Guide | None = None,
    wrap: Wrap = NO_WRAP,
) -> Array:
    """Gram matrix between features and their shifted copy: ``G = Σ_p F(p) F(p + shift)ᵀ / n``.

    Args:
        features: ``(..., h, w, c)``.
        shift: Positions down and to the right, each at least 0 and less than h or w. (0, 0) gives `gram_matrix`.
            Shifts up or to the left would give the transposed matrices.
        normalization: As in `gram_matrix`, with the number of positions p for which p + shift exists in place of h·w.
        guide: ``(..., h, w)``, the relative weight of each position. None weights all positions equally. A pair is
            weighted by the geometric mean of its two positions.
        wrap: Whether the first row follows the last, and whether the first column does, so that p + shift exists.

    Returns:
        ``(..., c, c)``, in squared units of the features; not symmetric.

    Raises:
        ArgumentError: A shift beyond the features, or an unknown normalization.

    References:
        Berger & Memisevic, Incorporating Long-range Consistency in CNN-based Texture Generation, ICLR 2017.
    """
    height, width, channels = features.shape[-3:]
    down, right = shift
    if not (0 <= down < height and 0 <= right < width):
        raise ArgumentError(
            f"shift {shift} is outside features of {height}x{width} positions: "
            "use shifts of at least 0 and less than that"
        )

    rows, columns = height - down * (not wrap[0]), width - right * (not wrap[1])

    def pairs(array: Array) -> tuple[Array, Array]:
        return array[..., :rows, :columns, :], jnp.roll(array, (-down, -right), (-3, -2))[..., :rows, :columns, :]

    if guide is None:
        gram = channel_products(*map(flatten_positions, pairs(features)))
    else:
        root = safe_sqrt(unit_mean(guide))[..., None]
        mean = jnp.mean(math.prod(pairs(root)), (-3, -2))
        gram = channel_products(*map(flatten_positions, pairs(features * root)))
        gram = gram / jnp.maximum(mean, 1e-12)[..., None]
    return gram / _divisor(normalization, channels, channels, rows * columns)


def _divisor(normalization: str, first: int, second: int, positions: int) -> float:
    return math.sqrt(math.prod(gram_divisor(normalization, channels, positions) for channels in (first, second)))


def _cell_sums(features: Array, rows: int, columns: int) -> Array:
    """Divide ``(..., h, w, c)`` into ``rows`` x ``columns`` cells and sum each: ``(..., rows, columns, c)``."""
    return _sum_cells(_sum_cells(features, columns, -2), rows, -3)


def _sum_cells(array: Array, cells: int, axis: int) -> Array:
    """Divide an axis into ``cells`` equal parts, and sum the entries whose centres fall into each part."""
    size, axis = array.shape[axis], array.ndim + axis
    if size == cells:
        return array
    counts = np.bincount((2 * np.arange(size) + 1) * cells // (2 * size), minlength=cells)
    longest = int(counts.max())
    if counts.min() < longest:
        # Pad the shorter cells with zeros: an index beyond the end reads 0. Padding indices must be unique, too.
        slots, beyond = np.arange(longest), size + np.arange(cells)[:, None]
        index = np.where(slots < counts[:, None], (np.cumsum(counts) - counts)[:, None] + slots, beyond)
        array = jnp.take(array, index.ravel(), axis, mode="fill", fill_value=0, unique_indices=True)
    return jnp.sum(array.reshape(*array.shape[:axis], cells, longest, *array.shape[axis + 1 :]), axis + 1)
