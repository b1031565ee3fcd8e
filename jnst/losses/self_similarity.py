"""Self-similarity: how the positions of an image resemble each other, compared with those of the content."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.losses.base import absolute
from jnst.losses.position_sets import check_channels, check_layers, draw, joint_layers, positions, unit_sum
from jnst.statistics.distances import cosine_distances
from jnst.types import NO_WRAP, Array, Features, Guide, PerImage, RandomKey, Wrap

EPSILON = 1e-6
"""Added to mean distances, for images of one colour."""


@jax.jit
def self_similarity_loss(x: Array, y: Array, weights: Array | None = None) -> PerImage:
    """``Σⱼ uⱼ Σᵢ uᵢ |Dˣᵢⱼ / Σₖ uₖ Dˣₖⱼ - Dʸᵢⱼ / Σₖ uₖ Dʸₖⱼ|``, where D are the cosine distances within a set.

    With equal weights this is ``Σᵢⱼ |…| / n`` for matrices whose columns sum to 1: n times equation 8, as in the
    authors' program, so that the value does not depend on the number of rows.

    Args:
        x: ``(..., n, c)``, of the image.
        y: ``(..., n, c')``, of the content at the same positions.
        weights: ``(..., n)``, proportional to u. None weights all rows equally.

    Returns:
        ``(...)``, dimensionless, from 0 to 2; 0 if all weights are 0.

    References:
        Kolkin, Salavon & Shakhnarovich, Style Transfer by Relaxed Optimal Transport and Self-Similarity, CVPR 2019,
        equation 8.
    """
    u = unit_sum(weights, x)
    difference = absolute(_relative_distances(x, u) - _relative_distances(y, u))
    return jnp.sum(u[..., None, :] * u[..., :, None] * difference, (-2, -1))


def _relative_distances(rows: Array, weights: Array) -> Array:
    """Distances divided by their means over the first index."""
    distances = cosine_distances(rows, rows)
    means = jnp.sum(weights[..., :, None] * distances, -2, keepdims=True)
    return distances / (means + EPSILON)


def _check_positions(features: Features, target: Features) -> None:
    if features.shape[-3:-1] != target.shape[-3:-1]:
        raise ArgumentError(
            f"features have {tuple(features.shape[-3:-1])} positions, the target has {tuple(target.shape[-3:-1])}: "
            "fit the target at the same image size"
        )


@dataclasses.dataclass(frozen=True)
class SelfSimilarity:
    """`self_similarity_loss` as a feature loss. The target is the content image's features.

    The loss is stochastic: for each key it draws at most ``max_positions``, weighted by the image's guide.

    Attributes:
        max_positions: Maximum number of positions.
    """

    joint = False
    max_positions: int = 1024

    def fit(self, features: Features, guide: Guide | None = None) -> Features:
        """Return the features."""
        return features

    def loss(
        self, features: Features, target: Features, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """See `self_similarity_loss`."""
        check_channels(features, target)
        _check_positions(features, target)
        image = positions(features, guide)
        x = draw(image, self.max_positions, key=key)
        y = draw(image._replace(rows=positions(target).rows), self.max_positions, key=key)
        return self_similarity_loss(x.rows, y.rows, x.weights)


@dataclasses.dataclass(frozen=True)
class HypercolumnSelfSimilarity:
    """`self_similarity_loss` on `jnst.statistics.hypercolumns` of several layers, as in Kolkin et al.

    The loss is stochastic: for each key it draws at most ``max_positions``, weighted by the image's guides.

    Attributes:
        max_positions: Maximum number of positions.
        wrap: See `jnst.statistics.hypercolumns`.
    """

    joint = True
    max_positions: int = 1024
    wrap: Wrap = NO_WRAP

    def fit(self, features: Any, guide: Any = None) -> tuple[Features, ...]:
        """Return the layers."""
        return tuple(features)

    def loss(
        self,
        features: Any,
        target: Any,
        guide: Any = None,
        key: RandomKey | None = None,
    ) -> PerImage:
        """See `self_similarity_loss`."""
        check_layers(features, target)
        for layer, fitted in zip(features, target, strict=True):
            _check_positions(layer, fitted)
        image = joint_layers(features, guide)
        x = draw(image, self.max_positions, key=key, wrap=self.wrap)
        y = draw(image._replace(layers=joint_layers(target).layers), self.max_positions, key=key, wrap=self.wrap)
        return self_similarity_loss(x.rows, y.rows, x.weights)
