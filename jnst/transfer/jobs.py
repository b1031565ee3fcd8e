"""Jobs: what a call asks for, checked and settled before anything is computed."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jnst.backbones import Backbone
from jnst.errors import ArgumentError, hint
from jnst.images import check_image, resize, size_of
from jnst.images.keep_colour import KEEP_COLOUR, Change
from jnst.images.masks import check_mask, check_masks
from jnst.losses.objective import Objective
from jnst.presets import Preset, preset
from jnst.solve.optimizers import Optimizer
from jnst.transfer.inputs import Inputs
from jnst.transfer.plan import Job, make_plan
from jnst.types import Array, Guide, Image, Params, RandomKey
from jnst.weights.load import load_backbone


def network(backbone: Backbone | None, params: Params | None) -> tuple[Backbone, Params]:
    """Both as given, or the embedded network's.

    Raises:
        ArgumentError: Only one of the two.
    """
    if backbone is None and params is None:
        return load_backbone()
    if backbone is None or params is None:
        raise ArgumentError(
            "`params` and `backbone` belong together: pass both, as jnst.load_backbone returns them, or neither"
        )
    return backbone, params


def settings_of(
    name: str | Preset,
    num_steps: int | tuple[int, ...] | None = None,
    init: str | Image | None = None,
    keep_color: str | None = None,
) -> Preset:
    """The preset with what was given put in.

    Raises:
        ArgumentError: An unknown name.
    """
    changes: dict[str, Any] = {}
    if num_steps is not None:
        changes["num_steps"] = tuple(num_steps) if isinstance(num_steps, list | tuple) else (num_steps,)
    if isinstance(init, str):
        changes["init"] = init
    if keep_color is not None:
        changes["keep_color"] = keep_color
    settings = preset(name, **changes)
    if settings.keep_color is not None and settings.keep_color not in KEEP_COLOUR:
        raise ArgumentError(f"unknown keep_color {settings.keep_color!r}: {hint(settings.keep_color, KEEP_COLOUR)}")
    return settings


def check_images(
    content: Image | None,
    style: Image | Sequence[Image],
    style_weights: Sequence[float] | None = None,
    masks: Sequence[Guide] | None = None,
    style_masks: Sequence[Guide | None] | None = None,
) -> Inputs:
    """What a call is given, checked; arguments and errors as of `jnst.transfer.stylize`."""
    content = None if content is None else check_image(content, "content")
    styles = _check_styles(style)
    return Inputs(
        content,
        styles,
        _check_style_weights(style_weights, len(styles)),
        None if masks is None or content is None else check_masks(masks, size_of(content), "masks", len(styles)),
        None if style_masks is None else _check_style_masks(style_masks, styles),
    )


def stylize_job(
    images: Inputs,
    settings: Preset,
    backbone: Backbone,
    objective: Objective | None = None,
    optimizer: Optimizer | None = None,
    init: str | Image | None = None,
    key: RandomKey | None = None,
    size: int | None = None,
) -> Job:
    """What `jnst.transfer.stylize` is asked for."""
    content = cast(Image, images.content)
    plan = make_plan(settings, backbone, size_of(content), size=size, objective=objective, optimizer=optimizer)
    if settings.keep_color is None:
        return Job(plan, images, _key(key), _image(init))
    colour = KEEP_COLOUR[settings.keep_color]
    images = images._replace(styles=tuple(colour.style(style, content) for style in images.styles))
    finish = partial(_recoloured, colour.result, content, settings.resample)
    return Job(plan, images, _key(key), _image(init), finish)


def synthesize_job(
    images: Inputs,
    shape: tuple[int, int] | None,
    settings: Preset,
    backbone: Backbone,
    objective: Objective | None = None,
    optimizer: Optimizer | None = None,
    init: str | Image | None = None,
    key: RandomKey | None = None,
) -> Job:
    """What `jnst.synthesize` is asked for."""
    settings = dataclasses.replace(settings, content_layers=(), content_layer_weights=None)
    objective = None if objective is None else dataclasses.replace(objective, content=())
    shape = size_of(images.styles[0]) if shape is None else _check_shape(shape)
    plan = make_plan(settings, backbone, shape, objective=objective, optimizer=optimizer)
    return Job(plan, images, _key(key), _image(init))


def reconstruct_job(
    content: Image,
    layers: Sequence[str] | None,
    settings: Preset,
    backbone: Backbone,
    objective: Objective | None = None,
    optimizer: Optimizer | None = None,
    init: str | Image | None = None,
    key: RandomKey | None = None,
    size: int | None = None,
) -> Job:
    """What `jnst.reconstruct` is asked for."""
    content = check_image(content, "content")
    if layers is not None:
        settings = dataclasses.replace(settings, content_layers=tuple(layers), content_layer_weights=None)
    settings = dataclasses.replace(settings, content_layers=settings.layers(backbone)[0])
    settings = dataclasses.replace(settings, style_layers=(), style_layer_weights=None)
    objective = None if objective is None else dataclasses.replace(objective, style=())
    plan = make_plan(settings, backbone, size_of(content), size=size, objective=objective, optimizer=optimizer)
    return Job(plan, Inputs(content), _key(key), _image(init))


def _check_shape(shape: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2 or not all(isinstance(side, int | np.integer) and side >= 1 for side in shape):
        raise ArgumentError(f"shape {shape}: expected height and width in pixels, whole numbers of at least 1")
    return int(shape[0]), int(shape[1])


def _key(key: RandomKey | None) -> RandomKey:
    if key is None:
        return jax.random.key(0)
    dtype, ndim = getattr(key, "dtype", np.dtype(object)), getattr(key, "ndim", None)
    if (jnp.issubdtype(dtype, jax.dtypes.prng_key) and ndim == 0) or (dtype == jnp.uint32 and ndim == 1):
        return key
    given = f"{key!r}" if ndim is None else f"of shape {getattr(key, 'shape', ())}"
    raise ArgumentError(f"key {given}: expected one key of JAX's, such as jax.random.key(0)")


def _image(init: str | Image | None) -> Image | None:
    return None if init is None or isinstance(init, str) else check_image(init, "init")


def _recoloured(change: Change, content: Image, resample: str, image: Image) -> Image:
    return change(image, resize(content, size_of(image), resample))


def _check_styles(style: Image | Sequence[Image]) -> tuple[Image, ...]:
    if not isinstance(style, list | tuple):
        return (check_image(cast(Image, style), "style"),)
    if not style:
        raise ArgumentError("`style` is an empty sequence: pass at least one image")
    return tuple(check_image(image, f"style[{index}]") for index, image in enumerate(style))


def _check_style_weights(weights: Sequence[float] | None, count: int) -> Array:
    values = np.ones(count) if weights is None else np.asarray(weights, np.float64)
    if values.shape != (count,) or not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise ArgumentError(
            f"style_weights {weights} for {count} styles: give one number of at least 0 for each, not all of them 0"
        )
    return jnp.asarray(values, jnp.float32)


def _check_style_masks(masks: Sequence[Guide | None], styles: tuple[Image, ...]) -> tuple[Guide | None, ...]:
    if len(masks) != len(styles):
        raise ArgumentError(f"{len(masks)} style_masks for {len(styles)} styles: give one for each, or None for the whole")
    return tuple(
        None if mask is None else check_mask(mask, size_of(style), f"style_masks[{index}]")
        for index, (mask, style) in enumerate(zip(masks, styles, strict=True))
    )
