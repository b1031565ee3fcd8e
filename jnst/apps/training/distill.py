"""Distil large networks into a small one that style transfer can use in their place.

The student learns, through a 1x1 head for each layer, the teachers' features; their Gram matrices; and the direction in
which a style loss pulls an image. It is shown clean crops and images half-way through an optimisation, because a
network that only ever saw photographs can be fooled by the optimiser.

    loss = Σ_l |F_l H_l - T_l|² / |T_l|²  +  v Σ_l |G(F_l H_l) - G(T_l)|² / |G(T_l)|²  +  w (1 - cos(∇S(x), ∇T(x)))
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnst.apps.training.crops import Augmentation, random_crop
from jnst.apps.training.prune import MARGIN
from jnst.backbones import Backbone
from jnst.errors import ArgumentError
from jnst.statistics import gram_matrix
from jnst.types import Array, Image, Params

SMALLEST_CROP = 8 * (2 * MARGIN + 1)
"""Below it nothing would be left of a fourth block inside its border."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a student is trained.

    Attributes:
        steps: Updates of the parameters.
        crop: Side of the crops in pixels.
        pairs: Images in a step, each with its own style image.
        pool: Images under way; a step takes ``pairs`` of them, learns, and moves them on.
        lifetime: Moves after which an image of the pool makes place for a new one.
        move: Length of a move, as the root mean square change of a pixel; it falls to a tenth over a lifetime.
        learning_rate: Adam's at the start, as a fraction of each tensor's root mean square: rises over the first
            tenth of the steps, then falls to 0 along a cosine.
        gram_weight: Of the Gram matrices' relative error.
        gradient_weight: Of the gradients' disagreement.
        seed: For crops, changes, and the order of the pool.
    """

    steps: int = 300
    crop: int = 128
    pairs: int = 3
    pool: int = 24
    lifetime: int = 24
    move: float = 0.02
    learning_rate: float = 5e-4
    gram_weight: float = 0.5
    gradient_weight: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.crop < SMALLEST_CROP or not 1 <= self.pairs <= self.pool:
            raise ArgumentError(
                f"{self.steps} steps on {self.pairs} of {self.pool} crops of {self.crop} pixels: expected at least one "
                f"step, crops of at least {SMALLEST_CROP} pixels, and no more pairs than the pool holds"
            )


@dataclasses.dataclass(frozen=True)
class Teachers:
    """Who is imitated where.

    Attributes:
        backbones: The networks.
        taps: For each layer of the student: which network, and which of its layers.
        style: The student's layers on which the style gradient is compared.
    """

    backbones: tuple[Backbone, ...]
    taps: tuple[tuple[str, int, str], ...]
    style: tuple[str, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        """The student's layers."""
        return tuple(layer for layer, _, _ in self.taps)

    def apply(self, params: tuple[Params, ...], image: Image) -> dict[str, Array]:
        """The teachers' features by the student's layers."""
        features: dict[str, Array] = {}
        for index, backbone in enumerate(self.backbones):
            names = {theirs: ours for ours, which, theirs in self.taps if which == index}
            found = backbone.apply(params[index], image, tuple(names))
            features |= {names[theirs]: value for theirs, value in found.items()}
        return features


@dataclasses.dataclass(frozen=True)
class Setup:
    """What stays the same throughout a training; hashable, so that it can be a static argument of `jax.jit`.

    Attributes:
        backbone: The student's network.
        teachers: Whom it imitates, and where.
        recipe: How it is trained.
    """

    backbone: Backbone
    teachers: Teachers
    recipe: Recipe


class Student(NamedTuple):
    """What is trained: the network's parameters, and a matrix ``(c, C)`` for each layer."""

    params: Params
    heads: dict[str, Array]


class Lesson(NamedTuple):
    """What the teachers say of a batch: features of the images and of the styles, and their pull on the images."""

    images: dict[str, Array]
    styles: dict[str, Array]
    pull: Array


class Pool(NamedTuple):
    """Images under way, their style images and how often each was moved: ``(n, s, s, 3)`` twice, and ``(n,)``."""

    images: np.ndarray
    styles: np.ndarray
    ages: np.ndarray


class Training(NamedTuple):
    """Everything that a run needs to go on."""

    student: Student
    optimizer: Any
    pool: Pool
    step: int


def interior(features: Array) -> Array:
    """Leave out the border."""
    return features[..., MARGIN:-MARGIN, MARGIN:-MARGIN, :]


def relative(value: Array, target: Array, axes: tuple[int, ...]) -> Array:
    """Squared error relative to the target's squared norm, one value per image."""
    return jnp.sum((value - target) ** 2, axes) / (jnp.sum(target**2, axes) + 1e-6)


def imitation(
    student: Student, features: Mapping[str, Array], wanted: Mapping[str, Array], gram_weight: float
) -> Array:
    """Relative errors of features and Gram matrices through the heads, summed over layers, mean over images."""
    total = jnp.zeros(())
    for layer, target in wanted.items():
        ours, theirs = interior(features[layer]) @ student.heads[layer], interior(target)
        total += relative(ours, theirs, (-3, -2, -1)).mean()
        total += gram_weight * relative(gram_matrix(ours), gram_matrix(theirs), (-2, -1)).mean()
    return total


