"""A network in segments, each of which is computed tile by tile.

Tiles of a whole network would need margins as wide as its receptive field, some 85 pixels for VGG's ``relu5_1``. Cut
at its poolings, it needs a few positions for each segment: the input of every segment is a whole map, with
16, 8, 4 and 2 values a pixel for VGG19, which is kept for the gradient where that needs it.
"""

import dataclasses
import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from jnst.backbones.backbone import Backbone
from jnst.backbones.gates import AFFINE_POOLINGS, Gates
from jnst.backbones.modules import END
from jnst.backbones.windows import Window
from jnst.errors import ArgumentError
from jnst.types import Array, Params

KEPT = 16
"""The most values for each pixel of the image that are kept between two segments."""
SAVED = 8
"""The most values for each pixel of the image that are saved of a wanted layer, which is then not computed again."""
GRAIN = 32
"""Tiles have a side divisible by this, so that strides of networks divide half of it at every layer."""
FINE, LARGE = 2, 512
"""Segments whose input has a stride of up to ``FINE`` pixels get tiles half as large as asked for: their features take
much memory for each pixel, and malloc gives large arrays back to the system after each tile. The others get tiles twice
as large, up to ``LARGE`` pixels: their margins take up more of a tile."""
_MARGIN = 128
"""A margin, in positions, that no segment needs."""


@dataclasses.dataclass(frozen=True)
class Segment:
    """Some blocks of a network, and the windows from which they compute one tile (static).

    Attributes:
        backbone: The network.
        part: The numbers of its first block and of the one after its last.
        layers: The layers that are wanted of it and of later segments.
        found: Those of them that it contains.
        tile: The side of its tiles, in pixels of the image.
        step: The same in positions of its input.
        before: The rows and columns of its window in front of the tile.
        after: The same behind the tile.
        channels: The number of channels of the next segment's input; 0 for the last segment.
    """

    backbone: Backbone
    part: tuple[int, int]
    layers: tuple[str, ...]
    found: tuple[str, ...]
    tile: int
    step: int
    before: int
    after: int
    channels: int

    @property
    def side(self) -> int:
        """The side of the window, in positions of the segment's input."""
        return self.before + self.step + self.after

    @property
    def steps(self) -> dict[str, int]:
        """The side of a tile at each layer that it contains."""
        return {name: window.step for name, window in self.windows(self.before, self.after).items()}

    @property
    def saved_layers(self) -> tuple[str, ...]:
        """Those of its wanted layers that are small enough to be saved: up to `SAVED` values for each pixel."""
        windows = self.windows(self.before, self.after)
        return tuple(layer for layer in self.found if self._values_per_pixel(windows[layer]) <= SAVED)

    @property
    def needs_input(self) -> bool:
        """Whether its gradient needs its input: not if its wanted layers are saved, and it is affine with its gates."""
        network: Any = self.backbone.network
        is_affine = network.has_gates and network.pooling in AFFINE_POOLINGS
        return not is_affine or self.saved_layers != self.found

    @property
    def saved_bytes(self) -> int:
        """The bytes that are saved of a tile for its gradient: its gates, and the saved layers."""
        windows = self.windows(self.before, self.after)
        values = sum(windows[layer].step ** 2 * windows[layer].shape[-1] for layer in self.saved_layers)
        return 4 * values + _gate_bytes(self)

    def _values_per_pixel(self, window: Window) -> float:
        return window.shape[-1] * (window.step / self.tile) ** 2

    def apply(
        self, params: Params, values: Array, tile: Array, size: Array, gates: Gates | None = None
    ) -> dict[str, Window]:
        """Compute the wanted features of a tile, and as `END` the input of the next segment, without margins.

        Args:
            params: The network's parameters.
            values: ``(side, side, c)``: the window of the segment's input; of the image, for the first segment.
            tile: ``(2,)``: the tile's row and column among all tiles.
            size: ``(2,)``: height and width of the whole input.
            gates: Those that `apply_noting_gates` has found; see `Backbone.run`.
        """
        x = self._input(values, tile, size, self.before)
        return self._cores(self.backbone.run(params, x, self.layers, self.part, gates))

    def apply_noting_gates(
        self, params: Params, values: Array, tile: Array, size: Array
    ) -> tuple[dict[str, Window], Gates]:
        """`apply`, and the gates of the tile and its margins."""
        x = self._input(values, tile, size, self.before)
        found, gates = self.backbone.run_noting_gates(params, x, self.layers, self.part)
        return self._cores(found), gates

    def _input(self, values: Array, tile: Array, size: Array, before: int) -> Window:
        if self.part[0] == 0:
            values = self.backbone.preprocessing.apply(values)
        return Window(values[None], tile, size, self.step, -before).masked()

    def _cores(self, found: dict[str, Window]) -> dict[str, Window]:
        return {name: found[name].core() for name in self._names}

    @property
    def _names(self) -> tuple[str, ...]:
        return self.found if self.channels == 0 else (*self.found, END)

    def windows(self, before: int, after: int) -> dict[str, Window]:
        """The shapes and places of what `apply` computes, with other margins and with them."""
        return _windows(self, before, after)


