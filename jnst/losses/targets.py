"""Targets: what the losses keep of the content and style images."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax.numpy as jnp

from jnst.backbones import Backbone
from jnst.errors import ArgumentError
from jnst.images import faint_image, guides, size_of
from jnst.losses.base import AdditiveStyle
from jnst.losses.objective import (
    IMAGE,
    FeatureTerm,
    Objective,
    Region,
    Targets,
    check_single,
    check_tiles,
    features_of,
    network_layers,
)
from jnst.losses.relative import Relative
from jnst.losses.tiles import Request, check_tile, features_in_tiles, plan_tiles, sums_in_tiles
from jnst.solve.compilation import Jit
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
    tile: int | None = None,
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
        tile: See `total_loss`: images ``(h, w, 3)`` of any size in tiles; None: as a whole.

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
        tile=tile,
    )
    return fit_content(content, objective, params, backbone=backbone, tile=tile) + fitted


def fit_content(
    content: Image | None,
    objective: Objective,
    params: Params,
    *,
    backbone: Backbone,
    floors: tuple[Array | None, ...] | None = None,
    tile: int | None = None,
) -> Targets:
    """Fit the targets of the content terms.

    Args:
        content: ``(..., h, w, 3)`` in [0, 1]; None if the objective has no content terms.
        objective: The terms; others than content terms are ignored.
        params: The network's parameters.
        backbone: The network (static).
        floors: Those of the content terms, if `find_floors` has found them before.
        tile: See `fit_targets`.

    Raises:
        ArgumentError: The image is missing, or a layer unknown.
        ImageError: The image is too small for a layer.
    """
    if not objective.content:
        return Targets()
    floors = find_floors(objective.content, params, backbone=backbone) if floors is None else floors
    features = _features("content", objective.content, content, params, backbone, tile)
    return Targets(content=_fit_contents(features, objective.content, floors))


@Jit
def _fit_contents(
    features: dict[str, Features], terms: tuple[FeatureTerm, ...], floors: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    return tuple(
        _scaled(term, term.loss.fit(term.pick(features)), floor, term.pick(features))
        for term, floor in zip(terms, floors, strict=True)
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
    tile: int | None = None,
    image_backbone: Backbone | None = None,
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
        tile: See `fit_targets`.
        image_backbone: The network of the image that will be compared, if its padding is another one, so that its
            layers may have other sizes; for ``masks``.

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
    if tile is not None:
        tile = check_tile(tile)
        check_tiles(dataclasses.replace(objective, content=()), backbone, tile)
        _check_fits_sums(objective.style)
    floors = find_floors(objective.style, params, backbone=backbone) if floors is None else floors
    names = [f"style[{index}]" for index in range(len(styles))] if len(styles) > 1 else ["style"]
    if masks is not None and shape is None:
        raise ArgumentError("masks without a content image: pass `shape`, the size of the image that they divide")
    fitted = [
        _fit_style(name, image, mask, objective.style, params, backbone, tile)
        for name, image, mask in zip(names, styles, style_masks or [None] * len(styles), strict=True)
    ]
    compared = backbone if image_backbone is None else image_backbone
    located = [_located(mask, objective.style, shape, compared) for mask in masks or () if shape is not None]
    regions = []
    for term, floor, *of_styles in zip(objective.style, floors, *fitted, strict=True):
        if masks is None:
            target = _mixture(term, [each.target for each in of_styles], weights)
            regions.append((Region(_scaled(term, target, floor, *of_styles[0][1:])),))
            continue
        regions.append(
            tuple(
                Region(_scaled(term, own[0], floor, *own[1:]), term.pick(by_layer), weight * jnp.mean(mask, (-2, -1)))
                for own, by_layer, weight, mask in zip(of_styles, located, weights, masks, strict=True)
            )
        )
    return Targets(style=tuple(regions))


class _Fitted(NamedTuple):
    """A term's target for one style, and what it was fitted to: features (of which shapes matter) and their guide."""

    target: Any
    features: Any
    guide: Any = None


