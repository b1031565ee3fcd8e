"""Losses that sort, written out in float64 NumPy, with ranks in exact integers."""

from fractions import Fraction
from typing import Any

import jax
import numpy as np

Array = np.ndarray


def quantile(values: Array, weights: Array, rank: Fraction) -> float:
    """The quantile of sorted numbers with integer weights: the middle of a jump, if the rank is on one."""
    counted = [(float(value), int(weight)) for value, weight in zip(values, weights, strict=True) if weight]
    wanted, reached = rank * sum(weight for _, weight in counted), 0
    for index, (value, weight) in enumerate(counted):
        reached += weight
        if wanted == reached:
            return 0.5 * (value + counted[index + 1][0])
        if wanted < reached:
            return value
    raise AssertionError("a rank of 1 or more")


def transported(values: Array, target: Array, weights: Array | None = None, goal_weights: Array | None = None) -> Array:
    """The transported values; weights are integers."""
    weights = np.ones(len(values), int) if weights is None else weights
    goal_weights = np.ones(len(target), int) if goal_weights is None else goal_weights
    ascending, moved, before = np.argsort(target), np.empty(len(values)), 0
    for index in np.argsort(values):
        # Values of weight 0 may map to anything.
        middle = Fraction(2 * before + max(1, int(weights[index])), 2 * int(weights.sum()))
        before += int(weights[index])
        rank = min(middle, Fraction(2 * int(weights.sum()) - 1, 2 * int(weights.sum())))
        moved[index] = quantile(target[ascending], goal_weights[ascending], rank)
    return moved


def rows(features: Array) -> Array:
    return np.asarray(features, np.float64).reshape(-1, features.shape[-1])


def unit_vectors(channels: int, count: int) -> Array:
    """The directions drawn without a key."""
    normal = np.asarray(jax.random.normal(jax.random.key(0), (count, channels)), np.float64)
    return normal / np.sqrt(np.sum(normal**2, axis=1, keepdims=True))


def along_a_line(x: Array, y: Array) -> float:
    """The squared distance of two sets of equally many numbers."""
    return float(np.mean((np.sort(x) - np.sort(y)) ** 2))


def sliced_wasserstein_loss(features: Array, style: Array, directions: int | None = None) -> float:
    channels = features.shape[-1]
    vectors = unit_vectors(channels, channels if directions is None else directions)
    return float(np.mean([along_a_line(rows(features) @ vector, rows(style) @ vector) for vector in vectors]))


def histogram_loss(features: Array, style: Array, reduction: str = "mean") -> float:
    pairs = zip(rows(features).T, rows(style).T, strict=True)
    mean = float(np.mean([along_a_line(channel, goal) for channel, goal in pairs]))
    return {"mean": mean, "sum": mean * features.size}[reduction]


SORTED: dict[str, Any] = {"sliced-wasserstein": sliced_wasserstein_loss, "histogram": histogram_loss}
"""By the names of the tables' rows."""
