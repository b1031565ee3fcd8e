"""Photorealism: near each pixel, colours may only change by an affine map."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.statistics import unit_mean, windows, wrap_border
from jnst.types import NO_WRAP, Array, Features, Guide, PerImage, RandomKey, Wrap, sum_dtype

REDUCTIONS: dict[str, Callable[[Array, int], Array]] = {
    "mean": lambda energies, values: jnp.mean(energies, (-2, -1)) / values,
    "sum": lambda energies, values: jnp.sum(energies, (-2, -1)),
}
"""Reductions of the energies of windows to one value, given the number of values in a window."""


class AffineModels(NamedTuple):
    """For each window, an orthonormal basis of the affine functions of the content's colours in it.

    Attributes:
        basis: ``(..., c, n, h - 2r, w - 2r)`` for windows of n positions: c columns that span the content's c channels
            in the window after subtracting their means. Regularisation makes columns shorter than 1 where the content
            is flat.
    """

    basis: Array


def affine_models(content: Features, radius: int = 1, epsilon: float = 1e-7, wrap: Wrap = NO_WRAP) -> AffineModels:
    """Prepare `photorealism_loss` for a content image.

    Args:
        content: ``(..., h, w, c)``: the content image.
        radius: Windows have a side of 2·radius + 1 positions.
        epsilon: Regularisation of the slopes of the affine functions, in squared units of the content; above 0.
        wrap: Whether windows go on from the last row to the first, and from the last column to the first.

    Raises:
        ArgumentError: A content image smaller than a window.
    """
    side = 2 * radius + 1
    content = wrap_border(content, (radius, radius), wrap)
    if min(content.shape[-3:-1]) < side:
        raise ArgumentError(
            f"an image of {content.shape[-3]}x{content.shape[-2]} has no window of {side}x{side}: "
            "use a larger image or a smaller radius"
        )
    centred = jnp.stack(_centred_windows(content, radius), axis=-3)
    # Least squares regularised by ε|a|² is plain least squares with the additional rows √ε I.
    channels, positions = centred.shape[-4:-2]
    ridge = math.sqrt(epsilon) * jnp.eye(channels, dtype=centred.dtype)[:, :, None, None]
    ridge = jnp.broadcast_to(ridge, (*centred.shape[:-4], channels, channels, *centred.shape[-2:]))
    columns = _orthonormalize(jnp.concatenate([centred, ridge], axis=-3))
    return AffineModels(columns[..., :positions, :, :])


def photorealism_loss(
    features: Features,
    models: AffineModels,
    radius: int = 1,
    reduction: str = "mean",
    guide: Guide | None = None,
    wrap: Wrap = NO_WRAP,
) -> PerImage:
    """Distance of the colours from affine functions of the content's colours, in all windows: ``Σ_c x_cᵀ L x_c``.

    L is the matting Laplacian of the content. ``Σ_c x_cᵀ L x_c`` equals the sum over windows k of the regularised
    least squares residuals ``min_{a,b} Σ_{i∈k} (x_i - aᵀI_i - b)² + ε|a|²``, so L is never built. The residuals are
    computed by projection onto the bases of `affine_models`. This needs neither the covariances of the windows nor
    their inverses, which would be inaccurate in float32 where the content is flat or grey.

    Args:
        features: ``(..., h, w, c)``: the image.
        models: `affine_models` of the content image, with the same radius.
        radius: Windows have a side of 2·radius + 1 positions, and lie inside the image.
        reduction: ``"sum"`` for ``Σ_c x_cᵀ L x_c``; ``"mean"`` to divide it by the number of windows and by the
            c·(2·radius + 1)² values in one, which gives a mean squared error.
        guide: ``(..., h, w)``, the relative weight of each position. None weights all positions equally. A window has
            the minimum weight of its positions.
        wrap: As for `affine_models`.

    Returns:
        ``(...)``, in squared units of the features. For the content itself the sum is up to ε per window and channel.

    Raises:
        ArgumentError: A shape that differs from the content's, or an unknown reduction.

    References:
        Levin, Lischinski & Weiss, A Closed-Form Solution to Natural Image Matting, PAMI 2008; in style transfer: Luan,
        Paris, Shechtman & Bala, Deep Photo Style Transfer, CVPR 2017.
    """
    if reduction not in REDUCTIONS:
        raise ArgumentError(f"reduction {reduction!r} is unknown: choose one of {', '.join(REDUCTIONS)}")
    height, width, channels = features.shape[-3:]
    rows, columns = (size + 2 * radius * (not wraps) for size, wraps in zip(models.basis.shape[-2:], wrap, strict=True))
    goal = rows, columns, models.basis.shape[-4]
    if (height, width, channels) != goal:
        raise ArgumentError(
            f"features have shape {(height, width, channels)}, the target {goal}: "
            "fit the target with the same layer at the same image size"
        )
    energies = _energies(wrap_border(features, (radius, radius), wrap), models.basis, radius)
    if guide is not None:
        guide = wrap_border(jnp.asarray(guide), (radius, radius), wrap, channels=False)
        energies = energies * unit_mean(reduce(jnp.minimum, windows(guide, radius)))
    return REDUCTIONS[reduction](energies, channels * (2 * radius + 1) ** 2)


def _centred_windows(features: Features, radius: int) -> list[Array]:
    """The values of all windows minus their means, as one array ``(..., c, h', w')`` per position in the window."""
    values = windows(jnp.moveaxis(features.astype(sum_dtype(features)), -1, -3), radius)
    mean = sum(values[1:], values[0]) / len(values)
    return [value - mean for value in values]


@partial(jax.jit, static_argnames="radius")
def _energies(features: Features, basis: Array, radius: int) -> Array:
    """Σ_c |x_c|² - |Qᵀx_c|² in each window, where x_c are its centred values and Q is the basis: ``(..., h', w')``.

    The loop over positions is unrolled. On a CPU XLA fuses it into one loop over the windows, 8 times faster than
    reductions over an axis of positions.
    """
    centred = _centred_windows(features, radius)
    squares = sum(map(jnp.square, centred), jnp.float32(0.0))
    for column in range(basis.shape[-4]):
        products = (basis[..., column, i, None, :, :] * value for i, value in enumerate(centred))
        squares = squares - jnp.square(sum(products, jnp.float32(0.0)))
    return jnp.sum(squares, axis=-3)


@jax.jit
def _orthonormalize(columns: Array) -> Array:
    """Gram-Schmidt over axis -4, with the columns along axis -3; done twice to remove rounding errors."""
    basis: list[Array] = []
    for column in jnp.moveaxis(columns, -4, 0):
        for other in basis * 2:
            column = column - other * jnp.sum(other * column, axis=-3, keepdims=True)
        basis.append(column / jnp.sqrt(jnp.sum(jnp.square(column), axis=-3, keepdims=True)))
    return jnp.stack(basis, axis=-4)


@dataclasses.dataclass(frozen=True)
class Photorealism:
    """`photorealism_loss` as a feature loss, for the image itself.

    Attributes:
        radius: See `affine_models`; at least 1.
        epsilon: See `affine_models`; above 0.
        reduction: See `photorealism_loss`.
        wrap: See `affine_models`.

    Raises:
        ArgumentError: A radius below 1, or an epsilon that is not above 0.
    """

    joint = False
    radius: int = 1
    epsilon: float = 1e-7
    reduction: str = "mean"
    wrap: Wrap = NO_WRAP

    def __post_init__(self) -> None:
        if self.radius < 1 or not self.epsilon > 0:
            raise ArgumentError(
                f"radius {self.radius} with epsilon {self.epsilon} is invalid: "
                "give a radius of at least 1 and an epsilon above 0"
            )

    def fit(self, features: Features, guide: Guide | None = None) -> AffineModels:
        """See `affine_models`."""
        return affine_models(features, self.radius, self.epsilon, self.wrap)

    def loss(
        self, features: Features, target: AffineModels, guide: Guide | None = None, key: RandomKey | None = None
    ) -> PerImage:
        """See `photorealism_loss`."""
        return photorealism_loss(features, target, self.radius, self.reduction, guide, self.wrap)
