"""Targets: what the losses keep of the content and style images."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jnst.backbones import Backbone
from jnst.errors import ArgumentError
from jnst.images.masks import guides
from jnst.losses.objective import FeatureTerm, Objective, Region, Targets, features_of, network_layers
from jnst.types import Array, Features, Guide, Image, Params


def fit_targets(
    content: Image | None,
    style: Image | Sequence[Image] | None,
    objective: Objective,
    params: Params,
    *,
    backbone: Backbone,
    style_weights: Array | Sequence[float] | None = None,
    masks: Sequence[Guide] | None = None,
    style_masks: Sequence[Guide | None] | None = None,
    shape: tuple[int, int] | None = None,
) -> Targets:
    """Run content and style images through the network once, and keep what the losses need.

    This is ``fit_content(...) + fit_style(...)``, which may be called separately to reuse either part.

    Args:
        content: ``(..., h, w, 3)`` in [0, 1]; None if the objective has no content terms.
        style: ``(..., h', w', 3)`` in [0, 1], of any size, or several such; None if it has no style terms.
        objective: The terms.
        params: The network's parameters.
        backbone: The network (static).
        style_weights: See `fit_style`, like all that follow.
        masks: See `fit_style`.
        style_masks: See `fit_style`.
        shape: See `fit_style`; None: the content image's.

    Raises:
        ArgumentError: An image is missing, a layer unknown, or the numbers of weights, masks and styles differ.
        ImageError: An image is too small for a layer.
    """
    if shape is None and content is not None:
        shape = content.shape[-3], content.shape[-2]
    fitted = fit_style(
        style,
        objective,
        params,
        backbone=backbone,
        style_weights=style_weights,
        masks=masks,
        style_masks=style_masks,
        shape=shape,
    )
    return fit_content(content, objective, params, backbone=backbone) + fitted


def fit_content(content: Image | None, objective: Objective, params: Params, *, backbone: Backbone) -> Targets:
    """Fit the targets of the content terms.

    Args:
        content: ``(..., h, w, 3)`` in [0, 1]; None if the objective has no content terms.
        objective: The terms; others than content terms are ignored.
        params: The network's parameters.
        backbone: The network (static).

    Raises:
        ArgumentError: The image is missing, or a layer unknown.
        ImageError: The image is too small for a layer.
    """
    return Targets(content=_fit("content", objective.content, content, params, backbone))


def fit_style(
    style: Image | Sequence[Image] | None,
    objective: Objective,
    params: Params,
    *,
    backbone: Backbone,
    style_weights: Array | Sequence[float] | None = None,
    masks: Sequence[Guide] | None = None,
    style_masks: Sequence[Guide | None] | None = None,
    shape: tuple[int, int] | None = None,
) -> Targets:
    """Fit the targets of the style terms.

    Several styles become one target, that of their mixture, in which every position of image i counts
    ``style_weights[i]``. With masks each style instead gets a region of its own, whose terms count ``style_weights[i]``
    times the region's share of the image, so weights mean the same with and without regions.

    Args:
        style: ``(..., h', w', 3)`` in [0, 1], of any size, or several such; None if the objective has no style terms.
        objective: The terms; others than style terms are ignored.
        params: The network's parameters.
        backbone: The network (static).
        style_weights: A non-negative number for each style; for a mixture only proportions matter. None: all equal.
        masks: ``(h, w)`` in [0, 1] for each style: its region of the image that will be compared.
        style_masks: ``(h', w')`` for each style: the part of the style image that counts; None: all of it.
        shape: Height and width of the image that will be compared; needed with ``masks``.

    Raises:
        ArgumentError: The style is missing, a layer unknown, or the numbers of weights, masks and styles differ.
        ImageError: An image is too small for a layer.
    """
    if not objective.style:
        return Targets()
    styles = () if style is None else tuple(style) if isinstance(style, Sequence) else (style,)
    if not styles:
        raise ArgumentError("the objective has style terms, but there is no style image: pass one")
    weights = jnp.ones(len(styles)) if style_weights is None else jnp.asarray(style_weights, jnp.float32)
    given = {"style_weights": weights, "masks": masks, "style_masks": style_masks}
    for name, values in given.items():
        if values is not None and len(values) != len(styles):
            raise ArgumentError(f"{len(values)} {name} for {len(styles)} styles: give one for each")
    fitted = [
        _fit("style", objective.style, image, params, backbone, mask)
        for image, mask in zip(styles, style_masks or [None] * len(styles), strict=True)
    ]
    by_term = list(zip(objective.style, *fitted, strict=True))
    if masks is None:
        return Targets(style=tuple((_mixture(term, targets, weights),) for term, *targets in by_term))
    if shape is None:
        raise ArgumentError("masks without a content image: pass `shape`, the size of the image that they divide")
    located = [_located(mask, objective, params, shape, backbone) for mask in masks]
    regions = (
        tuple(
            Region(target, term.pick(by_layer), weight * jnp.mean(mask, (-2, -1)))
            for target, by_layer, weight, mask in zip(targets, located, weights, masks, strict=True)
        )
        for term, *targets in by_term
    )
    return Targets(style=tuple(regions))


def _mixture(term: FeatureTerm, targets: Sequence[Any], weights: Array) -> Region:
    """The whole image as one region in a mixture of styles."""
    loss: Any = term.loss
    return Region(targets[0] if len(targets) == 1 else loss.blend(targets, weights / jnp.sum(weights)))


def _fit(
    kind: str,
    terms: tuple[FeatureTerm, ...],
    image: Image | None,
    params: Params,
    backbone: Backbone,
    mask: Guide | None = None,
) -> tuple[Any, ...]:
    if not terms:
        return ()
    if image is None:
        raise ArgumentError(f"the objective has {kind} terms, but there is no {kind} image: pass one")
    layers = network_layers(terms)
    if layers:
        backbone.check_layers(layers)
        backbone.check_size(image, layers, kind)
    features = features_of(image, layers, params, backbone)
    if mask is None:
        return tuple(term.loss.fit(term.pick(features)) for term in terms)
    by_layer = guides(mask, _shapes(features))
    return tuple(term.loss.fit(term.pick(features), term.pick(by_layer)) for term in terms)


def _located(
    mask: Guide, objective: Objective, params: Params, shape: tuple[int, int], backbone: Backbone
) -> dict[str, Guide]:
    """A region's guides at the resolution that each style layer has in an image of ``shape``."""
    image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    layers = network_layers(objective.style)
    features = jax.eval_shape(lambda params, x: features_of(x, layers, params, backbone), params, image)
    return guides(mask, _shapes(features))


def _shapes(features: dict[str, Features]) -> dict[str, tuple[int, int]]:
    return {layer: (array.shape[-3], array.shape[-2]) for layer, array in features.items()}
