"""A small network that begins as a compressed large one, layer by layer, in closed form.

Of a teacher's layer those channels are kept from which the others are best predicted linearly; the student's
kernel is the linear regression of their pre-activations on the student's own features one layer below. No gradient
is needed, and what follows starts near the end.
"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jnst.backbones import Backbone
from jnst.backbones.backbone import flat_shapes
from jnst.backbones.ops import max_pool, pad
from jnst.types import Array, Params

RIDGE = 1e-4
"""Ridge of the regressions, relative to the mean square of their inputs."""

MARGIN = 3
"""Rows and columns left out at the border, where teacher and student pad differently."""

Features = Callable[[np.ndarray], dict[str, Array]]
"""From images (n, h, w, 3) to the teacher's pre-activations by layer."""


def keep_channels(second_moment: np.ndarray, count: int) -> np.ndarray:
    """Choose ``count`` channels that explain the others best: a pivoted Cholesky factorisation.

    Args:
        second_moment: ``(c, c)``, the channels' uncentred second moments.
        count: How many to choose.

    Returns:
        Their indices, ascending.
    """
    residual = np.array(second_moment, np.float64)
    chosen: list[int] = []
    for _ in range(count):
        diagonal = np.diag(residual).copy()
        diagonal[chosen] = -1.0
        pivot = int(np.argmax(diagonal))
        chosen.append(pivot)
        column = residual[:, pivot] / np.sqrt(max(residual[pivot, pivot], 1e-12))
        residual -= np.outer(column, column)
    return np.sort(np.array(chosen))


def regress(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Ridge regression ``argmin |inputs @ w - outputs|²`` in float64: ``(n, k)``, ``(n, m)`` to ``(k, m)``."""
    gram = np.asarray(inputs.T @ inputs, np.float64)
    ridge = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, np.asarray(inputs.T @ outputs, np.float64))


@partial(jax.jit, static_argnames="size")
def _patches(x: Array, size: int) -> Array:
    """Every ``size x size`` window as a row, ordered as a kernel (height, width, channel), and a 1 for the bias."""
    padded = pad(x, size // 2, "reflect")
    parts = [padded[:, i : i + x.shape[1], j : j + x.shape[2]] for i in range(size) for j in range(size)]
    return jnp.concatenate([*parts, jnp.ones_like(x[..., :1])], axis=-1)


def _interior(x: Array, rows: int, random: np.random.Generator) -> Callable[[Array], np.ndarray]:
    """Return a function that takes the same ``rows`` random positions inside the border out of any map of this size."""
    count, height, width = x.shape[0], x.shape[1] - 2 * MARGIN, x.shape[2] - 2 * MARGIN
    chosen = random.integers(0, count * height * width, rows)
    return lambda y: np.asarray(y[:, MARGIN:-MARGIN, MARGIN:-MARGIN].reshape(-1, y.shape[-1])[chosen])


def compress(
    student: Backbone,
    teacher: Features,
    layers: Mapping[str, str],
    images: np.ndarray,
    *,
    rows: int = 60_000,
    seed: int = 0,
) -> dict[str, dict[str, np.ndarray]]:
    """Fit every convolution of ``student`` to a layer of the teacher's.

    Args:
        student: The network to be filled; reflection padding.
        teacher: Its pre-activations, at the same resolutions.
        layers: For each convolution of the student, from the first to the last, the teacher's layer.
        images: ``(n, h, w, 3)`` float32 in [0, 1].
        rows: Positions used in each regression.
        seed: For the positions.

    Returns:
        Parameters, nested.
    """
    random = np.random.default_rng(seed)
    wanted = teacher(images)
    shapes = flat_shapes(student.network, student.smallest_side(student.layers))
    params: dict[str, dict[str, np.ndarray]] = {}
    for name, target in layers.items():
        size, _, channels, count = shapes[f"{name}/kernel"]
        below = _inputs(student, params, name, images)
        take = _interior(below, rows, random)
        values = take(wanted[target])
        active = np.maximum(values, 0.0)
        kept = keep_channels(active.T @ active / len(active), count)
        solution = regress(take(_patches(below, size)), values[:, kept]).astype(np.float32)
        params[name] = {"kernel": solution[:-1].reshape(size, size, channels, count), "bias": solution[-1]}
    return params


def _inputs(student: Backbone, params: Params, name: str, images: np.ndarray) -> Array:
    """What the convolution ``name`` is fed, given the convolutions before it."""
    if not params:
        return student.preprocessing.apply(jnp.asarray(images))
    last = list(params)[-1]
    below = student.apply(params, jnp.asarray(images), (last.replace("conv", "relu"),))
    features = next(iter(below.values()))
    return features if name[4] == last[4] else max_pool(features)
