"""What a run will do, resolved before anything is computed: its sizes, and the objective and solver at each."""

import dataclasses
import math
from collections.abc import Container
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jnst.backbones import Backbone
from jnst.errors import ArgumentError, ImageError
from jnst.images import KEEP_COLOUR, SEAMLESS, check_image, fit_shape, nearest_multiple, resize, size_of
from jnst.losses.objective import Objective, check_tiles
from jnst.losses.tiles import check_tile
from jnst.presets import Preset
from jnst.solve import RMSprop, Solver
from jnst.solve.compilation import Jit
from jnst.transfer.inputs import INITS, Inputs, check_key
from jnst.types import Image, RandomKey


class Scale(NamedTuple):
    """One size of a run.

    Attributes:
        shape: The image's height and width.
        num_steps: How many steps are made.
        objective: What is minimised.
        solver: How.
        tile: The side of the tiles in which it is computed; None: it is computed as a whole.
    """

    shape: tuple[int, int]
    num_steps: int
    objective: Objective
    solver: Solver
    tile: int | None = None


class Plan(NamedTuple):
    """What a run will do.

    Attributes:
        settings: The preset, with all overrides.
        backbone: The network, with the preset's options.
        style_backbone: The same for styles, which end at their border even where the result is seamless.
        scales: The sizes, coarse to fine.
        size: The longer side of the result that was asked for; None: the content image's.
        smallest_side: What the network needs, in pixels.
    """

    settings: Preset
    backbone: Backbone
    style_backbone: Backbone
    scales: tuple[Scale, ...]
    size: int | None
    smallest_side: int

    @property
    def num_steps(self) -> tuple[int, ...]:
        """The number of steps at each size."""
        return tuple(scale.num_steps for scale in self.scales)


class Job(NamedTuple):
    """One image to make: everything but the network's parameters.

    Attributes:
        plan: Its sizes, and what happens at each.
        inputs: Its images, checked.
        key: For noise and stochastic losses.
        init: The initial image, of any size; None: as the settings say.
        content: The content image whose colours are kept; None: they are not.
    """

    plan: Plan
    inputs: Inputs
    key: RandomKey
    init: Image | None = None
    content: Image | None = None


