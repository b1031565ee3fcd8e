"""The losses written out in float64 NumPy, as a textbook would."""

from typing import Any

import numpy as np

Array = np.ndarray


def gram(features: Array, normalization: str = "chw") -> Array:
    height, width, channels = features.shape
    rows = np.asarray(features, np.float64).transpose(2, 0, 1).reshape(channels, height * width)
    divisor = {"none": 1, "hw": height * width, "chw": channels * height * width}[normalization]
    return rows @ rows.T / divisor


def reduced(difference: Array, target: Array, reduction: str) -> float:
    squares = float(np.sum(np.square(difference)))
    factor = {
        "sum": 1.0,
        "half_sum": 0.5,
        "mean": 1 / difference.size,
        "quarter_mean": 0.25 / difference.size,
        "half_sum_over_root": 0.5 / np.sqrt(difference.size),
        "relative": 1 / (float(np.sum(np.square(target))) + 1e-12),
    }
    return squares * factor[reduction]


def content_loss(features: Array, target: Array, reduction: str = "mean") -> float:
    return reduced(np.asarray(features, np.float64) - target, np.asarray(target, np.float64), reduction)


def style_loss(features: Array, style: Array, normalization: str = "chw", reduction: str = "mean") -> float:
    target = gram(style, normalization)
    return reduced(gram(features, normalization) - target, target, reduction)


def total_variation(image: Array, norm: str = "l1", reduction: str = "sum", value_range: float = 1.0) -> float:
    value = 0.0
    for axis in (0, 1):
        differences = np.abs(np.diff(np.asarray(image, np.float64) * value_range, axis=axis))
        differences = differences if norm == "l1" else differences**2
        count = max(1, differences.size) if reduction == "mean" else 1
        value += float(differences.sum()) / count
    return value


REFERENCES: dict[str, Any] = {
    "mse": content_loss,
    "gram": style_loss,
    "tv": lambda image, unused, **options: total_variation(image, **options),
}
"""By the names of the tables' rows."""
