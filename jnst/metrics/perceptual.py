"""LPIPS: the distance of two images as people judge it."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np

from jnst.backbones import Backbone
from jnst.errors import WeightsError
from jnst.metrics.inputs import Inputs, check_pair, exact_features
from jnst.types import Array, Features, Params, PerImage
from jnst.weights.convert import check_finite
from jnst.weights.formats import Tensors, read_tensors
from jnst.weights.load import load_backbone

EPSILON = 1e-10
"""Added to the length of a feature vector, as LPIPS v0.1 does."""

TRAININGS = ("lpips", "torchvision")
"""Whose weights the published heads were fitted to: torchvision's, which LPIPS' own files repeat."""


@dataclasses.dataclass(frozen=True)
class LPIPSNetwork:
    """A row of `LPIPS_NETWORKS`.

    Attributes:
        layers: Where the features are compared, in the order of the heads.
        address: Where the heads are published.
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
"""The networks that LPIPS v0.1 has heads for, by their names in `jnst.BACKBONES`."""


@dataclasses.dataclass(frozen=True)
class LPIPS:
    """The network that `lpips` looks through; hashable and without arrays, a static argument for `jax.jit`.

    Attributes:
        backbone: The network.
        layers: Where its features are compared.
    """

    backbone: Backbone
    layers: tuple[str, ...]


def load_lpips(
    weights: str | os.PathLike[str], heads: str | os.PathLike[str] | None = None
) -> tuple[LPIPS, dict[str, Params]]:
    """Read the network and the linear heads of LPIPS v0.1.

    Args:
        weights: A whole LPIPS model (squeeze), or torchvision's weights of a network out of `LPIPS_NETWORKS`.
        heads: LPIPS' file of heads for that network (``squeeze.pth``, ``vgg.pth``: tensors ``lin0.model.1.weight`` … of
            shape ``(1, c, 1, 1)``); None: they are in ``weights``.

    Returns:
        The metric and its parameters: ``{"backbone": params, "heads": {layer: (c,)}}``, float32.

    Raises:
        WeightsError: A file that cannot be read; a network without heads or with another training; heads that are
            missing, have another shape, or are negative or not finite: the message names file and tensor.
    """
    backbone, params = load_backbone(weights=weights)
    if backbone.name not in LPIPS_NETWORKS or backbone.training not in TRAININGS:
        raise WeightsError(
            f"{os.fspath(weights)}: {backbone.training} weights of {backbone.name}, which LPIPS has no heads for: "
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
    advice = f"pass LPIPS' heads for {network} as heads, from {LPIPS_NETWORKS[network].address}"
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
        raise WeightsError(f"{tensors.source}: tensor `{name}` goes down to {head.min():g}, expected >= 0: {advice}")
    return jnp.asarray(head.reshape(channels), jnp.float32)


def lpips(metric: LPIPS, params: Params, image: Inputs, reference: Inputs) -> PerImage:
    """Learned perceptual distance: ``Σ_l mean_hw Σ_c w_lc (F̂_l - F̂'_l)²`` with features F̂ of unit length.

    Args:
        metric: From `load_lpips`.
        params: From `load_lpips`.
        image: ``(..., h, w, 3)`` in [0, 1], at least 17×17 pixels for SqueezeNet and 16×16 for VGG16. The heads were
            fitted to judgements of 64×64 pixels.
        reference: The same size; leading axes broadcast. The value is symmetric in both.

    Returns:
        ``(...)`` in float32, without unit: 0 for equal images, seldom above 1 (black against white: 0.64 with
        SqueezeNet). Its gradient is finite everywhere, and 0 at the reference.

    Raises:
        ImageError: Not images in [0, 1], different sizes, or too small for the network.

    References:
        Zhang, Isola, Efros, Shechtman & Wang, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric,
        CVPR 2018, equation 1; heads and constants of LPIPS v0.1 ("lin").
    """
    image, reference = check_pair(image, reference, "reference")
    features, targets = (
        exact_features(metric.backbone, params["backbone"], picture, metric.layers, name)
        for picture, name in ((image, "image"), (reference, "reference"))
    )
    heads = params["heads"]
    parts = (_layer_distance(features[layer], targets[layer], heads[layer]) for layer in metric.layers)
    return sum(parts, jnp.float32(0.0))


def _layer_distance(features: Features, target: Features, head: Array) -> PerImage:
    squares = (_unit(features) - _unit(target)) ** 2
    return jnp.mean(jnp.sum(head * squares, -1), (-2, -1))


def _unit(features: Features) -> Features:
    """Divide each position's vector by its length plus `EPSILON`; where it is 0, so are value and length's gradient."""
    features = features.astype(jnp.float32)
    squares = jnp.sum(features**2, -1, keepdims=True)
    positive = squares > 0
    length = jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)
    return features / (length + EPSILON)
