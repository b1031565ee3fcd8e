"""Distil a large network into a small one that replaces it in style transfer.

Through one 1x1 head per layer, the student F imitates the features of the teacher T and their Gram matrices G. It also
imitates the style gradient: the gradient of a style loss S by the image x. A network that has only seen photographs is
easily fooled by an optimiser, so the student also trains on partly optimised images.

    loss = Σ_l |F_l H_l - T_l|² / |T_l|²  +  v Σ_l |G(F_l H_l) - G(T_l)|² / |G(T_l)|²  +  w (1 - cos(∇S_F(x), ∇S_T(x)))

The features' terms are summed over the images and their style images. In logs they are called ``images`` and
``styles``, and the last term ``pull``.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jnst.apps.training.augmentation import PhotometricAugmentation, random_crops
from jnst.apps.training.data import hash_images
from jnst.apps.training.prune import compress, ridge_regression
from jnst.apps.training.resume import load_training, save_training
from jnst.backbones import Backbone, make_backbone
from jnst.errors import ArgumentError, ImageError, NumericsError
from jnst.statistics import gram_matrix
from jnst.types import Array, Image, Params
from jnst.weights.load import load_backbone

SMALLEST_CROP = 32
"""Smallest crop in pixels: it leaves the fourth block 4x4 positions."""

HEAD_BATCHES, HEAD_CROPS, HEAD_ROWS = 16, 8, 4000
"""The initial heads are regressions on this many batches, crops per batch, and positions per batch."""

HELD_OUT_EVERY = 7
"""One image in this many is held out."""

HELD_OUT_BATCHES, HELD_OUT_PAIRS, HELD_OUT_MOVES = 2, 6, 12
"""Held-out batches, pairs per batch, and the largest number of moves of an image."""

COMPRESSION_CROPS, COMPRESSION_SIZE, COMPRESSION_CHUNK = 48, 96, 8
"""The embedded network is compressed on this many crops of this side in pixels, computed in chunks."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train a student.

    Attributes:
        steps: Number of parameter updates.
        crop: Side of the crops in pixels.
        pairs: Pairs of an image and a style image in a step.
        pool: Pairs kept between steps. Each step draws ``pairs`` of them, learns from them, and then moves their images
            along the style gradient.
        lifetime: Moves after which a pair is replaced by a new one.
        move: Length of a move as the root mean square change of the pixels. It decays to a tenth over the lifetime.
        learning_rate: Adam's peak learning rate, as a fraction of each tensor's root mean square. It rises over the
            first tenth of the steps and then falls to 0 along a cosine.
        gram_weight: Weight of the Gram matrices' relative error, v in the equation above.
        gradient_weight: Weight of the style gradient's cosine distance, w in the equation above.
        seed: Seed of the crops, their augmentation and the order of the pool.

    Raises:
        ArgumentError: There is no step, the crops are too small, or there are more pairs than the pool holds.
    """

    steps: int = 160
    crop: int = 128
    pairs: int = 3
    pool: int = 24
    lifetime: int = 24
    move: float = 0.02
    learning_rate: float = 1e-3
    gram_weight: float = 0.5
    gradient_weight: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.crop < SMALLEST_CROP or not 1 <= self.pairs <= self.pool:
            raise ArgumentError(
                f"{self.steps} steps on {self.pairs} of {self.pool} pairs of {self.crop}-pixel crops: expected at "
                f"least one step, crops of at least {SMALLEST_CROP} pixels, and 1 to {self.pool} pairs"
            )


@dataclasses.dataclass(frozen=True)
class Setup:
    """What stays the same throughout training. Hashable, for static arguments of `jax.jit`.

    Attributes:
        student: The student's network.
        teacher: The network it imitates, which has the student's layers and possibly more.
        recipe: How it is trained.
    """

    student: Backbone
    teacher: Backbone
    recipe: Recipe

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers whose features are compared: the student's ReLUs."""
        return tuple(layer for layer in self.student.layers if layer.startswith("relu"))

    @property
    def style_layers(self) -> tuple[str, ...]:
        """The layers of the style loss whose gradients are compared: the first ReLU of each block."""
        return tuple(layer for layer in self.layers if layer.endswith("_1"))