def make_job(
    inputs: Inputs,
    settings: Preset,
    backbone: Backbone,
    *,
    shape: tuple[int, int] | None = None,
    size: int | None = None,
    objective: Objective | None = None,
    init: str | Image | None = None,
    key: RandomKey | None = None,
) -> Job:
    """Resolve the settings of one run.

    Args:
        inputs: From `check_inputs`.
        settings: A preset with all overrides.
        backbone: The network, as loaded.
        shape: Height and width of the result; None: those of the content, else of the first style.
        size: The longer side of the result; None: that of ``shape``.
        objective: In place of the preset's.
        init: An image to start from; names are part of the settings.
        key: For noise and stochastic losses.

    Raises:
        ArgumentError: Settings that contradict each other.
        ImageError: The result would be too small for a layer.
        WeightsError: A layer beyond the weights.
    """
    shape = shape or size_of(inputs.styles[0] if inputs.content is None else inputs.content)
    backbone = dataclasses.replace(backbone, maps=inputs.channels // 3)
    plan = make_plan(settings, backbone, shape, size=size, objective=objective)
    start = None if init is None or isinstance(init, str) else check_image(init, "init", inputs.channels)
    job = Job(plan, inputs, check_key(key), start)
    if settings.keep_color is None or inputs.content is None:
        return job
    change = KEEP_COLOUR[settings.keep_color].style
    styles = tuple(change(style, inputs.content) for style in inputs.styles)
    return job._replace(inputs=inputs._replace(styles=styles), content=inputs.content)


def with_tiles(job: Job, tile: int, sizes: Container[int] | None = None) -> Job:
    """The job in tiles at some sizes, by number from 0; without numbers, at all sizes larger than a tile.

    Raises:
        ArgumentError: ``tile`` is no side of a tile, or the objective or the network cannot be computed in tiles.
    """
    tile, plan = check_tile(tile), job.plan
    scales = tuple(
        scale._replace(tile=tile) if (max(scale.shape) > tile if sizes is None else index in sizes) else scale
        for index, scale in enumerate(plan.scales)
    )
    for scale in scales:
        if scale.tile is not None:
            if any(plan.settings.wrap):
                raise ArgumentError("seamless images cannot be computed in tiles: leave out `tile` or `seamless`")
            check_tiles(scale.objective, plan.backbone, scale.tile)
    return job._replace(plan=plan._replace(scales=scales))


def initial_image(job: Job, inputs: Inputs) -> Image:
    """The image that a run starts from, given its inputs at the first size."""
    shape, schedule = job.plan.scales[0].shape, job.plan.settings.schedule
    if job.init is not None:
        return resize(job.init, shape, schedule.resample, job.plan.settings.wrap)
    return INITS[schedule.init](job.key, inputs, shape, schedule.noise_std, schedule.noise_power)


def finish(job: Job, image: Image) -> Image:
    """The image as it is returned and shown: clipped to [0, 1], with the content's colours if they are kept."""
    image, settings = _clipped(image), job.plan.settings
    if job.content is None or settings.keep_color is None:
        return image
    content = resize(job.content, size_of(image), settings.schedule.resample, settings.wrap)
    return KEEP_COLOUR[settings.keep_color].result(image, content)


@Jit
def _clipped(image: Image) -> Image:
    return jnp.clip(image, 0.0, 1.0)


def make_plan(
    settings: Preset,
    backbone: Backbone,
    shape: tuple[int, int],
    *,
    size: int | None = None,
    objective: Objective | None = None,
) -> Plan:
    """Resolve a run's sizes, objectives and solvers; arguments and errors as for `make_job`."""
    _check(settings)
    if size is not None and not (isinstance(size, int | float | np.number) and 1 <= size < np.inf):
        raise ArgumentError(f"size {size}: expected the longer side in pixels, at least 1")
    configured = settings.network.configure(backbone)
    backbone = configured.with_padding("circular", settings.wrap)
    # Zeros beyond the border of a style make features that a seamless image cannot have.
    style_backbone = configured.with_padding("replicate", settings.wrap)
    objective = settings.terms.objective(backbone) if objective is None else objective
    if any(settings.wrap):
        objective = objective.wrapping(settings.wrap)
    if not (objective.content or objective.style or objective.regularizers):
        raise ArgumentError("the objective is empty, it has neither layers nor regularizers: name at least one layer")
    least = backbone.smallest_side(objective.layers) if objective.layers else 1
    shapes = _shapes(settings, shape, size, least)
    if min(shapes[-1]) < least:
        raise ImageError(_too_small(backbone, objective, shape, shapes[-1]))
    shapes = (*(smaller for smaller in shapes[:-1] if min(smaller) >= least), shapes[-1])
    scales = []
    for index, (smaller, num_steps) in enumerate(zip(shapes, settings.schedule.steps(len(shapes)), strict=True)):
        factor = settings.schedule.content_weight_per_size**index
        solver = _solver(settings, last=index == len(shapes) - 1)
        scales.append(Scale(smaller, num_steps, _with_content_factor(objective, factor), solver))
    return Plan(settings, backbone, style_backbone, tuple(scales), size, least)


def _too_small(backbone: Backbone, objective: Objective, shape: tuple[int, int], full: tuple[int, int]) -> str:
    """The message about a result of shape ``full`` in which a layer would be empty."""
    deepest = max(objective.layers, key=backbone.layers.index)
    least = backbone.smallest_side(objective.layers)
    size = math.ceil(least * max(shape) / min(shape))
    return (
        f"the result would be {full[1]}x{full[0]} pixels, but {deepest} of {backbone.name} needs at least "
        f"{least}x{least}: it needs `size` {size} or more, or a shallower layer"
    )


def _check(settings: Preset) -> None:
    schedule, terms = settings.schedule, settings.terms
    if settings.seamless is not None and settings.seamless not in SEAMLESS:
        raise ArgumentError(f"seamless {settings.seamless!r} is unknown: choose one of {', '.join(SEAMLESS)}, or None")
    if schedule.init not in INITS:
        raise ArgumentError(f"init {schedule.init!r} is unknown: choose one of {', '.join(INITS)}, or pass an image")
    steps = schedule.num_steps
    if not steps or not all(isinstance(count, int | np.integer) and count >= 0 for count in steps):
        raise ArgumentError(f"num_steps {steps}: expected whole numbers of at least 0")
    if not 0 < schedule.style_scale < np.inf:
        raise ArgumentError(f"style_scale {schedule.style_scale}: expected a positive number, for example 1")
    for name in ("content_layers", "style_layers", "content_layer_weights", "style_layer_weights"):
        value = getattr(terms, name)
        if not (value is None or isinstance(value, list | tuple)):
            raise ArgumentError(f"{name} {value!r}: expected a tuple, such as ({value!r},)")


def _shapes(settings: Preset, shape: tuple[int, int], size: int | None, stride: int) -> tuple[tuple[int, int], ...]:
    """The sizes, coarse to fine. Where the result wraps, all but the last are multiples of the network's stride."""
    full, pyramid = shape if size is None else fit_shape(shape, size), settings.schedule.pyramid
    if pyramid is None:
        return (full,)

    coarser = [
        nearest_multiple(smaller, stride, settings.wrap) for smaller in pyramid.shapes(full, proportions=shape)[:-1]
    ]
    return (*(one for one in dict.fromkeys(coarser) if one != full and one[0] <= full[0] and one[1] <= full[1]), full)


def _with_content_factor(objective: Objective, factor: float) -> Objective:
    content = tuple(dataclasses.replace(term, weight=factor * term.weight) for term in objective.content)
    return dataclasses.replace(objective, content=content)


def _solver(settings: Preset, last: bool) -> Solver:
    """The solver at one size, with the best image beside the last one in case the run diverges."""
    solver = dataclasses.replace(settings.solver, track_best=True)
    if any(settings.wrap) and isinstance(solver.optimizer, RMSprop):
        solver = dataclasses.replace(solver, optimizer=dataclasses.replace(solver.optimizer, wrap=settings.wrap))
    rate = settings.schedule.last_learning_rate
    if rate is None or not last:
        return solver
    optimizer = dataclasses.replace(solver.optimizer, learning_rate=rate)  # pyright: ignore
    return dataclasses.replace(solver, optimizer=optimizer)


def style_sides(plan: Plan, index: int, styles: tuple[Image, ...]) -> tuple[float, ...]:
    """The longer sides of the styles at one size of the image, in pixels."""
    current, full = (1, 1) if plan.settings.schedule.fixed_style else (max(plan.scales[at].shape) for at in (index, -1))
    return tuple(_style_side(style, plan) * current / full for style in styles)


def _style_side(style: Image, plan: Plan) -> float:
    """A style's longer side beside the full image: its own, or the size asked for if that is smaller."""
    own, scale = max(size_of(style)), plan.settings.schedule.style_scale
    return own * scale if plan.size is None else min(own * max(1.0, scale), plan.size * scale)
