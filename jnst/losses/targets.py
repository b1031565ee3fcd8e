"""Targets: what the losses keep of the content and style images."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jnst.backbones import Backbone
from jnst.errors import ArgumentError
from jnst.images import faint_image, guides
from jnst.losses.objective import FeatureTerm, Objective, Region, Targets, features_of, network_layers
from jnst.losses.relative import Relative
from jnst.types import Array, Features, Guide, Image, Params

SHARE = 0.25
"""The least scale of a relative loss, as a share of its scale for `jnst.images.faint_image`. Photographs stay above it,
and so do losses whose values do not depend on how strong features are."""
FAINT_SIDE = 64
"""The side of that image in pixels, unless a layer needs more."""


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


def fit_content(
    content: Image | None,
    objective: Objective,
    params: Params,
    *,
    backbone: Backbone,
    floors: tuple[Array | None, ...] | None = None,
) -> Targets:
    """Fit the targets of the content terms.

    Args:
        content: ``(..., h, w, 3)`` in [0, 1]; None if the objective has no content terms.
        objective: The terms; others than content terms are ignored.
        params: The network's parameters.
        backbone: The network (static).
        floors: Those of the content terms, if `find_floors` has found them before.

    Raises:
        ArgumentError: The image is missing, or a layer unknown.
        ImageError: The image is too small for a layer.
    """
    if not objective.content:
        return Targets()
    floors = find_floors(objective.content, params, backbone=backbone) if floors is None else floors
    features = _features("content", objective.content, content, params, backbone)
    return Targets(
        content=tuple(
            _scaled(term, term.loss.fit(term.pick(features)), floor, term.pick(features))
            for term, floor in zip(objective.content, floors, strict=True)
        )
    )


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
    floors: tuple[Array | None, ...] | None = None,
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
        floors: Those of the style terms, if `find_floors` has found them before.

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
    floors = find_floors(objective.style, params, backbone=backbone) if floors is None else floors
    names = [f"style[{index}]" for index in range(len(styles))] if len(styles) > 1 else ["style"]
    seen = [
        _features(name, objective.style, image, params, backbone) for name, image in zip(names, styles, strict=True)
    ]
    parts = [
        None if mask is None else guides(mask, _shapes(features))
        for mask, features in zip(style_masks or [None] * len(styles), seen, strict=True)
    ]
    if masks is not None and shape is None:
        raise ArgumentError("masks without a content image: pass `shape`, the size of the image that they divide")
    located = [_located(mask, objective, params, shape, backbone) for mask in masks or () if shape is not None]
    regions = []
    for term, floor in zip(objective.style, floors, strict=True):
        features = [term.pick(by_layer) for by_layer in seen]
        own = [None if by_layer is None else term.pick(by_layer) for by_layer in parts]
        targets = [term.loss.fit(*each) for each in zip(features, own, strict=True)]
        if masks is None:
            target = _scaled(term, _mixture(term, targets, weights), floor, features[0], own[0])
            regions.append((Region(target),))
            continue
        each_scaled = [
            _scaled(term, target, floor, *rest) for target, *rest in zip(targets, features, own, strict=True)
        ]
        regions.append(
            tuple(
                Region(target, term.pick(by_layer), weight * jnp.mean(mask, (-2, -1)))
                for target, by_layer, weight, mask in zip(each_scaled, located, weights, masks, strict=True)
            )
        )
    return Targets(style=tuple(regions))


def find_floors(terms: Sequence[FeatureTerm], params: Params, *, backbone: Backbone) -> tuple[Array | None, ...]:
    """Find the least scale of each term with a `Relative` loss; None for other losses.

    It is `SHARE` of the value that an image without features has if the target is `jnst.images.faint_image`.
    """
    relative = [term for term in terms if isinstance(term.loss, Relative)]
    if not relative:
        return (None,) * len(terms)
    layers = network_layers(relative)
    side = max(FAINT_SIDE, backbone.smallest_side(layers))
    faint = jnp.tile(jnp.asarray(faint_image(side)), backbone.maps)
    features = features_of(faint, layers, params, backbone)
    return tuple(
        SHARE * term.loss.fit(term.pick(features))[1] if isinstance(term.loss, Relative) else None for term in terms
    )


def _scaled(term: FeatureTerm, target: Any, floor: Array | None, features: Any, guide: Any = None) -> Any:
    """The target of a relative loss with a scale that is not below ``floor``; the target of any other loss."""
    if floor is None:
        return target
    assert isinstance(term.loss, Relative)
    return term.loss.scaled(target[0], features, guide, floor)


def _mixture(term: FeatureTerm, targets: Sequence[Any], weights: Array) -> Any:
    """The target of a mixture of styles."""
    loss: Any = term.loss
    return targets[0] if len(targets) == 1 else loss.blend(targets, weights / jnp.sum(weights))


def _features(
    name: str, terms: tuple[FeatureTerm, ...], image: Image | None, params: Params, backbone: Backbone
) -> dict[str, Features]:
    """The features that terms need."""
    if image is None:
        raise ArgumentError(f"the objective has {name} terms, but there is no {name} image: pass one")
    layers = network_layers(terms)
    if layers:
        backbone.check_layers(layers)
        backbone.check_size(image, layers, name)
    return features_of(image, layers, params, backbone)


def _located(
    mask: Guide, objective: Objective, params: Params, shape: tuple[int, int], backbone: Backbone
) -> dict[str, Guide]:
    """A region's guides at the resolution that each style layer has in an image of ``shape``."""
    image = jax.ShapeDtypeStruct((*shape, backbone.channels), jnp.float32)
    layers = network_layers(objective.style)
    features = jax.eval_shape(lambda params, x: features_of(x, layers, params, backbone), params, image)
    return guides(mask, _shapes(features))


def _shapes(features: dict[str, Features]) -> dict[str, tuple[int, int]]:
    return {layer: (array.shape[-3], array.shape[-2]) for layer, array in features.items()}
