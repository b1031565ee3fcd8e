"""Convolution, padding, ReLU and pooling as functions of arrays.

Arrays are ``(n, h, w, c)``, kernels ``(kh, kw, c_in, c_out)``. All functions can be differentiated any number of times.
`convolve`, `relu`, `pool`, `pad` and `concatenate` also take a `Window` of a map in place of it, and return one.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from jnst.backbones.windows import Window, shared
from jnst.types import Array, of_rank, sum_dtype

PADDINGS: dict[str, str] = {"zero": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
"""Padding modes, and NumPy's names for them."""

Padding = str | tuple[str, str]
"""A key of `PADDINGS`, or one for the rows above and below and one for the columns on the left and right."""

Correlation = Callable[[Array, int], Array]
"""``correlate(x, padding)``: the cross-correlation of a map with a given 3x3 kernel. The padding with zeros is 1, and
the result has the map's size; or 0."""


Map: TypeAlias = Any
"""A whole map ``(n, h, w, c)`` or a `Window` of one."""


def by_axis(padding: Padding) -> tuple[str, str]:
    """The padding of rows and that of columns."""
    return (padding, padding) if isinstance(padding, str) else padding


def pad(x: Map, amount: int, padding: Padding) -> Map:
    """Pad height and width by ``amount`` on each side."""
    if isinstance(x, Window):
        return x.extended(amount, by_axis(padding)).padded(amount)
    for axis, mode in enumerate(by_axis(padding), 1):
        x = _pad_axis(x, axis, (amount, amount), mode)
    return x


def _pad_axis(x: Array, axis: int, widths: tuple[int, int], padding: str) -> Array:
    if not any(widths):
        return x
    return jnp.pad(x, [widths if i == axis else (0, 0) for i in range(x.ndim)], mode=PADDINGS[padding])


def convolve(
    x: Map,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    padding: Padding | None = "zero",
    correlate: Correlation | None = None,
) -> Map:
    """Cross-correlate ``x`` with ``kernel`` and add ``bias``.

    Args:
        x: ``(n, h, w, c_in)``, cast to the dtype of ``kernel``.
        kernel: ``(size, size, c_in, c_out)``.
        bias: ``(c_out,)``.
        stride: The stride of both axes.
        padding: See `Padding`: at stride 1 the output has the size of the input. None: no padding.
        correlate: A faster correlation with this kernel, used for padded 3x3 convolutions of stride 1.

    Returns:
        ``(n, h', w', c_out)``.
    """
    x = x.astype(kernel.dtype)
    amount = 0 if padding is None else kernel.shape[0] // 2
    if isinstance(x, Window):
        return _convolve_window(x, kernel, bias, stride, padding, correlate)
    zeros = amount if by_axis(padding or "zero") == ("zero", "zero") else 0
    if padding is not None and not zeros:
        x = pad(x, amount, padding)
    same_size = kernel.shape[:2] == (3, 3) and stride == 1 and padding is not None
    if correlate is not None and same_size:
        y = correlate(x, zeros)
    elif same_size and not zeros:
        y = _correlate_inside(x, kernel)
    else:
        y = _correlate(x, kernel, zeros, zeros, stride)
    return y if bias is None else y + of_rank(bias, y.ndim)


def _convolve_window(
    x: Window, kernel: Array, bias: Array | None, stride: int, padding: Padding | None, correlate: Correlation | None
) -> Window:
    """`convolve` where all of the kernel is inside the window."""
    side = kernel.shape[0]
    amount = 0 if padding is None else side // 2
    x = x.extended(amount, by_axis(padding or "zero")).aligned(stride, amount)
    if correlate is not None and side == 3 and stride == 1:
        y = correlate(x.values, 0)
    elif stride == 1 and side % 2:
        y = _correlate_inside(x.values, kernel)
    else:
        y = _correlate(x.values, kernel, 0, 0, stride)
    return x.covered(y if bias is None else y + of_rank(bias, y.ndim), side, stride, amount)


def _correlate_inside(x: Array, kernel: Array) -> Array:
    """Cross-correlate without padding, at stride 1 with a kernel of odd side.

    On CPUs, XLA's convolutions take three times as long without padding as with it: cut off what is too much.
    """
    reach = kernel.shape[0] // 2
    y = _correlate(x, kernel, reach, reach)
    return y[:, reach : y.shape[1] - reach, reach : y.shape[2] - reach]


def _correlate(x: Array, kernel: Array, rows: int, columns: int, stride: int = 1) -> Array:
    """Cross-correlate with ``rows`` and ``columns`` of zeros on either side."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((rows, rows), (columns, columns)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def relu(x: Map, output_is_kept: bool = True) -> Map:
    """Compute ``max(x, 0)`` once, behind an optimisation barrier.

    Without the barrier, XLA fuses the ReLU into each operation that uses it: on CPUs the features of a requested layer
    would be written twice, for the next convolution and for their Gram matrix.

    Args:
        x: Any shape.
        output_is_kept: Whether the output stays in memory until the backward pass anyway, like requested features. If
            not, only its sign is stored for the gradient, one byte per element.
    """
    return x.with_values(_relu(x.values, output_is_kept)) if isinstance(x, Window) else _relu(x, output_is_kept)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _relu(x: Array, output_is_kept: bool) -> Array:
    return lax.optimization_barrier(jnp.maximum(x, 0))


@_relu.defjvp
def _relu_jvp(output_is_kept: bool, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Use the sign of the output, so that ``x`` need not be stored. The derivative at 0 is 0."""
    y = _relu(*primals, output_is_kept)
    positive = y > 0
    if not output_is_kept:  # One barrier for both; otherwise XLA stores the output and computes the sign when needed.
        y, positive = lax.optimization_barrier((y, positive))
    return y, jnp.where(positive, *tangents, 0)


