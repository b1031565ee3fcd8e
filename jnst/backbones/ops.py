"""Convolution, padding and pooling: the one seam where an implementation is chosen.

Arrays are ``(n, h, w, c)``, kernels ``(kh, kw, c_in, c_out)``.
"""

from collections.abc import Callable, Iterator
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import lax

from jnst.types import Array

PADDINGS: dict[str, str] = {"zero": "constant", "reflect": "reflect", "replicate": "edge"}
"""How a map is continued past its border, and NumPy's name for it."""


def pad(x: Array, amount: int, padding: str) -> Array:
    """Continue height and width by ``amount`` on every side (``padding``: a key of `PADDINGS`)."""
    widths = ((0, 0), (amount, amount), (amount, amount), (0, 0))
    return x if amount == 0 else jnp.pad(x, widths, mode=PADDINGS[padding])


Correlation = Callable[[Array], Array]
"""A map's cross-correlation over zeros with a 3x3 kernel of its own; the map keeps its size."""


def convolve(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: int = 1,
    padding: str | None = "zero",
    faster: Correlation | None = None,
) -> Array:
    """Cross-correlate ``x`` with ``kernel`` and add ``bias``.

    ``padding`` is a key of `PADDINGS` (the output keeps its size at stride 1) or None (only whole windows). ``faster``
    is a better way to correlate with this kernel, used where stride and padding allow it.
    """
    x = x.astype(kernel.dtype)
    amount = 0 if padding is None else kernel.shape[0] // 2
    same = kernel.shape[:2] == (3, 3) and stride == 1 and padding is not None
    plain = partial(_correlate, kernel=kernel, rows=amount, columns=amount, stride=stride)
    over_zeros = faster if faster and same else plain
    if padding in ("zero", None) or amount == 0:
        y = over_zeros(x)
    elif same:
        y = _correlate_bordered(x, kernel, padding, over_zeros)
    else:
        y = _correlate(pad(x, amount, padding), kernel, 0, 0, stride)
    return y if bias is None else y + bias


