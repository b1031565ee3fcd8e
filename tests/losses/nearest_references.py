"""The losses on nearest neighbours, written out in float64 NumPy with loops.

Only the sample of positions comes from the library. It has its own tests.
"""

import itertools
from typing import Any

import jax
import numpy as np

from jnst.statistics.sampling import draw_positions, position_weights

Array = np.ndarray


def drawn(positions: int, most: int) -> Array:
    return np.asarray(draw_positions(position_weights(positions), most, key=jax.random.key(0)).indices)


def rows(features: Array, most: int) -> Array:
    flat = np.asarray(features, np.float64).reshape(-1, features.shape[-1])
    return flat[drawn(len(flat), most)]


def cosine(x: Array, y: Array) -> Array:
    return 1 - x @ y.T / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))


def euclidean(x: Array, y: Array) -> Array:
    return np.sqrt(np.mean((x[:, None] - y) ** 2, -1))


def both_ways(distances: Array) -> float:
    return max(distances.min(1).mean(), distances.min(0).mean())


def remd(features: Array, style: Array, max_positions: int = 1024, distance: str = "cosine") -> float:
    x, y = rows(features, max_positions), rows(style, max_positions)
    return both_ways({"cosine": cosine, "euclidean": euclidean}[distance](x, y))


def contextual_of_rows(x: Array, y: Array, bandwidth: float = 0.5) -> float:
    distances = cosine(x - y.mean(0), y - y.mean(0))
    relative = distances / (distances.min(1, keepdims=True) + 1e-5)
    weights = np.exp((1 - relative) / bandwidth)
    similarities = weights / weights.sum(1, keepdims=True)
    return float(-np.log(similarities.max(0).mean()))


def contextual(features: Array, style: Array, max_positions: int = 4096, bandwidth: float = 0.5) -> float:
    return contextual_of_rows(rows(features, max_positions), rows(style, max_positions), bandwidth)


def self_similarity_of_rows(x: Array, y: Array) -> float:
    """Equation 8, times the number of rows."""
    of_x, of_y = cosine(x, x), cosine(y, y)
    return float(np.abs(of_x / of_x.sum(0) - of_y / of_y.sum(0)).mean() * len(x))


def self_similarity(features: Array, content: Array, max_positions: int = 1024) -> float:
    return self_similarity_of_rows(rows(features, max_positions), rows(content, max_positions))


def patch_list(features: Array, size: int, stride: int) -> list[Array]:
    height, width, _ = features.shape
    corners = itertools.product(range(0, height - size + 1, stride), range(0, width - size + 1, stride))
    return [np.asarray(features, np.float64)[y : y + size, x : x + size] for y, x in corners]


def mrf(features: Array, style: Array, size: int = 3, stride: int = 1) -> float:
    candidates = patch_list(style, size, stride)
    squares = []
    for patch in patch_list(features, size, stride):
        scores = [np.sum(patch * other) / np.linalg.norm(patch) / np.linalg.norm(other) for other in candidates]
        squares.append(np.mean((patch - candidates[int(np.argmax(scores))]) ** 2))
    return float(np.mean(squares))


def hypercolumn(layers: list[Array], row: int, column: int) -> Array:
    """At a position of the first layer. All layers cover the same area."""
    height, width, _ = layers[0].shape
    values = []
    for layer in layers:
        y = min(max((row + 0.5) * layer.shape[0] / height - 0.5, 0), layer.shape[0] - 1)
        x = min(max((column + 0.5) * layer.shape[1] / width - 0.5, 0), layer.shape[1] - 1)
        value = np.zeros(layer.shape[2])
        for i, j in np.ndindex(*layer.shape[:2]):
            value += max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j)) * layer[i, j]
        values.append(value)
    return np.concatenate(values)


def hypercolumn_rows(layers: list[Array], most: int) -> Array:
    height, width, _ = layers[0].shape
    return np.array([hypercolumn(layers, *divmod(index, width)) for index in drawn(height * width, most)])


def two_layers(features: Array) -> list[Array]:
    """The layers that the contracts give to joint losses."""
    features = np.asarray(features, np.float64)
    return [features, features[::2, ::2, :3]]


def moments(x: Array, y: Array) -> float:
    of_means = np.abs(x.mean(0) - y.mean(0)).mean()
    return float(of_means + np.abs(np.cov(x.T, bias=True) - np.cov(y.T, bias=True)).mean())


YUV = np.array([[3, 3, 3], [-3, 1.5 + 1.5 * 3**0.5, 1.5 - 1.5 * 3**0.5], [-3, 1.5 - 1.5 * 3**0.5, 1.5 + 1.5 * 3**0.5]])
YUV /= 3 * 3**0.5
"""The authors' colour space in closed form: 0.57735 … 0.788675 … -0.211325."""


def palette(x: Array, y: Array) -> float:
    x, y = (x - 0.5) @ YUV.T, (y - 0.5) @ YUV.T
    return both_ways(cosine(x, y) + euclidean(x, y))


def strotss(layers: list[Array], style: list[Array], most: int, alpha: float = 1.0, formula: str = "paper") -> float:
    x, y = hypercolumn_rows(layers, most), hypercolumn_rows(style, most)
    value = both_ways(cosine(x, y)) + moments(x, y)
    if layers[0].shape[-1] == 3:
        value += palette(x[:, :3], y[:, :3]) / (alpha if formula == "paper" else max(alpha, 1))
    return value / (2 + alpha + (1 / alpha if formula == "paper" else 0))


NEAREST: dict[str, Any] = {
    "patches": mrf,
    "contextual": contextual,
    "remd": remd,
    "self-similarity": self_similarity,
    "hypercolumn-self-similarity": lambda features, content, max_positions=1024: self_similarity_of_rows(
        *(hypercolumn_rows(two_layers(each), max_positions) for each in (features, content))
    ),
    "strotss": lambda features, style, max_positions=1024, **options: strotss(
        two_layers(features), two_layers(style), max_positions, **options
    ),
}
"""By the names of the tables' rows."""