def _pooled_size(size: int, window: int, stride: int, ceil: bool) -> int:
    """How many windows fit into ``size``; with ``ceil``, a partial window at the end counts if it starts inside."""
    if size == 0 or (not ceil and size < window):
        return 0
    rest = size - window
    return (-(-rest // stride) if ceil else rest // stride) + 1


def _window_elements(x: Array, window: int, stride: int, ceil: bool, fill: float) -> Iterator[Array]:
    """Yield each element of the window for all windows: ``window * window`` strided slices of the pooled shape.

    The maximum of slices has a cheap and deterministic gradient. That of `lax.reduce_window` is a select-and-scatter,
    which is slow on CPUs and not deterministic on GPUs.
    """
    rows, columns = (_pooled_size(size, window, stride, ceil) for size in x.shape[1:3])
    reach_h, reach_w = ((n - 1) * stride + window for n in (rows, columns))
    padding = [(0, 0), (0, max(0, reach_h - x.shape[1])), (0, max(0, reach_w - x.shape[2])), (0, 0)]
    if any(after for _, after in padding):
        x = jnp.pad(x, padding, constant_values=fill)
    span_h, span_w = (max(0, (n - 1) * stride + 1) for n in (rows, columns))
    for i in range(window):
        for j in range(window):
            yield x[:, i : i + span_h : stride, j : j + span_w : stride]


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def max_pool(x: Array, window: int = 2, stride: int = 2, ceil: bool = False) -> Array:
    """The maximum of each window. Among equal values the gradient goes to the first, as in PyTorch."""
    return reduce(jnp.maximum, _window_elements(x, window, stride, ceil, -jnp.inf))


@max_pool.defjvp
def _max_pool_jvp(
    window: int, stride: int, ceil: bool, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    """Store the index of the maximum in its window, one byte per element, so that ``x`` need not be stored."""
    y = max_pool(*primals, window, stride, ceil)
    index = _first_index(list(_window_elements(*primals, window, stride, ceil, -jnp.inf)), y)
    y, index = lax.optimization_barrier((y, index))
    return y, choose(*tangents, window, stride, ceil, index=index)


def max_index(x: Array, window: int, stride: int, ceil: bool) -> Array:
    """The index of the first maximum of each window, row by row, as uint8."""
    values = list(_window_elements(x, window, stride, ceil, -jnp.inf))
    return _first_index(values, reduce(jnp.maximum, values))


def _first_index(values: Sequence[Array], largest: Array) -> Array:
    index = jnp.full(largest.shape, len(values) - 1, jnp.uint8)
    for k in range(len(values) - 1)[::-1]:
        index = jnp.where(values[k] == largest, jnp.uint8(k), index)
    return index


def choose(x: Array, window: int, stride: int, ceil: bool, *, index: Array) -> Array:
    """The element of each window that has the index: with `max_index`, which never points outside, the maximum."""
    if window == stride:
        # The transpose is elementwise: on CPUs it takes a quarter of the time of that of slices.
        rows, columns = index.shape[1:3]
        x = _resized(x, rows * window, columns * window).reshape(x.shape[0], rows, window, columns, window, x.shape[3])
        own = jnp.arange(window**2, dtype=index.dtype).reshape(1, 1, window, 1, window, 1)
        return jnp.sum(jnp.where(index[:, :, None, :, None] == own, x, 0), (2, 4))
    *values, chosen = _window_elements(x, window, stride, ceil, 0.0)
    for k in range(len(values))[::-1]:
        chosen = jnp.where(index == k, values[k], chosen)
    return chosen


def _resized(x: Array, height: int, width: int) -> Array:
    """The map with so many rows and columns: cut off, or filled up with zeros, at its end."""
    x = x[:, :height, :width]
    missing = (0, height - x.shape[1]), (0, width - x.shape[2])
    return jnp.pad(x, ((0, 0), *missing, (0, 0))) if any(after for _, after in missing) else x


def average_pool(x: Array, window: int = 2, stride: int = 2, ceil: bool = False) -> Array:
    """The mean of each window; for a partial window, the mean of the elements inside."""
    total = sum(_window_elements(x, window, stride, ceil, 0.0), jnp.zeros((), x.dtype))
    inside = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return total / sum(_window_elements(inside, window, stride, ceil, 0.0), jnp.zeros((), x.dtype))


def l2_pool(x: Array, window: int = 2, stride: int = 2, ceil: bool = False) -> Array:
    """The Euclidean norm of each window, with gradient 0 where the window is 0."""
    squares = sum((part**2 for part in _window_elements(x, window, stride, ceil, 0.0)), jnp.zeros((), x.dtype))
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


HANN_EPSILON = 1e-12
"""Added to mean squares before the root, as in DISTS."""


def hann_pool(x: Array, window: int = 2, stride: int = 2, ceil: bool = False, padding: Padding = "zero") -> Array:
    """The root of the mean square under a Hann window, which does not alias: ``sqrt(hann ∗ x² + 1e-12)``.

    The window has an odd number of taps, 3 for 2 (¼, ½, ¼ along each axis). A window that is larger than asked for is
    centred on its first element, with ``padding`` beyond the border.

    References:
        Hénaff & Simoncelli, Geodesics of learned representations, ICLR 2016; Ding, Ma, Wang & Simoncelli, Image Quality
        Assessment: Unifying Structure and Texture Similarity, 2020 (size and epsilon).
    """
    taps = window + 1 - window % 2
    return _hann_windows(pad(x, taps - window, padding), taps, stride, ceil)


def _hann_windows(x: Array, taps: int, stride: int, ceil: bool) -> Array:
    """`hann_pool` of a map that is padded already."""
    hann = [math.sin(math.pi * (i + 1) / (taps + 1)) ** 2 for i in range(taps)]
    weights = [a * b / sum(hann) ** 2 for a in hann for b in hann]
    squares = x.astype(sum_dtype(x)) ** 2
    parts = _window_elements(squares, taps, stride, ceil, 0.0)
    mean = sum((weight * part for weight, part in zip(weights, parts, strict=True)), jnp.zeros((), squares.dtype))
    return jnp.sqrt(mean + HANN_EPSILON).astype(x.dtype)


POOLINGS: dict[str, tuple[Callable[..., Array], float]] = {
    "max": (max_pool, 1.0),
    "avg": (average_pool, 2.0),
    "l2": (l2_pool, 0.78),
    "hann": (hann_pool, 2 * 0.78),
}
"""Pooling functions, and the factors that scale their activations to about those of max pooling (crowsonkb; a root of
the mean of four squares is half the root of their sum)."""


def pool(
    x: Map,
    pooling: str,
    *,
    rescale: bool = False,
    window: int = 2,
    stride: int = 2,
    ceil: bool = False,
    padding: Padding = "zero",
) -> Map:
    """Pool with a row of `POOLINGS`.

    Args:
        x: ``(n, h, w, c)``, or a window.
        pooling: A key of `POOLINGS`.
        rescale: Whether to multiply the result by the row's factor.
        window: The side of a window.
        stride: The step between windows.
        ceil: Whether a partial window at the end counts.
        padding: The network's. Along circular axes the last window goes on at the beginning, so that every position is
            in a window; with other paddings poolings know only what lies inside.
    """
    function, factor = POOLINGS[pooling]
    y = pool_by(x, function, window=window, stride=stride, ceil=ceil, padding=padding)
    if not rescale or factor == 1.0:
        return y
    return y.with_values(y.values * factor) if isinstance(y, Window) else y * factor


def pool_by(
    x: Map,
    function: Callable[..., Array],
    *,
    window: int = 2,
    stride: int = 2,
    ceil: bool = False,
    padding: Padding = "zero",
) -> Map:
    """Pool with a function of ``(x, window, stride, ceil)``; other arguments as for `pool`."""
    if isinstance(x, Window):
        return _pool_window(x, function, window, stride, ceil)
    rows, columns = ("circular" if mode == "circular" else "zero" for mode in by_axis(padding))
    if function is hann_pool:
        function = partial(hann_pool, padding=(rows, columns))
    else:
        for axis in (axis for axis, mode in enumerate((rows, columns), 1) if mode == "circular" and x.shape[axis]):
            reach = (-(-x.shape[axis] // stride) - 1) * stride + window
            x = _pad_axis(x, axis, (0, max(0, reach - x.shape[axis])), "circular")
    return function(x, window, stride, ceil)


def _pool_window(x: Window, function: Callable[..., Array], window: int, stride: int, ceil: bool) -> Window:
    """Pool where all of the pooled positions are inside the window."""
    if function is hann_pool:
        taps = window + 1 - window % 2
        x, window, function = x.padded(taps - window), taps, _hann_windows
    x = x.aligned(stride, 0)
    if not ceil:
        return x.covered(function(x.values, window, stride, False), window, stride)
    if function in (max_pool, max_index):
        x = x.masked(-jnp.inf)
    values = function(x.values, window, stride, False)
    if function is average_pool:
        share = average_pool(x.inside()[None, ..., None].astype(values.dtype), window, stride, False)
        values = values / jnp.where(share > 0, share, 1)
    return x.covered(values, window, stride, ceil=True)


def concatenate(maps: Sequence[Map]) -> Map:
    """Join the channels of maps of one size."""
    if any(isinstance(each, Window) for each in maps):
        parts = shared(maps)
        return parts[0].with_values(jnp.concatenate([each.values for each in parts], axis=-1))
    return jnp.concatenate(maps, axis=-1)
