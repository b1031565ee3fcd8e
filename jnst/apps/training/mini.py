"""The recipe of the network that the package ships: teachers, layers, and the run from images to a weights file."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jnst.apps.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from jnst.apps.training.crops import Augmentation, random_crops
from jnst.apps.training.distill import Recipe, Setup, Student, Teachers, Training, advance
from jnst.apps.training.initial import start
from jnst.apps.training.prune import compress
from jnst.backbones import make_backbone
from jnst.errors import NumericsError
from jnst.types import Array, Params
from jnst.weights.load import load_backbone

SHARED = ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1", "relu3_2")
"""Layers that VGG19 itself teaches."""

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
"""Layers on which the pull of a style loss is compared."""

COMPRESSION_CROPS = 48
CHUNK = 8


def load_teachers(vgg19: Path, slim: Path) -> tuple[Teachers, tuple[Params, Params]]:
    """VGG19 up to block 3, and the slim VGG19's heads for what lies deeper."""
    (large, large_params), (small, small_params) = load_backbone("vgg19", vgg19), load_backbone("vgg19-slim", slim)
    taps = (*((layer, 0, layer) for layer in SHARED), ("relu4_1", 1, "aux4_1"))
    return Teachers((large, small), taps, STYLE), (large_params, small_params)


def begin(
    teachers: Teachers, teacher_params: tuple[Params, Params], images: list[np.ndarray], recipe: Recipe
) -> tuple[Setup, Training]:
    """Compress the teachers into the initial student, and fit its heads."""
    setup = Setup(make_backbone("mini", training="distilled"), teachers, recipe)
    crops = random_crops(np.random.default_rng(recipe.seed), images, 96, COMPRESSION_CROPS, Augmentation())
    layers = {layer.replace("relu", "conv"): layer.replace("relu", "conv") for layer in SHARED}
    params = compress(setup.backbone, _preactivations(teachers, teacher_params), layers | {"conv4_1": "aux4_1"}, crops)
    return setup, start(setup, params, teacher_params, images)


def _preactivations(teachers: Teachers, params: tuple[Params, Params]) -> Callable[[np.ndarray], dict[str, Array]]:
    """VGG19's convolutions, and the slim network's head (after its ReLU: nothing else is known of relu4_1)."""
    large, small = teachers.backbones
    convolutions = tuple(layer.replace("relu", "conv") for layer in SHARED)

    @jax.jit
    def some(params: tuple[Params, Params], images: Array) -> dict[str, Array]:
        return large.apply(params[0], images, convolutions) | small.apply(params[1], images, ("aux4_1",))

    def features(images: np.ndarray) -> dict[str, Array]:
        parts = [some(params, images[i : i + CHUNK]) for i in range(0, len(images), CHUNK)]
        return {name: jnp.concatenate([part[name] for part in parts]) for name in parts[0]}

    return features


Record = dict[str, float]
"""A line of the log: the step's number, the mean of the loss and its parts since the line before (not in the line of
step 0), and what was measured beside them."""


def train(
    setup: Setup,
    training: Training,
    teacher_params: tuple[Params, ...],
    images: list[np.ndarray],
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    every: int = 20,
    measure: Callable[[Student], dict[str, float]] = lambda student: {},
    on_record: Callable[[Record], None] = lambda record: None,
    stop: Callable[[], bool] = lambda: False,
) -> Training:
    """Train a student to its last step.

    Args:
        setup: From `begin`: network, teachers and recipe.
        training: Where to begin: likewise.
        teacher_params: From `load_teachers`.
        images: uint8 arrays ``(h, w, 3)``.
        checkpoint: A file to write after every ``every`` steps, and on stopping; the one before is kept beside it.
        resume: Continue from ``checkpoint``: on a CPU the end is the same, bit for bit, as without stopping.
        every: Steps between two lines of the log.
        measure: What to note of the student in each line beside the losses, and in a line before the first step.
        on_record: Called with each line.
        stop: Asked after each step whether to stop.

    Returns:
        The state after the last step, or after the one at which it was stopped.

    Raises:
        ArgumentError: The checkpoint is missing, unreadable or another run's.
        NumericsError: The loss stopped being finite.
    """
    recipe = setup.recipe
    about = {"network": setup.backbone.name, "images": _fingerprint(images), **dataclasses.asdict(recipe)}
    records: list[Record] = []
    if resume and checkpoint is not None:
        found = load_checkpoint(checkpoint, training, about, recipe.steps)
        training, records = found.state._replace(step=int(found.state.step)), [dict(line) for line in found.history]
    elif begun := measure(training.student):
        _note({"step": 0.0} | begun, records, on_record)
    recent: list[dict[str, float]] = []
    stopped = False
    while training.step < recipe.steps and not stopped:
        training, losses = advance(training, setup, teacher_params, images)
        recent.append(losses)
        stopped = stop()
        if training.step % every == 0 or training.step == recipe.steps:
            _note(_record(training.step, recent) | measure(training.student), records, on_record)
            recent = []
        elif not stopped:
            continue
        if checkpoint is not None:
            save_checkpoint(checkpoint, Checkpoint(training, tuple(records)), about)
    return training


def _note(record: Record, records: list[Record], on_record: Callable[[Record], None]) -> None:
    records.append(record)
    on_record(record)


def _record(step: int, recent: list[dict[str, float]]) -> Record:
    record = {"step": float(step)} | {name: float(np.mean([line[name] for line in recent])) for name in recent[0]}
    if not np.isfinite(record["total"]):
        raise NumericsError(f"the loss stopped being finite before step {step}: lower the learning rate")
    return record


def _fingerprint(images: list[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr(image.shape).encode() + image.tobytes())
    return digest.hexdigest()[:16]
