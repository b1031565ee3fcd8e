"""The state before the first step of distillation: heads fitted in closed form, and a full pool."""

import jax
import jax.numpy as jnp
import numpy as np

from jnst.apps.training.crops import Augmentation, random_crops
from jnst.apps.training.distill import Pool, Setup, Student, Training, interior, new_pairs, optimizer
from jnst.apps.training.prune import regress
from jnst.types import Array, Params

HEAD_BATCHES, HEAD_CROPS, HEAD_ROWS = 16, 8, 4000
"""The heads begin as regressions on that many batches of crops, and on that many positions of each."""


def start(setup: Setup, params: Params, teacher_params: tuple[Params, ...], images: list[np.ndarray]) -> Training:
    """Fit the heads of an initial student in closed form and fill the pool."""
    recipe = setup.recipe
    random = np.random.default_rng([recipe.seed, 0])
    pool = Pool(*new_pairs(random, images, recipe, recipe.pool), random.integers(0, recipe.lifetime, recipe.pool))
    student = Student(jax.tree.map(jnp.asarray, params), _heads(random, setup, params, teacher_params, images))
    return Training(student, optimizer(recipe).init(student), pool, 0)


def _heads(
    random: np.random.Generator,
    setup: Setup,
    params: Params,
    teacher_params: tuple[Params, ...],
    images: list[np.ndarray],
) -> dict[str, Array]:
    """Regress the teachers' features on the student's, on crops of their own."""
    teachers = setup.teachers

    @jax.jit
    def both(params: Params, teacher_params: tuple[Params, ...], crops: Array) -> tuple[dict, dict]:
        return setup.backbone.apply(params, crops, teachers.layers), teachers.apply(teacher_params, crops)

    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {layer: [] for layer in teachers.layers}
    for _ in range(HEAD_BATCHES):
        crops = random_crops(random, images, setup.recipe.crop, HEAD_CROPS, Augmentation())
        ours, theirs = both(params, teacher_params, jnp.asarray(crops))
        for layer in teachers.layers:
            pairs = [np.asarray(interior(x[layer])).reshape(-1, x[layer].shape[-1]) for x in (ours, theirs)]
            taken = random.permutation(len(pairs[0]))[:HEAD_ROWS]
            rows[layer].append((pairs[0][taken], pairs[1][taken]))
    stacked = {layer: tuple(map(np.concatenate, zip(*parts, strict=True))) for layer, parts in rows.items()}
    return {layer: jnp.asarray(regress(*pair), jnp.float32) for layer, pair in stacked.items()}
