"""Content as self-similarity: how an image's positions resemble each other."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.losses.samples import check_channels, check_layers, draw, joint_layers, positions, unit_sum
from jnst.statistics.distances import cosine_distances
from jnst.types import Array, Features, Guide, PerImage, RandomKey

EPSILON = 1e-6
"""Added to mean distances, for an image of one colour."""


@jax.jit
def self_similarity_loss(x: Array, y: Array, weights: Array | None = None) -> PerImage:
    """``Σⱼ uⱼ Σᵢ uᵢ |Dˣᵢⱼ / Σₖ uₖ Dˣₖⱼ - Dʸᵢⱼ / Σₖ uₖ Dʸₖⱼ|``, D being cosine distances within a set.

    With equal weights that is ``Σᵢⱼ |…| / n`` of matrices whose columns sum to 1: n times equation 8, as in the
    authors' program, so that the value does not depend on how many rows there are.

    Args:
        x: ``(..., n, c)`` of the image.
        y: ``(..., n, c')`` of the content at the same positions.
        weights: ``(..., n)``, u in proportion; None: all alike.

    Returns:
        ``(...)`` in float32, without unit, from 0 to 2; 0 if all weights are 0.

    References:
        Kolkin, Salavon & Shakhnarovich, Style Transfer by Relaxed Optimal Transport and Self-Similarity, CVPR 2019,
        equation 8.
    """
    u = unit_sum(weights, x)
    difference = jnp.abs(_relative_distances(x, u) - _relative_distances(y, u))
    return jnp.sum(u[..., None, :] * u[..., :, None] * difference, (-2, -1))


def _relative_distances(rows: Array, weights: Array) -> Array:
    """Distances divided by their means over the first index."""
    distances = cosine_distances(rows, rows)
    means = jnp.sum(weights[..., :, None] * distances, -2, keepdims=True)
    return distances / (means + EPSILON)


def _check_positions(features: Features, target: Features) -> None:
    if features.shape[-3:-1] != target.shape[-3:-1]:
        raise ArgumentError(
            f"features have {features.shape[-3:-1]} positions, the target has {target.shape[-3:-1]}: "
            "fit the target at the same image size"
        )


@dataclasses.dataclass(frozen=True)
class SelfSimilarity:
    """`self_similarity_loss` as a feature loss: the target is the content image's features.

    Every loss draws at most ``max_positions``, by the image's guide and afresh with its key.
    """

    joint: ClassVar[bool] = False
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
        x = draw(key, image, self.max_positions)
        y = draw(key, image._replace(rows=positions(target).rows), self.max_positions)
        return self_similarity_loss(x.rows, y.rows, x.weights)


@dataclasses.dataclass(frozen=True)
class HypercolumnSelfSimilarity:
    """`self_similarity_loss` on `jnst.statistics.hypercolumns` of several layers, as Kolkin et al. use it.

    Every loss draws at most ``max_positions``, by the image's guides and afresh with its key.
    """

    joint: ClassVar[bool] = True
    max_positions: int = 1024

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
        x = draw(key, image, self.max_positions)
        y = draw(key, image._replace(layers=joint_layers(target).layers), self.max_positions)
        return self_similarity_loss(x.rows, y.rows, x.weights)
