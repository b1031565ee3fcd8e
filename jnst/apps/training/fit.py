"""Training from the first epoch, or from a checkpoint, to the last."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jnst.apps.training.batches import Batch, held_out_batches, training_batches
from jnst.apps.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from jnst.apps.training.classifier import Settings, State, evaluate_step, init_state, train_step
from jnst.apps.training.data import Dataset
from jnst.backbones import Backbone
from jnst.errors import ArgumentError, NumericsError
from jnst.types import Params

OnStep = Callable[[int, int, int], None]
"""Called after each step with the epoch, the step in it, both from 1, and the number of steps in an epoch."""


@dataclasses.dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Attributes:
        epoch: Its number, from 1.
        train_loss: Mean cross-entropy in nats of its random views, each before the step that it was part of.
        train_accuracy: The fraction of them that was classified rightly.
        test_loss: Mean cross-entropy of the held-out images after the epoch.
        test_accuracy: The fraction of them that was classified rightly.
        seconds: How long it took.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    seconds: float


OnEpoch = Callable[[Sequence[Epoch]], None]
"""Called after each epoch with all epochs so far."""


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A trained classifier: ``params`` as in `State`, and every epoch's `Epoch`."""

    params: Params
    history: tuple[Epoch, ...]


def train_classifier(
    dataset: Dataset,
    backbone: Backbone,
    settings: Settings = Settings(),  # noqa: B008 - frozen
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    mesh: Mesh | None = None,
    on_step: OnStep = lambda epoch, step, steps: None,
    on_epoch: OnEpoch = lambda history: None,
) -> Trained:
    """Train a classifier from random parameters.

    Batches are split over the devices. On the CPU a resumed run ends with the same bits as an uninterrupted one.

    Args:
        dataset: The images.
        backbone: The trunk; it is trained as far as its last layer.
        settings: How to train.
        checkpoint: A file to write after each epoch; the one before is kept beside it (``FILE.previous``).
        resume: Continue from ``checkpoint``, which must be of the same network, images and settings; ``epochs``
            alone may differ if the schedule is constant.
        mesh: Devices along one axis; None: all of this process.
        on_step: See `OnStep`.
        on_epoch: See `OnEpoch`; the checkpoint is written before it is called.

    Returns:
        The parameters after the last epoch, and the epochs.

    Raises:
        ArgumentError: ``size`` is too small for the network, or the checkpoint is missing, unreadable or another run's.
        NumericsError: The loss stopped being finite; a checkpoint holds the epoch before.
        ImageError: An image has become unreadable.
    """
    least = backbone.smallest_side(backbone.layers)
    if settings.size < least:
        raise ArgumentError(f"size {settings.size}: {backbone.layers[-1]} of {backbone.name} needs at least {least} pixels")
    if resume and checkpoint is None:
        raise ArgumentError("resume without a checkpoint: expected the file to continue from; name it")
    mesh = mesh or Mesh(np.asarray(jax.local_devices()), ("batch",))
    run = _Run(dataset, backbone, settings, mesh, on_step)
    key = jax.random.key(settings.seed)
    start = partial(init_state, backbone=backbone, num_classes=len(dataset.classes), settings=settings)
    history: tuple[Epoch, ...] = ()
    if resume and checkpoint is not None:
        found = load_checkpoint(checkpoint, jax.eval_shape(start, key), run.about, settings.epochs)
        state, history = found.state, tuple(Epoch(**epoch) for epoch in found.history)
    else:
        state = start(key)
    state = jax.device_put(state, NamedSharding(mesh, PartitionSpec()))
    for number in range(len(history) + 1, settings.epochs + 1):
        state, epoch = run.epoch(state, number)
        history = (*history, epoch)
        if checkpoint is not None:
            save_checkpoint(checkpoint, Checkpoint(state, tuple(map(dataclasses.asdict, history))), run.about)
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
        """What must be the same for a checkpoint to be this run's."""
        about = dataclasses.asdict(self.settings)
        if self.settings.schedule == "constant":
            del about["epochs"]
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
            **about,
        }

    @property
    def steps(self) -> int:
        """In an epoch."""
        return -(-len(self.dataset.train) // self.settings.batch_size)

    def placed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches on the devices, split between them."""
        for batch in batches:
            yield jax.device_put(batch, NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names)))

    def epoch(self, state: State, number: int) -> tuple[State, Epoch]:
        """Train on every image once, then test."""
        begun = time.perf_counter()
        state, (train_loss, train_accuracy) = self.train(state, number)
        test_loss, test_accuracy = self.evaluate(state)
        seconds = round(time.perf_counter() - begun, 3)
        return state, Epoch(number, train_loss, train_accuracy, test_loss, test_accuracy, seconds)

    def train(self, state: State, number: int) -> tuple[State, tuple[float, float]]:
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
        total, waiting = np.zeros(3), np.zeros(3)
        num_steps = self.steps * settings.epochs
        with closing(batches):
            for step, batch in enumerate(self.placed(batches), 1):
                state, sums = train_step(state, batch, backbone=self.backbone, settings=settings, num_steps=num_steps)
                # Fetched one step late: the devices are at work while the host waits.
                total, waiting = total + np.asarray(waiting, np.float64), sums
                self.check_finite(total, number, step - 1)
                self.on_step(number, step, self.steps)
        total = total + np.asarray(waiting, np.float64)
        self.check_finite(total, number, self.steps)
        return state, _means(total)

    def evaluate(self, state: State) -> tuple[float, float]:
        """Mean loss and accuracy on what is held out."""
        settings, total = self.settings, np.zeros(3)
        batches = held_out_batches(
            self.dataset, batch_size=settings.batch_size, size=settings.size, multiple=self.mesh.size
        )
        with closing(batches):
            for batch in self.placed(batches):
                sums = evaluate_step(state.params, batch, backbone=self.backbone, dtype=settings.dtype)
                total = total + np.asarray(sums, np.float64)
        return _means(total)

    def check_finite(self, total: np.ndarray, epoch: int, step: int) -> None:
        if not np.isfinite(total[0]):
            raise NumericsError(
                f"the training loss stopped being finite in epoch {epoch}, step {step} of {self.steps}, at learning "
                f"rate {self.settings.learning_rate:g}: expected a finite loss; choose a smaller learning rate"
            )


def _means(total: np.ndarray) -> tuple[float, float]:
    """Loss and accuracy from the sums of loss, right answers and images."""
    return float(total[0] / total[2]), float(total[1] / total[2])
