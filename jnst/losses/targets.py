"""Targets: what the losses keep of the content and the style images."""

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
    objective: Objective,
    params: Params,
    content: Image | None,
    style: Image | Sequence[Image] | None,
    *,
    backbone: Backbone,
    style_weights: Array | Sequence[float] | None = None,
    masks: Sequence[Guide] | None = None,
    style_masks: Sequence[Guide | None] | None = None,
    shape: tuple[int, int] | None = None,
) -> Targets:
    """Run content and style images through the network once and keep what the losses need.

    Several styles become one target, that of their mixture: every position of image i counts ``style_weights[i]``.
    With masks, each style instead belongs to a region of its own, whose terms count ``style_weights[i]`` times the
    share of the image that the region covers; so weights mean the same with regions and without.

    Args:
        objective: The terms.
        params: The network's parameters.
        content: ``(..., h, w, 3)``; None if there are no content terms.
        style: ``(..., h', w', 3)``, of any size, or several such; None if there are no style terms.
        backbone: The network (static).
        style_weights: One number of at least 0 for each style; of a mixture only proportions matter. None: all alike.
        masks: For each style ``(h, w)`` in [0, 1]: its region of the image.
        style_masks: For each style ``(h', w')``: the part of the style image that counts; None: all of it.
        shape: Height and width of the image that will be compared; None: the content image's.

    Returns:
        The targets, a pytree.

    Raises:
        ArgumentError: An image is missing, a layer unknown, or not as many weights or masks as styles.
        ImageError: An image is too small for a layer.
    """
    styles = () if style is None else tuple(style) if isinstance(style, Sequence) else (style,)
    if objective.style and not styles:
        raise ArgumentError("the objective has style terms, but there is no style image: pass one")
    contents = _fit("content", objective.content, params, content, backbone)
    weights = _style_weights(style_weights, len(styles))
    for name, given in (("masks", masks), ("style_masks", style_masks)):
        if given is not None and len(given) != len(styles):
            raise ArgumentError(f"{len(given)} {name} for {len(styles)} styles: give one for each")
    fitted = [
        _fit("style", objective.style, params, image, backbone, mask)
        for image, mask in zip(styles, style_masks or [None] * len(styles), strict=True)
    ]
    by_term = list(zip(objective.style, *fitted, strict=True))
    if masks is None:
        return Targets(contents, tuple((_mixture(term, targets, weights),) for term, *targets in by_term))
    located = [_located(mask, objective, params, shape or _size(content), backbone) for mask in masks]
    regions = (
        tuple(
            Region(target, term.pick(by_layer), weight * jnp.mean(mask, (-2, -1)))
            for target, by_layer, weight, mask in zip(targets, located, weights, masks, strict=True)
        )
        for term, *targets in by_term
    )
    return Targets(contents, tuple(regions))


def _mixture(term: FeatureTerm, targets: Sequence[Any], weights: Array) -> Region:
    """The whole image as one region, in all styles."""
    loss: Any = term.loss
    return Region(targets[0] if len(targets) == 1 else loss.blend(targets, weights / jnp.sum(weights)))


def _size(content: Image | None) -> tuple[int, int]:
    if content is None:
        raise ArgumentError("masks without a content image: pass `shape`, the size of the image that they divide")
    return content.shape[-3], content.shape[-2]


def _style_weights(given: Array | Sequence[float] | None, count: int) -> Array:
    weights = jnp.ones(count) if given is None else jnp.asarray(given, jnp.float32)
    if weights.shape != (count,):
        raise ArgumentError(f"{weights.size} style weights for {count} styles: give one for each")
    return weights


def _fit(
    kind: str,
    terms: tuple[FeatureTerm, ...],
    params: Params,
    image: Image | None,
    backbone: Backbone,
    mask: Guide | None = None,
) -> tuple[Array, ...]:
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
    mask: Guide, objective: Objective, params: Params, size: tuple[int, int], backbone: Backbone
) -> dict[str, Guide]:
    """A region's guides at the resolution that each style layer has in an image of ``size``."""
    image = jax.ShapeDtypeStruct((*size, 3), jnp.float32)
    layers = network_layers(objective.style)
    features = jax.eval_shape(lambda params, x: features_of(x, layers, params, backbone), params, image)
    return guides(mask, _shapes(features))


def _shapes(features: dict[str, Features]) -> dict[str, tuple[int, int]]:
    return {layer: (array.shape[-3], array.shape[-2]) for layer, array in features.items()}
