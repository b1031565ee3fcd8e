"""DISTS: a distance that compares textures by their statistics and tolerates that they are resampled."""

import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jnst.backbones import Backbone
from jnst.errors import WeightsError
from jnst.images.check import ImageInput, check_pair
from jnst.images.masks import GuideInput, check_weights, guides
from jnst.losses.objective import IMAGE
from jnst.metrics.feature_distances import exact, exact_features
from jnst.metrics.head_files import read_head
from jnst.metrics.perceptual import channel_counts
from jnst.statistics import unit_mean
from jnst.types import Array, Features, Guide, Params, PerImage
from jnst.weights.formats import read_tensors
from jnst.weights.load import load_backbone
from jnst.weights.registry import HEADS, source_of
from jnst.weights.store import fetch, usable

LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
"""The layers of VGG16 that are compared, besides the image itself."""

C1, C2 = 1e-6, 1e-6
"""The constants that stabilise the quotients."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class DISTS:
    """DISTS as a loss: ``metric(params, prediction, target)`` is `dists`, in the order of training loops.

    It holds no parameters, is hashable and a pytree without leaves, like `LPIPS`.

    Attributes:
        backbone: VGG16 with the pooling "hann".
        frozen: Whether the parameters are constants for derivatives. False: they have gradients.
    """

    backbone: Backbone
    frozen: bool = True

    def __call__(
        self, params: Params, prediction: ImageInput, target: ImageInput, *, mask: GuideInput | None = None
    ) -> PerImage:
        """See `dists`."""
        return _distance(self, params, prediction, target, mask, ("prediction", "target"))

    def prepare(self, params: Params) -> Params:
        """Prepare the network's parameters for speed, before a loop, in float32: see `Backbone.prepare`."""
        return {**params, "backbone": exact(self.backbone).prepare(params["backbone"])}


def dists(
    image: ImageInput, reference: ImageInput, params: Params, *, metric: DISTS, mask: GuideInput | None = None
) -> PerImage:
    """Deep image structure and texture similarity, as a distance: ``1 - Σ_lc (α_lc S1 + β_lc S2)``.

    S1 and S2 compare the mean and the variance of each channel of each layer, and of the image itself, as SSIM does
    over a window. With weights of sum 1 this is the sum of squares that jnst computes, without cancellation:

    ``Σ_lc α (μx - μy)² / (μx² + μy² + C1) + β var(x - y) / (σx² + σy² + C2)``, with C1 = C2 = 1e-6.

    Args:
        image: ``(..., h, w, 3)`` in [0, 1], at least 16×16 pixels. The authors resize larger images to 256 pixels on
            the shorter side. For other numbers of channels see `jnst.rgb_groups`.
        reference: The same size; leading axes broadcast. The value is symmetric in both.
        params: From `load_dists`. Unless ``metric.frozen`` is False, they are constants for derivatives.
        metric: From `load_dists`. ``metric(params, image, reference)`` is the same function.
        mask: ``(..., h, w)`` in [0, 1], the weight of each pixel, in all means and variances; leading axes broadcast.

    Returns:
        ``(...)`` in float32, dimensionless, from 0 for equal images to about 1. Its gradient is finite everywhere, and
        0 at the reference.

    Raises:
        ImageError: Not images in [0, 1], different sizes, images too small for the network, or an invalid mask. Values
            are only checked outside of `jax.jit`.

    References:
        Ding, Ma, Wang & Simoncelli, Image Quality Assessment: Unifying Structure and Texture Similarity, IEEE TPAMI
        2020, equations 6 to 8; weights of ``DISTS_pytorch``.
    """
    return _distance(metric, params, image, reference, mask, ("image", "reference"))


def _distance(
    metric: DISTS,
    params: Params,
    image: ImageInput,
    reference: ImageInput,
    mask: GuideInput | None,
    names: tuple[str, str],
) -> PerImage:
    image, reference = check_pair(image, reference, names)
    if mask is not None:
        mask = check_weights(mask, np.broadcast_shapes(image.shape, reference.shape)[:-1], "mask")
    params = jax.lax.stop_gradient(params) if metric.frozen else params
    x, y = (
        {IMAGE: each} | exact_features(each, params["backbone"], metric.backbone, LAYERS, name)
        for each, name in zip((image, reference), names, strict=True)
    )
    shapes = {layer: (features.shape[-3], features.shape[-2]) for layer, features in x.items()}
    weights = {} if mask is None else guides(mask, shapes)
    parts = (
        _dissimilarity(x[layer], y[layer], params["alpha"][layer], params["beta"][layer], weights.get(layer))
        for layer in (IMAGE, *LAYERS)
    )
    return sum(parts, jnp.float32(0.0))


