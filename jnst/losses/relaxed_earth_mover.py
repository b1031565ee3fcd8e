"""The relaxed earth mover's distance between two sets of feature vectors."""

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.losses.position_sets import Positions, check_channels, concatenate, draw, mix, positions, unit_sum
from jnst.statistics.distances import DISTANCES, nearest_rows
from jnst.statistics.sampling import take_rows
from jnst.types import Array, Features, Guide, PerImage, RandomKey


@partial(jax.jit, static_argnames="distance")
def relaxed_earth_movers_distance(
    x: Array,
    y: Array,
    x_weights: Array | None = None,
    y_weights: Array | None = None,
    distance: str = "cosine",
) -> PerImage:
    """``max(Σᵢ uᵢ minⱼ d(xᵢ, yⱼ), Σⱼ vⱼ minᵢ d(xᵢ, yⱼ))``: a lower bound of the earth mover's distance.

    Each sum drops one of the two constraints of a transport plan, so everything moves to its nearest neighbour.

    Args:
        x: ``(..., n, c)``.
        y: ``(..., m, c)``; leading axes broadcast.
        x_weights: ``(..., n)``, proportional to u. Rows of weight 0 are not neighbours either. None weights all rows
            equally.
        y_weights: ``(..., m)``, proportional to v, likewise.
        distance: ``"cosine"``; ``"euclidean"``, divided by the root of the number of channels; or
            ``"cosine+euclidean"``, their sum, by which Kolkin et al. compare colours.

    Returns:
        ``(...)``, at least 0, and 0 for equal sets; at most 2 with cosine distances. 0 if all weights are 0.

    Raises:
        ArgumentError: Different numbers of channels, or an unknown distance.

    References:
        Kolkin, Salavon & Shakhnarovich, Style Transfer by Relaxed Optimal Transport and Self-Similarity, CVPR 2019,
        equations 2 to 6.
    """
    if distance not in DISTANCES:
        raise ArgumentError(f"distance {distance!r} is unknown: choose one of {', '.join(DISTANCES)}")
    check_channels(x, y)
    u, v = unit_sum(x_weights, x), unit_sum(y_weights, y)
    all_pairs, paired = DISTANCES[distance]
    nearest = nearest_rows(x, y, all_pairs, u > 0, v > 0)
    from_x = jnp.sum(u * paired(x, take_rows(y, nearest.of_x)), -1)
    from_y = jnp.sum(v * paired(take_rows(x, nearest.of_y), y), -1)
    return jnp.where(jnp.any(u > 0, -1) & jnp.any(v > 0, -1), jnp.maximum(from_x, from_y), 0.0)


@dataclasses.dataclass(frozen=True)
class RelaxedEarthMover:
    """`relaxed_earth_movers_distance` as a feature loss. The target is all positions of the style image.

    The loss is stochastic: for each key it draws at most ``max_positions`` of the image and of each style image.

    Attributes:
        max_positions: Maximum number of positions per image.
        distance: See `relaxed_earth_movers_distance`.
    """

    joint = False
    max_positions: int = 1024
    distance: str = "cosine"

    def fit(self, features: Features, guide: Guide | None = None) -> tuple[Positions, ...]:
        """Return the positions, weighted by the guide."""
        return (positions(features, guide),)

    def blend(self, targets: Sequence[tuple[Positions, ...]], weights: Array) -> tuple[Positions, ...]:
        """The positions of all images together."""
        return mix(targets, weights)

    def loss(
        self,
        features: Features,
        target: tuple[Positions, ...],
        guide: Guide | None = None,
        key: RandomKey | None = None,
    ) -> PerImage:
        """See `relaxed_earth_movers_distance`."""
        check_channels(features, target[0].rows)
        x = draw(positions(features, guide), self.max_positions, key=key)
        y = concatenate([draw(part, self.max_positions, key=key) for part in target])
        return relaxed_earth_movers_distance(x.rows, y.rows, x.weights, y.weights, self.distance)