class Student(NamedTuple):
    """What is trained: the network's parameters, and a head ``(c, C)`` for each layer."""

    params: Params
    heads: dict[str, Array]


class Targets(NamedTuple):
    """What the student should reproduce on a batch: features of images and styles, and the style gradient."""

    images: dict[str, Array]
    styles: dict[str, Array]
    style_gradient: Array


class Pool(NamedTuple):
    """Partly optimised images, their style images, and their numbers of moves: ``(n, s, s, 3)`` twice and ``(n,)``."""

    images: np.ndarray
    styles: np.ndarray
    ages: np.ndarray


class DistillationState(NamedTuple):
    """Everything a run needs to continue."""

    student: Student
    optimizer: Any
    pool: Pool
    step: int


Record: TypeAlias = dict[str, float]
"""A line of the log: the step, the mean losses since the line before (missing at step 0), and held-out losses."""

Pairs: TypeAlias = tuple[Image, Image]
"""A batch of images and a batch of style images, ``(n, s, s, 3)`` each."""


def relative_error(value: Array, target: Array, axes: tuple[int, ...]) -> Array:
    """Return the squared error divided by the target's squared norm, one value per image."""
    return jnp.sum((value - target) ** 2, axes) / (jnp.sum(target**2, axes) + 1e-6)


def imitation_loss(
    student: Student, features: Mapping[str, Array], targets: Mapping[str, Array], gram_weight: float
) -> Array:
    """Return the relative errors of features and Gram matrices, summed over layers, as a mean over images."""
    total = jnp.zeros(())
    for layer, target in targets.items():
        ours = features[layer] @ student.heads[layer]
        total += relative_error(ours, target, (-3, -2, -1)).mean()
        total += gram_weight * relative_error(gram_matrix(ours), gram_matrix(target), (-2, -1)).mean()
    return total


def style_gradient(
    apply: Callable[[Image], Mapping[str, Array]], image: Image, grams: Mapping[str, Array]
) -> tuple[Array, Mapping[str, Array]]:
    """Return the gradient of a relative Gram loss by the images, and the images' features."""

    def loss(image: Image) -> tuple[Array, Mapping[str, Array]]:
        features = apply(image)
        terms = [relative_error(gram_matrix(features[name]), gram, (-2, -1)) for name, gram in grams.items()]
        return sum(term.sum() for term in terms), features  # pyright: ignore[reportReturnType]

    return jax.grad(loss, has_aux=True)(image)


def cosine_distance(ours: Array, theirs: Array) -> Array:
    """Return ``1 - cos`` of the angle between gradients, as a mean over images."""
    axes = (-3, -2, -1)
    lengths = jnp.sqrt(jnp.sum(ours**2, axes) * jnp.sum(theirs**2, axes)) + 1e-20
    return jnp.mean(1.0 - jnp.sum(ours * theirs, axes) / lengths)


def make_targets(params: Params, images: Image, styles: Image, setup: Setup) -> Targets:
    """Compute the teacher's features and style gradient on a batch, with the teacher's parameters."""
    apply = partial(setup.teacher.apply, params, layers=setup.layers)
    style_features = apply(styles)
    grams = {layer: gram_matrix(style_features[layer]) for layer in setup.style_layers}
    gradient, features = style_gradient(apply, images, grams)
    return Targets(dict(features), style_features, gradient)


def distillation_loss(
    student: Student, images: Image, styles: Image, targets: Targets, setup: Setup
) -> tuple[Array, tuple[dict[str, Array], Array]]:
    """Return the loss of a batch; its parts, and the student's own style gradient."""
    recipe = setup.recipe
    apply = partial(setup.student.apply, student.params, layers=setup.layers)
    style_features = apply(styles)
    grams = {layer: gram_matrix(style_features[layer]) for layer in setup.style_layers}
    gradient, features = style_gradient(apply, images, grams)
    parts = {
        "images": imitation_loss(student, features, targets.images, recipe.gram_weight),
        "styles": imitation_loss(student, style_features, targets.styles, recipe.gram_weight),
        "pull": cosine_distance(gradient, targets.style_gradient),
    }
    total = parts["images"] + parts["styles"] + recipe.gradient_weight * parts["pull"]
    return total, (parts, gradient)


