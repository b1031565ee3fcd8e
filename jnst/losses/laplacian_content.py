"""Squared error between the Laplacians of an image and the content image: edges and details."""

import dataclasses

from jnst.errors import ArgumentError
from jnst.losses.base import squared_error
from jnst.statistics import average_pool, laplacian, unit_mean
from jnst.types import NO_WRAP, Features, Guide, PerImage, RandomKey, Wrap


def pooled_laplacian(features: Features, pool: int = 4, guide: Guide | None = None, wrap: Wrap = NO_WRAP) -> Features:
    """`laplacian` of the means of blocks of ``pool`` x ``pool`` positions.

    Args:
        features: ``(..., h, w, c)``.
        pool: Side of a block, at least 1.
        guide: ``(..., h, w)``. Positions where it is 0 are ignored, both in blocks and as neighbours. None uses all.
        wrap: See `jnst.statistics.laplacian`.

    Returns:
        ``(..., ⌈h / pool⌉, ⌈w / pool⌉, c)``, in the features' units.
    """
    valid = None if guide is None else guide > 0
    valid_blocks = None if valid is None else average_pool(valid[..., None], pool)[..., 0] > 0
    return laplacian(average_pool(features, pool, valid), valid_blocks, wrap)


def laplacian_loss(
    features: Features,
    target: Features,
    pool: int = 4,
    sum_channels: bool = False,
    reduction: str = "mean",
    guide: Guide | None = None,
    wrap: Wrap = NO_WRAP,
) -> PerImage:
    """Squared error between the Laplacians of block averages: edges and details, but neither colour nor shading.

    Args:
        features: ``(..., h, w, c)``: an image, or any layer's features.
        target: `pooled_laplacian` of the content's, with the same ``pool``.
        pool: Side of a block: the scale of the details to keep.
        sum_channels: Add up the Laplacians of the channels before squaring, as the authors' program does with R, G
            and B.
        reduction: As in `jnst.losses.content_loss`, over blocks and channels.
        guide: ``(..., h, w)``, the relative weight of each position. None weights all positions equally. A block has
            the mean weight of its positions.
        wrap: See `jnst.statistics.laplacian`; the same as for the target. Exact where ``pool`` divides the sides.

    Returns:
        ``(...)``, in squared units of the features (dimensionless for ``"relative"``).

    Raises:
        ArgumentError: Shapes that differ, empty features, or an unknown reduction.

    References:
        Li, Xu, Nie & Chua, Laplacian-Steered Neural Style Transfer, ACM Multimedia 2017, usually with 4 x 4 average
        pooling. The authors leave out the outermost blocks.
    """
    value = pooled_laplacian(features, pool, guide, wrap)
    if value.shape[-3:] != target.shape[-3:]:
        raise ArgumentError(
            f"features give a Laplacian of shape {tuple(value.shape[-3:])}, the target has "
            f"{tuple(target.shape[-3:])}: fit the target with the same layer at the same image size"
        )
    if sum_channels:
        value, target = value.sum(-1, keepdims=True), target.sum(-1, keepdims=True)
    weights = None if guide is None else unit_mean(average_pool(guide[..., None], pool)[..., 0])[..., None]
    return squared_error(value, target, reduction, axes=3, weights=weights)


@dataclasses.dataclass(frozen=True)
class LaplacianContent:
    """`laplacian_loss` as a feature loss, for the image itself or any layer.

    Attributes:
        pool: See `laplacian_loss`.
        sum_channels: See `laplacian_loss`.
        reduction: See `laplacian_loss`.
        wrap: See `laplacian_loss`.

    Raises:
        ArgumentError: A pool below 1.
    """

    joint = False
    pool: int = 4
    sum_channels: bool = False
    reduction: str = "mean"
    wrap: Wrap = NO_WRAP

    def __post_init__(self) -> None:
        if self.pool < 1:
            raise ArgumentError(f"pool {self.pool} is invalid: give the side of a block, at least 1")

    def fit(self, features: Features, guide: Guide | None = None) -> Features:
        """See `pooled_laplacian`."""
        return pooled_laplacian(features, self.pool, guide, self.wrap)

    def loss(
        self, features: Features, target: Features, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """See `laplacian_loss`."""
        return laplacian_loss(features, target, self.pool, self.sum_channels, self.reduction, guide, self.wrap)
