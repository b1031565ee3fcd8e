"""LPIPS: a learned distance between two images that agrees with human judgement."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np

from jnst.backbones import Backbone
from jnst.errors import WeightsError
from jnst.images.check import ImageInput, check_pair
from jnst.metrics.feature_distances import exact_features
from jnst.statistics import safe_sqrt
from jnst.types import Array, Features, Params, PerImage
from jnst.weights.convert import check_finite
from jnst.weights.formats import Tensors, read_tensors
from jnst.weights.load import load_backbone

EPSILON = 1e-10
"""Added to the length of a feature vector, as in LPIPS v0.1."""

TRAININGS = ("lpips", "torchvision")
"""The weights that the published heads were trained with: torchvision's, which LPIPS' own files contain too."""


@dataclasses.dataclass(frozen=True)
class LPIPSNetwork:
    """A row of `LPIPS_NETWORKS`.

    Attributes:
        layers: The layers to compare, in the order of the heads.
        address: The URL of the published heads.
    """

    layers: tuple[str, ...]
    address: str


_HEADS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1"

LPIPS_NETWORKS: dict[str, LPIPSNetwork] = {
    "squeezenet1.1": LPIPSNetwork(
        ("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9"), f"{_HEADS}/squeeze.pth"
    ),
    "vgg16": LPIPSNetwork(("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"), f"{_HEADS}/vgg.pth"),
}
"""The networks for which LPIPS v0.1 has heads, by their names in `jnst.BACKBONES`."""


@dataclasses.dataclass(frozen=True)
class LPIPS:
    """The network of `lpips`, without parameters: hashable, a static argument for `jax.jit`.

    Attributes:
        backbone: The network.
        layers: The layers to compare.
    """

    backbone: Backbone
    layers: tuple[str, ...]


def load_lpips(
    weights: str | os.PathLike[str], heads: str | os.PathLike[str] | None = None
) -> tuple[LPIPS, dict[str, Params]]:
    """Load the network and the linear heads of LPIPS v0.1.

    Args:
        weights: A complete LPIPS model (squeeze), or torchvision's weights of a network in `LPIPS_NETWORKS`.
        heads: LPIPS' file of heads for that network (``squeeze.pth``, ``vgg.pth``: tensors ``lin0.model.1.weight`` … of
            shape ``(1, c, 1, 1)``). None if they are in ``weights``.

    Returns:
        The metric and its parameters: ``{"backbone": params, "heads": {layer: (c,)}}``, float32.

    Raises:
        WeightsError: A file that cannot be read; a network without heads, or with other training; or heads that are
            missing, of another shape, negative or not finite.
    """
    backbone, params = load_backbone(weights=weights)
    if backbone.name not in LPIPS_NETWORKS or backbone.training not in TRAININGS:
        raise WeightsError(
            f"{os.fspath(weights)}: {backbone.training} weights of {backbone.name}, for which LPIPS has no heads: "
            f"expected {' or '.join(TRAININGS)} weights of {' or '.join(LPIPS_NETWORKS)}"
        )
    metric = LPIPS(backbone, LPIPS_NETWORKS[backbone.name].layers)
    tensors = read_tensors(weights if heads is None else heads)
    return metric, {"backbone": params, "heads": _heads(tensors, metric, params)}


def _heads(tensors: Tensors, metric: LPIPS, params: Params) -> dict[str, Array]:
    side = metric.backbone.smallest_side(metric.layers)
    image = jax.ShapeDtypeStruct((side, side, 3), jnp.float32)
    features = jax.eval_shape(lambda p, x: metric.backbone.apply(p, x, metric.layers), params, image)
    return {
        layer: _head(tensors, f"lin{index}.model.1.weight", features[layer].shape[-1], metric.backbone.name)
        for index, layer in enumerate(metric.layers)
    }


def _head(tensors: Tensors, name: str, channels: int, network: str) -> Array:
    advice = f"pass LPIPS' heads for {network} as `heads`, from {LPIPS_NETWORKS[network].address}"
    if name not in tensors.arrays:
        raise WeightsError(f"{tensors.source}: tensor `{name}` is missing: {advice}")
    head = np.asarray(tensors.arrays[name])
    if head.shape != (1, channels, 1, 1) or head.dtype.kind != "f":
        raise WeightsError(
            f"{tensors.source}: tensor `{name}` is {head.dtype} of shape {head.shape}, expected floats of shape "
            f"{(1, channels, 1, 1)}: {advice}"
        )
    try:
        check_finite(name, head)
    except WeightsError as error:
        raise WeightsError(f"{tensors.source}: {error}") from error
    if head.min() < 0:
        raise WeightsError(
            f"{tensors.source}: tensor `{name}` has a minimum of {head.min():g}, expected at least 0: {advice}"
        )
    return jnp.asarray(head.reshape(channels), jnp.float32)


def lpips(image: ImageInput, reference: ImageInput, params: Params, *, metric: LPIPS) -> PerImage:
    """Learned perceptual distance: ``Σ_l mean_hw Σ_c w_lc (F̂_l - F̂'_l)²`` with features F̂ of unit length.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1], at least 17×17 pixels for SqueezeNet and 16×16 for VGG16. The heads were
            trained on human judgements of 64×64 pixels.
        reference: The same size; leading axes broadcast. The value is symmetric in both.
        params: From `load_lpips`.
        metric: From `load_lpips`.

    Returns:
        ``(...)`` in float32, dimensionless: 0 for equal images, rarely above 1 (black against white: 0.64 with
        SqueezeNet). Its gradient is finite everywhere, and 0 at the reference.

    Raises:
        ImageError: Not images in [0, 1], different sizes, or images too small for the network.

    References:
        Zhang, Isola, Efros, Shechtman & Wang, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric,
        CVPR 2018, equation 1; heads and constants of LPIPS v0.1 ("lin").
    """
    image, reference = check_pair(image, reference, ("image", "reference"))
    features = exact_features(image, params["backbone"], metric.backbone, metric.layers, "image")
    targets = exact_features(reference, params["backbone"], metric.backbone, metric.layers, "reference")
    heads = params["heads"]
    parts = (_layer_distance(features[layer], targets[layer], heads[layer]) for layer in metric.layers)
    return sum(parts, jnp.float32(0.0))


def _layer_distance(features: Features, target: Features, head: Array) -> PerImage:
    squares = (_normalize(features) - _normalize(target)) ** 2
    return jnp.mean(jnp.sum(head * squares, -1), (-2, -1))


def _normalize(features: Features) -> Features:
    """Divide each position's vector by its length plus `EPSILON`. Lengths of 0 have gradient 0."""
    features = features.astype(jnp.float32)
    return features / (safe_sqrt(jnp.sum(features**2, -1, keepdims=True)) + EPSILON)
