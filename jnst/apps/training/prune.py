"""Compress a large network into a small one, layer by layer and in closed form.

For each layer, `select_channels` keeps those of the teacher's channels that predict the others best. The student's
kernel is then the ridge regression of their pre-activations on the student's own features one layer below. This takes
no gradient steps, and distillation that starts from the result has little left to learn.
"""

from collections.abc import Callable, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jnst.backbones import Backbone, flat_shapes
from jnst.backbones.ops import max_pool, pad
from jnst.types import Array, Params

RIDGE = 1e-4
"""Ridge of the regressions, relative to the mean square of their inputs."""


def select_channels(second_moment: np.ndarray, count: int) -> np.ndarray:
    """Select the channels that predict the others best, by a pivoted Cholesky factorisation.

    Args:
        second_moment: ``(c, c)``, uncentred second moments of the channels.
        count: Number of channels to select.

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


def ridge_regression(inputs: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Solve ``argmin_W |inputs @ W - outputs|² + λ |W|²`` in float64.

    Args:
        inputs: ``(n, k)``.
        outputs: ``(n, m)``.

    Returns:
        W, ``(k, m)``.
    """
    gram = np.asarray(inputs.T @ inputs, np.float64)
    ridge = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, np.asarray(inputs.T @ outputs, np.float64))


def compress(
    student: Backbone,
    targets: Mapping[str, Array],
    images: np.ndarray,
    *,
    rows: int = 60_000,
    seed: int = 0,
) -> dict[str, dict[str, np.ndarray]]:
    """Fit each convolution of ``student`` to a layer of the teacher.

    Args:
        student: The network to fit, with zero padding.
        targets: The teacher's pre-activations of the images for each convolution of the student, from the first to the
            last.
        images: ``(n, h, w, 3)`` float32 in [0, 1].
        rows: Positions sampled for each regression.
        seed: Seed of the positions.

    Returns:
        The student's parameters, nested.
    """
    random = np.random.default_rng(seed)
    shapes = flat_shapes(student.network, student.smallest_side(student.layers))
    params: dict[str, dict[str, np.ndarray]] = {}
    for name, target in targets.items():
        size, _, channels, count = shapes[f"{name}/kernel"]
        inputs = _inputs(student, params, name, images)
        sample = _sampler(inputs, rows, random)
        outputs = sample(target)
        active = np.maximum(outputs, 0.0)
        kept = select_channels(active.T @ active / len(active), count)
        solution = ridge_regression(sample(_patches(inputs, size)), outputs[:, kept]).astype(np.float32)
        params[name] = {"kernel": solution[:-1].reshape(size, size, channels, count), "bias": solution[-1]}
    return params


def _inputs(student: Backbone, params: Params, name: str, images: np.ndarray) -> Array:
    """Return the input of the convolution ``name``, given the parameters of the convolutions before it."""
    if not params:
        return student.preprocessing.apply(jnp.asarray(images))
    previous = list(params)[-1]
    layer = previous.replace("conv", "relu")
    features = student.apply(params, jnp.asarray(images), (layer,))[layer]
    same_block = name[4] == previous[4]
    return features if same_block else max_pool(features)


@partial(jax.jit, static_argnames="size")
def _patches(x: Array, size: int) -> Array:
    """Return the ``size x size`` window around each position in a kernel's order, and a 1 for the bias."""
    padded = pad(x, size // 2, "zero")
    parts = [padded[:, i : i + x.shape[1], j : j + x.shape[2]] for i in range(size) for j in range(size)]
    return jnp.concatenate([*parts, jnp.ones_like(x[..., :1])], axis=-1)


def _sampler(x: Array, rows: int, random: np.random.Generator) -> Callable[[Array], np.ndarray]:
    """Return a function that picks the same random positions of any feature map of this size."""
    chosen = random.integers(0, x.shape[0] * x.shape[1] * x.shape[2], rows)
    return lambda y: np.asarray(y.reshape(-1, y.shape[-1])[chosen])
