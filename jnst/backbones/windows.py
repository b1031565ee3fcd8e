"""Windows: parts of a map from which a network computes exactly what it computes from the whole map.

A map, such as an image or the output of a layer, is divided into square tiles. A window holds the positions of one tile
and a margin around it. Operations of `jnst.backbones.ops` take windows in place of maps: each shrinks the margin by its
reach instead of padding it, and pads only beyond the border of the map itself. Where a window lies is traced, so that
one program serves all tiles of maps of any size.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.types import Array

MIRRORED: dict[str, int] = {"reflect": 2, "replicate": 1}
"""How many positions inside of the first row beyond the border is the row that a padding repeats there."""


@partial(jax.tree_util.register_dataclass, data_fields=["values", "tile", "size"], meta_fields=["step", "start"])
@dataclasses.dataclass(frozen=True)
class Window:
    """A square part of a map: a tile and its margin, with zeros at positions outside the map.

    Attributes:
        values: ``(n, side, side, c)``.
        tile: ``(2,)``: the row and the column of the tile among all tiles, from 0.
        size: ``(2,)``: the map's height and width.
        step: The side of a tile in positions of this map.
        start: The first row and column of the window, counted from those of its tile; negative for a margin.
    """

    values: Array
    tile: Array
    size: Array
    step: int
    start: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        """That of the values."""
        return self.values.shape

    def astype(self, dtype: jnp.dtype) -> "Window":
        """The same with values of another dtype."""
        return dataclasses.replace(self, values=self.values.astype(dtype))

    def with_values(self, values: Array) -> "Window":
        """The same place with other values."""
        return dataclasses.replace(self, values=values)

    def places(self, axis: int) -> Array:
        """The rows (axis 0) or columns (axis 1) of the map that the window holds: ``(side,)``."""
        own = jnp.arange(self.values.shape[1 + axis], dtype=self.tile.dtype)
        return self.tile[axis] * self.step + (self.start + own)

    def inside(self) -> Array:
        """Which positions are inside the map: ``(side, side)``."""
        rows, columns = ((self.places(axis) >= 0) & (self.places(axis) < self.size[axis]) for axis in (0, 1))
        return rows[:, None] & columns[None, :]

    def masked(self, fill: float = 0.0) -> "Window":
        """The same with ``fill`` outside the map."""
        return self.with_values(_masked(self.values, self.inside(), fill))

    def core(self) -> "Window":
        """The tile without its margin."""
        return self.cropped(-self.start, self.step)

    def cropped(self, skip: int, side: int | None = None) -> "Window":
        """The same without its first ``skip`` rows and columns, and with at most ``side`` of them."""
        if skip == 0 and side in (None, self.values.shape[1]):
            return self
        part = slice(skip, None if side is None else skip + side)
        return dataclasses.replace(self, values=self.values[:, part, part], start=self.start + skip)

    def padded(self, amount: int) -> "Window":
        """The same part of the map with ``amount`` rows and columns of zeros on each side: they are there already."""
        return dataclasses.replace(self, size=self.size + 2 * amount, start=self.start + amount)

    def extended(self, amount: int, paddings: tuple[str, str]) -> "Window":
        """The same with ``amount`` rows and columns beyond the border of the map as their paddings fill them.

        Raises:
            ArgumentError: A padding of rows that may be far away, or other than of one row.
        """
        values: Any = self.values
        for axis, padding in enumerate(paddings):
            if padding == "zero" or amount == 0:
                continue
            if padding not in MIRRORED or amount > 1:
                raise ArgumentError(
                    f"padding {padding!r} cannot be computed in tiles: choose one of zero, "
                    f"{', '.join(MIRRORED)}, or compute the whole image at once"
                )
            first, distance = self.tile[axis] * self.step + self.start, MIRRORED[padding]
            for border, shift in ((-1 - first, distance), (self.size[axis] - first, -distance)):
                values = _repeated(values, border, border + shift, axis + 1)
        return self.with_values(values)

    def aligned(self, stride: int, amount: int) -> "Window":
        """The window from the first position on at which a kernel with this stride and padding is placed."""
        return self.cropped(-(self.start + amount) % stride)

    def covered(self, values: Array, side: int, stride: int = 1, amount: int = 0, *, ceil: bool = False) -> "Window":
        """What kernels of a side make of an `aligned` window: one value where all of the kernel is in the window.

        Args:
            values: The results.
            side: The side of the kernel.
            stride: The distance between two kernels.
            amount: By how many rows and columns the map was padded on each side.
            ceil: Whether a kernel counts that reaches beyond the end of the map.

        Raises:
            ArgumentError: The stride does not divide the side of a tile.
        """
        if self.step % stride:
            raise ArgumentError(f"tiles of {self.step} positions are not divisible by a stride of {stride}")
        rest = self.size + (2 * amount - side)
        size = (-(-rest // stride) if ceil else rest // stride) + 1
        return Window(values, self.tile, size, self.step // stride, (self.start + amount) // stride).masked()


def shared(windows: Sequence[Window]) -> list[Window]:
    """The part that windows of maps of one size have in common, of each."""
    start = max(window.start for window in windows)
    end = min(window.start + window.shape[1] for window in windows)
    return [window.cropped(start - window.start, end - start) for window in windows]


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _masked(values: Array, inside: Array, fill: float) -> Array:
    """``fill`` where ``inside`` ``(side, side)`` is False; all that the gradient keeps is ``inside``."""
    return jnp.where(inside[..., None], values, jnp.asarray(fill, values.dtype))


def _mask_forward(values: Array, inside: Array, fill: float) -> tuple[Array, Array]:
    return _masked(values, inside, fill), inside


def _mask_backward(fill: float, inside: Array, gradient: Array) -> tuple[Array, None]:
    return jnp.where(inside[..., None], gradient, 0), None


_masked.defvjp(_mask_forward, _mask_backward)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _repeated(values: Array, index: Array, source: Array, axis: int) -> Array:
    """The values with row (or column) ``source`` in place of row ``index``, if that one exists.

    In place, and with a gradient in place: the derivatives of slices would be as large as the values.
    """
    row = _row(values, index, source, axis)
    return lax.dynamic_update_slice_in_dim(values, row, index, axis)


def _row(values: Array, index: Array, source: Array, axis: int) -> Array:
    exists = (index >= 0) & (index < values.shape[axis])
    return lax.dynamic_slice_in_dim(values, jnp.where(exists, source, index), 1, axis)


def _repeat_forward(values: Array, index: Array, source: Array, axis: int) -> tuple[Array, tuple[Array, Array]]:
    return _repeated(values, index, source, axis), (index, source)


def _repeat_backward(axis: int, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, None, None]:
    index, source = saved
    exists = (index >= 0) & (index < gradient.shape[axis])
    row = jnp.where(exists, lax.dynamic_slice_in_dim(gradient, index, 1, axis), 0)
    source = jnp.where(exists, source, index)
    kept = jnp.where(exists, 0, lax.dynamic_slice_in_dim(gradient, index, 1, axis))
    gradient = lax.dynamic_update_slice_in_dim(gradient, kept, index, axis)
    moved = lax.dynamic_slice_in_dim(gradient, source, 1, axis) + row
    return lax.dynamic_update_slice_in_dim(gradient, moved, source, axis), None, None


_repeated.defvjp(_repeat_forward, _repeat_backward)