def style_pull(apply: Any, image: Image, targets: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
    """The gradient of a relative Gram loss by the images, and the features met on the way."""

    def loss(image: Image) -> tuple[Array, dict[str, Array]]:
        features = apply(image)
        terms = [relative(gram_matrix(features[name]), target, (-2, -1)) for name, target in targets.items()]
        return sum(term.sum() for term in terms), features  # pyright: ignore[reportReturnType]

    return jax.grad(loss, has_aux=True)(image)


def disagreement(ours: Array, theirs: Array) -> Array:
    """``1 - cos`` of the angle between gradients, inside the border, mean over images."""
    ours, theirs = (x[..., 2 * MARGIN : -2 * MARGIN, 2 * MARGIN : -2 * MARGIN, :] for x in (ours, theirs))
    axes = (-3, -2, -1)
    lengths = jnp.sqrt(jnp.sum(ours**2, axes) * jnp.sum(theirs**2, axes)) + 1e-20
    return jnp.mean(1.0 - jnp.sum(ours * theirs, axes) / lengths)


def loss(
    student: Student, images: Image, styles: Image, wanted: Lesson, setup: Setup
) -> tuple[Array, tuple[dict[str, Array], Array]]:
    """The loss of one batch, its parts, and the student's own pull on the images."""
    recipe = setup.recipe
    apply = partial(setup.backbone.apply, student.params, layers=tuple(wanted.images))
    features_styles = apply(styles)
    targets = {layer: gram_matrix(features_styles[layer]) for layer in setup.teachers.style}
    ours, features = style_pull(apply, images, targets)
    parts = {
        "images": imitation(student, features, wanted.images, recipe.gram_weight),
        "styles": imitation(student, features_styles, wanted.styles, recipe.gram_weight),
        "pull": disagreement(ours, wanted.pull),
    }
    total = parts["images"] + parts["styles"] + recipe.gradient_weight * parts["pull"]
    return total, (parts, ours)


def lesson(teachers: Teachers, params: tuple[Params, ...], images: Image, styles: Image) -> Lesson:
    """Ask the teachers about a batch."""
    wanted_styles = teachers.apply(params, styles)
    targets = {layer: gram_matrix(wanted_styles[layer]) for layer in teachers.style}
    pull, wanted = style_pull(partial(teachers.apply, params), images, targets)
    return Lesson(wanted, wanted_styles, pull)


@partial(jax.jit, static_argnames="setup")
def judge(
    student: Student, images: Image, styles: Image, teacher_params: tuple[Params, ...], setup: Setup
) -> tuple[dict[str, Array], Array]:
    """The loss and its parts on one batch, and unit moves of the images; nothing is learned."""
    wanted = lesson(setup.teachers, teacher_params, images, styles)
    total, (parts, ours) = loss(student, images, styles, wanted, setup)
    return parts | {"total": total}, _moves(ours, wanted.pull)


def _moves(ours: Array, theirs: Array) -> Array:
    """Half of the images are moved by the student's pull, half by the teachers'; each by a root mean square of 1."""
    moves = jnp.where(jnp.arange(len(ours))[:, None, None, None] % 2 == 0, ours, theirs)
    return -moves / (jnp.sqrt(jnp.mean(moves**2, (1, 2, 3), keepdims=True)) + 1e-20)


@partial(jax.jit, static_argnames="setup")
def step(
    student: Student, state: Any, images: Image, styles: Image, teacher_params: tuple[Params, ...], setup: Setup
) -> tuple[Student, Any, dict[str, Array], Array]:
    """Update the student on one batch; return it, the optimiser's state, the loss' parts, and moves of the images."""
    wanted = lesson(setup.teachers, teacher_params, images, styles)
    (total, (parts, ours)), gradient = jax.value_and_grad(loss, has_aux=True)(student, images, styles, wanted, setup)
    updates, state = optimizer(setup.recipe).update(gradient, state, student)
    student = optax.apply_updates(student, updates)  # pyright: ignore[reportAssignmentType]
    return student, state, parts | {"total": total}, _moves(ours, wanted.pull)


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Adam along a cosine with a warm-up, in units of each tensor's own size: these differ by orders of magnitude."""
    rate = optax.warmup_cosine_decay_schedule(0.0, -recipe.learning_rate, recipe.steps // 10, recipe.steps)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(),
        optax.scale_by_param_block_rms(),
        optax.scale_by_schedule(rate),
    )


def new_pairs(
    random: np.random.Generator, images: list[np.ndarray], recipe: Recipe, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``count`` crops to be stylised, and as many styles."""
    crops = [random_crop(random, images, recipe.crop, Augmentation()) for _ in range(2 * count)]
    return np.stack(crops[:count]), np.stack(crops[count:])


def advance(
    training: Training, setup: Setup, teacher_params: tuple[Params, ...], pictures: list[np.ndarray]
) -> tuple[Training, dict[str, float]]:
    """Make one step: learn from some images of the pool, then move them on. Depends on the step's number only."""
    recipe = setup.recipe
    random = np.random.default_rng([recipe.seed, 1 + training.step])
    images, styles, ages = (array.copy() for array in training.pool)
    drawn = random.permutation(recipe.pool)[: recipe.pairs]
    for i in drawn[ages[drawn] >= recipe.lifetime]:
        fresh, fresh_style = new_pairs(random, pictures, recipe, 1)
        images[i], styles[i], ages[i] = fresh[0], fresh_style[0], 0
    student, state, parts, moves = step(
        training.student, training.optimizer, images[drawn], styles[drawn], teacher_params, setup
    )
    length = recipe.move * 0.1 ** (ages[drawn] / recipe.lifetime)
    images[drawn] = np.clip(images[drawn] + length[:, None, None, None] * np.asarray(moves), 0.0, 1.0)
    ages[drawn] += 1
    losses = {name: float(value) for name, value in parts.items()}
    return Training(student, state, Pool(images, styles, ages), training.step + 1), losses
