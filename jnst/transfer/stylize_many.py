"""`stylize_batch`, `stylize_grid`, `sweep`: many images from few compiled programs."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jnst.backbones import Backbone
from jnst.errors import ArgumentError, ImageError, hint
from jnst.images import FITS, check_image, resize, size_of
from jnst.losses.objective import Objective
from jnst.presets import Preset
from jnst.solve.optimizers import Optimizer, Settings
from jnst.transfer.batches import Outcome, carry_out_many
from jnst.transfer.inputs import Inputs
from jnst.transfer.jobs import check_images, network, settings_of, stylize_job
from jnst.transfer.lanes import Callback
from jnst.transfer.plan import Job
from jnst.transfer.variations import OBJECTIVE_SETTINGS, Over, variations, vary
from jnst.types import Array, Image, Params, RandomKey


class Options(TypedDict, total=False):
    """What every image of a batch has in common: see `jnst.transfer.stylize`."""

    backbone: Backbone | None
    preset: str | Preset
    objective: Objective | None
    optimizer: Optimizer | None
    num_steps: int | tuple[int, ...] | None
    init: str | Image | None
    size: int | None
    keep_color: str | None
    key: RandomKey | None


class Devices(TypedDict, total=False):
    """How the work is placed: see `jnst.transfer.batches.carry_out_many`."""

    width: int | None
    mesh: Mesh | None
    chunk: int | None
    callback: Callback | None


class Arguments(Options, Devices, total=False):
    """All that the functions here have in common."""


@partial(jax.tree_util.register_dataclass, data_fields=["image", "losses", "parts", "finite"], meta_fields=["errors"])
@dataclasses.dataclass(frozen=True)
class Solutions:
    """What `jnst.stylize_batch`, `jnst.stylize_grid` and `jnst.sweep` return: a pytree with their axes in front.

    Attributes:
        image: The images, ``(..., h, w, 3)`` float32 in [0, 1]. One that ended early at a smaller size of its pyramid
            is enlarged.
        losses: The total at every step, ``(..., n)``; NaN behind the end of a run that ended early.
        parts: Its weighted parts by name, each ``(..., n)``; NaN also for runs without that part.
        finite: ``(...)``: False for a run whose loss stopped being finite; its image is the last finite one.
        errors: What those runs met: pairs of their index and a message.
    """

    image: Image
    losses: np.ndarray
    parts: dict[str, np.ndarray]
    finite: np.ndarray
    errors: tuple[tuple[tuple[int, ...], str], ...] = ()


def stylize_batch(
    contents: Array | Sequence[Image],
    styles: Array | Sequence[Image | Sequence[Image]],
    params: Params | None = None,
    *,
    fit: str | None = None,
    over: Over | None = None,
    **arguments: Unpack[Arguments],
) -> Solutions:
    """Transfer the style of the i-th style to the i-th content, for all i: `jnst.transfer.stylize` in lanes.

    Every lane has its own losses, optimiser state and end. One whose loss stops being finite is frozen and reported;
    nothing changes in the others.

    Args:
        contents: ``(n, h, w, 3)``, or n images of one shape (of any with ``fit``).
        styles: n of them, of any sizes; each is an image, or a sequence of images that are mixed.
        params: The network's parameters; None: the embedded network's.
        fit: How contents are brought to the first one's shape: ``"crop"`` or ``"resize"``; None: they must have it.
        over: Settings and their values, further axes behind that of the pairs: see `sweep`.
        **arguments: ``backbone``, ``preset``, ``objective``, ``optimizer``, ``num_steps``, ``init``, ``size``,
            ``keep_color`` and ``key`` of `jnst.transfer.stylize`, the same for all; ``width``, ``mesh``, ``chunk`` and
            ``callback`` of `jnst.transfer.batches.carry_out_many`.

    Returns:
        Arrays with an axis of n, then those of ``over``.

    Raises:
        ArgumentError: Not as many styles as contents; an unknown name; numbers that make no sense.
        ImageError: Contents of several shapes without ``fit``; what is no image, or too small.
        WeightsError: A layer beyond the weights.
    """
    fitted, checked = _contents(contents, fit), _styles(styles)
    if len(fitted) != len(checked):
        raise ArgumentError(
            f"{len(fitted)} contents and {len(checked)} styles: a batch pairs them one to one "
            "(jnst.stylize_grid makes all pairs)"
        )
    pairs = [style._replace(content=content) for content, style in zip(fitted, checked, strict=True)]
    return _solve(pairs, (len(pairs),), params, over, arguments)


def stylize_grid(
    contents: Array | Sequence[Image],
    styles: Array | Sequence[Image | Sequence[Image]],
    params: Params | None = None,
    *,
    fit: str | None = None,
    over: Over | None = None,
    **arguments: Unpack[Arguments],
) -> Solutions:
    """Transfer every style to every content. Targets are computed once for each content and each style.

    Args:
        contents: As in `stylize_batch`, like all that follow; any number.
        styles: Any number.
        params: See `stylize_batch`.
        fit: See `stylize_batch`.
        over: See `stylize_batch`.
        **arguments: See `stylize_batch`. (Ways to keep colours that change the styles make a target for every pair.)

    Returns:
        Arrays with an axis of contents, one of styles, then those of ``over``.

    Raises:
        As `stylize_batch`.
    """
    fitted, checked = _contents(contents, fit), _styles(styles)
    pairs = [style._replace(content=content) for content in fitted for style in checked]
    return _solve(pairs, (len(fitted), len(checked)), params, over, arguments)


def sweep(
    content: Image,
    style: Image | Sequence[Image],
    over: Over,
    params: Params | None = None,
    **arguments: Unpack[Arguments],
) -> Solutions:
    """Make one image under many settings: all combinations of the values in ``over``.

    Weights, learning rates and seeds are numbers of one compiled program. What changes the program itself (layers,
    the style loss, steps, a weight of 0 that leaves a term out) is compiled once for each value.

    Args:
        content: ``(h, w, 3)`` in [0, 1].
        style: ``(h', w', 3)`` in [0, 1], or several such.
        over: ``{"style_weight": (1e2, 1e3), "seed": (0, 1, 2)}``: fields of `jnst.Preset`, ``learning_rate`` (in the
            preset's units), ``seed`` and ``objective``, each with its values; an axis each, in this order.
        params: See `stylize_batch`.
        **arguments: See `stylize_batch`.

    Returns:
        Arrays with one axis for each entry of ``over``.

    Raises:
        ArgumentError: Nothing to go through, or an unknown setting; else as `stylize_batch`.
    """
    if not over:
        raise ArgumentError("`over` is empty: name a setting and its values, such as {'style_weight': (1e2, 1e3)}")
    return _solve([check_images(content, style)], (), params, over, arguments)


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
    checked = [check_images(None, style) for style in styles]
    if not checked:
        raise ArgumentError("`styles` is empty: pass at least one image")
    return checked


def _solve(
    pairs: Sequence[Inputs],
    shape: tuple[int, ...],
    params: Params | None,
    over: Over | None,
    arguments: Arguments,
) -> Solutions:
    given: dict[str, Any] = {**arguments}
    backbone, params = network(given.pop("backbone", None), params)
    devices = {name: given.pop(name) for name in Devices.__annotations__ if name in given}
    changes = variations(over)
    jobs = [_job(images, change, backbone, **given) for images in pairs for change in changes]
    outcomes = sorted(carry_out_many(jobs, params, **devices), key=lambda outcome: outcome.number)
    return _gathered(jobs, outcomes, (*shape, *(len(values) for values in (over or {}).values())))


def _job(
    images: Inputs,
    change: Mapping[str, Any],
    backbone: Backbone,
    preset: str | Preset = "jnst",
    objective: Objective | None = None,
    optimizer: Optimizer | None = None,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image | None = None,
    size: int | None = None,
    keep_color: str | None = None,
    key: RandomKey | None = None,
) -> Job:
    """A pair of images under one combination of swept values."""
    if objective is not None and (lost := [name for name in change if name in OBJECTIVE_SETTINGS]):
        raise ArgumentError(f"a sweep over {lost[0]} beside `objective` changes nothing: sweep over objectives instead")
    settings = vary(settings_of(preset, num_steps, init, keep_color), change)
    if isinstance(optimizer, Settings) and "learning_rate" in change:
        optimizer = dataclasses.replace(optimizer, learning_rate=change["learning_rate"])
    elif optimizer is not None and "learning_rate" in change:
        raise ArgumentError("a sweep over learning_rate needs an optimizer of jnst.solve.optimizers, such as jnst.Adam()")
    key = jax.random.key(change["seed"]) if "seed" in change else key
    return stylize_job(images, settings, backbone, change.get("objective", objective), optimizer, init, key, size)


def _gathered(jobs: Sequence[Job], outcomes: Sequence[Outcome], shape: tuple[int, ...]) -> Solutions:
    """All outcomes in their order, with the axes of ``shape`` in front."""
    full, method = jobs[0].plan.scales[-1].shape, jobs[0].plan.settings.resample
    solutions = [outcome.solution for outcome in outcomes]
    images = jnp.stack([resize(solution.image, full, method) for solution in solutions])
    names = dict.fromkeys(name for solution in solutions for name in solution.parts)
    steps = max(len(solution.losses) for solution in solutions)
    none = np.zeros(0, np.float32)

    def records(values: Iterable[np.ndarray]) -> np.ndarray:
        padded = [np.pad(value, (0, steps - len(value)), constant_values=np.nan) for value in values]
        return np.stack(padded).reshape(*shape, steps)

    return Solutions(
        image=images.reshape(*shape, *images.shape[1:]),
        losses=records(solution.losses for solution in solutions),
        parts={name: records(solution.parts.get(name, none) for solution in solutions) for name in names},
        finite=np.array([outcome.error is None for outcome in outcomes]).reshape(shape),
        errors=tuple(
            (tuple(map(int, np.unravel_index(outcome.number, shape))), str(outcome.error))
            for outcome in outcomes
            if outcome.error is not None
        ),
    )
