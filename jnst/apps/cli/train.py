"""`jnst train`: train a style network or a classifier, or distil the embedded network."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import rich.progress
import tyro

from jnst.apps.cli.distill import Distill
from jnst.apps.cli.interruption import TRAINING_GRACE, Interruption, interruptible
from jnst.apps.cli.outputs import check_outputs, stopped_line
from jnst.apps.cli.progress import training_progress
from jnst.apps.cli.train_style import Style
from jnst.apps.training.classifier import Epoch, OnEpoch, OnStep, Settings, Trained, train_classifier
from jnst.apps.training.data import OVERSAMPLING, Dataset, load_dataset
from jnst.apps.training.plot import check_plot, save_plot
from jnst.backbones import Backbone, Widths, format_widths, make_backbone, parse_widths
from jnst.errors import ArgumentError
from jnst.weights import Weights, save_weights
from jnst.weights.convert import flatten
from jnst.weights.files import write_atomically


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Train a small image classifier from scratch, for use with `jnst stylize --weights FILE`.

    DIR contains one folder of images per class.
    """

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder that contains the class folders."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE.safetensors")]
    """Weights file to write: the network without its classification head."""

    epochs: int = 10
    """Passes over the training images."""
    batch_size: int = 32
    """Images per training step."""
    size: int = 224
    """Side of the crops in pixels."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    weight_decay: float = 0.0
    """Decoupled weight decay (AdamW) of the kernels."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate schedule."""
    widths: str = "16/32/64"
    """Filters of each convolution. A slash stands for pooling, as in 32,32/64,64."""
    seed: int = 0
    """Seed of the split, the initial parameters, the order and the crops."""
    bfloat16: bool = False
    """Compute convolutions in bfloat16. Parameters stay float32."""
    held_out: float = 0.2
    """Fraction of each class to hold out for testing."""

    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Save the complete training state to this file after each epoch."""
    resume: bool = False
    """Continue from the checkpoint."""
    log: Annotated[Path | None, tyro.conf.arg(metavar="FILE.jsonl")] = None
    """Write one JSON line per epoch."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Plot loss and accuracy over the epochs (needs matplotlib: pip install 'jnst[app]')."""
    licence: str = "unspecified"
    """Licence to record in the weights file."""
    force: bool = False
    """Overwrite existing files."""

    def run(self) -> int:
        """Read the images, train, and write the weights."""
        self._check_files()
        widths = parse_widths(self.widths)
        backbone, settings = make_backbone("convnet", widths=widths, training="classifier"), self._settings()
        dataset = load_dataset(self.directory, held_out=self.held_out, seed=self.seed, side=OVERSAMPLING * self.size)
        _print_dataset(dataset)
        with (
            interruptible(grace=TRAINING_GRACE) as interruption,
            _progress(self.epochs, interruption) as (on_step, print_epoch),
        ):

            def on_epoch(history: Sequence[Epoch]) -> None:
                print_epoch(history)
                self._save_history(history)

            try:
                trained = train_classifier(
                    dataset,
                    backbone,
                    settings,
                    checkpoint=self.checkpoint,
                    resume=self.resume,
                    on_step=on_step,
                    on_epoch=on_epoch,
                )
            except KeyboardInterrupt:
                print(stopped_line(self.checkpoint), file=sys.stderr)
                return 128 + interruption.signal_number
        self._save_history(trained.history)
        self._save_weights(trained, dataset, backbone, widths)
        return 0

    def _settings(self) -> Settings:
        flags = {field.name for field in dataclasses.fields(self)}
        values: dict[str, Any] = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(Settings) if field.name in flags
        }
        return Settings(**values, dtype="bfloat16" if self.bfloat16 else "float32")

    def _check_files(self) -> None:
        if self.resume and self.checkpoint is None:
            raise ArgumentError("--resume needs the file to continue from: add --checkpoint FILE")
        if self.plot is not None:
            check_plot(self.plot)
        check_outputs(
            {"--output": self.output, "--checkpoint": self.checkpoint, "--log": self.log, "--plot": self.plot},
            resume=self.resume,
            force=self.force,
        )

    def _save_history(self, history: Sequence[Epoch]) -> None:
        if self.log is not None:
            lines = "".join(json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in history)
            write_atomically(self.log, lines.encode())
        if self.plot is not None:
            save_plot(self.plot, history)

    def _save_weights(self, trained: Trained, dataset: Dataset, backbone: Backbone, widths: Widths) -> None:
        last = trained.history[-1]
        results = (
            f"train loss {last.train_loss:.4f}, test loss {last.test_loss:.4f}, test accuracy {last.test_accuracy:.1%}"
        )
        summary = f"{len(dataset.classes)} classes, {last.epoch} epochs, {results}"
        weights = Weights(
            architecture=backbone.name,
            params={name: np.asarray(param) for name, param in flatten(trained.params["trunk"]).items()},
            preprocessing=backbone.preprocessing,
            training=backbone.training,
            source=f"jnst train classifier: {', '.join(dataset.classes)}; {summary}",
            licence=self.licence,
            options={"widths": format_widths(widths)},
        )
        save_weights(self.output, weights)
        print(f"{self.output}: convnet {self.widths}, {summary}")


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a style network or a classifier, or distil the embedded network."""

    command: (
        Annotated[Style, tyro.conf.subcommand("style")]
        | Annotated[Classifier, tyro.conf.subcommand("classifier")]
        | Annotated[Distill, tyro.conf.subcommand("distill")]
    )

    def run(self) -> int:
        """Run the chosen command."""
        return self.command.run()


def _print_dataset(dataset: Dataset) -> None:
    """Print the device, the skipped files, and the numbers of classes and images."""
    if jax.default_backend() == "cpu":
        print("jnst: no GPU or TPU found, running on the CPU", file=sys.stderr)
    for error in dataset.damaged:
        print(f"jnst: skipped: {error}", file=sys.stderr)
    counts = f"{len(dataset.train)} training images, {len(dataset.test)} held out"
    print(f"jnst: {len(dataset.classes)} classes ({', '.join(dataset.classes)}), {counts}", file=sys.stderr)


def _epoch_line(history: Sequence[Epoch], epochs: int) -> str:
    last = history[-1]
    train = f"train loss {last.train_loss:.4f} accuracy {last.train_accuracy:.3f}"
    test = f"test loss {last.test_loss:.4f} accuracy {last.test_accuracy:.3f}"
    return f"epoch {last.epoch}/{epochs}  {train}  {test}  {last.seconds:.1f} s"


@contextlib.contextmanager
def _progress(epochs: int, interruption: Interruption) -> Iterator[tuple[OnStep, OnEpoch]]:
    """Print one line per epoch, and a progress bar on a terminal, to standard error.

    After a signal, the yielded step callback raises `KeyboardInterrupt`.
    """
    columns = rich.progress.TextColumn("epoch {task.fields[epoch]}"), rich.progress.MofNCompleteColumn()
    with training_progress(*columns, total=None, epoch=1) as (update, print_line):

        def on_step(epoch: int, step: int, steps: int) -> None:
            if interruption.signal_number:
                raise KeyboardInterrupt
            update(total=steps * epochs, completed=steps * (epoch - 1) + step, epoch=epoch)

        yield on_step, lambda history: print_line(_epoch_line(history, epochs))
