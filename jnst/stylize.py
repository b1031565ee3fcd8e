"""`stylize`, `synthesize`, `reconstruct`: pictures by optimisation."""

import dataclasses
import difflib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jnst import optimize
from jnst.backbones import Backbone
from jnst.coarse_to_fine import RunState, Solution, carry_out
from jnst.colour_control import KEEP_COLOUR, ColourControl
from jnst.errors import JnstError, NumericsError
from jnst.guidance import check_mask, check_masks
from jnst.image import check_picture, resize
from jnst.objective import Objective
from jnst.optimizers import Optimizer
from jnst.pictures import Pictures, size_of
from jnst.plan import make_plan
from jnst.presets import Preset, preset
from jnst.types import Array, Guide, Image, Params, RandomKey
from jnst.weights.load import load_backbone

__all__ = ["RunState", "Solution", "reconstruct", "stylize", "synthesize"]


def stylize(
    content: Image,
    style: Image | Sequence[Image],
    params: Params | None = None,
    *,
    backbone: Backbone | None = None,
    preset: str | Preset = "jnst",
    objective: Objective | None = None,
    optimizer: Optimizer | None = None,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image | None = None,
    size: int | None = None,
    style_weights: Sequence[float] | None = None,
    masks: Sequence[Guide] | None = None,
    style_masks: Sequence[Guide | None] | None = None,
    keep_color: str | None = None,
    key: RandomKey | None = None,
    state: RunState | None = None,
    chunk: int | None = None,
    callback: optimize.Callback | None = None,
) -> Solution:
    """Transfer the style of one picture, or of several, to the content of another (Gatys et al., CVPR 2016).

    Args:
        content: ``(h, w, 3)`` sRGB in [0, 1].
        style: ``(h', w', 3)``, any size, or several such; how large its strokes become depends on its size.
        params: The network's parameters; None: the embedded network's.
        backbone: The network (static); None: the embedded one.
        preset: The settings; ``objective``, ``optimizer``, ``num_steps``, ``init`` and ``keep_color`` go before it
            when given.
        objective: What is minimised.
        optimizer: Any Optax transformation (for pictures in [0, 1]), or one of `jnst.optimizers` in the preset's units.
        num_steps: Steps at each size of the pyramid; the last number holds for all further sizes.
        init: ``"content"``, ``"style"``, ``"noise"`` or a picture ``(h, w, 3)``.
        size: The longer side of the result; the styles are reduced with it. None: the content picture's own.
        style_weights: How much each style counts, in proportion, for a mixture of all; with ``masks``, in its region.
        masks: For each style ``(h, w)``, of the content's size, in [0, 1]: its region of the picture. Soft edges blend,
            regions may overlap, and where none is, nothing asks for style.
        style_masks: For each style ``(h', w')``, of its size: which part of it counts; None for all of it.
        keep_color: A key of `jnst.colour_control.KEEP_COLOUR`: how to keep the content's colours; None: not at all.
        key: For noise, and losses that draw at random; `jax.random.key(0)` if None.
        state: `Solution.state` of an earlier call with the same arguments: the run goes on from there to ``num_steps``.
        chunk: Steps in one compiled program; None chooses by device (1 on CPUs).
        callback: Called with an `optimize.Report` after every chunk; returning True ends the run.

    Raises:
        PictureError: A picture that is not ``(h, w, 3)`` floats in [0, 1], or too small for a layer; a mask of another
            size than its picture's.
        JnstError: An unknown name, or numbers that make no sense.
        WeightsError: A layer beyond the weights.
        NumericsError: The loss stopped being finite; its ``result`` is the `Solution` with the last finite picture.
    """
    content = check_picture(content, "content")
    pictures = _pictures(content, style, style_weights, masks, style_masks)
    settings = _settings(preset, num_steps, init, keep_color)
    backbone, params = _network(backbone, params)
    plan = make_plan(settings, backbone, size_of(content), size=size, objective=objective, optimizer=optimizer)
    run = partial(carry_out, _key(key), plan, params=params, init=init, state=state, chunk=chunk, callback=callback)
    return _with_kept_colour(settings, content, pictures, lambda pictures: run(pictures=pictures))