def _dissimilarity(x: Features, y: Features, alpha: Array, beta: Array, weights: Guide | None) -> PerImage:
    """``Σ_c α (1 - S1) + β (1 - S2)`` of one layer."""
    guide = jnp.float32(1.0) if weights is None else unit_mean(weights)[..., None]

    def mean(values: Array) -> Array:
        return jnp.mean(guide * values, (-3, -2), keepdims=True)

    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    mean_x, mean_y = mean(x), mean(y)
    x, y = x - mean_x, y - mean_y
    means = (mean_x - mean_y) ** 2 / (mean_x**2 + mean_y**2 + C1)
    variances = mean((x - y) ** 2) / (mean(x**2) + mean(y**2) + C2)
    return jnp.sum(alpha * means + beta * variances, (-3, -2, -1))


def load_dists(
    weights: str | os.PathLike[str] | None = None,
    heads: str | os.PathLike[str] | None = None,
    *,
    offline: bool | None = None,
) -> tuple[DISTS, dict[str, Params]]:
    """Load VGG16 and the weights of DISTS.

    Args:
        weights: torchvision's weights of VGG16, up to ``conv5_3`` at least. None: published ones, downloaded when they
            are first used.
        heads: The ``weights.pt`` of ``DISTS_pytorch``: tensors ``alpha`` and ``beta`` of shape ``(1, 1475, 1, 1)``, for
            the channels of the image and of `LAYERS`. None: the published file, downloaded when it is first used.
        offline: Whether downloads are disabled; see `load_backbone`.

    Returns:
        The metric and its parameters: ``{"backbone": params, "alpha": {layer: (c,)}, "beta": {layer: (c,)}}``, float32.
        The weights ``alpha`` and ``beta`` have sum 1 together.

    Raises:
        WeightsError: A file that cannot be read or had to be downloaded; another network, or with other training; or
            tensors that are missing, of another shape, negative or not finite.

    Example:
        >>> import jnst
        >>> metric, params = jnst.load_dists()  # doctest: +SKIP
        >>> distances = jnst.dists(images, references, params, metric=metric)  # doctest: +SKIP
    """
    if weights is None:
        # First the small file: without it the network would be downloaded for nothing.
        heads = fetch("dists", offline=offline) if heads is None else heads
        weights = usable(source_of("vgg16", ("torchvision",)))
    backbone, params = load_backbone(weights=weights, offline=offline)
    if (backbone.name, backbone.training) != ("vgg16", "torchvision"):
        raise WeightsError(
            f"{os.fspath(weights)}: {backbone.training} weights of {backbone.name}, expected torchvision weights of "
            "vgg16, with which DISTS was trained"
        )
    backbone = backbone.with_options(pooling="hann")
    counts = {IMAGE: 3} | channel_counts(backbone, params, backbone.check_layers(LAYERS))
    tensors = read_tensors(fetch("dists", offline=offline) if heads is None else Path(heads))
    advice = f"pass the weights of DISTS as `heads`, from {HEADS['dists'].origin}"
    alpha, beta = (read_head(tensors, name, sum(counts.values()), advice) for name in ("alpha", "beta"))
    total = np.sum(alpha, dtype=np.float64) + np.sum(beta, dtype=np.float64)
    if total == 0:
        raise WeightsError(f"{tensors.source}: all weights are 0: {advice}")
    found = {name: _by_layer(array / total, counts) for name, array in (("alpha", alpha), ("beta", beta))}
    return DISTS(backbone), {"backbone": params, **found}


def _by_layer(weights: np.ndarray, counts: dict[str, int]) -> dict[str, Array]:
    parts = np.split(weights, np.cumsum(list(counts.values()))[:-1])
    return {layer: jnp.asarray(part, jnp.float32) for layer, part in zip(counts, parts, strict=True)}
