"""LPIPS: a learned distance between two images that agrees with human judgement."""

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jnst.backbones import Backbone
from jnst.errors import WeightsError
from jnst.images.check import ImageInput, check_pair
from jnst.images.masks import GuideInput, check_weights, guides
from jnst.metrics.feature_distances import exact, exact_features
from jnst.metrics.head_files import read_head
from jnst.statistics import safe_sqrt, unit_mean
from jnst.types import Array, Features, Image, Params, PerImage
from jnst.weights.formats import Tensors, read_tensors
from jnst.weights.load import load_backbone
from jnst.weights.registry import HEADS, source_of
from jnst.weights.store import fetch, usable

EPSILON = 1e-10
"""Added to the length of a feature vector, as in LPIPS v0.1."""

TRAININGS = ("lpips", "torchvision")
"""The weights that the published heads were trained with: torchvision's, which LPIPS' own files contain too."""


@dataclasses.dataclass(frozen=True)
class LPIPSNetwork:
    """A row of `LPIPS_NETWORKS`.

    Attributes:
        name: LPIPS' name for it; ``lpips/NAME`` is a key of `jnst.weights.registry.HEADS`.
        layers: The layers to compare, in the order of the heads.
    """

    name: str
    layers: tuple[str, ...]


LPIPS_NETWORKS: dict[str, LPIPSNetwork] = {
    "squeezenet1.1": LPIPSNetwork("squeeze", ("relu1", "fire3", "fire5", "fire6", "fire7", "fire8", "fire9")),
    "vgg16": LPIPSNetwork("vgg", ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")),
    "alexnet": LPIPSNetwork("alex", ("relu1", "relu2", "relu3", "relu4", "relu5")),
}
"""The networks for which LPIPS v0.1 has heads, by their names in `jnst.BACKBONES`."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LPIPS:
    """LPIPS v0.1 as a loss: ``metric(params, prediction, target)`` is `lpips`, in the order of training loops.

    It holds no parameters, is hashable and a pytree without leaves: close over it, pass it to `jax.jit`, or keep it in
    a module of Flax NNX or Equinox.

    Attributes:
        backbone: The network.
        layers: The layers to compare.
        frozen: Whether the parameters are constants for derivatives. False: they have gradients.
    """

    backbone: Backbone
    layers: tuple[str, ...]
    frozen: bool = True

    def __call__(
        self, params: Params, prediction: ImageInput, target: ImageInput, *, mask: GuideInput | None = None
    ) -> PerImage:
        """See `lpips`."""
        return _distance(self, params, prediction, target, mask, ("prediction", "target"))

    def prepare(self, params: Params) -> Params:
        """Prepare the network's parameters for speed, before a loop, in float32: see `Backbone.prepare`."""
        return {**params, "backbone": exact(self.backbone).prepare(params["backbone"])}


def lpips(
    image: ImageInput, reference: ImageInput, params: Params, *, metric: LPIPS, mask: GuideInput | None = None
) -> PerImage:
    """Learned perceptual distance: ``Σ_l mean_hw Σ_c w_lc (F̂_l - F̂'_l)²`` with features F̂ of unit length.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1], at least 16×16 pixels for VGG16, 17×17 for SqueezeNet and 31×31 for
            AlexNet. The heads were trained on human judgements of 64×64 pixels. For other numbers of channels see
            `jnst.rgb_groups`.
        reference: The same size; leading axes broadcast. The value is symmetric in both.
        params: From `load_lpips`. Unless ``metric.frozen`` is False, they are constants for derivatives.
        metric: From `load_lpips`. ``metric(params, image, reference)`` is the same function.
        mask: ``(..., h, w)`` in [0, 1], the weight of each pixel; leading axes broadcast. The means over positions
            become weighted means, with the mask averaged to each layer's size. Features at the border of a region also
            see some pixels outside. None: all weigh the same.

    Returns:
        ``(...)`` in float32, dimensionless: 0 for equal images, rarely above 1 (black against white: 0.64 with
        SqueezeNet). Its gradient is finite everywhere, and 0 at the reference.

    Raises:
        ImageError: Not images in [0, 1], different sizes, images too small for the network, or an invalid mask. Values
            are only checked outside of `jax.jit`.

    References:
        Zhang, Isola, Efros, Shechtman & Wang, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric,
        CVPR 2018, equation 1; heads and constants of LPIPS v0.1 ("lin"), which normalises by ``|F| + 1e-10``.
        Wright & Ommer, ArtFID: Quantitative Evaluation of Neural Style Transfer, GCPR 2022: ArtFID is
        ``(1 + LPIPS) (1 + FID)``, where LPIPS is the mean of this distance between stylised and content images with
        AlexNet. Its FID compares a whole collection with the styles in an Inception network that was trained on art.
        jnst does not have that network; `style_distance` measures each image instead, on another scale.
    """
    return _distance(metric, params, image, reference, mask, ("image", "reference"))


def lpips_map(image: ImageInput, reference: ImageInput, params: Params, *, metric: LPIPS) -> Array:
    """Where two images differ: the distance at each position of each layer, enlarged bilinearly and summed.

    Args:
        image: As for `lpips`.
        reference: As for `lpips`.
        params: As for `lpips`.
        metric: As for `lpips`.

    Returns:
        ``(..., h, w)`` in float32, as LPIPS v0.1 with ``spatial=True``. Its mean is about the distance.

    Raises:
        ImageError: As for `lpips`.
    """
    names = ("image", "reference")
    maps = _layer_maps(metric, params, *check_pair(image, reference, names), names)
    height, width = image.shape[-3:-1]
    enlarged = (jax.image.resize(x, (*x.shape[:-2], height, width), "bilinear") for x in maps.values())
    return sum(enlarged, jnp.zeros(()))


def _distance(
    metric: LPIPS,
    params: Params,
    image: ImageInput,
    reference: ImageInput,
    mask: GuideInput | None,
    names: tuple[str, str],
) -> PerImage:
    image, reference = check_pair(image, reference, names)
    if mask is not None:
        mask = check_weights(mask, np.broadcast_shapes(image.shape, reference.shape)[:-1], "mask")
    maps = _layer_maps(metric, params, image, reference, names)
    shapes = {layer: (x.shape[-2], x.shape[-1]) for layer, x in maps.items()}
    weights = {} if mask is None else guides(mask, shapes)
    parts = (jnp.mean(unit_mean(weights[layer]) * x if weights else x, (-2, -1)) for layer, x in maps.items())
    return sum(parts, jnp.zeros(()))


def _layer_maps(
    metric: LPIPS, params: Params, image: Image, reference: Image, names: tuple[str, str]
) -> dict[str, Array]:
    """The distance at each position of each layer, ``{layer: (..., h', w')}``."""
    params = jax.lax.stop_gradient(params) if metric.frozen else params
    features, targets = (
        exact_features(each, params["backbone"], metric.backbone, metric.layers, name)
        for each, name in zip((image, reference), names, strict=True)
    )
    return {
        layer: jnp.sum(params["heads"][layer] * (_normalize(features[layer]) - _normalize(targets[layer])) ** 2, -1)
        for layer in metric.layers
    }


def _normalize(features: Features) -> Features:
    """Divide each position's vector by its length plus `EPSILON`. Lengths of 0 have gradient 0."""
    features = features.astype(jnp.float32)
    return features / (safe_sqrt(jnp.sum(features**2, -1, keepdims=True)) + EPSILON)


def load_lpips(
    weights: str | os.PathLike[str], heads: str | os.PathLike[str] | None = None, *, offline: bool | None = None
) -> tuple[LPIPS, dict[str, Params]]:
    """Load the network and the linear heads of LPIPS v0.1.

    Args:
        weights: LPIPS' name of a network, ``"alex"``, ``"vgg"`` or ``"squeeze"``, or jnst's, for published weights,
            downloaded when they are first used; a complete LPIPS model; or torchvision's weights of a network in
            `LPIPS_NETWORKS`.
        heads: LPIPS' file of heads for that network (``squeeze.pth``, ``vgg.pth``, ``alex.pth``: tensors
            ``lin0.model.1.weight`` … of shape ``(1, c, 1, 1)``). None: those in ``weights``, or the published ones.
        offline: Whether downloads are disabled; see `load_backbone`.

    Returns:
        The metric and its parameters: ``{"backbone": params, "heads": {layer: (c,)}}``, float32.

    Raises:
        WeightsError: A file that cannot be read or had to be downloaded; a network without heads, or with other
            training; or heads that are missing, of another shape, negative or not finite.

    Example:
        >>> import jnst
        >>> metric, params = jnst.load_lpips("vgg")  # doctest: +SKIP
        >>> distances = jnst.lpips(images, references, params, metric=metric)  # doctest: +SKIP
    """
    path = Path(weights)
    names = {row.name: name for name, row in LPIPS_NETWORKS.items()} | {name: name for name in LPIPS_NETWORKS}
    if str(weights) in names and not path.is_file():
        # First the heads: they are small, and without them the network would be downloaded for nothing.
        network = LPIPS_NETWORKS[names[str(weights)]].name
        heads = fetch(f"lpips/{network}", offline=offline) if heads is None else heads
        weights = usable(source_of(names[str(weights)], TRAININGS))
    backbone, params = load_backbone(weights=weights, offline=offline)
    row = LPIPS_NETWORKS.get(backbone.name)
    if row is None or backbone.training not in TRAININGS:
        raise WeightsError(
            f"{os.fspath(weights)}: {backbone.training} weights of {backbone.name}, for which LPIPS has no heads: "
            f"expected {' or '.join(TRAININGS)} weights of {' or '.join(LPIPS_NETWORKS)}"
        )
    tensors = _read_heads(path, heads, row.name, offline)
    advice = f"pass LPIPS' heads for {backbone.name} as `heads`, from {HEADS[f'lpips/{row.name}'].origin}"
    found = {
        layer: jnp.asarray(read_head(tensors, f"lin{index}.model.1.weight", channels, advice))
        for index, (layer, channels) in enumerate(channel_counts(backbone, params, row.layers).items())
    }
    return LPIPS(backbone, row.layers), {"backbone": params, "heads": found}


def _read_heads(weights: Path, heads: str | os.PathLike[str] | None, network: str, offline: bool | None) -> Tensors:
    """Read the heads from their own file, from a complete model, or from the published file."""
    if heads is not None:
        return read_tensors(heads)
    if weights.is_file() and (own := read_tensors(weights, _names_of_heads)).arrays:
        return own
    return read_tensors(fetch(f"lpips/{network}", offline=offline))


def _names_of_heads(names: Iterable[str], metadata: Mapping[str, str]) -> set[str]:
    return {name for name in names if re.match(r"lin\d\.", name)}


def channel_counts(backbone: Backbone, params: Params, layers: tuple[str, ...]) -> dict[str, int]:
    """The number of channels of each layer."""
    side = backbone.smallest_side(layers)
    image = jax.ShapeDtypeStruct((side, side, 3), jnp.float32)
    features = jax.eval_shape(lambda p, x: backbone.apply(p, x, layers), params, image)
    return {layer: features[layer].shape[-1] for layer in layers}