def synthesize(
    style: Image | Sequence[Image],
    shape: tuple[int, int] | None = None,
    params: Params | None = None,
    *,
    backbone: Backbone | None = None,
    preset: str | Preset = "jnst",
    objective: Objective | None = None,
    optimizer: Optimizer | None = None,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image = "noise",
    style_weights: Sequence[float] | None = None,
    key: RandomKey | None = None,
    state: RunState | None = None,
    chunk: int | None = None,
    callback: optimize.Callback | None = None,
) -> Solution:
    """Make a texture: a picture with a style and no content (Gatys, Ecker & Bethge, NeurIPS 2015).

    Args:
        style: ``(h', w', 3)`` in [0, 1], or several such.
        shape: Height and width of the texture; None: the (first) style's.
        params: As in `stylize`, like all that follow.
        backbone: See `stylize`.
        preset: Its content terms are left out.
        objective: See `stylize`.
        optimizer: See `stylize`.
        num_steps: See `stylize`.
        init: ``"noise"``, ``"style"`` (resized) or a picture.
        style_weights: See `stylize`.
        key: See `stylize`; another key, another texture.
        state: See `stylize`.
        chunk: See `stylize`.
        callback: See `stylize`.

    Raises:
        As `stylize`.
    """
    styles = _check_styles(style)
    settings = _settings(preset, num_steps, init, None)
    settings = dataclasses.replace(settings, content_layers=(), content_layer_weights=None)
    backbone, params = _network(backbone, params)
    objective = None if objective is None else dataclasses.replace(objective, content=())
    shape = size_of(styles[0]) if shape is None else (int(shape[0]), int(shape[1]))
    plan = make_plan(settings, backbone, shape, objective=objective, optimizer=optimizer)
    pictures = Pictures(None, styles, _check_style_weights(style_weights, len(styles)))
    return carry_out(_key(key), plan, pictures, params, init=init, state=state, chunk=chunk, callback=callback)


def reconstruct(
    content: Image,
    layers: Sequence[str] | None = None,
    params: Params | None = None,
    *,
    backbone: Backbone | None = None,
    preset: str | Preset = "jnst",
    objective: Objective | None = None,
    optimizer: Optimizer | None = None,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image = "noise",
    size: int | None = None,
    key: RandomKey | None = None,
    state: RunState | None = None,
    chunk: int | None = None,
    callback: optimize.Callback | None = None,
) -> Solution:
    """Show what layers keep of a picture: another one with the same features (Mahendran & Vedaldi, CVPR 2015).

    Args:
        content: ``(h, w, 3)`` in [0, 1].
        layers: Which features are kept; None: the preset's content layers.
        params: As in `stylize`, like all that follow.
        backbone: See `stylize`.
        preset: Its style terms are left out.
        objective: See `stylize`.
        optimizer: See `stylize`.
        num_steps: See `stylize`.
        init: ``"noise"`` or a picture.
        size: See `stylize`.
        key: See `stylize`.
        state: See `stylize`.
        chunk: See `stylize`.
        callback: See `stylize`.

    Raises:
        As `stylize`.
    """
    content = check_picture(content, "content")
    settings = _settings(preset, num_steps, init, None)
    backbone, params = _network(backbone, params)
    if layers is not None:
        settings = dataclasses.replace(settings, content_layers=tuple(layers), content_layer_weights=None)
    settings = dataclasses.replace(settings, content_layers=settings.layers(backbone)[0])
    settings = dataclasses.replace(settings, style_layers=(), style_layer_weights=None)
    objective = None if objective is None else dataclasses.replace(objective, style=())
    plan = make_plan(settings, backbone, size_of(content), size=size, objective=objective, optimizer=optimizer)
    return carry_out(_key(key), plan, Pictures(content), params, init=init, state=state, chunk=chunk, callback=callback)


