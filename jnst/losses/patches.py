"""Style as patches: every neighbourhood against its nearest one of the style."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jnst.losses.samples import check_channels, mix
from jnst.statistics.moments import as_columns, unit_mean
from jnst.statistics.patch_search import nearest_patches, patch_counts, patch_entries, patches
from jnst.statistics.sampling import take_rows
from jnst.types import Array, Features, Guide, PerImage, RandomKey


class PatchTarget(NamedTuple):
    """A style image.

    Attributes:
        features: ``(..., h, w, c)``.
        weights: ``(..., p, q)`` or ``(p, q)``: a patch of weight 0 is never chosen.
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
    """Mean squared difference between every patch and its nearest patch of the style.

    Nearest by normalised cross-correlation. The gradient is that of the difference alone: which patch is nearest does
    not change with an infinitesimal step.

    Args:
        features: ``(..., h, w, c)`` of the image.
        style: ``(..., h', w', c)``, of any size; leading axes broadcast.
        size: Side of a patch.
        stride: Step between patches, of both images.
        guide: ``(..., h, w)``: how much every position counts, in proportion, a patch as much as the least of its
            positions. None: all alike.
        style_guide: ``(..., h', w')``: patches that touch a position with 0 are never chosen. None: all may be.

    Returns:
        ``(...)`` in float32, in squared units of the features: the mean over patches, positions in a patch and
        channels. 0 if no patch of the style, or none of the image, counts.

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
    """`mrf_loss` as a feature loss: the target is the style image's features."""

    joint: ClassVar[bool] = False
    size: int = 3
    stride: int = 1

    def fit(self, features: Features, guide: Guide | None = None) -> tuple[PatchTarget, ...]:
        """Return the features, and which patches may be chosen."""
        return (PatchTarget(features, _patch_weights(features, guide, self.size, self.stride)),)

    def blend(self, targets: Sequence[tuple[PatchTarget, ...]], weights: Array) -> tuple[PatchTarget, ...]:
        """The images' patches together; a patch's share does not matter unless it is 0."""
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
        weights = _patch_weights(features, guide, self.size, self.stride)
        scores, squares = zip(*(self._compare(features, part) for part in target), strict=True)
        best, nearest = scores[0], squares[0]
        for score, square in zip(scores[1:], squares[1:], strict=True):
            nearest, best = jnp.where(score > best, square, nearest), jnp.maximum(score, best)
        found = best > -jnp.inf
        return jnp.mean(weights * jnp.where(found, nearest, 0.0), (-2, -1))

    @partial(jax.jit, static_argnums=0)
    def _compare(self, features: Features, part: PatchTarget) -> tuple[Array, Array]:
        """Each patch's best correlation and its mean squared difference from that patch: both ``(..., p, q)``."""
        indices, scores = nearest_patches(features, part.features, part.weights > 0, self.size, self.stride)
        others = jnp.asarray(part.features, jnp.float32)
        columns = patch_counts(others, self.size, self.stride)[1]
        corners = (indices // columns * others.shape[-2] + indices % columns) * self.stride
        flat, style = corners.reshape(*corners.shape[:-2], -1), as_columns(others)
        total = jnp.zeros_like(scores)
        for offset, entry in enumerate(patch_entries(jnp.asarray(features, jnp.float32), self.size, self.stride)):
            shift = offset // self.size * others.shape[-2] + offset % self.size
            chosen = jax.lax.stop_gradient(take_rows(style, flat + shift))
            total += jnp.mean((entry - chosen.reshape(*corners.shape, -1)) ** 2, -1)
        return scores, total / self.size**2


def _patch_weights(features: Features, guide: Guide | None, size: int, stride: int) -> Array:
    """The least weight of every patch's positions, scaled to the mean 1: ``(..., p, q)``, or ``(p, q)`` unguided."""
    if guide is None:
        return jnp.ones(patch_counts(features, size, stride), jnp.float32)
    return unit_mean(jnp.min(patches(jnp.asarray(guide)[..., None], size, stride), -1))
