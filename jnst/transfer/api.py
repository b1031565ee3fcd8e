"""`stylize`, `synthesize`, `reconstruct`, and their batched forms `stylize_batch`, `stylize_grid`, `sweep`."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jnst.backbones import Backbone
from jnst.errors import ArgumentError, ImageError, NumericsError, hint
from jnst.images import FITS, check_image, resize, size_of
from jnst.losses.objective import Objective
from jnst.presets import Preset
from jnst.presets import preset as override
from jnst.presets.overrides import SETTINGS
from jnst.presets.settings import Terms
from jnst.solve import Solution, State
from jnst.solve.compilation import on_host
from jnst.solve.devices import check_mesh, shard_rows
from jnst.solve.optimizers import Optimizer
from jnst.solve.saved import SavedState
from jnst.transfer import memory
from jnst.transfer.batches import Batch, solve_jobs
from jnst.transfer.inputs import Inputs, check_inputs, refuse_tracers
from jnst.transfer.multiscale import Callback, run_jobs
from jnst.transfer.plan import Job, make_job, with_tiles
from jnst.transfer.stages import OnCompile
from jnst.types import Array, Guide, Image, Params, RandomKey
from jnst.weights.load import load_backbone

Over = Mapping[str, Sequence[Any]]
"""The names of settings and the values that each goes through: an axis each."""

SWEEPABLE = (*SETTINGS, "seed", "objective")
"""Everything that a sweep can go through."""


PLACING = ("width", "mesh", "chunk", "check_memory", "callback")
"""Arguments of `solve_jobs`, among those of `Batching`."""


class Running(TypedDict, total=False):
    """How a single run is carried out: see `stylize`."""

    state: State | SavedState | None
    tile: int | None
    mesh: Mesh | None
    chunk: int | None
    check_memory: bool
    callback: Callback | None
    on_compile: OnCompile | None


@on_host
def stylize(
    content: Image,
    style: Image | Sequence[Image],
    params: Params | None = None,
    *,
    backbone: Backbone | None = None,
    preset: str | Preset = "jnst",
    objective: Objective | None = None,
    optimizer: str | Optimizer | None = None,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image | None = None,
    size: int | None = None,
    style_weights: Sequence[float] | None = None,
    masks: Sequence[Guide] | None = None,
    style_masks: Sequence[Guide | None] | None = None,
    keep_color: str | None = None,
    key: RandomKey | None = None,
    **running: Unpack[Running],
) -> Solution:
    """Transfer the style of one image, or of several, to the content of another (Gatys et al., CVPR 2016).

    Args:
        content: ``(h, w, 3)`` sRGB in [0, 1].
        style: ``(h', w', 3)`` sRGB in [0, 1] of any size, or several such. The size of its strokes follows its size.
        params: The network's parameters; None: the embedded network's.
        backbone: The network (static); None: the embedded one.
        preset: The settings. ``optimizer``, ``num_steps``, ``init`` and ``keep_color`` override it when given, and
            ``jnst.preset(name, setting=value)`` changes any other setting.
        objective: In place of the preset's, see `jnst.make_objective`.
        optimizer: A key of `jnst.solve.OPTIMIZERS`; one of its optimisers, in the preset's units; or any Optax
            transformation, for images in [0, 1].
        num_steps: Steps at each size of the pyramid; the last number holds for all further sizes.
        init: ``"content"``, ``"style"``, ``"noise"``, or an image ``(h, w, 3)``.
        size: The longer side of the result in pixels; styles are reduced with it. None: the content image's.
        style_weights: Relative weights of the styles in their mixture; with ``masks``, the weights of their regions.
        masks: ``(h, w)`` in [0, 1] for each style: its region of the content image. Soft edges blend, regions may
            overlap, and where there is none, no style is applied.
        style_masks: ``(h', w')`` in [0, 1] for each style: the part of it that counts; None for all of it.
        keep_color: How to keep the content's colours, a key of `jnst.images.KEEP_COLOUR`; None: as the preset says.
        key: For noise and stochastic losses; None: ``jax.random.key(0)``.
        **running:

            * ``state``: `Solution.state` of an earlier call like this one, or what `jnst.load_state` returned: the run
              continues up to ``num_steps``; losses and steps count this call only.
            * ``tile``: compute sizes larger than a tile in square tiles with a side of so many pixels, rounded up to a
              multiple of 32: exact up to rounding, in little memory, see `jnst.total_loss`. None: in tiles only where
              the whole image does not fit into memory.
            * ``mesh``: devices that share the image, each some of its rows (`jnst.local_mesh`), for images too large
              for one device. The height should be a multiple of their number. With ``tile``, they share the tiles.
            * ``chunk``: steps between two callbacks; None chooses by device (1 on CPUs).
            * ``check_memory``: whether to estimate the memory of large images first, to use tiles where it is needed,
              and to refuse what cannot fit; True by default.
            * ``callback``: called with a `jnst.Report` after every chunk; returning True ends the run.
            * ``on_compile``: called with a `jnst.Compiling` before the run waits for the program of a size.

    Returns:
        The image ``(h, w, 3)`` in [0, 1], losses ``(n,)`` and parts over all sizes, and the state.

    Raises:
        ImageError: An image is not ``(h, w, 3)`` floats in [0, 1] or too small for a layer, or a mask has another size
            than its image.
        ArgumentError: An unknown name, or an invalid value.
        WeightsError: A layer beyond the weights.
        ResourceError: There is not enough memory.
        NumericsError: The loss stopped being finite; its ``result`` is the `Solution` with the last finite image.
    """
    _check_keywords("stylize", running, Running)
    backbone, params = _network(backbone, params)
    job = _job(
        check_inputs(content, style, style_weights, masks, style_masks),
        backbone,
        preset=preset,
        objective=objective,
        optimizer=optimizer,
        num_steps=num_steps,
        init=init,
        size=size,
        keep_color=keep_color,
        key=key,
    )
    return _run(job, params, **running)


@on_host
def synthesize(
    style: Image | Sequence[Image],
    shape: tuple[int, int] | None = None,
    params: Params | None = None,
    *,
    backbone: Backbone | None = None,
    preset: str | Preset = "jnst",
    objective: Objective | None = None,
    optimizer: str | Optimizer | None = None,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image = "noise",
    style_weights: Sequence[float] | None = None,
    seamless: bool | str | None = None,
    key: RandomKey | None = None,
    **running: Unpack[Running],
) -> Solution:
    """Synthesise a texture: an image with a style and no content (Gatys, Ecker & Bethge, NeurIPS 2015).

    Several maps of one material, such as albedo, normals and roughness, are synthesised together if they are one image
    with 3 channels for each: statistics between maps are matched too, so that they stay aligned. `jnst.rgb_groups`
    separates the maps of the result.

    Args:
        style: ``(h', w', 3)`` in [0, 1], or ``(h', w', 3 k)`` for k maps; or several such.
        shape: Height and width of the texture; None: those of the (first) style.
        params: As for `stylize`, like all that follow.
        backbone: See `stylize`.
        preset: Its content terms are left out.
        objective: Its content terms are left out.
        optimizer: See `stylize`.
        num_steps: See `stylize`.
        init: ``"noise"``, ``"style"`` (resized), or an image.
        style_weights: See `stylize`.
        seamless: Whether the texture can be repeated without a seam: True or ``"both"``; ``"x"`` for left to right and
            ``"y"`` for top to bottom alone; None: as the preset says. Sides that are multiples of the stride of the
            deepest layer, 16 for ``relu5_1``, repeat exactly; others may have a faint seam.
        key: See `stylize`; another key gives another texture.
        **running: See `stylize`.

    Returns:
        As `stylize`.

    Raises:
        As `stylize`.
    """
    _check_keywords("synthesize", running, Running)
    backbone, params = _network(backbone, params)
    job = _job(
        check_inputs(None, style, style_weights, several_maps=True),
        backbone,
        preset=override(preset, content_layers=(), content_layer_weights=None),
        seamless=seamless,
        objective=None if objective is None else dataclasses.replace(objective, content=()),
        optimizer=optimizer,
        num_steps=num_steps,
        init=init,
        shape=None if shape is None else _check_shape(shape),
        key=key,
    )
    return _run(job, params, **running)


@on_host
def reconstruct(
    content: Image,
    layers: Sequence[str] | None = None,
    params: Params | None = None,
    *,
    backbone: Backbone | None = None,
    preset: str | Preset = "jnst",
    objective: Objective | None = None,
    optimizer: str | Optimizer | None = None,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image = "noise",
    size: int | None = None,
    key: RandomKey | None = None,
    **running: Unpack[Running],
) -> Solution:
    """Show what layers keep of an image: find another one with the same features (Mahendran & Vedaldi, CVPR 2015).

    Args:
        content: ``(h, w, 3)`` in [0, 1].
        layers: Whose features are matched; None: the preset's content layers.
        params: As for `stylize`, like all that follow.
        backbone: See `stylize`.
        preset: Its style terms are left out.
        objective: Its style terms are left out.
        optimizer: See `stylize`.
        num_steps: See `stylize`.
        init: ``"noise"`` or an image.
        size: See `stylize`.
        key: See `stylize`.
        **running: See `stylize`.

    Returns:
        As `stylize`.

    Raises:
        As `stylize`.
    """
    _check_keywords("reconstruct", running, Running)
    backbone, params = _network(backbone, params)
    settings = override(preset)
    if layers is not None:
        settings = override(settings, content_layers=tuple(layers), content_layer_weights=None)
    kept = settings.terms.layers(backbone)[0]
    job = _job(
        check_inputs(content, None),
        backbone,
        preset=override(settings, content_layers=kept, style_layers=(), style_layer_weights=None, keep_color=None),
        objective=None if objective is None else dataclasses.replace(objective, style=()),
        optimizer=optimizer,
        num_steps=num_steps,
        init=init,
        size=size,
        key=key,
    )
    return _run(job, params, **running)


class Batching(TypedDict, total=False):
    """What `stylize_batch`, `stylize_grid` and `sweep` have in common: what all runs share, and how they are placed."""

    backbone: Backbone | None
    preset: str | Preset
    objective: Objective | None
    optimizer: str | Optimizer | None
    num_steps: int | tuple[int, ...] | None
    init: str | Image | None
    size: int | None
    keep_color: str | None
    key: RandomKey | None
    width: int | None
    mesh: Mesh | None
    chunk: int | None
    check_memory: bool
    callback: Callback | None


@on_host
def stylize_batch(
    contents: Array | Sequence[Image],
    styles: Array | Sequence[Image | Sequence[Image]],
    params: Params | None = None,
    *,
    fit: str | None = None,
    over: Over | None = None,
    **batching: Unpack[Batching],
) -> Solution:
    """Transfer the style of the i-th style to the i-th content, for all i: `stylize` for a batch.

    Every run has its own losses, optimiser state and end. One whose loss stops being finite keeps its last finite image
    and is reported; the others do not change.

    Args:
        contents: ``(n, h, w, 3)``, or n images of one shape (of any shape with ``fit``).
        styles: n of them, of any sizes; each an image, or a sequence of images that are mixed.
        params: The network's parameters; None: the embedded network's.
        fit: How contents are brought to the first one's shape: ``"crop"`` or ``"resize"``; None: they must have it.
        over: Settings and their values, further axes after that of the pairs: see `sweep`.
        **batching: ``backbone``, ``preset``, ``objective``, ``optimizer``, ``num_steps``, ``init``, ``size``,
            ``keep_color`` and ``key`` as for `stylize`, the same for all; and

            * ``width``: how many runs share each device; None: as many as memory allows, on CPUs one.
            * ``mesh``: devices among which the runs are divided (`jnst.local_mesh`).
            * ``chunk`` and ``check_memory``: as for `stylize`.
            * ``callback``: called with a `jnst.Report` of the runs that are under way. True ends all of them, a
              sequence with a value for each run ends those where it is True.

    Returns:
        Arrays with an axis of n, then those of ``over``. `Solution.error` says what happened to runs that failed.

    Raises:
        ArgumentError: Not as many styles as contents, an unknown name, or an invalid value.
        ImageError: Contents of several shapes without ``fit``, or arrays that are no images or too small.
        WeightsError: A layer beyond the weights.
        ResourceError: There is not enough memory.
    """
    fitted, checked = _contents(contents, fit), _styles(styles)
    if len(fitted) != len(checked):
        raise ArgumentError(
            f"{len(fitted)} contents and {len(checked)} styles: a batch pairs them one to one "
            "(jnst.stylize_grid makes all pairs)"
        )
    pairs = [style._replace(content=content) for content, style in zip(fitted, checked, strict=True)]
    return _run_all("stylize_batch", pairs, (len(pairs),), params, over, batching)


@on_host
def stylize_grid(
    contents: Array | Sequence[Image],
    styles: Array | Sequence[Image | Sequence[Image]],
    params: Params | None = None,
    *,
    fit: str | None = None,
    over: Over | None = None,
    **batching: Unpack[Batching],
) -> Solution:
    """Transfer every style to every content. Targets are computed once for each content and each style.

    Args:
        contents: As for `stylize_batch`, like all that follow; any number of them.
        styles: Any number of them.
        params: See `stylize_batch`.
        fit: See `stylize_batch`.
        over: See `stylize_batch`.
        **batching: See `stylize_batch`. (Where ``keep_color`` changes the styles, every pair has targets of its own.)

    Returns:
        Arrays with an axis of contents, one of styles, then those of ``over``.

    Raises:
        As `stylize_batch`.
    """
    fitted, checked = _contents(contents, fit), _styles(styles)
    pairs = [style._replace(content=content) for content in fitted for style in checked]
    return _run_all("stylize_grid", pairs, (len(fitted), len(checked)), params, over, batching)


@on_host
def sweep(
    content: Image,
    style: Image | Sequence[Image],
    over: Over,
    params: Params | None = None,
    **batching: Unpack[Batching],
) -> Solution:
    """Make one image under many settings: all combinations of the values in ``over``.

    Weights, learning rates and seeds are inputs of one compiled program. What changes the program itself (layers, the
    style loss, the number of sizes, a weight of 0 that leaves a term out) is compiled once for each value.

    Args:
        content: ``(h, w, 3)`` in [0, 1].
        style: ``(h', w', 3)`` in [0, 1], or several such.
        over: ``{"style_weight": (1e2, 1e3), "seed": (0, 1, 2)}``: settings as `jnst.preset` takes them, ``seed`` and
            ``objective``, each with its values; an axis each, in this order.
        params: See `stylize_batch`.
        **batching: See `stylize_batch`.

    Returns:
        Arrays with one axis for each entry of ``over``.

    Raises:
        ArgumentError: ``over`` is empty, or names an unknown setting; else as `stylize_batch`.
    """
    if not over:
        raise ArgumentError("`over` is empty: name a setting and its values, such as {'style_weight': (1e2, 1e3)}")
    return _run_all("sweep", [check_inputs(content, style)], (), params, over, batching)


def _network(backbone: Backbone | None, params: Params | None) -> tuple[Backbone, Params]:
    """Both as given, or the embedded network's."""
    if backbone is None and params is None:
        return load_backbone()
    if backbone is None or params is None:
        raise ArgumentError(
            "`params` and `backbone` belong together: pass both, as jnst.load_backbone returns them, or neither"
        )
    return backbone, params