@partial(jax.jit, static_argnames="setup")
def evaluate_step(
    student: Student, images: Image, styles: Image, teacher_params: Params, setup: Setup
) -> tuple[dict[str, Array], Array]:
    """Return the loss of a batch and its parts, and the images' next moves, without an update."""
    targets = make_targets(teacher_params, images, styles, setup)
    total, (parts, gradient) = distillation_loss(student, images, styles, targets, setup)
    return parts | {"total": total}, _moves(gradient, targets.style_gradient)


@partial(jax.jit, static_argnames="setup")
def update(
    student: Student,
    optimizer: optax.OptState,
    images: Image,
    styles: Image,
    teacher_params: Params,
    setup: Setup,
) -> tuple[Student, optax.OptState, dict[str, Array], Array]:
    """Update the student on a batch; return it, the optimiser's state, the loss' parts, and the images' next moves."""
    targets = make_targets(teacher_params, images, styles, setup)
    grad = jax.value_and_grad(distillation_loss, has_aux=True)
    (total, (parts, gradient)), student_gradient = grad(student, images, styles, targets, setup)
    updates, optimizer = make_optimizer(setup.recipe).update(student_gradient, optimizer, student)  # pyright: ignore[reportArgumentType]
    student = optax.apply_updates(student, updates)  # pyright: ignore[reportAssignmentType, reportArgumentType]
    return student, optimizer, parts | {"total": total}, _moves(gradient, targets.style_gradient)


def _moves(ours: Array, theirs: Array) -> Array:
    """Descend the student's gradient for every other image and the teacher's for the rest, with a mean square of 1."""
    moves = jnp.where(jnp.arange(len(ours))[:, None, None, None] % 2 == 0, ours, theirs)
    return -moves / (jnp.sqrt(jnp.mean(moves**2, (1, 2, 3), keepdims=True)) + 1e-20)


def make_optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Return Adam with warm-up and cosine decay.

    Steps are scaled by each tensor's root mean square, since the tensors differ by orders of magnitude.
    """
    rate = optax.warmup_cosine_decay_schedule(0.0, -recipe.learning_rate, recipe.steps // 10, recipe.steps)
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(),
        optax.scale_by_param_block_rms(),
        optax.scale_by_schedule(rate),
    )


def init_state(setup: Setup, params: Params, teacher_params: Params, images: Sequence[np.ndarray]) -> DistillationState:
    """Fit the heads of an initial student in closed form, and fill the pool.

    Args:
        setup: Networks and recipe.
        params: The student's initial parameters.
        teacher_params: The teacher's parameters.
        images: Training images, uint8 ``(h, w, 3)`` each.
    """
    recipe = setup.recipe
    random = np.random.default_rng([recipe.seed, 0])
    pool = Pool(*_new_pairs(random, images, recipe, recipe.pool), random.integers(0, recipe.lifetime, recipe.pool))
    heads = _fit_heads(random, setup, params, teacher_params, images)
    student = Student(jax.tree.map(jnp.asarray, params), heads)
    return DistillationState(student, make_optimizer(recipe).init(student), pool, 0)  # pyright: ignore[reportArgumentType]


def _new_pairs(
    random: np.random.Generator, images: Sequence[np.ndarray], recipe: Recipe, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw ``count`` crops, and as many style crops."""
    crops = random_crops(random, images, recipe.crop, 2 * count, PhotometricAugmentation())
    return crops[:count], crops[count:]


