"""Images that a student never learns from, to see what it has learned."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jnst.apps.training.crops import random_crops
from jnst.apps.training.distill import Setup, Student, judge
from jnst.errors import ImageError
from jnst.types import Image, Params

EVERY = 7
"""One image in so many is held out."""

BATCHES, PAIRS, MOVES = 2, 6, 12


class HeldOut(NamedTuple):
    """Batches of pairs ``(n, s, s, 3)``: images half-way through an optimisation, and their styles."""

    images: list[Image]
    styles: list[Image]


def split(images: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Divide images into those to learn from and those held out, every seventh.

    Raises:
        ImageError: There is only one.
    """
    if len(images) < 2:
        raise ImageError(f"{len(images)} image: expected at least 2, because every seventh is held out; add some")
    learned = [image for index, image in enumerate(images) if index % EVERY]
    return learned, list(images[::EVERY])


def hold_out(
    student: Student, teacher_params: tuple[Params, ...], pictures: Sequence[np.ndarray], setup: Setup
) -> HeldOut:
    """Cut crops and move them on, by the pull of the initial student and the teachers: 0 to `MOVES` times."""
    recipe = setup.recipe
    random = np.random.default_rng([recipe.seed, 2])
    images, styles = [], []
    for _ in range(BATCHES):
        image, style = (jnp.asarray(random_crops(random, pictures, recipe.crop, PAIRS)) for _ in range(2))
        stops = jnp.asarray(random.integers(0, MOVES + 1, PAIRS))
        for move in range(MOVES):
            _, direction = judge(student, image, style, teacher_params, setup)
            length = recipe.move * jnp.where(move < stops, 1.0, 0.0)[:, None, None, None]
            image = jnp.clip(image + length * direction, 0.0, 1.0)
        images.append(image)
        styles.append(style)
    return HeldOut(images, styles)


def measure(student: Student, held: HeldOut, teacher_params: tuple[Params, ...], setup: Setup) -> dict[str, float]:
    """The loss and its parts on the held-out pairs, by names that begin with ``held_out/``."""
    batches = [judge(student, image, style, teacher_params, setup)[0] for image, style in zip(*held, strict=True)]
    return {f"held_out/{name}": float(np.mean([batch[name] for batch in batches])) for name in batches[0]}