def _check_keywords(function: str, given: Mapping[str, Any], known: Any) -> None:
    """Refuse keywords that a function does not have, before any work."""
    for name in given:
        if name not in known.__annotations__:
            raise TypeError(
                f"{function}() got an unexpected keyword argument {name!r}: {hint(name, known.__annotations__)}"
            )


def _job(
    inputs: Inputs,
    backbone: Backbone,
    *,
    preset: str | Preset = "jnst",
    objective: Objective | None = None,
    optimizer: str | Optimizer | None = None,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image | None = None,
    size: int | None = None,
    shape: tuple[int, int] | None = None,
    keep_color: str | None = None,
    seamless: bool | str | None = None,
    key: RandomKey | None = None,
    change: Mapping[str, Any] | None = None,
) -> Job:
    """The job that a call asks for, under one combination of swept values. What is None leaves the preset as it is."""
    change = change or {}
    if objective is not None:
        without_effect = {field.name for field in dataclasses.fields(Terms)} | {"style_statistic"}
        for name in change:
            if name in without_effect:
                raise ArgumentError(
                    f"a sweep over {name} beside `objective` has no effect: sweep over objectives instead"
                )
    given = {"optimizer": optimizer, "num_steps": num_steps, "keep_color": keep_color, "seamless": seamless}
    given["init"] = init if isinstance(init, str) else None
    settings = override(preset, **{name: value for name, value in given.items() if value is not None})
    settings = override(settings, **{name: change[name] for name in change if name not in ("seed", "objective")})
    return make_job(
        inputs,
        settings,
        backbone,
        shape=shape,
        size=size,
        objective=change.get("objective", objective),
        init=init,
        key=jax.random.key(change["seed"]) if "seed" in change else key,
    )