def _correlate(x: Array, kernel: Array, rows: int, columns: int, stride: int = 1) -> Array:
    """Cross-correlate with ``rows`` and ``columns`` of zeros on either side."""
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=((rows, rows), (columns, columns)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _correlate_bordered(x: Array, kernel: Array, padding: str, over_zeros: Correlation) -> Array:
    """A 3x3 correlation over zeros, plus what the one row or column beyond each border adds.

    Padding first and correlating then costs three times as much on CPUs: the padded copy is written and read
    again, and its gradient too.
    """
    ring = {"reflect": 1, "replicate": 0}[padding]
    height, width = x.shape[1:3]
    # One gather for two rows: its gradient is one scatter, where that of two slices pads the whole map twice.
    rows, columns = x[:, jnp.array([ring, height - 1 - ring])], x[:, :, jnp.array([ring, width - 1 - ring])]
    rows = jnp.pad(rows, ((0, 0), (0, 0), (1, 1), (0, 0)), mode=PADDINGS[padding])
    y = over_zeros(x)
    y = y.at[:, :1].add(_correlate(rows[:, :1], kernel[:1], 0, 0))
    y = y.at[:, -1:].add(_correlate(rows[:, 1:], kernel[2:], 0, 0))
    y = y.at[:, :, :1].add(_correlate(columns[:, :, :1], kernel[:, :1], 1, 0))
    return y.at[:, :, -1:].add(_correlate(columns[:, :, 1:], kernel[:, 2:], 1, 0))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def relu(x: Array, kept: bool = True) -> Array:
    """The larger of x and 0, computed once.

    Left to itself XLA fuses it into each operation that uses it: on CPUs a tapped layer's features are then written
    twice, once for the next convolution and once for their Gram matrix.

    Args:
        x: Any shape.
        kept: Whether the result stays in memory until the gradient anyway, as features that are asked for do. If not,
            only its sign stays, a byte each.
    """
    return lax.optimization_barrier(jnp.maximum(x, 0))


@relu.defjvp
def _relu_jvp(kept: bool, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """By the result's sign, so that ``x`` need not stay; 0 at 0."""
    y = relu(*primals, kept)
    positive = y > 0
    if not kept:  # one barrier for both, or XLA looks for the signs only when it needs them
        y, positive = lax.optimization_barrier((y, positive))
    return y, jnp.where(positive, *tangents, 0)


def _length(size: int, window: int, stride: int, ceil: bool) -> int:
    """How many windows fit into ``size``; with ``ceil`` a last, partial one counts if it starts inside."""
    if size == 0 or (not ceil and size < window):
        return 0
    rest = size - window
    return (-(-rest // stride) if ceil else rest // stride) + 1


def _windows(x: Array, window: int, stride: int, ceil: bool, fill: float) -> Iterator[Array]:
    """The window's elements as ``window * window`` strided slices of ``x``, each of the pooled shape.

    The maximum of slices has a cheap, deterministic gradient; that of `lax.reduce_window` is a
    select-and-scatter, slow on the CPU and not deterministic on GPUs.
    """
    rows, columns = (_length(size, window, stride, ceil) for size in x.shape[1:3])
    reach_h, reach_w = ((n - 1) * stride + window for n in (rows, columns))
    over = [(0, 0), (0, max(0, reach_h - x.shape[1])), (0, max(0, reach_w - x.shape[2])), (0, 0)]
    if any(after for _, after in over):
        x = jnp.pad(x, over, constant_values=fill)
    span_h, span_w = (max(0, (n - 1) * stride + 1) for n in (rows, columns))
    for i in range(window):
        for j in range(window):
            yield x[:, i : i + span_h : stride, j : j + span_w : stride]


@partial(jax.custom_jvp, nondiff_argnums=(1, 2, 3))
def max_pool(x: Array, window: int = 2, stride: int = 2, ceil: bool = False) -> Array:
    """The largest value in each window. The gradient goes to the first that is as large, as in PyTorch."""
    return reduce(jnp.maximum, _windows(x, window, stride, ceil, -jnp.inf))


@max_pool.defjvp
def _max_pool_jvp(
    window: int, stride: int, ceil: bool, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    """By the place of the largest value in its window, a byte each, so that ``x`` need not stay."""
    y = max_pool(*primals, window, stride, ceil)
    values = list(_windows(*primals, window, stride, ceil, -jnp.inf))
    changes = list(_windows(*tangents, window, stride, ceil, 0.0))
    earlier = range(len(values) - 1)[::-1]
    place = jnp.full(y.shape, len(earlier), jnp.uint8)
    for k in earlier:
        place = jnp.where(values[k] == y, jnp.uint8(k), place)
    y, place = lax.optimization_barrier((y, place))
    change = changes[-1]
    for k in earlier:
        change = jnp.where(place == k, changes[k], change)
    return y, change


def average_pool(x: Array, window: int = 2, stride: int = 2, ceil: bool = False) -> Array:
    """The mean of each window; of a partial window, the mean of what lies inside."""
    total = sum(_windows(x, window, stride, ceil, 0.0), jnp.zeros((), x.dtype))
    inside = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return total / sum(_windows(inside, window, stride, ceil, 0.0), jnp.zeros((), x.dtype))


def l2_pool(x: Array, window: int = 2, stride: int = 2, ceil: bool = False) -> Array:
    """The Euclidean norm of each window, with gradient 0 where the window is 0."""
    squares = sum((part**2 for part in _windows(x, window, stride, ceil, 0.0)), jnp.zeros((), x.dtype))
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


POOLINGS: dict[str, tuple[Callable[..., Array], float]] = {
    "max": (max_pool, 1.0),
    "avg": (average_pool, 2.0),
    "l2": (l2_pool, 0.78),
}
"""Pooling by name, and the factor that keeps the size of activations near max pooling's (crowsonkb)."""


def pool(
    x: Array, pooling: str, *, rescale: bool = False, window: int = 2, stride: int = 2, ceil: bool = False
) -> Array:
    """Pool with a row of `POOLINGS`; ``rescale`` multiplies by the row's factor."""
    function, factor = POOLINGS[pooling]
    y = function(x, window, stride, ceil)
    return y * factor if rescale and factor != 1.0 else y