@lru_cache(maxsize=1024)
def _windows(segment: Segment, before: int, after: int) -> dict[str, Window]:
    def run(params: Params, values: Array, tile: Array, size: Array) -> dict[str, Window]:
        x = segment._input(values, tile, size, before)
        found = segment.backbone.run(params, x, segment.layers, segment.part)
        return {name: found[name] for name in segment._names}

    return jax.eval_shape(run, *_argument_shapes(segment, before + segment.step + after))


@lru_cache(maxsize=64)
def _gate_bytes(segment: Segment) -> int:
    _, gates = jax.eval_shape(segment.apply_noting_gates, *_argument_shapes(segment, segment.side))
    return sum(leaf.size for leaf in jax.tree.leaves(gates))


def _argument_shapes(segment: Segment, side: int) -> tuple[Any, ...]:
    """Shapes of the arguments of `Segment.apply`, for a window with this side."""
    params = jax.eval_shape(segment.backbone.init, jax.random.key(0))
    values = jax.ShapeDtypeStruct((side, side, _input_channels(segment)), jnp.float32)
    place = jax.ShapeDtypeStruct((2,), jnp.int32)
    return params, values, place, place


@lru_cache(maxsize=1024)
def _input_channels(segment: Segment) -> int:
    first = segment.part[0]
    return 3 if first == 0 else segment_inputs(segment.backbone, segment.layers, (64, 64), (first,))[0][-1]


@lru_cache(maxsize=64)
def segments(backbone: Backbone, layers: tuple[str, ...], tile: int) -> tuple[Segment, ...]:
    """Cut a network into segments that compute ``layers`` in tiles.

    Args:
        backbone: The network.
        layers: The layers that are wanted.
        tile: The side that was asked for, in pixels of the image: see `FINE`.

    Raises:
        ArgumentError: The network cannot be computed in tiles, or the side is not divisible by `GRAIN`.
    """
    if tile % GRAIN:
        raise ArgumentError(f"tile {tile}: expected a multiple of {GRAIN}")
    if not layers:
        return ()
    if not backbone.network.has_windows:
        raise ArgumentError(
            f"{backbone.name} cannot be computed in tiles: choose a VGG, SqueezeNet or AlexNet, or a smaller image"
        )
    if backbone.maps > 1:
        raise ArgumentError(f"{backbone.maps} maps cannot be computed in tiles: leave out `tile`")
    backbone.check_layers(layers)
    ordered = tuple(sorted(layers, key=backbone.layers.index))
    coarse = 2 * tile if 2 * tile <= LARGE else tile
    found, begin, stride = [], 0, 1
    for number, _ in enumerate(backbone.network.blocks(), 1):
        rest = tuple(layer for layer in ordered if not any(layer in segment.found for segment in found))
        # A trial with a margin that is certainly enough tells which layers there are and how much margin is left.
        side = tile // 2 if stride <= FINE else coarse
        trial = Segment(backbone, (begin, number), rest, (), side, side // stride, _MARGIN, _MARGIN, 1)
        names = _found(trial)
        is_last = len(names) == len(rest)
        end = trial.windows(_MARGIN, _MARGIN)[END]
        if not is_last and trial._values_per_pixel(end) > KEPT:
            continue
        segment = dataclasses.replace(trial, found=names, channels=0 if is_last else end.shape[-1])
        found.append(_fitted(segment))
        if is_last:
            break
        begin, stride = number, side // end.step
    return tuple(found)


def _found(segment: Segment) -> tuple[str, ...]:
    """Those of the wanted layers that a segment contains."""
    params = jax.eval_shape(segment.backbone.init, jax.random.key(0))
    x = jax.ShapeDtypeStruct((1, 256, 256, _input_channels(segment)), jnp.float32)
    result = jax.eval_shape(lambda params, x: segment.backbone.run(params, x, segment.layers, segment.part), params, x)
    return tuple(name for name in result if name != END)


def _fitted(segment: Segment) -> Segment:
    """The segment with the least margins from which all of a tile can be computed."""
    spare = segment.windows(_MARGIN, _MARGIN).values()
    ratios = [segment.step // window.step for window in spare]
    # Margins shrink by whole strides, so that everything keeps its place relative to the tile.
    stride = math.lcm(*ratios)
    before = min(-window.start * ratio for window, ratio in zip(spare, ratios, strict=True))
    after = min(
        (window.start + window.shape[1] - window.step) * ratio for window, ratio in zip(spare, ratios, strict=True)
    )
    margins = [_MARGIN - most // stride * stride for most in (before, after)]
    return dataclasses.replace(segment, before=margins[0], after=margins[1])


@lru_cache(maxsize=256)
def segment_inputs(
    backbone: Backbone, layers: tuple[str, ...], size: tuple[int, int], begins: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    """The shapes ``(h, w, c)`` of the inputs of blocks with the numbers ``begins`` for images of a size."""
    params = jax.eval_shape(backbone.init, jax.random.key(0))
    shapes, before = [(*size, 3)], 0
    found = []
    for begin in begins:
        if begin > before:
            x = jax.ShapeDtypeStruct((1, *shapes[-1]), jnp.float32)
            part = (before, begin)
            end = jax.eval_shape(lambda params, x, part=part: backbone.run(params, x, layers, part)[END], params, x)
            shapes.append(end.shape[1:])
            before = begin
        found.append(shapes[-1])
    return tuple(found)
