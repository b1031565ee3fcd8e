"""A small image classifier, trained from random parameters.

The trunk is one of `jnst.backbones`. The head is the mean over all positions and one dense layer, so images of any size
work. The model, its loss and its training step are pure functions; `train_classifier` runs them over a `Dataset`.
"""

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jnst.apps.training.augmentation import Augmentation
from jnst.apps.training.data import Batch, Dataset, held_out_batches, training_batches
from jnst.apps.training.resume import load_training, save_training
from jnst.backbones import Backbone
from jnst.errors import ArgumentError, NumericsError
from jnst.types import Array, Image, Params, RandomKey

SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    "constant": lambda rate, steps: optax.constant_schedule(rate),
    "cosine": optax.cosine_decay_schedule,
}
"""Learning rate schedules, made from the initial rate and the number of steps."""

DTYPES: dict[str, Any] = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
"""Dtypes of the convolutions. Parameters, head and loss are always float32."""

MAX_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train a classifier.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images per step.
        size: Side of the crops in pixels.
        learning_rate: Adam's learning rate.
        weight_decay: Decoupled weight decay (AdamW) of the kernels; 0 for none.
        schedule: Learning rate schedule, a key of `SCHEDULES`.
        seed: Seed of the initial parameters, the order and the crops, from 0 to 2³² - 1.
        dtype: Dtype of the convolutions, a key of `DTYPES`.
        augmentation: How training images are varied.

    Raises:
        ArgumentError: A value is out of range or unknown.

    References:
        Kingma & Ba, Adam, ICLR 2015; Loshchilov & Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
    """

    epochs: int = 10
    batch_size: int = 32
    size: int = 224
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    schedule: str = "constant"
    seed: int = 0
    dtype: str = "float32"
    augmentation: Augmentation = Augmentation()  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "size"):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} {getattr(self, name)}: expected an integer of at least 1")
        if not 0 <= self.seed <= MAX_SEED:
            raise ArgumentError(f"seed {self.seed}: expected an integer from 0 to {MAX_SEED}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ArgumentError(f"learning rate {self.learning_rate}: expected a positive number, for example 1e-3")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ArgumentError(f"weight decay {self.weight_decay}: expected 0 or more, for example 1e-4")
        for name, value, table in (("schedule", self.schedule, SCHEDULES), ("dtype", self.dtype, DTYPES)):
            if value not in table:
                raise ArgumentError(f"{name} {value!r} is unknown: choose one of {', '.join(table)}")

    def optimizer(self, num_steps: int) -> optax.GradientTransformation:
        """Return Adam or AdamW for a run of ``num_steps`` steps."""
        rate = SCHEDULES[self.schedule](self.learning_rate, num_steps)
        if self.weight_decay == 0:
            return optax.adam(rate)
        kernels = partial(jax.tree.map, lambda param: param.ndim > 1)
        return optax.adamw(rate, weight_decay=self.weight_decay, mask=kernels)


class TrainState(NamedTuple):
    """What a training step changes.

    Attributes:
        params: ``{"trunk": the backbone's parameters, "head": {"kernel": (c, classes), "bias": (classes,)}}``, float32.
        optimizer: Optax's state.
    """

    params: Params
    optimizer: optax.OptState


class Sums(NamedTuple):
    """Weighted sums over a batch: losses, correct predictions and images."""

    loss: Array
    correct: Array
    images: Array


@partial(jax.jit, static_argnames=("backbone", "num_classes"))
def init_params(key: RandomKey, backbone: Backbone, num_classes: int) -> Params:
    """Draw random parameters: He-normal kernels and zero biases.

    References:
        He et al., Delving Deep into Rectifiers, ICCV 2015.
    """
    trunk_key, head_key = jax.random.split(key)
    trunk = backbone.init(trunk_key)
    kernel_shape = (_num_features(backbone, trunk), num_classes)
    kernel = jax.nn.initializers.he_normal()(head_key, kernel_shape, jnp.float32)
    return {"trunk": trunk, "head": {"kernel": kernel, "bias": jnp.zeros(num_classes)}}


def _num_features(backbone: Backbone, trunk: Params) -> int:
    """Return the number of channels of the backbone's last layer."""
    last = backbone.layers[-1]
    side = backbone.smallest_side((last,))
    image = jax.ShapeDtypeStruct((side, side, 3), jnp.float32)
    return jax.eval_shape(lambda params, x: backbone.apply(params, x, (last,)), trunk, image)[last].shape[-1]


def init_state(key: RandomKey, backbone: Backbone, num_classes: int, settings: Settings) -> TrainState:
    """Return the state before the first step."""
    params = init_params(key, backbone, num_classes)
    return TrainState(params, settings.optimizer(1).init(params))


def logits(params: Params, images: Image, *, backbone: Backbone, dtype: str = "float32") -> Array:
    """Compute the logits of the classes.

    Args:
        params: As in `TrainState`.
        images: ``(n, h, w, 3)``, sRGB in [0, 1].
        backbone: The trunk (static).
        dtype: A key of `DTYPES`.

    Returns:
        ``(n, classes)`` in float32.
    """
    trunk = jax.tree.map(lambda leaf: leaf.astype(DTYPES[dtype]), params["trunk"])
    last = backbone.layers[-1]
    features = backbone.apply(trunk, images, (last,))[last]
    pooled = jnp.mean(features.astype(jnp.float32), axis=(-3, -2))
    return pooled @ params["head"]["kernel"] + params["head"]["bias"]


def batch_loss(params: Params, batch: Batch, *, backbone: Backbone, dtype: str = "float32") -> tuple[Array, Sums]:
    """Return the weighted mean of the softmax cross-entropy in nats, and the sums behind it."""
    images = jnp.asarray(batch.images, jnp.float32) / 255
    scores = logits(params, images, backbone=backbone, dtype=dtype)
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.asarray(batch.labels))
    correct = jnp.argmax(scores, axis=-1) == batch.labels
    sums = Sums(*(jnp.sum(values * batch.weights) for values in (losses, correct, jnp.ones_like(losses))))
    return sums.loss / sums.images, sums


