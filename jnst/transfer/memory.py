"""Memory: what a run will need, what there is, and an error instead of a killed process."""

import functools
import logging
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp

from jnst.backbones.segments import GRAIN
from jnst.errors import ArgumentError, ResourceError
from jnst.losses.objective import TransferArgs
from jnst.losses.tiles import plan_tiles
from jnst.solve import LBFGS, State
from jnst.solve.devices import USABLE, needed_bytes, platform_of
from jnst.solve.devices import free_bytes as free_on_device
from jnst.solve.driver import lower_steps
from jnst.solve.solver import start
from jnst.transfer.plan import Job, with_tiles
from jnst.transfer.stages import AXES, make_program
from jnst.transfer.target_store import target_shapes
from jnst.types import Params

MAX_PER_PIXEL = 12_000
"""Bytes per pixel of the result that no usual run exceeds; below that nothing is checked."""
TILES = (512, 256)
"""Sides of tiles to try, in pixels: larger ones have less margin, smaller ones need less memory."""
_logger = logging.getLogger(__name__)
CGROUPS = Path("/sys/fs/cgroup")

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


def check(job: Job, params: Params, *, chunk: int | None = None, free: int | None = None) -> Job:
    """Return a job that fits into memory: in tiles at the sizes at which it otherwise would not.

    The need of whole images is what the compiler reports for the program that will make the steps (which the run then
    reuses), plus a second copy of the optimiser's state. Small images are not checked.

    Args:
        job: What is to be done.
        params: The network's parameters, prepared for the device.
        chunk: Steps in one compiled program; None: as the run chooses.
        free: Bytes that may be used; None: `free_bytes`.

    Raises:
        ResourceError: It needs more even in tiles, or cannot be computed in tiles; the message says what would fit.
    """
    free, last = free_bytes() if free is None else free, job.plan.scales[-1]
    if free is None:
        return job
    state = bytes_of(_state(job))
    if last.tile is not None:
        needed = tiled_bytes(job, params)
        if needed > free:
            raise ResourceError(_refusal(job, params, needed, free, state))
        return job
    if math.prod(last.shape) * MAX_PER_PIXEL * job.plan.backbone.maps <= free:
        return job
    # The state alone may tell, without seconds of compilation.
    needed = 2 * state if 2 * state > free else run_bytes(job, params, chunk=chunk)
    if needed <= free:
        return job
    tiled = _in_tiles(job, params, needed, free) if 2 * state <= free else None
    if tiled is None:
        raise ResourceError(_refusal(job, params, needed, free, state))
    tile, need, left = tiled.plan.scales[-1].tile, in_words(needed), in_words(free)
    _logger.info("computed in tiles of %d: the whole image needs %s, %s are free", tile, need, left)
    return tiled


def _in_tiles(job: Job, params: Params, needed: int, free: int) -> Job | None:
    """The job in tiles at the sizes that do not fit, of which the last one needs so much; None if that does not do."""
    scales = job.plan.scales
    share = free / needed * math.prod(scales[-1].shape)
    sizes = {index for index, scale in enumerate(scales) if math.prod(scale.shape) > share} | {len(scales) - 1}
    for tile in TILES:
        try:
            tiled = with_tiles(job, tile, sizes)
        except ArgumentError:  # a loss or a network that needs the whole image
            return None
        if tiled_bytes(tiled, params) <= free:
            return tiled
    return None


def tiled_bytes(job: Job, params: Params) -> int:
    """The memory, in bytes, that the steps of a run in tiles take at its full size.

    For each pixel: the optimiser's state, twice; the content image; the image and its gradient, each once more; the
    targets; and what is kept of the network's segments. For each tile: all features and their gradients.
    """
    return sum(_tiled_parts(job, params))


def _tiled_parts(job: Job, params: Params) -> tuple[int, int]:
    """Of `tiled_bytes` what grows with the image, and what does not."""
    scale, backbone = job.plan.scales[-1], job.plan.backbone
    assert scale.tile is not None
    layers, tile, pixels = scale.objective.layers, scale.tile, math.prod(scale.shape)
    deepest = max(map(backbone.layers.index, layers), default=-1)
    shapes = backbone.shapes((tile + 2 * GRAIN, tile + 2 * GRAIN), backbone.layers[: deepest + 1])
    features = 2 * 4 * sum(map(math.prod, shapes.values()))
    targets = target_shapes(job, len(job.plan.scales) - 1, params)
    constant = features + bytes_of((targets.style, params))
    if platform_of(params) != "cpu":
        needed = run_bytes(job, params)
        return needed - min(needed, constant), min(needed, constant)
    images = pixels * 4 * 4 * 3 + plan_tiles(backbone, layers, scale.shape, tile).held_bytes
    return 2 * bytes_of(_state(job)) + bytes_of(targets.content) + images, constant


def run_bytes(job: Job, params: Params, *, width: int | None = None, chunk: int | None = None) -> int:
    """The memory, in bytes, that the steps of a run take at its full size: compiled, but not run.

    The process takes some 150 MB for compiled code besides, and its allocator up to a quarter more.

    Args:
        job: What is to be done.
        params: The network's parameters, prepared for the device.
        width: How many such jobs run at once, as a batch; None: a single run.
        chunk: See `check`.
    """

    def batch(tree: Any) -> Any:
        if width is None:
            return tree
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((width, *leaf.shape), leaf.dtype), tree)

    last = len(job.plan.scales) - 1
    objective, targets = job.plan.scales[last].objective, target_shapes(job, last, params)
    args = TransferArgs(batch(objective), batch(targets), params, batch(job.key))
    program, state = batch(make_program([job], last, batched=False)), batch(_state(job))
    lowered = lower_steps(program, state, args, axes=None if width is None else AXES, chunk=chunk)
    # And a copy of the state, such as callbacks and checkpoints make.
    return needed_bytes(lowered.compile()) + bytes_of(state)