def _fit_heads(
    random: np.random.Generator,
    setup: Setup,
    params: Params,
    teacher_params: Params,
    images: Sequence[np.ndarray],
) -> dict[str, Array]:
    """Regress the teacher's features on the student's."""

    @jax.jit
    def both(params: Params, teacher_params: Params, crops: Array) -> tuple[dict, dict]:
        theirs = setup.teacher.apply(teacher_params, crops, setup.layers)
        return setup.student.apply(params, crops, setup.layers), theirs

    rows: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {layer: [] for layer in setup.layers}
    for _ in range(HEAD_BATCHES):
        crops = random_crops(random, images, setup.recipe.crop, HEAD_CROPS, PhotometricAugmentation())
        ours, theirs = both(params, teacher_params, jnp.asarray(crops))
        for layer in setup.layers:
            pair = [np.asarray(x[layer]).reshape(-1, x[layer].shape[-1]) for x in (ours, theirs)]
            chosen = random.permutation(len(pair[0]))[:HEAD_ROWS]
            rows[layer].append((pair[0][chosen], pair[1][chosen]))
    stacked = {layer: tuple(map(np.concatenate, zip(*parts, strict=True))) for layer, parts in rows.items()}
    return {layer: jnp.asarray(ridge_regression(*pair), jnp.float32) for layer, pair in stacked.items()}


def train_step(
    state: DistillationState, setup: Setup, teacher_params: Params, images: Sequence[np.ndarray]
) -> tuple[DistillationState, dict[str, float]]:
    """Learn from some pairs of the pool and move their images. All random numbers depend on the step's number only.

    Returns:
        The state after the step, and the loss before it with its parts.
    """
    recipe = setup.recipe
    random = np.random.default_rng([recipe.seed, 1 + state.step])
    pool = Pool(*(array.copy() for array in state.pool))
    drawn = random.permutation(recipe.pool)[: recipe.pairs]
    for i in drawn[pool.ages[drawn] >= recipe.lifetime]:
        (pool.images[i],), (pool.styles[i],) = _new_pairs(random, images, recipe, 1)
        pool.ages[i] = 0
    student, optimizer, parts, moves = update(
        state.student, state.optimizer, pool.images[drawn], pool.styles[drawn], teacher_params, setup
    )
    length = recipe.move * 0.1 ** (pool.ages[drawn] / recipe.lifetime)
    moved = pool.images[drawn] + length[:, None, None, None] * np.asarray(moves)
    pool.images[drawn] = np.clip(moved, 0.0, 1.0)
    pool.ages[drawn] += 1
    losses = {name: float(value) for name, value in parts.items()}
    return DistillationState(student, optimizer, pool, state.step + 1), losses


def train_student(
    setup: Setup,
    state: DistillationState,
    teacher_params: Params,
    images: Sequence[np.ndarray],
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    log_every: int = 20,
    evaluate: Callable[[Student], dict[str, float]] = lambda student: {},
    on_record: Callable[[Record], None] = lambda record: None,
    stop: Callable[[], bool] = lambda: False,
) -> DistillationState:
    """Train a student to its last step.

    On the CPU, a resumed run and an uninterrupted one give the same bits.

    Args:
        setup: Networks and recipe.
        state: The state before the first step, from `init_state` or `init_mini`.
        teacher_params: The teacher's parameters.
        images: Training images, uint8 ``(h, w, 3)`` each.
        checkpoint: File to write after every ``log_every`` steps and on stopping. The previous one is kept beside it.
        resume: Continue from ``checkpoint``.
        log_every: Steps between two log lines.
        evaluate: Further values for each log line, and for a line before the first step.
        on_record: Called with each log line.
        stop: Called after each step; returns whether to stop.

    Returns:
        The state after the last step, or after the step at which the run was stopped.

    Raises:
        ArgumentError: The checkpoint is missing, unreadable or from another run.
        NumericsError: The loss became NaN or infinite.
    """
    recipe = setup.recipe
    about = {"network": setup.student.name, "images": hash_images(images)[:16], **dataclasses.asdict(recipe)}
    records: list[Record] = []

    def log(record: Record) -> None:
        records.append(record)
        on_record(record)

    if resume:
        loaded, history = load_training(checkpoint, state, about)
        state = loaded._replace(step=int(loaded.step))
        records.extend(history)
    elif initial := evaluate(state.student):
        log({"step": 0.0} | initial)
    recent: list[dict[str, float]] = []
    stopped = False
    while state.step < recipe.steps and not stopped:
        state, losses = train_step(state, setup, teacher_params, images)
        recent.append(losses)
        stopped = stop()
        if state.step % log_every == 0 or state.step == recipe.steps:
            log(_mean_losses(state.step, recent) | evaluate(state.student))
            recent = []
        elif not stopped:
            continue
        if checkpoint is not None:
            save_training(checkpoint, state, records, about)
    return state