@partial(jax.jit, static_argnames=("backbone", "settings", "num_steps"))
def train_step(
    state: TrainState, batch: Batch, *, backbone: Backbone, settings: Settings, num_steps: int
) -> tuple[TrainState, Sums]:
    """Update the parameters on one batch.

    Args:
        state: The state before the step.
        batch: Images and classes.
        backbone: The trunk (static).
        settings: The run's settings (static).
        num_steps: Steps of the whole run (static), for the schedule.

    Returns:
        The state after the step, and the batch's sums before it.
    """
    gradient_of = jax.grad(partial(batch_loss, backbone=backbone, dtype=settings.dtype), has_aux=True)
    gradients, sums = gradient_of(state.params, batch)
    updates, optimizer = settings.optimizer(num_steps).update(gradients, state.optimizer, state.params)
    return TrainState(optax.apply_updates(state.params, updates), optimizer), sums  # pyright: ignore[reportArgumentType]


@partial(jax.jit, static_argnames=("backbone", "dtype"))
def evaluate_step(params: Params, batch: Batch, *, backbone: Backbone, dtype: str = "float32") -> Sums:
    """Return the sums of a batch without an update."""
    return batch_loss(params, batch, backbone=backbone, dtype=dtype)[1]


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The results of one epoch.

    Attributes:
        epoch: Its number, from 1.
        train_loss: Mean cross-entropy in nats of the training images, each taken before the step that learned from it.
        train_accuracy: Fraction of them that was classified correctly.
        test_loss: Mean cross-entropy in nats of the held-out images after the epoch.
        test_accuracy: Fraction of them that was classified correctly.
        seconds: Duration.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A trained classifier: ``params`` as in `TrainState`, and the results of every epoch."""

    params: Params
    history: tuple[Epoch, ...]


OnStep = Callable[[int, int, int], None]
"""Called after each step with the epoch, the step within it, both from 1, and the number of steps per epoch."""

OnEpoch = Callable[[Sequence[Epoch]], None]
"""Called after each epoch with all epochs so far."""


def train_classifier(
    dataset: Dataset,
    backbone: Backbone,
    settings: Settings = Settings(),
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    mesh: Mesh | None = None,
    on_step: OnStep = lambda epoch, step, steps: None,
    on_epoch: OnEpoch = lambda history: None,
) -> Trained:
    """Train a classifier from random parameters.

    Batches are split over the devices. On the CPU, a resumed run and an uninterrupted one give the same bits.

    Args:
        dataset: The images.
        backbone: The trunk. All of its layers are trained.
        settings: How to train.
        checkpoint: File to write after each epoch. The previous one is kept beside it (``FILE.previous``).
        resume: Continue from ``checkpoint``. Network, images and settings must be the same; ``epochs`` may differ if
            the schedule is constant.
        mesh: Devices along one axis; None for all devices of this process.
        on_step: See `OnStep`.
        on_epoch: See `OnEpoch`. The checkpoint is written first.

    Returns:
        The final parameters and the results of every epoch.

    Raises:
        ArgumentError: ``size`` is too small for the network, or the checkpoint is missing, unreadable or from another
            run.
        NumericsError: The loss became NaN or infinite. The checkpoint holds the epoch before.
        ImageError: An image has become unreadable.
    """
    least = backbone.smallest_side(backbone.layers)
    if settings.size < least:
        raise ArgumentError(
            f"size {settings.size}: {backbone.layers[-1]} of {backbone.name} needs at least {least} pixels"
        )
    mesh = mesh or Mesh(np.asarray(jax.local_devices()), ("batch",))
    run = _Run(dataset, backbone, settings, mesh, on_step)
    key = jax.random.key(settings.seed)
    init = partial(init_state, backbone=backbone, num_classes=len(dataset.classes), settings=settings)
    history: tuple[Epoch, ...] = ()
    if resume:
        state, records = load_training(checkpoint, jax.eval_shape(init, key), run.about)
        history = tuple(Epoch(**record) for record in records)
        if len(history) > settings.epochs:
            raise ArgumentError(
                f"checkpoint {str(checkpoint)!r} already has {len(history)} epochs, but only {settings.epochs} "
                f"were requested: request at least {len(history)}"
            )
    else:
        state = init(key)
    state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    for number in range(len(history) + 1, settings.epochs + 1):
        state, epoch = run.epoch(state, number)
        history = (*history, epoch)
        if checkpoint is not None:
            save_training(checkpoint, state, [dataclasses.asdict(epoch) for epoch in history], run.about)
        on_epoch(history)
    return Trained(jax.device_get(state.params), history)


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    dataset: Dataset
    backbone: Backbone
    settings: Settings
    mesh: Mesh
    on_step: OnStep

    @property
    def about(self) -> dict[str, Any]:
        """What must not change between a checkpoint and the run that continues from it."""
        settings = dataclasses.asdict(self.settings)
        if self.settings.schedule == "constant":
            del settings["epochs"]
        network = self.backbone.network
        options = {field.name: getattr(network, field.name) for field in dataclasses.fields(network)}
        del options["parent"], options["name"]
        return {
            "network": self.backbone.name,
            **options,
            "preprocessing": dataclasses.asdict(self.backbone.preprocessing),
            "classes": self.dataset.classes,
            "images": self.dataset.fingerprint,
            "reduced to": self.dataset.side,
            **settings,
        }

    def epoch(self, state: TrainState, number: int) -> tuple[TrainState, Epoch]:
        """Train on every training image once, then evaluate on the held-out ones."""
        start = time.perf_counter()
        state, train = self.train(state, number)
        test = self.evaluate(state)
        seconds = round(time.perf_counter() - start, 3)
        return state, Epoch(number, *_loss_and_accuracy(train), *_loss_and_accuracy(test), seconds)

    def train(self, state: TrainState, number: int) -> tuple[TrainState, np.ndarray]:
        settings = self.settings
        batches = training_batches(
            self.dataset,
            batch_size=settings.batch_size,
            size=settings.size,
            seed=settings.seed,
            epoch=number,
            augmentation=settings.augmentation,
            multiple=self.mesh.size,
        )
        steps = -(-len(self.dataset.train) // settings.batch_size)
        total, latest = np.zeros(3), np.zeros(3)
        with closing(batches):
            for step, batch in enumerate(self.on_devices(batches), 1):
                state, sums = train_step(
                    state, batch, backbone=self.backbone, settings=settings, num_steps=steps * settings.epochs
                )
                # Fetch the sums one step late, so that the devices compute while the host waits for them.
                total, latest = total + np.asarray(latest, np.float64), sums
                self.check_finite(total, number, step - 1, steps)
                self.on_step(number, step, steps)
        total = total + np.asarray(latest, np.float64)
        self.check_finite(total, number, steps, steps)
        return state, total

    def evaluate(self, state: TrainState) -> np.ndarray:
        settings, total = self.settings, np.zeros(3)
        batches = held_out_batches(
            self.dataset, batch_size=settings.batch_size, size=settings.size, multiple=self.mesh.size
        )
        with closing(batches):
            for batch in self.on_devices(batches):
                sums = evaluate_step(state.params, batch, backbone=self.backbone, dtype=settings.dtype)
                total = total + np.asarray(sums, np.float64)
        return total

    def on_devices(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Split each batch over the devices."""
        for batch in batches:
            yield jax.device_put(batch, NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names)))

    def check_finite(self, total: np.ndarray, epoch: int, step: int, steps: int) -> None:
        if not np.isfinite(total[0]):
            raise NumericsError(
                f"the training loss became {total[0]} in epoch {epoch}, step {step} of {steps}, with learning rate "
                f"{self.settings.learning_rate:g}: expected a finite loss; choose a smaller learning rate"
            )


def _loss_and_accuracy(sums: np.ndarray) -> tuple[float, float]:
    return float(sums[0] / sums[2]), float(sums[1] / sums[2])
