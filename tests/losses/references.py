"""The losses written out in float64 NumPy."""

from typing import Any

import numpy as np
from losses.nearest_references import NEAREST
from losses.sorted_references import SORTED

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


def moments(features: Array) -> tuple[Array, Array]:
    rows = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
    return rows.mean(0), np.cov(rows, rowvar=False, bias=True).reshape(features.shape[-1], -1)


def mean_std_loss(features: Array, style: Array, reduction: str = "mean") -> float:
    (mean, covariance), (style_mean, style_covariance) = moments(features), moments(style)
    std, style_std = np.sqrt(np.diag(covariance)), np.sqrt(np.diag(style_covariance))
    return reduced(mean - style_mean, style_mean, reduction) + reduced(std - style_std, style_std, reduction)


def covariance_loss(features: Array, style: Array, reduction: str = "mean") -> float:
    target = moments(style)[1]
    return reduced(moments(features)[1] - target, target, reduction)


def wasserstein_loss(features: Array, style: Array, eps: float = 1e-4, iterations: int | None = None) -> float:
    """With converged roots, for any number of iterations. A B has the same eigenvalues as A^½ B A^½."""
    (mean, covariance), (style_mean, style_covariance) = moments(features), moments(style)
    a, b = (each + eps * np.eye(len(each)) for each in (covariance, style_covariance))
    fidelity = np.sqrt(np.maximum(np.linalg.eigvals(a @ b).real, 0)).sum()
    return float(np.mean((mean - style_mean) ** 2) + (np.trace(a + b) - 2 * fidelity) / len(a))


def variations(image: Array, norm: str, power: float) -> list[Array]:
    """The terms that total variation reduces."""
    down, right = np.diff(image, axis=0), np.diff(image, axis=1)
    if norm == "isotropic":
        return [(down[:, :-1] ** 2 + right[:-1] ** 2) ** power]
    if norm == "nine_point":
        frame = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="edge")
        straight = [np.diff(frame, axis=0)[1:, 1:-1], np.diff(frame, axis=1)[1:-1, 1:]]
        diagonal = [frame[1:, 1:] - frame[:-1, :-1], frame[:-1, 1:] - frame[1:, :-1]]
        return [2 / 3 * step**2 for step in straight] + [step**2 / 6 for step in diagonal]
    return [np.abs(step) if norm == "l1" else step**2 for step in (down, right)]


def total_variation(
    image: Array, norm: str = "l1", reduction: str = "sum", value_range: float = 1.0, power: float = 1.25
) -> float:
    value = 0.0
    for terms in variations(np.asarray(image, np.float64) * value_range, norm, power):
        value += float(terms.sum()) / (max(1, terms.size) if reduction == "mean" else 1)
    return value * (0.5 if reduction == "half_sum" else 1.0)


REFERENCES: dict[str, Any] = {
    "mse": content_loss,
    "gram": style_loss,
    "covariance": covariance_loss,
    "mean-std": mean_std_loss,
    "wasserstein": wasserstein_loss,
    "tv": lambda image, unused, **options: total_variation(image, **options),
    **NEAREST,
    **SORTED,
}
"""By the names of the tables' rows."""
