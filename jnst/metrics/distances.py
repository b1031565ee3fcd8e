"""Distances from a style and from a content, as numbers without unit."""

from collections.abc import Sequence

import jax.numpy as jnp

from jnst.backbones import Backbone
from jnst.errors import WeightsError
from jnst.losses import FeatureLoss, Gram, SquaredError
from jnst.metrics.inputs import Inputs, check_images, check_pair, exact_features
from jnst.types import Features, Params, PerImage


def style_distances(
    backbone: Backbone,
    params: Params,
    image: Inputs,
    style: Inputs,
    layers: Sequence[str] | None = None,
    *,
    loss: FeatureLoss = Gram("chw", "relative"),  # noqa: B008 - frozen
) -> dict[str, PerImage]:
    """How far an image is from a style, layer by layer: ``Σ(G - A)² / ΣA²`` of the Gram matrices G and A.

    Args:
        backbone: The network; its weights decide what is measured, so compare values of one network only.
        params: Its parameters.
        image: ``(..., h, w, 3)`` in [0, 1].
        style: ``(..., h', w', 3)`` in [0, 1], of any size; leading axes broadcast.
        layers: None: those of ``backbone.style_layers`` that its weights reach.
        loss: Another measure than the Gram matrices' relative error, from `jnst.losses`.

    Returns:
        ``{layer: (...)}`` in float32; with the default loss 0 for the style itself, 1 for an image without any
        features, and more for one with stronger features.

    Raises:
        ArgumentError: An unknown layer.
        WeightsError: A layer beyond the weights.
        ImageError: Not images in [0, 1], or too small for a layer.

    References:
        Gatys, Ecker & Bethge, CVPR 2016, equations 3 and 4, divided by the squared norm of the target.
    """
    image, style = check_images(image, "image"), check_images(style, "style")
    layers = _usual(backbone, backbone.style_layers) if layers is None else layers
    features = exact_features(backbone, params, image, layers, "image")
    return _compare(loss, features, exact_features(backbone, params, style, layers, "style"))


def style_distance(
    backbone: Backbone,
    params: Params,
    image: Inputs,
    style: Inputs,
    layers: Sequence[str] | None = None,
    *,
    loss: FeatureLoss = Gram("chw", "relative"),  # noqa: B008 - frozen
) -> PerImage:
    """The mean of `style_distances` over the layers; arguments and errors are the same.

    Returns:
        ``(...)`` in float32, 0 for the style itself.
    """
    return _mean(style_distances(backbone, params, image, style, layers, loss=loss))


def content_distances(
    backbone: Backbone, params: Params, image: Inputs, content: Inputs, layers: Sequence[str] | None = None
) -> dict[str, PerImage]:
    """How far an image is from a content, layer by layer: ``Σ(F - T)² / ΣT²`` of the features F and T.

    Args:
        backbone: The network; its weights decide what is measured, so compare values of one network only.
        params: Its parameters.
        image: ``(..., h, w, 3)`` in [0, 1].
        content: The same size; leading axes broadcast.
        layers: None: the first of ``backbone.content_layers`` that its weights reach, which are sorted best first.

    Returns:
        ``{layer: (...)}`` in float32; 0 for the content itself, 1 for an image without any features, and more for
        one with other, stronger features.

    Raises:
        ArgumentError: An unknown layer.
        WeightsError: A layer beyond the weights.
        ImageError: Not images in [0, 1], different sizes, or too small for a layer.

    References:
        Gatys, Ecker & Bethge, CVPR 2016, equation 1, divided by the squared norm of the target.
    """
    image, content = check_pair(image, content, "content")
    layers = _usual(backbone, backbone.content_layers)[:1] if layers is None else layers
    features = exact_features(backbone, params, image, layers, "image")
    return _compare(SquaredError("relative"), features, exact_features(backbone, params, content, layers, "content"))


def content_distance(
    backbone: Backbone, params: Params, image: Inputs, content: Inputs, layers: Sequence[str] | None = None
) -> PerImage:
    """The mean of `content_distances` over the layers; arguments and errors are the same.

    Returns:
        ``(...)`` in float32, 0 for the content itself.
    """
    return _mean(content_distances(backbone, params, image, content, layers))


def _usual(backbone: Backbone, candidates: tuple[str, ...]) -> tuple[str, ...]:
    reached = tuple(layer for layer in candidates if layer in backbone.layers)
    if not reached:
        raise WeightsError(
            f"the weights of {backbone.name} end at {backbone.layers[-1]} and reach none of its usual layers "
            f"({', '.join(candidates)}): pass layers"
        )
    return reached


def _compare(loss: FeatureLoss, features: dict[str, Features], targets: dict[str, Features]) -> dict[str, PerImage]:
    return {layer: loss.loss(features[layer], loss.fit(target)) for layer, target in targets.items()}


def _mean(distances: dict[str, PerImage]) -> PerImage:
    return jnp.mean(jnp.stack(list(distances.values())), axis=0)
