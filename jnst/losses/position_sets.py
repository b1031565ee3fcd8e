"""Targets of losses that compare random samples of positions: fitting, mixing and drawing.

Such a target is a tuple with one part per image. A part holds all positions, because each step draws its own sample.
With the same key, the same positions are drawn from two images of equal size and with equal guides, so that an image
is compared with itself at the same places.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.statistics.hypercolumn import hypercolumn_weights, hypercolumns
from jnst.statistics.moments import flatten_positions
from jnst.statistics.sampling import draw_positions, position_weights, take_rows
from jnst.types import NO_WRAP, Array, Features, Guide, RandomKey, Wrap, sum_dtype


class Positions(NamedTuple):
    """The feature vectors of positions, and their weights.

    Attributes:
        rows: ``(..., n, c)``.
        weights: ``(..., n)`` or ``(n,)``, at least 0. Their sum is the share of the image in a mixture.
    """

    rows: Array
    weights: Array


class Layers(NamedTuple):
    """Several layers of one image, and the weights of the finest layer's positions.

    Attributes:
        layers: ``(..., h', w', c)`` each.
        weights: As in `Positions`, for the positions of the finest layer.
    """

    layers: tuple[Features, ...]
    weights: Array


def positions(features: Features, guide: Guide | None = None) -> Positions:
    """All positions of ``(..., h, w, c)``, as ``(..., h * w, c)``, weighted by the guide ``(..., h, w)``."""
    rows = flatten_positions(jnp.asarray(features))
    return Positions(rows, position_weights(rows.shape[-2], guide))


def joint_layers(features: Sequence[Features], guide: Sequence[Guide] | None = None) -> Layers:
    """Several layers of an image, with one guide per layer."""
    layers = tuple(jnp.asarray(layer) for layer in features)
    return Layers(layers, hypercolumn_weights(layers, guide))


def mix(targets: Sequence[tuple[Any, ...]], weights: Array) -> tuple[Any, ...]:
    """All parts of several targets, scaled to the shares given by ``weights``."""
    shares = zip(targets, weights, strict=True)
    return tuple(part._replace(weights=share * part.weights) for target, share in shares for part in target)


def draw(part: Positions | Layers, count: int, *, key: RandomKey | None, wrap: Wrap = NO_WRAP) -> Positions:
    """Draw at most ``count`` positions; the same ones every time if the key is None.

    See `jnst.statistics.draw_positions`, and `jnst.statistics.hypercolumns` for ``wrap``.
    """
    sample = draw_positions(part.weights, count, key=jax.random.key(0) if key is None else key)
    if isinstance(part, Layers):
        return Positions(hypercolumns(part.layers, sample.indices, wrap), sample.weights)
    return Positions(take_rows(part.rows, sample.indices).astype(sum_dtype(part.rows)), sample.weights)


def concatenate(parts: Sequence[Positions]) -> Positions:
    """Concatenate several sets to one; leading axes broadcast."""
    batch = jnp.broadcast_shapes(
        *(part.rows.shape[:-2] for part in parts), *(part.weights.shape[:-1] for part in parts)
    )
    rows = [jnp.broadcast_to(part.rows, (*batch, *part.rows.shape[-2:])) for part in parts]
    weights = [jnp.broadcast_to(part.weights, (*batch, part.weights.shape[-1])) for part in parts]
    return Positions(jnp.concatenate(rows, -2), jnp.concatenate(weights, -1))


def unit_sum(weights: Array | None, rows: Array) -> Array:
    """Scale weights ``(..., n)`` to sum 1; zeros stay zero. None gives equal weights for rows ``(..., n, c)``."""
    if weights is None:
        return position_weights(rows.shape[-2])
    return weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-12)


def check_channels(features: Array, target: Array) -> None:
    """Check that two arrays ``(..., c)`` have equally many channels.

    Raises:
        ArgumentError: They do not.
    """
    if features.shape[-1] != target.shape[-1]:
        raise ArgumentError(
            f"features have {features.shape[-1]} channels, the target has {target.shape[-1]}: "
            "fit the target with the same layer"
        )


def check_layers(features: Sequence[Features], target: Sequence[Features]) -> None:
    """Check that there are equally many layers, with equally many channels.

    Raises:
        ArgumentError: There are not.
    """
    given, fitted = ([layer.shape[-1] for layer in layers] for layers in (features, target))
    if given != fitted:
        raise ArgumentError(
            f"layers have {given} channels, the target's layers {fitted}: fit the target with the same layers"
        )