def _mean_losses(step: int, losses: Sequence[Mapping[str, float]]) -> Record:
    record = {"step": float(step)} | {name: float(np.mean([line[name] for line in losses])) for name in losses[0]}
    if not np.isfinite(record["total"]):
        raise NumericsError(f"the loss became {record['total']} at or before step {step}: lower the learning rate")
    return record


def split_images(images: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Split images into training images and held-out images, every seventh.

    Raises:
        ImageError: There are fewer than two images.
    """
    if len(images) < 2:
        raise ImageError(
            f"found {len(images)} images: expected at least 2, since every seventh is held out; add images"
        )
    return [image for index, image in enumerate(images) if index % HELD_OUT_EVERY], list(images[::HELD_OUT_EVERY])


def make_held_out_pairs(
    student: Student, teacher_params: Params, images: Sequence[np.ndarray], setup: Setup
) -> list[Pairs]:
    """Cut crops out of held-out images, and move them 0 to `HELD_OUT_MOVES` times.

    The moves follow the style gradients of the initial student and of the teacher.
    """
    recipe = setup.recipe
    random = np.random.default_rng([recipe.seed, 2])
    pairs = []
    for _ in range(HELD_OUT_BATCHES):
        image, style = (jnp.asarray(random_crops(random, images, recipe.crop, HELD_OUT_PAIRS)) for _ in range(2))
        counts = jnp.asarray(random.integers(0, HELD_OUT_MOVES + 1, HELD_OUT_PAIRS))
        for move in range(HELD_OUT_MOVES):
            _, moves = evaluate_step(student, image, style, teacher_params, setup)
            length = recipe.move * jnp.where(move < counts, 1.0, 0.0)[:, None, None, None]
            image = jnp.clip(image + length * moves, 0.0, 1.0)
        pairs.append((image, style))
    return pairs


def held_out_losses(student: Student, pairs: Sequence[Pairs], teacher_params: Params, setup: Setup) -> dict[str, float]:
    """Return the mean loss and its parts on held-out pairs, with names that begin with ``held_out/``."""
    batches = [evaluate_step(student, image, style, teacher_params, setup)[0] for image, style in pairs]
    return {f"held_out/{name}": float(np.mean([batch[name] for batch in batches])) for name in batches[0]}


def init_mini(vgg19: Path, images: Sequence[np.ndarray], recipe: Recipe) -> tuple[Setup, Params, DistillationState]:
    """Compress VGG19 into the embedded network, and fit its heads.

    Args:
        vgg19: VGG19's weights, at least up to conv4_1.
        images: Training images, uint8 ``(h, w, 3)`` each.
        recipe: How the network will be trained.

    Returns:
        The networks, VGG19's parameters, and the state before the first step.

    Raises:
        WeightsError: The weights cannot be read, or they end before conv4_1.
    """
    teacher, loaded = load_backbone("vgg19", vgg19, precision="float32")
    setup = Setup(make_backbone("mini", training="distilled"), teacher, recipe)
    teacher.check_layers(setup.layers)
    teacher_params = teacher.prepare(loaded)
    convolutions = tuple(layer.replace("relu", "conv") for layer in setup.layers)
    random = np.random.default_rng(recipe.seed)
    crops = random_crops(random, images, COMPRESSION_SIZE, COMPRESSION_CROPS, PhotometricAugmentation())
    features_of = jax.jit(partial(teacher.apply, layers=convolutions))
    starts = range(0, len(crops), COMPRESSION_CHUNK)
    chunks = [features_of(teacher_params, jnp.asarray(crops[i : i + COMPRESSION_CHUNK])) for i in starts]
    targets = {name: jnp.concatenate([chunk[name] for chunk in chunks]) for name in convolutions}
    params = compress(setup.student, targets, crops)
    return setup, teacher_params, init_state(setup, params, teacher_params, images)
