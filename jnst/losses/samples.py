"""Targets that are sets of positions, which are compared by samples: how they are fitted, mixed and drawn from.

Such a target is a tuple with a part for each image; a part holds all positions, because every step draws its own.
One key draws the same positions of two images whose sizes and guides are equal, so that an image is compared with
itself at the same places.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jnst.errors import ArgumentError
from jnst.statistics.hypercolumn import hypercolumn_weights, hypercolumns
from jnst.statistics.moments import as_columns
from jnst.statistics.sampling import draw_positions, position_weights, take_rows
from jnst.types import Array, Features, Guide, RandomKey


class Positions(NamedTuple):
    """Feature vectors of positions, and how much each counts.

    Attributes:
        rows: ``(..., n, c)``.
        weights: ``(..., n)`` or ``(n,)``, at least 0. They sum to the share that an image has in a mixture.
    """

    rows: Array
    weights: Array


class Layers(NamedTuple):
    """Several layers of one image, and how much each position of the finest one counts.

    Attributes:
        layers: ``(..., h', w', c)`` each.
        weights: As in `Positions`, of the finest layer's positions.
    """

    layers: tuple[Features, ...]
    weights: Array


def positions(features: Features, guide: Guide | None = None) -> Positions:
    """All positions of ``(..., h, w, c)``, as ``(..., h * w, c)``."""
    columns = as_columns(jnp.asarray(features))
    return Positions(columns, position_weights(columns.shape[-2], guide))


def joint_layers(features: Sequence[Features], guide: Sequence[Guide] | None = None) -> Layers:
    """Several layers of an image, with a guide for each."""
    layers = tuple(jnp.asarray(layer) for layer in features)
    return Layers(layers, hypercolumn_weights(layers, guide))


def mix(targets: Sequence[tuple[Any, ...]], weights: Array) -> tuple[Any, ...]:
    """All parts of several targets, with the shares that ``weights`` gives them."""
    shares = zip(targets, weights, strict=True)
    return tuple(part._replace(weights=share * part.weights) for target, share in shares for part in target)


def draw(key: RandomKey | None, part: Positions | Layers, count: int) -> Positions:
    """Draw at most ``count`` positions, in float32; without a key the same every time.

    See `jnst.statistics.sampling.draw_positions`.
    """
    sample = draw_positions(jax.random.key(0) if key is None else key, part.weights, count)
    if isinstance(part, Layers):
        return Positions(hypercolumns(part.layers, sample.indices), sample.weights)
    return Positions(take_rows(part.rows, sample.indices).astype(jnp.float32), sample.weights)


def united(parts: Sequence[Positions]) -> Positions:
    """One set of several; leading axes broadcast."""
    batch = jnp.broadcast_shapes(
        *(part.rows.shape[:-2] for part in parts), *(part.weights.shape[:-1] for part in parts)
    )
    rows = [jnp.broadcast_to(part.rows, (*batch, *part.rows.shape[-2:])) for part in parts]
    weights = [jnp.broadcast_to(part.weights, (*batch, part.weights.shape[-1])) for part in parts]
    return Positions(jnp.concatenate(rows, -2), jnp.concatenate(weights, -1))


def unit_sum(weights: Array | None, like: Array) -> Array:
    """Scale weights ``(..., n)`` to the sum 1 (all 0 stays so); None: rows ``like`` ``(..., n, c)`` count alike."""
    if weights is None:
        return position_weights(like.shape[-2])
    return weights / jnp.maximum(jnp.sum(weights, -1, keepdims=True), 1e-12)


def check_channels(features: Array, target: Array) -> None:
    """Refuse ``(..., c)`` arrays of different c.

    Raises:
        ArgumentError: They differ.
    """
    if features.shape[-1] != target.shape[-1]:
        raise ArgumentError(
            f"features have {features.shape[-1]} channels, the target has {target.shape[-1]}: "
            "fit the target with the same layer"
        )


def check_layers(features: Sequence[Features], target: Sequence[Features]) -> None:
    """Refuse layers of other numbers of channels.

    Raises:
        ArgumentError: They differ, or there are not as many.
    """
    given, fitted = ([layer.shape[-1] for layer in layers] for layers in (features, target))
    if given != fitted:
        raise ArgumentError(
            f"layers have {given} channels, the target's layers {fitted}: fit the target with the same layers"
        )