def _fit_style(
    name: str,
    image: Image,
    mask: Guide | None,
    terms: tuple[FeatureTerm, ...],
    params: Params,
    backbone: Backbone,
    tile: int | None,
) -> list[_Fitted]:
    """Fit every term to one style."""
    if tile is not None:
        return _fit_in_tiles(name, image, mask, terms, params, backbone, tile)
    features = _features(name, terms, image, params, backbone)
    located = None if mask is None else _located(mask, terms, size_of(image), backbone)
    fitted = []
    for term in terms:
        seen, guide = term.pick(features), None if located is None else term.pick(located)
        fitted.append(_Fitted(term.loss.fit(seen, guide), seen, guide))
    return fitted


def _fit_in_tiles(
    name: str,
    image: Image,
    mask: Guide | None,
    terms: tuple[FeatureTerm, ...],
    params: Params,
    backbone: Backbone,
    tile: int,
) -> list[_Fitted]:
    """`_fit_style` from sums over tiles."""
    check_single(_check_image(name, terms, image, backbone))
    of_image = _fit_style(name, image, mask, tuple(term for term in terms if term.of_image), params, backbone, None)
    on_layers = tuple(term for term in terms if not term.of_image)
    size, layers = size_of(image), network_layers(terms)
    located = None if mask is None else _located(mask, terms, size, backbone)
    losses = [cast(AdditiveStyle, term.loss) for term in on_layers]
    shapes = backbone.shapes(size, layers)
    positions = [jnp.float32(math.prod(shapes[term.layers[0]][:2])) for term in on_layers]
    requests = [
        Request(term.layers[0], term.loss, guide=None if located is None else term.pick(located)) for term in on_layers
    ]
    sums = sums_in_tiles(image, requests, params, plan=plan_tiles(backbone, layers, size, tile))
    targets = [loss.fit_sums(*each) for loss, *each in zip(losses, sums, positions, strict=True)]
    found, others = iter(targets), iter(of_image)
    # Of the features only the shape matters, and to a value for an image without features only the channels.
    return [
        next(others) if term.of_image else _Fitted(next(found), jnp.zeros((1, 1, shapes[term.layers[0]][-1])))
        for term in terms
    ]


def _check_fits_sums(terms: Sequence[FeatureTerm]) -> None:
    """Check that the targets of style terms can be fitted from sums."""

    def fits(loss: Any) -> bool:
        parts = [loss.inner] if hasattr(loss, "inner") else [part for part, _ in getattr(loss, "parts", ())]
        return all(map(fits, parts)) if parts else hasattr(loss, "fit_sums")

    for term in terms:
        if not term.of_image and not fits(term.loss):
            raise ArgumentError(
                f"{type(term.loss).__name__} on {term.name} keeps all features of a style and cannot be fitted in "
                "tiles: leave out `tile`, or choose a style loss on statistics, such as Gram"
            )


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
    name: str,
    terms: tuple[FeatureTerm, ...],
    image: Image | None,
    params: Params,
    backbone: Backbone,
    tile: int | None = None,
) -> dict[str, Features]:
    """The features that terms need."""
    image = _check_image(name, terms, image, backbone)
    layers = network_layers(terms)
    if tile is None or not layers:
        return features_of(image, layers, params, backbone)
    check_single(image)
    return {IMAGE: image} | features_in_tiles(image, layers, params, backbone=backbone, tile=check_tile(tile))


def _check_image(name: str, terms: tuple[FeatureTerm, ...], image: Image | None, backbone: Backbone) -> Image:
    """The image, if there is one that is large enough."""
    if image is None:
        raise ArgumentError(f"the objective has {name} terms, but there is no {name} image: pass one")
    layers = network_layers(terms)
    if layers:
        backbone.check_layers(layers)
        backbone.check_size(image, layers, name)
    return image


def _located(
    mask: Guide, terms: tuple[FeatureTerm, ...], size: tuple[int, int], backbone: Backbone
) -> dict[str, Guide]:
    """A mask at the resolution that each layer has for an image of a size."""
    shapes = {layer: shape[:2] for layer, shape in backbone.shapes(size, network_layers(terms)).items()}
    return guides(mask, {IMAGE: size} | shapes)  # pyright: ignore[reportArgumentType]