def bytes_of(tree: Any) -> int:
    """The bytes that the arrays of a tree take, or would."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _state(job: Job) -> State:
    scale = job.plan.scales[-1]
    return jax.eval_shape(
        partial(start, scale.solver), jax.ShapeDtypeStruct((*scale.shape, job.inputs.channels), jnp.float32)
    )


def _refusal(job: Job, params: Params, needed: int, free: int, state: int) -> str:
    scale = job.plan.scales[-1]
    height, width = scale.shape
    others = ["a smaller network or fewer layers"]
    how = "" if scale.tile is None else f" in tiles of {scale.tile}"
    if isinstance(scale.solver.optimizer, LBFGS) and 4 * state > needed:
        others.insert(0, f"Adam (L-BFGS keeps {in_words(state)} of images and gradients),")
    said = (
        f"{width}x{height} pixels{how} need about {in_words(needed)} of memory, but only {in_words(free)} is available"
    )
    side, tile = _fitting(job, params, needed, free)
    smaller = None if scale.tile is None or tile is None or tile >= scale.tile else tile
    if smaller is not None and side >= max(scale.shape):
        return f"{said}: use smaller tiles (`tile` {smaller})"
    fits = "fits" if smaller is None else f"fits with smaller tiles, `tile` {smaller}"
    return f"{said}: make the image smaller (a longer side of {side} {fits}), or use {' or '.join(others)}"


def _fitting(job: Job, params: Params, needed: int, free: int) -> tuple[int, int | None]:
    """A longer side that fits, and the side of the tiles in which it does; None: as a whole.

    Args:
        job: What does not fit.
        params: See `check`.
        needed: What it needs, in bytes.
        free: What there is, in bytes.
    """
    scale, last = job.plan.scales[-1], len(job.plan.scales) - 1
    longest, tile = max(scale.shape), min(scale.tile or TILES[-1], TILES[-1])
    try:
        growing, constant = _tiled_parts(with_tiles(job, tile, {last}), params)
    except ArgumentError:  # a loss or a network that needs the whole image
        return max(8, int(0.95 * longest * (free / needed) ** 0.5) // 8 * 8), None
    if growing + constant <= free:
        return longest, tile
    side = int(0.95 * longest * (max(0, free - constant) / growing) ** 0.5) // 8 * 8
    if side > tile:
        return side, tile
    return max(8, int((free / (MAX_PER_PIXEL * job.plan.backbone.maps)) ** 0.5) // 8 * 8), None


def check_fits(needed: int, what: str) -> None:
    """Check that a program finds the memory that it needs.

    Args:
        needed: In bytes.
        what: The image, for the message.

    Raises:
        ResourceError: It does not.
    """
    free = free_bytes()
    if free is not None and needed > free:
        raise ResourceError(
            f"{what} needs {in_words(needed)} of memory, but only {in_words(free)} are free: choose a smaller size"
        )


def in_words(count: int) -> str:
    """A number of bytes for a message, such as "3.2 GB"."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    return isinstance(error, MemoryError) or (
        isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )


def reports_exhaustion(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Let a function that runs out of memory raise a `ResourceError`; the process stays usable.

    Where the system promises more memory than it has, as Linux does by default, it may kill the process instead:
    `check` is there to prevent that.
    """

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Returned:
        try:
            return function(*args, **kwargs)
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not ran_out(error):
                raise
            raise ResourceError(exhausted(error)) from None

    return call


def exhausted(error: BaseException) -> str:
    """The message for memory that ran out."""
    said = str(error).partition("\n")[0].removeprefix("RESOURCE_EXHAUSTED: ").rstrip(".")
    return (
        f"memory ran out{f' ({said})' if said else ''}: choose a smaller image, tiles (`tile`), an optimizer that "
        "keeps less (Adam instead of L-BFGS), or fewer layers"
    )


def free_bytes() -> int | None:
    """What can still be allocated where programs run by default: on the device, or of the machine's memory.

    Of the latter what the system calls available, less where the container or a resource limit allows less; None where
    nothing can be known.
    """
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        return free_on_device(device)
    found = [*_available(), *_left_in_cgroups(), *_left_by_limits()]
    return int(USABLE * max(0, min(found))) if found else None


def _available() -> Iterator[int]:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            yield 1024 * int(line.split()[1])
            return
    if "SC_PHYS_PAGES" in os.sysconf_names:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_in_cgroups() -> Iterator[int]:
    """What the control groups of this process allow it (versions 2 and 1), files that can be read again not counted."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory") and "memory" not in controllers.split(","):
            continue
        root, names = (
            (CGROUPS / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
            if controllers
            else (CGROUPS, ("memory.max", "memory.current", "inactive_file"))
        )
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            limit, used = (_number(folder / name) for name in names[:2])
            if limit is not None and used is not None:
                idle = (int(row.split()[1]) for row in _lines(folder / "memory.stat") if row.startswith(names[2] + " "))
                yield limit - used + next(idle, 0)
            if folder == root:
                break


def _left_by_limits() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Not a Unix.
        return
    status = dict(line.split(":", 1) for line in _lines(Path("/proc/self/status")) if ":" in line)
    for limit, field in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        allowed = resource.getrlimit(limit)[0]
        if allowed != resource.RLIM_INFINITY and field in status:
            yield allowed - 1024 * int(status[field].split()[0])


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # There is none, or it says "max".
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []
