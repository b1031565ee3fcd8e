"""Sums over the positions of a network's features, tile by tile, and their gradient.

The loss of style transfer is global, but its network is local. In a first pass, the sums of all tiles are merged; in
a second one, each tile is differentiated with the gradient by the sums of the whole image (Galerne et al., Scaling
Painting Style Transfer, EGSR 2024). Tiles of every segment of the network read the whole map that the segment before
has left (`jnst.backbones.segments`), so that margins stay narrow and everything is exact, at any border. The first pass
notes which way activations took (`jnst.backbones.gates`), so that the second hardly needs to compute them again.

The same loop over tiles has two forms: traced by JAX, a loop within a program; with concrete arrays on a CPU, a loop on
the host over one compiled program for tiles of images of any size. XLA runs convolutions within loops on one thread.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jax.sharding import Mesh, PartitionSpec

from jnst.backbones import Backbone
from jnst.backbones.gates import Gates
from jnst.backbones.modules import END
from jnst.backbones.segments import GRAIN, Segment, segment_inputs, segments
from jnst.errors import ArgumentError
from jnst.solve.compilation import Jit, is_traced
from jnst.solve.devices import platform_of
from jnst.statistics import merge
from jnst.types import Array, Features, Guide, Image, Params

SMALLEST_TILE = 2 * GRAIN
"""The least that can be asked for: segments get tiles of half this side, and smaller ones would consist of margins."""


@partial(jax.tree_util.register_dataclass, data_fields=["maps", "guide", "whole"], meta_fields=["layer", "loss"])
@dataclasses.dataclass(frozen=True)
class Request:
    """The sums that an additive loss needs of a layer: see `AdditiveLoss`.

    Attributes:
        layer: A layer of the network.
        loss: The loss.
        maps: Those of its target.
        guide: ``(h, w)``; None weights all positions equally.
        whole: The sums over the whole image, once they are known.
    """

    layer: str
    loss: Any
    maps: Any = None
    guide: Guide | None = None
    whole: Any = None

    def sums(self, features: Features, inside: Guide) -> Any:
        """The sums over some positions; ``maps`` and ``guide`` are for these."""
        guide = None if self.guide is None else self.guide * inside
        return self.loss.sums(features, self.maps, inside, guide, self.whole)


def check_tile(tile: Any) -> int:
    """Return the side of tiles, in pixels, rounded up to a multiple of `GRAIN`.

    Raises:
        ArgumentError: It is no whole number of at least `SMALLEST_TILE`.
    """
    if isinstance(tile, bool) or not isinstance(tile, int | np.integer) or tile < SMALLEST_TILE:
        raise ArgumentError(
            f"tile {tile!r}: expected the side of a tile in pixels, a whole number of at least {SMALLEST_TILE}"
        )
    return -(-int(tile) // GRAIN) * GRAIN


class Layout(NamedTuple):
    """Where tiles lie in a map.

    Attributes:
        shape: The map's height and width, with all margins.
        step: The side of a tile.
        offset: The row and column at which what belongs to the first tile begins.
    """

    shape: tuple[int, int]
    step: int
    offset: int = 0


Body: TypeAlias = Callable[[Any, Any], tuple[tuple[Any, ...], Any, Any]]
"""``body(tile, saved) -> (parts, sums, saved)``: what belongs to a tile in each of several maps, what is merged, and
what is saved of the tile for a later pass. The argument ``saved`` is what an earlier pass saved of it, or None."""


class HostLoop:
    """Loops on the host over compiled programs. Maps are NumPy arrays; sums of tiles are merged in float64."""

    def padded(self, values: Array, shape: tuple[int, int], before: int) -> np.ndarray:
        """A map of zeros in which ``values`` begin at row and column ``before``."""
        array = np.asarray(values)
        whole = np.zeros((*shape, *array.shape[2:]), array.dtype)
        whole[before : before + array.shape[0], before : before + array.shape[1]] = array
        return whole

    def covering(self, values: Array, shape: tuple[int, int]) -> Any:
        """A map of which tiles will be read that reach to ``shape``; what lies beyond its end is 0."""
        return values

    def read(self, values: Any, tile: np.ndarray, step: int, side: int, offset: int = 0) -> np.ndarray:
        """The square of a map that begins at ``tile * step + offset``, with zeros beyond the map's end.

        Where the map is empty, everything is beyond its end.
        """
        top, left = (tile * step + offset).tolist()
        part = np.asarray(values)[top : top + side, left : left + side]
        if part.shape[:2] == (side, side):
            return part
        return np.pad(part, [(0, side - size) for size in part.shape[:2]] + [(0, 0)] * (part.ndim - 2))

    def collect(
        self, body: Body, grid: tuple[int, int], layouts: Sequence[Layout], saved: Any = None
    ) -> tuple[list[np.ndarray], Any, Any]:
        """Add what belongs to each tile to maps with these layouts, merge the sums, and save something of each tile.

        Args:
            body: What is to be done with a tile.
            grid: The number of rows and columns of tiles.
            layouts: Those of the maps.
            saved: What an earlier pass has saved, with an axis of tiles in front, like the result.
        """
        maps, total, sums, new = None, None, None, None
        tiles = np.argwhere(np.ones(grid, bool)).astype(np.int32)
        results = (body(tile, jax.tree.map(itemgetter(number), saved)) for number, tile in enumerate(tiles))
        for number, (parts, sums, of_tile) in enumerate(_one_ahead(results)):
            # What is saved of all tiles lies in few large arrays: many small ones, which are kept while programs
            # allocate and free memory between them, would leave holes in it.
            if new is None:
                new = jax.tree.map(lambda leaf: np.empty((len(tiles), *leaf.shape), leaf.dtype), of_tile)
            jax.tree.map(partial(_put, number), new, of_tile)
            wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), sums)
            total = wide if total is None else merge(total, wide)
            if maps is None:
                pairs = zip(layouts, parts, strict=True)
                maps = [np.zeros((*layout.shape, *part.shape[2:]), part.dtype) for layout, part in pairs]
            for layout, whole, part in zip(layouts, maps, parts, strict=True):
                top, left = (tiles[number] * layout.step + layout.offset).tolist()
                whole[top : top + part.shape[0], left : left + part.shape[1]] += np.asarray(part)
        return maps or [], jax.tree.map(lambda leaf, like: np.asarray(leaf, like.dtype), total, sums), new


def _put(index: int, array: np.ndarray, values: Array) -> None:
    array[index] = values


def _one_ahead(results: Iterable[Any]) -> Iterator[Any]:
    """The same, but the next one is begun before one is used: programs run while the host works."""
    for result, _ in itertools.pairwise(itertools.chain(results, [None])):
        yield result


class TracedLoop:
    """Loops within a program, on one device or divided among those of a mesh."""

    def __init__(self, mesh: Mesh | None = None) -> None:
        self._axes, self._devices = (None, 1) if mesh is None else (mesh.axis_names, mesh.size)

    def padded(self, values: Array, shape: tuple[int, int], before: int) -> Array:
        """See `HostLoop`."""
        whole = jnp.zeros((*shape, *values.shape[2:]), values.dtype)
        return lax.dynamic_update_slice(whole, values, (before, before, *[0] * (values.ndim - 2)))

    def covering(self, values: Array, shape: tuple[int, int]) -> Any:
        """See `HostLoop`."""
        return self.padded(values, shape, 0)

    def read(self, values: Array, tile: Array, step: int, side: int, offset: int = 0) -> Array:
        """See `HostLoop`."""
        shape = (side, side, *values.shape[2:])
        if 0 in values.shape:
            return jnp.zeros(shape, values.dtype)
        corner = tile * step + offset
        index = (corner[0], corner[1], *[corner.dtype.type(0)] * (values.ndim - 2))
        return lax.dynamic_slice(values, index, shape)

    def collect(
        self, body: Body, grid: tuple[int, int], layouts: Sequence[Layout], saved: Any = None
    ) -> tuple[list[Array], Any, Any]:
        """See `HostLoop`; what is saved is that of a device's own tiles."""
        count = grid[0] * grid[1]
        turns = -(-count // self._devices)
        first = 0 if self._axes is None else lax.axis_index(self._axes)

        def of_turn(turn: Array) -> Any:
            return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, turn, 0, keepdims=False), saved)

        def step(turn: Array, carry: Any) -> Any:
            number = first + self._devices * turn
            is_mine = number < count
            tile = jnp.where(is_mine, jnp.stack([number // grid[1], number % grid[1]]), 0).astype(jnp.int32)
            parts, sums, new = body(tile, of_turn(turn))
            parts, sums = jax.tree.map(lambda leaf: jnp.where(is_mine, leaf, 0), (parts, sums))
            maps = [_added(*each, tile) for each in zip(carry[0], parts, layouts, strict=True)]
            update = partial(lax.dynamic_update_index_in_dim, index=turn, axis=0)
            return maps, merge(carry[1], sums), jax.tree.map(update, carry[2], new)

        parts, sums, new = jax.eval_shape(lambda turn: body(jnp.zeros(2, jnp.int32), of_turn(turn)), jnp.int32(0))
        pairs = zip(layouts, parts, strict=True)
        empty = (
            [jnp.zeros((*layout.shape, *part.shape[2:]), part.dtype) for layout, part in pairs],
            jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums),
            jax.tree.map(lambda leaf: jnp.zeros((turns, *leaf.shape), leaf.dtype), new),
        )
        maps, sums, new = lax.fori_loop(0, turns, step, empty)
        if self._axes is None:
            return maps, sums, new
        of_all = lax.all_gather(sums, self._axes)

        def of_device(device: Any) -> Any:
            return jax.tree.map(lambda leaf: lax.dynamic_index_in_dim(leaf, device, 0, keepdims=False), of_all)

        sums = lax.fori_loop(1, self._devices, lambda device, total: merge(total, of_device(device)), of_device(0))
        return lax.psum(maps, self._axes), sums, new


def _added(whole: Array, part: Array, layout: Layout, tile: Array) -> Array:
    """A map to which what belongs to a tile is added."""
    corner = tile * layout.step + layout.offset
    index = (corner[0], corner[1], *[corner.dtype.type(0)] * (whole.ndim - 2))
    return lax.dynamic_update_slice(whole, lax.dynamic_slice(whole, index, part.shape) + part, index)


Loop: TypeAlias = HostLoop | TracedLoop


class TilePlan(NamedTuple):
    """How an image of one size is divided (static).

    Attributes:
        segments: The network's segments.
        sizes: Height and width of the input of each segment.
    """

    segments: tuple[Segment, ...]
    sizes: tuple[tuple[int, int], ...]

    def grid(self, index: int) -> tuple[int, int]:
        """How many rows and columns of tiles a segment has."""
        rows, columns = (-(-side // self.segments[index].tile) for side in self.sizes[0])
        return rows, columns

    def covered(self, index: int, step: int) -> tuple[int, int]:
        """Height and width of all tiles of a segment together, where one tile has a side of ``step``."""
        rows, columns = self.grid(index)
        return rows * step, columns * step

    def shape(self, index: int) -> tuple[int, int]:
        """Height and width of the map of a segment's input: all tiles that are read or written, and margins."""
        segment = self.segments[index]
        sides = self.covered(index, segment.step)
        if index:
            written = self.covered(index - 1, self.segments[index - 1].steps[END])
            sides = (max(sides[0], written[0]), max(sides[1], written[1]))
        margins = segment.before + segment.after
        return sides[0] + margins, sides[1] + margins

    @property
    def held_bytes(self) -> int:
        """The most bytes that the second pass holds at once besides images.

        That is what the first pass has left of a segment and those before it, and the gradients by the segment's input
        and output.
        """
        between = (4 * each.channels * math.prod(self.shape(index)) for index, each in enumerate(self.segments[:-1], 1))
        maps, left, most = [0, *between, 0], 0, 0
        for index, segment in enumerate(self.segments):
            left += math.prod(self.grid(index)) * segment.saved_bytes + segment.needs_input * maps[index]
            most = max(most, left + maps[index] + maps[index + 1])
        return most

    def written(self, index: int) -> Layout:
        """Where the tiles of the segment before lie in a segment's input."""
        return Layout(self.shape(index), self.segments[index - 1].steps[END], self.segments[index].before)

    def read(self, index: int) -> Layout:
        """Where a segment's own tiles lie in its input, with their margins."""
        return Layout(self.shape(index), self.segments[index].step)


@lru_cache(maxsize=64)
def plan_tiles(backbone: Backbone, layers: tuple[str, ...], size: tuple[int, int], tile: int) -> TilePlan:
    """Divide images ``(h, w, 3)`` of a size into tiles, none much larger than the image; errors as for `segments`."""
    tile = min(tile, max(SMALLEST_TILE, -(-max(size) // GRAIN) * GRAIN))
    parts = segments(backbone, layers, tile)
    inputs = segment_inputs(backbone, layers, size, tuple(part.part[0] for part in parts)) if parts else ()
    return TilePlan(parts, tuple((shape[0], shape[1]) for shape in inputs))


class Saved(NamedTuple):
    """What the first pass saves of a tile, so that the second computes little of it again.

    Attributes:
        gates: See `jnst.backbones.gates`.
        features: Those of `Segment.saved_layers`, by layer.
    """

    gates: Gates
    features: dict[str, Array]


class Pass(NamedTuple):
    """What the first pass over an image finds.

    Attributes:
        sums: Those of each request, over the whole image.
        inputs: The input of each segment, with margins; empty where the second pass does not need it.
        features: The features that were to be kept, by layer.
        saved: What is saved of the tiles of each segment, from `Loop.collect`.
    """

    sums: list[Any]
    inputs: list[Any]
    features: dict[str, Any]
    saved: list[Any]


def forward(
    loop: Loop,
    plan: TilePlan,
    image: Image,
    requests: Sequence[Request],
    params: Params,
    kept: tuple[str, ...] = (),
    *,
    saves: bool = False,
) -> Pass:
    """Compute the sums of all requests, tile by tile, and the features of layers that are to be kept.

    Args:
        loop: A loop over tiles.
        plan: How the image is divided.
        image: ``(h, w, 3)`` in [0, 1].
        requests: What is asked for.
        params: The network's parameters.
        kept: The layers.
        saves: Whether `backward` will follow.
    """
    if not plan.segments:
        return Pass([], [], {}, [])
    sums: list[Any] = [None] * len(requests)
    inputs, features, saved = [loop.padded(image, plan.shape(0), plan.segments[0].before)], {}, []
    for index, segment in enumerate(plan.segments):
        places = _places(segment, requests)
        own = tuple(layer for layer in segment.found if layer in kept)
        layouts = [Layout(plan.covered(index, segment.steps[layer]), segment.steps[layer]) for layer in own]
        if segment.channels:
            layouts.append(plan.written(index + 1))
        read = _reader(loop, plan, index, inputs[index], [requests[place] for place in places])
        add_up = partial(_add_up, read=read, params=params, segment=segment, kept=own, saves=saves)
        maps, found, of_tiles = loop.collect(add_up, plan.grid(index), layouts)
        features |= dict(zip(own, maps, strict=False))
        inputs += maps[len(own) :]
        saved.append(of_tiles)
        if saves and not segment.needs_input:
            inputs[index] = np.zeros((0, 0, *inputs[index].shape[2:]), inputs[index].dtype)
        for place, value in zip(places, found, strict=True):
            sums[place] = value
    return Pass(sums, inputs, features, saved)


def _add_up(
    tile: Any, _: None, *, read: Any, params: Params, segment: Segment, kept: tuple[str, ...], saves: bool
) -> Any:
    return _tile_sums(*read(tile), params=params, segment=segment, kept=kept, saves=saves)


def backward(
    loop: Loop,
    plan: TilePlan,
    found: Pass,
    requests: Sequence[Request],
    params: Params,
    gradients: Sequence[Any],
) -> Any:
    """The gradient by the image, ``(h, w, 3)``, from those by the sums of all requests.

    Args:
        loop: As in the first pass, like the plan, the requests and the parameters.
        plan: How the image is divided.
        found: By the first pass. The lists of its inputs and of what it saved are emptied.
        requests: What was asked for.
        params: The network's parameters.
        gradients: By the sums of each request.
    """
    requests = [dataclasses.replace(each, whole=sums) for each, sums in zip(requests, found.sums, strict=True)]
    above: Any = None
    for index in reversed(range(len(plan.segments))):
        segment, places = plan.segments[index], _places(plan.segments[index], requests)
        pull_back = partial(
            _pull_back,
            loop=loop,
            above=None if above is None else (above, plan.written(index + 1)),
            by_sums=[gradients[place] for place in places],
            read=_reader(loop, plan, index, found.inputs.pop(), [requests[place] for place in places]),
            params=params,
            segment=segment,
        )
        (above,), _, _ = loop.collect(pull_back, plan.grid(index), [plan.read(index)], found.saved.pop())
    before, (height, width) = plan.segments[0].before, plan.sizes[0]
    return above[before : before + height, before : before + width]


def _pull_back(
    tile: Any, saved: Any, *, loop: Loop, above: Any, by_sums: Any, read: Any, params: Params, segment: Segment
) -> Any:
    by_end = None
    if above is not None:
        whole, layout = above
        by_end = loop.read(whole, tile, layout.step, layout.step, layout.offset)
    gradient = _tile_gradient(*read(tile), saved=saved, by_end=by_end, by_sums=by_sums, params=params, segment=segment)
    return (gradient,), (), ()


def _places(segment: Segment, requests: Sequence[Request]) -> list[int]:
    """Which requests are for layers of a segment."""
    return [place for place, request in enumerate(requests) if request.layer in segment.found]


def _reader(loop: Loop, plan: TilePlan, index: int, values: Any, requests: Sequence[Request]) -> Callable[[Any], Any]:
    """A function that reads what a tile of a segment needs: arguments of `_tile_sums` and `_tile_gradient`."""
    segment, size = plan.segments[index], np.array(plan.sizes[index], np.int32)
    whole = [
        _with_maps(each, segment, lambda leaf, step: loop.covering(leaf, plan.covered(index, step)))
        for each in requests
    ]

    def read(tile: Any) -> tuple[Any, Any, Any, list[Request]]:
        own = [_with_maps(each, segment, lambda leaf, step: loop.read(leaf, tile, step, step)) for each in whole]
        return loop.read(values, tile, segment.step, segment.side), tile, size, own

    return read


def _with_maps(request: Request, segment: Segment, change: Callable[[Any, int], Any]) -> Request:
    """A request with other maps: ``change(map, side of a tile)``."""
    step = segment.steps[request.layer]
    maps, guide = jax.tree.map(lambda leaf: change(leaf, step), (request.maps, request.guide))
    return dataclasses.replace(request, maps=maps, guide=guide)


@partial(Jit, static_argnames=("segment", "kept", "saves"))
def _tile_sums(
    values: Array,
    tile: Array,
    size: Array,
    local: list[Request],
    *,
    params: Params,
    segment: Segment,
    kept: tuple[str, ...],
    saves: bool,
) -> tuple[tuple[Array, ...], list[Any], Saved | None]:
    """The kept features of a tile, then the next segment's input; the sums of the requests; and what is saved."""
    saved = None
    if saves:
        found, gates = segment.apply_noting_gates(params, values, tile, size)
        saved = Saved(gates, {layer: found[layer].values for layer in segment.saved_layers})
    else:
        found = segment.apply(params, values, tile, size)
    parts = tuple(found[name].values[0] for name in (*kept, *[END] * (segment.channels > 0)))
    return parts, _sums(found, local), saved


@partial(Jit, static_argnames="segment")
def _tile_gradient(
    values: Array,
    tile: Array,
    size: Array,
    local: list[Request],
    *,
    saved: Saved,
    by_end: Array | None,
    by_sums: list[Any],
    params: Params,
    segment: Segment,
) -> Array:
    """The gradient by the window of a segment's input, from those by the next segment's input and by the sums.

    With what is saved, only features are computed again that were too many for it, and what these depend on.
    """

    def outputs(values: Array) -> tuple[Array | None, list[Any]]:
        found = segment.apply(params, values, tile, size, saved.gates)
        for layer, known in saved.features.items():
            found[layer] = found[layer].with_values(_known(found[layer].values, known))
        return found[END].values[0] if segment.channels else None, _sums(found, local)

    return jax.vjp(outputs, values)[1]((by_end, by_sums))[0]


@jax.custom_vjp
def _known(x: Array, value: Array) -> Array:
    """``x``, of which the value is known: it need not be computed, but is differentiated."""
    return value


_known.defvjp(lambda x, value: (value, None), lambda _, gradient: (gradient, None))


def _sums(found: Any, local: list[Request]) -> list[Any]:
    return [
        request.sums(found[request.layer].values[0], found[request.layer].inside().astype(jnp.float32))
        for request in local
    ]


def uses_host(tree: Any) -> bool:
    """Whether tiles are looped over on the host: on CPUs, unless something is being traced."""
    return not is_traced(tree) and platform_of(tree) == "cpu"


def features_in_tiles(
    image: Image, layers: tuple[str, ...], params: Params, *, backbone: Backbone, tile: int
) -> dict[str, Array]:
    """`Backbone.apply` for an image ``(h, w, 3)``, in tiles with a side of so many pixels."""
    plan = plan_tiles(backbone, layers, (image.shape[0], image.shape[1]), tile)
    shapes, found = backbone.shapes((image.shape[0], image.shape[1]), layers), {}
    on_host = uses_host((image, params))
    first_pass = partial(forward, HostLoop(), plan) if on_host else partial(_first_pass, plan=plan)
    maps = first_pass(image, [], params, kept=layers).features
    for layer in layers:
        height, width = shapes[layer][:2]
        found[layer] = jnp.asarray(maps.pop(layer)[:height, :width])
    return found


def sums_in_tiles(
    image: Image, requests: Sequence[Request], params: Params, *, plan: TilePlan, mesh: Mesh | None = None
) -> list[Any]:
    """The sums of all requests over an image, differentiable by the image.

    Args:
        image: ``(h, w, 3)`` in [0, 1].
        requests: What is asked for.
        params: The network's parameters.
        plan: From `plan_tiles`, for the layers of the requests.
        mesh: Devices among which the tiles are divided; None: one.

    Raises:
        ArgumentError: A gradient by anything else than the image is asked for.
    """
    if mesh is None and uses_host((image, requests, params)):
        return forward(HostLoop(), plan, image, requests, params).sums

    @jax.custom_vjp
    def sums(image: Image, requests: Any, params: Params) -> list[Any]:
        return _first_pass(image, requests, params, plan=plan, mesh=mesh).sums

    def keep(*arguments: Any) -> tuple[list[Any], Any]:
        if any(leaf.perturbed for leaf in jax.tree.leaves(arguments[1:], is_leaf=_is_primal)):
            raise ArgumentError(
                "a loss in tiles has gradients by the image and by weights only: leave out `tile` to differentiate by "
                "parameters, targets or masks"
            )
        values = jax.tree.map(lambda leaf: leaf.value, arguments, is_leaf=_is_primal)
        found = _first_pass(*values, plan=plan, mesh=mesh, saves=True)
        return found.sums, (found, *values[1:])

    def pull_back(kept: Any, gradients: Any) -> tuple[Array, None, None]:
        by_sums = jax.tree.map(_instantiate, gradients, is_leaf=_is_zero)
        return _second_pass(*kept, by_sums, plan=plan, mesh=mesh), None, None

    sums.defvjp(keep, pull_back, symbolic_zeros=True)
    return sums(image, list(requests), params)


@partial(Jit, static_argnames=("plan", "mesh", "kept", "saves"))
def _first_pass(
    image: Image,
    requests: list[Request],
    params: Params,
    *,
    plan: TilePlan,
    mesh: Mesh | None = None,
    kept: tuple[str, ...] = (),
    saves: bool = False,
) -> Pass:
    """`forward` within a program, divided among the devices of a mesh."""

    def run(image: Image, requests: list[Request], params: Params) -> Pass:
        return forward(TracedLoop(mesh), plan, image, requests, params, kept, saves=saves)

    whole, own = _specs(mesh)
    return _on_all(mesh, run, whole, Pass(whole, whole, whole, own))(image, requests, params)


@partial(Jit, static_argnames=("plan", "mesh"))
def _second_pass(
    found: Pass,
    requests: list[Request],
    params: Params,
    by_sums: list[Any],
    *,
    plan: TilePlan,
    mesh: Mesh | None,
) -> Array:
    """`backward` within a program, divided among the devices of a mesh."""

    def run(found: Pass, requests: list[Request], params: Params, by_sums: list[Any]) -> Array:
        # `backward` empties the lists, which belong to JAX.
        found = found._replace(inputs=list(found.inputs), saved=list(found.saved))
        return backward(TracedLoop(mesh), plan, found, requests, params, by_sums)

    whole, own = _specs(mesh)
    run_on_all = _on_all(mesh, run, (Pass(whole, whole, whole, own), whole, whole, whole), whole)
    return run_on_all(found, requests, params, by_sums)


def _specs(mesh: Mesh | None) -> tuple[Any, Any]:
    """How arrays lie on a mesh: the same on all devices, and with each device's own part along the first axis."""
    return PartitionSpec(), PartitionSpec(None if mesh is None else mesh.axis_names)


def _on_all(mesh: Mesh | None, function: Callable[..., Any], arguments: Any, result: Any) -> Callable[..., Any]:
    """The function on all devices of the mesh; ``arguments`` and ``result`` say how these lie on it."""
    if mesh is None:
        return function
    return jax.shard_map(function, mesh=mesh, in_specs=arguments, out_specs=result, check_vma=False)


def _is_primal(value: Any) -> bool:
    return isinstance(value, CustomVJPPrimal)


def _is_zero(value: Any) -> bool:
    return isinstance(value, SymbolicZero)


def _instantiate(value: Any) -> Array:
    return jnp.zeros(value.shape, value.dtype) if _is_zero(value) else value
