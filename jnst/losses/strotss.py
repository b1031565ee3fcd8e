"""The style terms of STROTSS on hypercolumns: relaxed earth mover's distance, moments and colours."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jnst.errors import ArgumentError
from jnst.losses.base import absolute
from jnst.losses.position_sets import (
    Layers,
    check_channels,
    check_layers,
    concatenate,
    draw,
    joint_layers,
    mix,
    unit_sum,
)
from jnst.losses.relaxed_earth_mover import relaxed_earth_movers_distance
from jnst.types import NO_WRAP, Array, PerImage, RandomKey, Wrap, sum_dtype

FORMULAS: dict[str, Callable[[float], tuple[float, float]]] = {
    "paper": lambda alpha: (1.0 / alpha, 2.0 + alpha + 1.0 / alpha),
    "program": lambda alpha: (1.0 / max(alpha, 1.0), 2.0 + alpha),
}
"""From the content weight α: the weight of the colours, and the divisor of the sum. ``"paper"`` is equation 1,
``"program"`` the authors' program."""
MID_GREY = 0.5


@jax.jit
def moment_distance(x: Array, y: Array, x_weights: Array | None = None, y_weights: Array | None = None) -> PerImage:
    """``|μₓ - μᵧ|₁ / c + |Σₓ - Σᵧ|₁ / c²`` of means and (population) covariances.

    Args:
        x: ``(..., n, c)``.
        y: ``(..., m, c)``; leading axes broadcast.
        x_weights: ``(..., n)``, of which only the proportions matter. None weights all rows equally.
        y_weights: ``(..., m)``, likewise.

    Returns:
        ``(...)``, at least 0: a sum of the rows' units and their squares.

    Raises:
        ArgumentError: Different numbers of channels.

    References:
        Kolkin, Salavon & Shakhnarovich, Style Transfer by Relaxed Optimal Transport and Self-Similarity, CVPR 2019,
        equation 7.
    """
    check_channels(x, y)
    (x_mean, x_covariance), (y_mean, y_covariance) = _moments(x, x_weights), _moments(y, y_weights)
    mean_distance = jnp.mean(absolute(x_mean - y_mean), -1)
    return mean_distance + jnp.mean(absolute(x_covariance - y_covariance), (-2, -1))


def _moments(rows: Array, weights: Array | None) -> tuple[Array, Array]:
    shares, rows = unit_sum(weights, rows)[..., None], rows.astype(sum_dtype(rows))
    mean = jnp.sum(shares * rows, -2, keepdims=True)
    centred = rows - mean
    covariance = jnp.einsum("...nc,...nd->...cd", shares * centred, centred, precision=lax.Precision.HIGHEST)
    return mean[..., 0, :], covariance


@partial(jax.jit, static_argnames=("alpha", "formula", "colours"))
def strotss_style_loss(
    x: Array,
    y: Array,
    x_weights: Array | None = None,
    y_weights: Array | None = None,
    alpha: float = 1.0,
    formula: str = "paper",
    colours: bool = True,
) -> PerImage:
    """``(ℓᵣ + ℓₘ + ℓₚ / α) / (2 + α + 1 / α)``: the style terms of Kolkin's objective, on hypercolumns.

    ℓᵣ is `jnst.losses.relaxed_earth_movers_distance` with cosine distances, ℓₘ is `moment_distance`, and ℓₚ is the
    relaxed earth mover's distance of colours, with the sum of cosine and Euclidean distances. The paper's decorrelated
    colour space is a rotation of RGB, which changes neither distance. Mid-grey is subtracted from colours, as in the
    authors' program.

    Args:
        x: ``(..., n, c)``, of the image. With ``colours``, the first three channels are its sRGB values in [0, 1].
        y: ``(..., m, c)``, of the style; leading axes broadcast.
        x_weights: ``(..., n)``, of which only the proportions matter. None weights all rows equally.
        y_weights: ``(..., m)``, likewise.
        alpha: α, the content weight, above 0. Add the content term with weight ``α / (2 + α + 1 / α)``.
        formula: ``"paper"``, or ``"program"``: ``(ℓᵣ + ℓₘ + ℓₚ / max(α, 1)) / (2 + α)``.
        colours: Whether to add ℓₚ.

    Returns:
        ``(...)``, at least 0, and 0 for equal sets.

    Raises:
        ArgumentError: Different numbers of channels, an unknown formula, or α not above 0.

    References:
        Kolkin, Salavon & Shakhnarovich, Style Transfer by Relaxed Optimal Transport and Self-Similarity, CVPR 2019,
        equations 1 to 7.
    """
    if formula not in FORMULAS:
        raise ArgumentError(f"formula {formula!r} is unknown: choose one of {', '.join(FORMULAS)}")
    if not alpha > 0:
        raise ArgumentError(f"alpha {alpha} is invalid: the content weight must be above 0")
    colour_weight, divisor = FORMULAS[formula](alpha)
    value = relaxed_earth_movers_distance(x, y, x_weights, y_weights) + moment_distance(x, y, x_weights, y_weights)
    if colours:
        palettes = x[..., :3] - MID_GREY, y[..., :3] - MID_GREY
        value += colour_weight * relaxed_earth_movers_distance(*palettes, x_weights, y_weights, "cosine+euclidean")
    return value / divisor


@dataclasses.dataclass(frozen=True)
class Strotss:
    """`strotss_style_loss` as a feature loss on several layers. The target is the style image's layers.

    The loss is stochastic: for each key it draws at most ``max_positions`` of the image and of each style image. If the
    first layer has three channels, it is taken as the image itself, and its colours are compared as well.

    Attributes:
        alpha: See `strotss_style_loss`.
        formula: See `strotss_style_loss`.
        max_positions: Maximum number of positions per image.
        wrap: See `jnst.statistics.hypercolumns`; a style ends at its border.

    Colours are compared where the first layer is an image of 3 channels, not with several maps.
    """

    joint = True
    alpha: float = 1.0
    formula: str = "paper"
    max_positions: int = 1024
    wrap: Wrap = NO_WRAP

    def fit(self, features: Any, guide: Any = None) -> tuple[Layers, ...]:
        """Return the layers, and the weights of their hypercolumns from the guides."""
        return (joint_layers(features, guide),)

    def blend(self, targets: Sequence[tuple[Layers, ...]], weights: Array) -> tuple[Layers, ...]:
        """The hypercolumns of all images together."""
        return mix(targets, weights)

    def loss(
        self,
        features: Any,
        target: tuple[Layers, ...],
        guide: Any = None,
        key: RandomKey | None = None,
    ) -> PerImage:
        """See `strotss_style_loss`."""
        check_layers(features, target[0].layers)
        x = draw(joint_layers(features, guide), self.max_positions, key=key, wrap=self.wrap)
        y = concatenate([draw(part, self.max_positions, key=key) for part in target])
        colours = features[0].shape[-1] == 3
        return strotss_style_loss(x.rows, y.rows, x.weights, y.weights, self.alpha, self.formula, colours)