def _network(backbone: Backbone | None, params: Params | None) -> tuple[Backbone, Params]:
    if backbone is None and params is None:
        return load_backbone()
    if backbone is None or params is None:
        raise JnstError(
            "`params` and `backbone` belong together: pass both, as jnst.load_backbone returns them, or neither"
        )
    return backbone, params


def _settings(
    name: str | Preset, num_steps: int | tuple[int, ...] | None, init: str | Image | None, keep_color: str | None
) -> Preset:
    """The preset with what was given put in."""
    changes: dict[str, Any] = {}
    if num_steps is not None:
        changes["num_steps"] = (num_steps,) if isinstance(num_steps, int) else tuple(num_steps)
    if isinstance(init, str):
        changes["init"] = init
    if keep_color is not None:
        changes["keep_color"] = keep_color
    settings = preset(name, **changes)
    if settings.keep_color is not None and settings.keep_color not in KEEP_COLOUR:
        near = difflib.get_close_matches(settings.keep_color, KEEP_COLOUR, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(KEEP_COLOUR)}"
        raise JnstError(f"unknown keep_color {settings.keep_color!r}: {hint}")
    return settings


def _with_kept_colour(
    settings: Preset, content: Image, pictures: Pictures, run: Callable[[Pictures], Solution]
) -> Solution:
    """Run between what the way of keeping colours does to the styles and what it does to the result."""
    colour = KEEP_COLOUR.get(settings.keep_color or "", ColourControl("the styles' own colours"))

    def coloured(solution: Solution) -> Solution:
        at_size = resize(content, size_of(solution.image), settings.resample)
        return dataclasses.replace(solution, image=colour.result(solution.image, at_size))

    try:
        return coloured(run(pictures._replace(styles=tuple(colour.style(style, content) for style in pictures.styles))))
    except NumericsError as error:
        error.result = coloured(error.result)
        raise


def _pictures(
    content: Image,
    style: Image | Sequence[Image],
    style_weights: Sequence[float] | None,
    masks: Sequence[Guide] | None,
    style_masks: Sequence[Guide | None] | None,
) -> Pictures:
    """All of them checked."""
    styles = _check_styles(style)
    return Pictures(
        content,
        styles,
        _check_style_weights(style_weights, len(styles)),
        None if masks is None else check_masks(masks, size_of(content), "masks", len(styles)),
        None if style_masks is None else _check_style_masks(style_masks, styles),
    )


def _check_styles(style: Image | Sequence[Image]) -> tuple[Image, ...]:
    if not isinstance(style, list | tuple):
        return (check_picture(cast(Image, style), "style"),)
    if not style:
        raise JnstError("`style` is an empty sequence: pass at least one picture")
    return tuple(check_picture(picture, f"style[{index}]") for index, picture in enumerate(style))


def _check_style_weights(weights: Sequence[float] | None, count: int) -> Array:
    values = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if values.shape != (count,) or not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise JnstError(
            f"style_weights {weights} for {count} styles: give one number of at least 0 for each, not all of them 0"
        )
    return jnp.asarray(values, jnp.float32)


def _check_style_masks(masks: Sequence[Guide | None], styles: tuple[Image, ...]) -> tuple[Guide | None, ...]:
    if len(masks) != len(styles):
        raise JnstError(f"{len(masks)} style_masks for {len(styles)} styles: give one for each, or None for the whole")
    return tuple(
        None if mask is None else check_mask(mask, size_of(style), f"style_masks[{index}]")
        for index, (mask, style) in enumerate(zip(masks, styles, strict=True))
    )


def _key(key: RandomKey | None) -> RandomKey:
    return jax.random.key(0) if key is None else key