def _check_shape(shape: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2 or not all(isinstance(side, int | np.integer) and side >= 1 for side in shape):
        raise ArgumentError(f"shape {shape}: expected height and width in pixels, whole numbers of at least 1")
    return int(shape[0]), int(shape[1])


@memory.reports_exhaustion
def _run(
    job: Job,
    params: Params,
    *,
    state: State | SavedState | None = None,
    tile: int | None = None,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    check_memory: bool = True,
    callback: Callback | None = None,
    on_compile: OnCompile | None = None,
) -> Solution:
    """Carry out a single job."""
    refuse_tracers((job, params, state))
    job = job if tile is None else with_tiles(job, tile)
    # Rows divided among devices need XLA's own convolution, which knows how to exchange their borders.
    params = job.plan.backbone.prepare(params) if mesh is None else shard_rows(params, check_mesh(mesh))
    if check_memory and mesh is None:
        job = memory.check(job, params, chunk=chunk)
    solution = run_jobs(
        [job],
        params,
        batched=False,
        state=state,
        row_mesh=mesh,
        chunk=chunk,
        callback=callback,
        on_compile=on_compile,
    )
    message = solution.error()
    if message is not None:
        error = NumericsError(message)
        error.result = solution
        raise error
    return solution


def _contents(contents: Array | Sequence[Image], fit: str | None) -> list[Image]:
    """The images, checked, of one shape."""
    images = [check_image(content, f"contents[{index}]") for index, content in enumerate(contents)]
    if not images:
        raise ArgumentError("`contents` is empty: pass at least one image")
    shape = size_of(images[0])
    if fit is not None:
        if fit not in FITS:
            raise ArgumentError(f"fit {fit!r} is unknown: {hint(fit, FITS)}")
        return [FITS[fit](image, shape) for image in images]
    for index, image in enumerate(images):
        if size_of(image) != shape:
            raise ImageError(
                f"`contents[{index}]` has shape {image.shape}, `contents[0]` {images[0].shape}: pass fit='crop' or "
                "fit='resize', or call once for each shape"
            )
    return images


def _styles(styles: Array | Sequence[Image | Sequence[Image]]) -> list[Inputs]:
    """Every style or mixture of styles, checked, without a content."""
    checked = [check_inputs(None, style) for style in styles]
    if not checked:
        raise ArgumentError("`styles` is empty: pass at least one image")
    return checked


def _run_all(
    function: str,
    pairs: Sequence[Inputs],
    shape: tuple[int, ...],
    params: Params | None,
    over: Over | None,
    batching: Batching,
) -> Solution:
    """Carry out all pairs under all combinations of ``over``."""
    _check_keywords(function, batching, Batching)
    refuse_tracers((pairs, params, over, batching))
    given: dict[str, Any] = {**batching}
    backbone, params = _network(given.pop("backbone", None), params)
    placing = {name: given.pop(name) for name in PLACING if name in given}
    combinations = _combinations(over)
    jobs = [_job(inputs, backbone, change=change, **given) for inputs in pairs for change in combinations]
    lengths = (len(values) for values in (over or {}).values())
    return _gathered(jobs, list(solve_jobs(jobs, params, **placing)), (*shape, *lengths))


def _combinations(over: Over | None) -> list[dict[str, Any]]:
    """All combinations of a sweep's values, the last setting changing fastest; a single empty one without a sweep."""
    over = over or {}
    for name, values in over.items():
        if name not in SWEEPABLE:
            raise ArgumentError(f"no setting {name!r} to sweep over: {hint(name, SWEEPABLE)}")
        if isinstance(values, str) or len(values) == 0:
            raise ArgumentError(f"sweep over {name}: expected a sequence of values, at least one, got {values!r}")
    return [dict(zip(over, values, strict=True)) for values in itertools.product(*over.values())]


def _gathered(jobs: Sequence[Job], batches: Sequence[Batch], shape: tuple[int, ...]) -> Solution:
    """All batches in the order of their jobs, with the axes of ``shape`` in front."""
    full, settings = jobs[0].plan.scales[-1].shape, jobs[0].plan.settings
    method, wrap = settings.schedule.resample, settings.wrap
    places = {number: (batch.solution, row) for batch in batches for row, number in enumerate(batch.numbers)}
    solutions = [
        jax.tree.map(lambda leaf, row=row: leaf[row], whole) for whole, row in map(places.__getitem__, range(len(jobs)))
    ]
    images = jnp.stack([resize(solution.image, full, method, wrap) for solution in solutions])
    names = dict.fromkeys(name for solution in solutions for name in solution.parts)
    steps = max(len(solution.losses) for solution in solutions)
    none = np.zeros(0, np.float32)

    def records(values: Iterable[np.ndarray]) -> np.ndarray:
        padded = [np.pad(value, (0, steps - len(value)), constant_values=np.nan) for value in values]
        return np.stack(padded).reshape(*shape, steps)

    return Solution(
        image=images.reshape(*shape, *images.shape[1:]),
        losses=records(solution.losses for solution in solutions),
        parts={name: records(solution.parts.get(name, none) for solution in solutions) for name in names},
        num_steps=np.array([solution.num_steps for solution in solutions]).reshape(shape),
        finite=np.array([solution.finite for solution in solutions]).reshape(shape),
        fell=np.array([solution.fell for solution in solutions]).reshape(shape),
        diverged=np.array([solution.diverged for solution in solutions]).reshape(shape),
    )
