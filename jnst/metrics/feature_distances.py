"""Dimensionless distances from a style and from a content, in the features of a network."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jnst.backbones import Backbone
from jnst.errors import WeightsError
from jnst.images.check import ImageInput, check_images, check_pair
from jnst.losses import FeatureLoss, Gram, SquaredError
from jnst.types import Features, Image, Params, PerImage


def style_distances(
    image: ImageInput,
    style: ImageInput,
    params: Params,
    *,
    backbone: Backbone,
    layers: Sequence[str] | None = None,
    loss: FeatureLoss = Gram("chw", "relative"),  # noqa: B008 - frozen
) -> dict[str, PerImage]:
    """Distance of an image from a style per layer: ``Σ(G - A)² / ΣA²`` of the Gram matrices G and A.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1].
        style: ``(..., h', w', 3)`` in [0, 1], of any size; leading axes broadcast.
        params: The network's parameters.
        backbone: The network. The values depend on its weights, so only compare values of the same network.
        layers: None uses those of ``backbone.style_layers`` that the weights reach.
        loss: Another loss of `jnst.losses` in place of the relative error of Gram matrices.

    Returns:
        ``{layer: (...)}`` in float32. With the default loss: 0 for the style itself, 1 for an image without any
        features, and more for an image with stronger features.

    Raises:
        ArgumentError: Unknown layer.
        WeightsError: A layer that the weights do not reach.
        ImageError: Not images in [0, 1], or images too small for a layer.

    References:
        Gatys, Ecker & Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016, equations 3 and 4,
        divided by the squared norm of the target.
    """
    image, style = check_images(image, "image"), check_images(style, "style")
    layers = _reached_layers(backbone, backbone.style_layers) if layers is None else layers
    features = exact_features(image, params, backbone, layers, "image")
    return _compare(features, exact_features(style, params, backbone, layers, "style"), loss)


def style_distance(
    image: ImageInput,
    style: ImageInput,
    params: Params,
    *,
    backbone: Backbone,
    layers: Sequence[str] | None = None,
    loss: FeatureLoss = Gram("chw", "relative"),  # noqa: B008 - frozen
) -> PerImage:
    """The mean of `style_distances` over the layers, with the same arguments and errors.

    Returns:
        ``(...)`` in float32, 0 for the style itself.
    """
    return _mean(style_distances(image, style, params, backbone=backbone, layers=layers, loss=loss))


def content_distances(
    image: ImageInput, content: ImageInput, params: Params, *, backbone: Backbone, layers: Sequence[str] | None = None
) -> dict[str, PerImage]:
    """Distance of an image from a content per layer: ``Σ(F - T)² / ΣT²`` of the features F and T.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1].
        content: The same size; leading axes broadcast.
        params: The network's parameters.
        backbone: The network. The values depend on its weights, so only compare values of the same network.
        layers: None uses the first of ``backbone.content_layers``, sorted from best to worst, that the weights reach.

    Returns:
        ``{layer: (...)}`` in float32: 0 for the content itself, 1 for an image without any features, and more for an
        image with different, stronger features.

    Raises:
        ArgumentError: Unknown layer.
        WeightsError: A layer that the weights do not reach.
        ImageError: Not images in [0, 1], different sizes, or images too small for a layer.

    References:
        Gatys, Ecker & Bethge, Image Style Transfer Using Convolutional Neural Networks, CVPR 2016, equation 1, divided
        by the squared norm of the target.
    """
    image, content = check_pair(image, content, ("image", "content"))
    layers = _reached_layers(backbone, backbone.content_layers)[:1] if layers is None else layers
    features = exact_features(image, params, backbone, layers, "image")
    return _compare(features, exact_features(content, params, backbone, layers, "content"), SquaredError("relative"))


def content_distance(
    image: ImageInput, content: ImageInput, params: Params, *, backbone: Backbone, layers: Sequence[str] | None = None
) -> PerImage:
    """The mean of `content_distances` over the layers, with the same arguments and errors.

    Returns:
        ``(...)`` in float32, 0 for the content itself.
    """
    return _mean(content_distances(image, content, params, backbone=backbone, layers=layers))


def exact_features(
    image: Image, params: Params, backbone: Backbone, layers: Sequence[str], name: str
) -> dict[str, Features]:
    """`Backbone.apply` in full float32 precision, also on devices that would multiply in TF32 or bfloat16.

    Args:
        image: ``(..., h, w, 3)``.
        params: The network's parameters.
        backbone: The network.
        layers: Names from ``backbone.layers``.
        name: The image's name in error messages.

    Returns:
        ``{layer: (..., h', w', c)}`` in the parameters' dtype.

    Raises:
        ArgumentError: A layer that the architecture does not have.
        WeightsError: A layer that the weights do not reach.
        ImageError: An image too small for a layer.
    """
    layers = backbone.check_layers(layers)
    backbone.check_size(image, layers, name)
    with jax.default_matmul_precision("highest"):
        return exact(backbone).apply(params, image, layers)


def exact(backbone: Backbone) -> Backbone:
    """The network with the precision "float32"; ResNets, which have no such option, as they are."""
    return backbone.with_options(precision="float32") if "precision" in backbone.options else backbone


def _reached_layers(backbone: Backbone, candidates: tuple[str, ...]) -> tuple[str, ...]:
    reached = tuple(layer for layer in candidates if layer in backbone.layers)
    if not reached:
        raise WeightsError(
            f"the weights of {backbone.name} end at {backbone.layers[-1]} and reach none of the default layers "
            f"({', '.join(candidates)}): pass layers"
        )
    return reached


def _compare(features: dict[str, Features], targets: dict[str, Features], loss: FeatureLoss) -> dict[str, PerImage]:
    return {layer: loss.loss(features[layer], loss.fit(target)) for layer, target in targets.items()}


def _mean(distances: dict[str, PerImage]) -> PerImage:
    return jnp.mean(jnp.stack(list(distances.values())), axis=0)
