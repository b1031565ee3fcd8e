"""Train a style network: minimise the objective of style transfer over many photographs at once.

    min_θ  mean over photographs x and styles s of  total(f_θ(x, s))

where total is `jnst.total_loss` with the content targets of x and the style targets of s. The solver is `jnst.solve`'s:
the network's parameters θ are what it optimises in place of an image.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from jnst.apps.catalogue.digest import network_digest, plain
from jnst.apps.training.augmentation import Augmentation
from jnst.apps.training.classifier import MAX_SEED
from jnst.apps.training.data import Photos, hash_images, photo_batches
from jnst.apps.training.resume import load_training, save_training
from jnst.backbones import Backbone
from jnst.errors import ArgumentError, ImageError, NumericsError
from jnst.images.check import check_image
from jnst.losses import Gram, Relative, SquaredError, TotalVariation
from jnst.losses.objective import Objective, Targets, total_loss
from jnst.losses.targets import find_floors, fit_content, fit_style
from jnst.presets import Terms
from jnst.solve import Solver, State, local_mesh, step
from jnst.solve.devices import check_mesh, place
from jnst.solve.solver import start
from jnst.transfer.network import SMALLEST_SIDE, StyleNetwork
from jnst.types import Array, Image, Params

VIEWS = Augmentation(scale=(0.25, 1.0), ratio=(4 / 5, 5 / 4), brightness=0.1, contrast=0.1, saturation=0.1)
"""How photographs vary: mostly in scale and place, since colours should be those of photographs."""

PARTS = ("content", "style", "tv")
"""The parts of the loss in logs; ``total`` is their sum."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How to train a style network.

    Attributes:
        steps: Number of parameter updates.
        batch_size: Photographs in a step.
        size: Side of their crops in pixels.
        learning_rate: Adam's initial learning rate, which falls to a twentieth along a cosine.
        terms: Layers, losses and weights of the objective.
        seed: Seed of the initial parameters, the order of the photographs and the crops, from 0 to 2³² - 1.

    Raises:
        ArgumentError: A value is out of range.
    """

    steps: int = 4000
    batch_size: int = 4
    size: int = 256
    learning_rate: float = 2e-3
    terms: Terms = Terms(  # noqa: RUF009 - frozen
        content_loss=Relative(SquaredError()),
        style_loss=Relative(Gram("chw")),
        style_weight=15.0,
        mean_of_styles=True,
        tv_weight=5.0,
        total_variation=TotalVariation("l2", "mean"),
    )
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("batch_size", 1), ("size", SMALLEST_SIDE)):
            if getattr(self, name) < least:
                raise ArgumentError(f"{name} {getattr(self, name)}: expected an integer of at least {least}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ArgumentError(f"learning rate {self.learning_rate}: expected a positive number, for example 2e-3")
        if not 0 <= self.seed <= MAX_SEED:
            raise ArgumentError(f"seed {self.seed}: expected an integer from 0 to {MAX_SEED}")

    def solver(self) -> Solver:
        """Adam with cosine decay."""
        return Solver(optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.steps, alpha=0.05)))


class Batch(NamedTuple):
    """What a step learns from.

    Attributes:
        images: ``(n, size, size, 3)``, uint8 sRGB.
        styles: ``(n,)``, int32: the style of each.
    """

    images: np.ndarray | Array
    styles: np.ndarray | Array


class Task(NamedTuple):
    """What all steps have in common: a pytree.

    Attributes:
        objective: The terms and their weights.
        styles: The targets of all styles, with a leading axis.
        floors: The least scales of the content terms.
        params: The backbone's parameters.
    """

    objective: Objective
    styles: Targets
    floors: tuple[Array | None, ...]
    params: Params


@dataclasses.dataclass(frozen=True)
class StyleLoss:
    """The loss of a style network's parameters on a batch, for `jnst.solve`: ``loss(params, (task, batch), step)``.

    Attributes:
        network: The network that is trained.
        backbone: The network whose features are compared.
    """

    network: StyleNetwork
    backbone: Backbone

    def __call__(self, params: Params, args: tuple[Task, Batch], step: Array) -> tuple[Array, dict[str, Array]]:
        """Return the mean of the total over the batch, and that of each kind of term."""
        task, batch = Task(*args[0]), Batch(*args[1])
        images = jnp.asarray(batch.images, jnp.float32) / 255
        chosen = jnp.asarray(batch.styles)
        output = self.network.apply(params, images, jax.nn.one_hot(chosen, len(self.network.styles)))
        content = fit_content(images, task.objective, task.params, backbone=self.backbone, floors=task.floors)
        style = jax.tree.map(lambda leaf: leaf[chosen], task.styles)
        total, parts = total_loss(output, task.objective, content + style, task.params, backbone=self.backbone)
        sums: dict[str, Array] = {name: jnp.zeros(()) for name in PARTS}
        for name, value in parts.items():
            kind = name.partition("/")[0]
            sums[kind] = sums[kind] + jnp.mean(value)
        return jnp.mean(total), sums


class TrainState(NamedTuple):
    """Everything a run needs to continue.

    Attributes:
        run: The parameters and the optimiser's state.
        sums: The sums of total and `PARTS` over the steps since the last line of the log, and their number.
    """

    run: State
    sums: np.ndarray


Record = dict[str, float]
"""A line of the log: the step, and means of total and `PARTS` over the steps since the line before."""


class Trained(NamedTuple):
    """The result: the parameters, the log, and the number of steps, which is less than asked for if it was stopped."""

    params: Params
    history: tuple[Record, ...]
    steps: int


def check_training(
    recipe: Recipe, backbone: Backbone, styles: int, style_weights: Sequence[float] | None = None
) -> None:
    """Check what can be known without any image, before many are read.

    Args:
        recipe: How to train.
        backbone: The network whose features are compared.
        styles: The number of styles.
        style_weights: See `make_task`.

    Raises:
        ArgumentError: Not one weight for each style, or as `Terms.objective`.
        ImageError: Crops that are too small for the backbone's layers.
    """
    _checked_weights(style_weights, styles)
    if (least := backbone.smallest_side(recipe.terms.objective(backbone).layers)) > recipe.size:
        raise ImageError(f"size {recipe.size}: the layers of {backbone.name} need crops of at least {least} pixels")


def _checked_weights(style_weights: Sequence[float] | None, styles: int) -> list[float]:
    weights = [1.0] * styles if style_weights is None else list(style_weights)
    if len(weights) != styles or not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise ArgumentError(
            f"style weights {', '.join(f'{weight:g}' for weight in weights)} for {styles} styles: expected a "
            "number of at least 0 for each"
        )
    return weights


def make_task(
    styles: Sequence[Image],
    backbone: Backbone,
    params: Params,
    terms: Terms,
    style_weights: Sequence[float] | None = None,
) -> Task:
    """Fit the targets of the styles.

    Args:
        styles: An image ``(h, w, 3)`` in [0, 1] for each style, at the size at which its strokes should appear.
        backbone: The network whose features are compared.
        params: Its parameters.
        terms: Layers, losses and weights.
        style_weights: A factor of the style terms for each style; None: 1.

    Raises:
        ArgumentError: Not one weight for each style, or as `Terms.objective`.
        ImageError: A style is not an image in [0, 1], or too small.
    """
    weights = _checked_weights(style_weights, len(styles))
    images = [check_image(style, f"styles[{index}]") for index, style in enumerate(styles)]
    objective, prepared = terms.objective(backbone), backbone.prepare(params)
    floors = find_floors(objective.style, prepared, backbone=backbone)
    fitted = []
    for image, weight in zip(images, weights, strict=True):
        targets = fit_style(image, objective, prepared, backbone=backbone, floors=floors)
        regions = tuple(
            tuple(dataclasses.replace(region, weight=jnp.float32(weight)) for region in term) for term in targets.style
        )
        fitted.append(dataclasses.replace(targets, style=regions))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fitted)
    return Task(objective, stacked, find_floors(objective.content, prepared, backbone=backbone), prepared)


def train_style_network(
    photos: Photos,
    styles: Mapping[str, Image],
    backbone: Backbone,
    params: Params,
    recipe: Recipe = Recipe(),
    *,
    widths: tuple[int, int, int] = StyleNetwork.widths,
    blocks: int = StyleNetwork.blocks,
    style_weights: Sequence[float] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    mesh: Mesh | None = None,
    log_every: int = 50,
    on_step: Callable[[int], None] = lambda step: None,
    on_record: Callable[[Sequence[Record], Params], None] = lambda history, params: None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[StyleNetwork, Trained]:
    """Train a style network from random parameters.

    Batches are divided among the devices. On the CPU, a resumed run and an uninterrupted one give the same bits.

    Args:
        photos: The photographs.
        styles: The styles by name, see `make_task`.
        backbone: The network whose features are compared.
        params: Its parameters.
        recipe: How to train.
        widths: See `StyleNetwork`.
        blocks: See `StyleNetwork`.
        style_weights: See `make_task`.
        checkpoint: File to write at every line of the log, and when the run is stopped. The previous one is kept beside
            it (``FILE.previous``).
        resume: Continue from ``checkpoint``. Networks, images and recipe must be the same.
        mesh: Devices along one axis, a divisor of the batch size; None for as many of this process as divide it.
        log_every: Steps between two lines of the log, at least 1.
        on_step: Called after every step with its number, from 1.
        on_record: Called at every line of the log with all lines so far and the parameters.
        stop: Asked after every step whether to end the run.

    Returns:
        The network, and the result of the training.

    Raises:
        ArgumentError: A wrong argument, or the checkpoint is missing, unreadable or from another run.
        ImageError: A style is not an image, or images are too small for the backbone's layers.
        NumericsError: The loss stopped being finite. The checkpoint holds the last finite state.
    """
    network = StyleNetwork(tuple(styles), widths, blocks)
    check_training(recipe, backbone, len(styles), style_weights)
    if log_every < 1:
        raise ArgumentError(f"log_every {log_every}: expected a number of steps, at least 1")
    task = make_task(list(styles.values()), backbone, params, recipe.terms, style_weights)
    if mesh is None:
        mesh = local_mesh(jax.local_devices()[: math.gcd(recipe.batch_size, jax.local_device_count())])
    check_mesh(mesh)
    if recipe.batch_size % mesh.size:
        raise ArgumentError(f"batch size {recipe.batch_size} on {mesh.size} devices: expected a multiple of them")
    about = {
        "network": plain(network),
        "backbone": network_digest(backbone, params)[:16],
        "photographs": photos.fingerprint,
        "styles": hash_images([np.asarray(style) for style in styles.values()])[:16],
        "style weights": None if style_weights is None else list(style_weights),
        "recipe": plain(recipe),
        "log_every": log_every,
    }
    loss, optimizer = StyleLoss(network, backbone), recipe.solver()
    history: list[Record] = []
    begin = partial(_first_state, network, optimizer, recipe.seed)
    if resume:
        state, records = load_training(checkpoint, jax.eval_shape(begin), about)
        history.extend(records)
    else:
        state = begin()
    run, sums = place(state.run, mesh, divided=False), np.array(state.sums)
    task, begun = place(task, mesh, divided=False), int(state.run.step)
    batches = photo_batches(
        photos,
        batch_size=recipe.batch_size,
        size=recipe.size,
        seed=recipe.seed,
        steps=range(begun, recipe.steps),
        augmentation=VIEWS,
    )
    done = begun
    with closing(batches):
        for done, images in enumerate(batches, begun + 1):
            batch = place(Batch(images, _styles_of(done - 1, recipe, len(styles))), mesh, divided=True)
            before, (run, record) = run, step(loss, optimizer, run, (task, batch))
            values = np.array([record[0], *(record[1][name] for name in PARTS)], np.float64)
            if not bool(run.running):
                _save(checkpoint, TrainState(before, sums), history, about)
                raise _not_finite(values, done, recipe)
            sums = sums + np.append(values, 1.0)
            on_step(done)
            if done % log_every == 0 or done == recipe.steps:
                means = sums[:-1] / sums[-1]
                history.append({"step": float(done)} | dict(zip(("total", *PARTS), means.tolist(), strict=True)))
                sums = np.zeros_like(sums)
                _save(checkpoint, TrainState(run, sums), history, about)
                on_record(history, run.image)
            if stop():
                _save(checkpoint, TrainState(run, sums), history, about)
                break
    return network, Trained(jax.device_get(run.image), tuple(history), done)


def _first_state(network: StyleNetwork, optimizer: Solver, seed: int) -> TrainState:
    run = start(optimizer, network.init(jax.random.key(seed)))
    return TrainState(run, np.zeros(2 + len(PARTS)))


def _styles_of(step: int, recipe: Recipe, count: int) -> np.ndarray:
    """The style of each photograph of a step: all take turns, also from batch to batch."""
    return np.arange(step * recipe.batch_size, (step + 1) * recipe.batch_size, dtype=np.int64).astype(np.int32) % count


def _save(
    checkpoint: str | os.PathLike[str] | None, state: TrainState, history: Sequence[Record], about: Mapping[str, Any]
) -> None:
    if checkpoint is not None:
        save_training(checkpoint, state, history, about)


def _not_finite(values: np.ndarray, step: int, recipe: Recipe) -> NumericsError:
    names = [name for name, value in zip(("total", *PARTS), values, strict=True) if not np.isfinite(value)]
    what = f"the {names[0]} loss" if names else "a parameter"
    return NumericsError(
        f"{what} stopped being finite at step {step}, with learning rate {recipe.learning_rate:g}: start a new run "
        "with a smaller one (a checkpoint continues only with its own)"
    )
