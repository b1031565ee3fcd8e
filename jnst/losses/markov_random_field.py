"""Squared error between each patch and the nearest patch of the style (Markov random fields)."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jnst.losses.position_sets import check_channels, mix
from jnst.statistics.moments import flatten_positions, unit_mean
from jnst.statistics.neighbourhoods import wrap_border
from jnst.statistics.patch_search import nearest_patches, patch_counts, patch_entries, patches
from jnst.statistics.sampling import take_rows
from jnst.types import NO_WRAP, Array, Features, Guide, PerImage, RandomKey, Wrap, sum_dtype


class PatchTarget(NamedTuple):
    """The patches of a style image.

    Attributes:
        features: ``(..., h, w, c)``.
        weights: ``(..., p, q)`` or ``(p, q)``. Patches of weight 0 are never chosen.
    """

    features: Features
    weights: Array


def mrf_loss(
    features: Features,
    style: Features,
    size: int = 3,
    stride: int = 1,
    guide: Guide | None = None,
    style_guide: Guide | None = None,
) -> PerImage:
    """Mean squared difference between each patch and its nearest patch of the style.

    The nearest patch is the one with the largest normalised cross-correlation. The choice is constant in the gradient.

    Args:
        features: ``(..., h, w, c)``, of the image.
        style: ``(..., h', w', c)``, of any size; leading axes broadcast.
        size: Side of a patch.
        stride: Step between patches, in both images.
        guide: ``(..., h, w)``, the relative weight of each position. None weights all positions equally. A patch has
            the minimum weight of its positions.
        style_guide: ``(..., h', w')``. Patches that touch a position of weight 0 are never chosen. None allows all.

    Returns:
        ``(...)``, in squared units of the features: the mean over patches, positions in a patch and channels. 0 if all
        patches of the style, or all of the image, have weight 0.

    Raises:
        ArgumentError: Different numbers of channels, or features smaller than a patch.

    References:
        Li & Wand, Combining Markov Random Fields and Convolutional Neural Networks for Image Synthesis, CVPR 2016,
        equations 2 and 3, divided by the number of squares.
    """
    loss = MarkovRandomField(size, stride)
    return loss.loss(features, loss.fit(style, style_guide), guide)


@dataclasses.dataclass(frozen=True)
class MarkovRandomField:
    """`mrf_loss` as a feature loss. The target is the style image's features.

    Attributes:
        size: See `mrf_loss`.
        stride: See `mrf_loss`.
        wrap: Whether patches of the image go on from the last row to the first, and from the last column to the first;
            a style ends at its border.
    """

    joint = False
    size: int = 3
    stride: int = 1
    wrap: Wrap = NO_WRAP

    def fit(self, features: Features, guide: Guide | None = None) -> tuple[PatchTarget, ...]:
        """Return the features, and the weights of their patches."""
        return (PatchTarget(features, _patch_weights(features, guide, self.size, self.stride)),)

    def blend(self, targets: Sequence[tuple[PatchTarget, ...]], weights: Array) -> tuple[PatchTarget, ...]:
        """The patches of all images together. A patch's weight only matters if it is 0."""
        return mix(targets, weights)

    def loss(
        self,
        features: Features,
        target: tuple[PatchTarget, ...],
        guide: Guide | None = None,
        key: RandomKey | None = None,
    ) -> PerImage:
        """See `mrf_loss`."""
        check_channels(features, target[0].features)
        beyond = (0, self.size - 1)
        features = wrap_border(jnp.asarray(features), beyond, self.wrap)
        guide = None if guide is None else wrap_border(jnp.asarray(guide), beyond, self.wrap, channels=False)
        weights = _patch_weights(features, guide, self.size, self.stride)
        scores, squares = zip(*(self._compare(features, part) for part in target), strict=True)
        best, nearest = scores[0], squares[0]
        for score, square in zip(scores[1:], squares[1:], strict=True):
            nearest, best = jnp.where(score > best, square, nearest), jnp.maximum(score, best)
        found = best > -jnp.inf
        return jnp.mean(weights * jnp.where(found, nearest, 0.0), (-2, -1))

    @partial(jax.jit, static_argnums=0)
    def _compare(self, features: Features, part: PatchTarget) -> tuple[Array, Array]:
        """Each patch's best correlation, and its mean squared difference from the best patch: both ``(..., p, q)``."""
        indices, scores = nearest_patches(features, part.features, part.weights > 0, self.size, self.stride)
        dtype = sum_dtype(features, part.features)
        features, others = jnp.asarray(features, dtype), jnp.asarray(part.features, dtype)
        columns = patch_counts(others, self.size, self.stride)[1]
        corners = (indices // columns * others.shape[-2] + indices % columns) * self.stride
        flat, style = corners.reshape(*corners.shape[:-2], -1), flatten_positions(others)
        total = jnp.zeros_like(scores)
        for offset, entry in enumerate(patch_entries(features, self.size, self.stride)):
            shift = offset // self.size * others.shape[-2] + offset % self.size
            chosen = take_rows(style, flat + shift).reshape(*corners.shape, -1)
            total += jnp.mean((entry - chosen) ** 2, -1)
        return scores, total / self.size**2


def _patch_weights(features: Features, guide: Guide | None, size: int, stride: int) -> Array:
    """The minimum weight of each patch's positions, scaled to mean 1: ``(..., p, q)``, ``(p, q)`` without a guide."""
    if guide is None:
        return jnp.ones(patch_counts(features, size, stride), jnp.float32)
    return unit_mean(jnp.min(patches(jnp.asarray(guide)[..., None], size, stride), -1))
