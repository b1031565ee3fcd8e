"""`jnst train`: networks of one's own."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import rich.console
import rich.progress
import tyro

from jnst.apps.cli.distill import Distill
from jnst.apps.cli.interruption import TRAINING_GRACE, Interruption, interruptible
from jnst.apps.cli.outputs import check_outputs, stopped_line
from jnst.apps.training.classifier import Settings
from jnst.apps.training.data import Dataset, load_dataset
from jnst.apps.training.fit import Epoch, OnEpoch, OnStep, Trained, train_classifier
from jnst.apps.training.plot import check_plot, save_plot
from jnst.backbones import Backbone, Widths, format_widths, make_backbone, parse_widths
from jnst.errors import ArgumentError
from jnst.weights import Weights, save_weights
from jnst.weights.convert import flatten
from jnst.weights.files import write_atomically

SIDES = 2
"""Images are kept at this many times the side of a crop, so that crops of a quarter of the area lose nothing."""


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Train a small network from scratch to tell classes of images apart, for `jnst stylize --weights FILE`.

    DIR holds one folder for each class, and in it the images.
    """

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The folder of class folders."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE.safetensors")]
    """The weights file to write: the network without its classifying head."""

    epochs: int = 10
    """How often every image is seen."""
    batch_size: int = 32
    """Images in a step."""
    size: int = 224
    """The side of the crops in pixels."""
    learning_rate: float = 1e-3
    """Of Adam."""
    weight_decay: float = 0.0
    """Decoupled (AdamW), of kernels only."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The learning rate over time."""
    widths: str = "16/32/64"
    """Filters of each convolution; slashes are poolings, as in 32,32/64,64."""
    seed: int = 0
    """Of the split, the first parameters, the order and the crops."""
    bfloat16: bool = False
    """Compute convolutions in bfloat16; parameters stay float32."""
    held_out: float = 0.2
    """The fraction of each class that is tested on and not trained on."""

    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the whole state here after each epoch."""
    resume: bool = False
    """Continue from the checkpoint."""
    log: Annotated[Path | None, tyro.conf.arg(metavar="FILE.jsonl")] = None
    """Write one JSON line an epoch."""
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE.png")] = None
    """Draw loss and accuracy over the epochs (needs matplotlib: pip install jnst[plots])."""
    licence: str = "unspecified"
    """Noted in the weights file."""
    force: bool = False
    """Write over existing files."""

    def run(self) -> int:
        """Read the images, train, write the weights."""
        self._check_files()
        widths = parse_widths(self.widths)
        backbone, settings = make_backbone("convnet", widths=widths, training="classifier"), self._settings()
        dataset = load_dataset(self.directory, held_out=self.held_out, seed=self.seed, side=SIDES * self.size)
        _remark(dataset)
        with interruptible(grace=TRAINING_GRACE) as interruption, _progress(settings, interruption) as (on_step, show):

            def on_epoch(history: Sequence[Epoch]) -> None:
                show(history)
                self._report(history)

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
        self._report(trained.history)
        self._save(trained, dataset, backbone, widths)
        return 0

    def _settings(self) -> Settings:
        same = {field.name for field in dataclasses.fields(Settings)} & {
            field.name for field in dataclasses.fields(self)
        }
        values: dict[str, Any] = {name: getattr(self, name) for name in same}
        return Settings(**values, dtype="bfloat16" if self.bfloat16 else "float32")

    def _check_files(self) -> None:
        if self.resume and self.checkpoint is None:
            raise ArgumentError("--resume without --checkpoint: expected the file to continue from; add --checkpoint FILE")
        if self.plot is not None:
            check_plot(self.plot)
        check_outputs(
            {"--output": self.output, "--checkpoint": self.checkpoint, "--log": self.log, "--plot": self.plot},
            resume=self.resume,
            force=self.force,
        )

    def _report(self, history: Sequence[Epoch]) -> None:
        if self.log is not None:
            lines = "".join(json.dumps(dataclasses.asdict(epoch)) + "\n" for epoch in history)
            write_atomically(self.log, lines.encode())
        if self.plot is not None:
            save_plot(self.plot, history)

    def _save(self, trained: Trained, dataset: Dataset, backbone: Backbone, widths: Widths) -> None:
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
    """Train networks of one's own."""

    command: (
        Annotated[Classifier, tyro.conf.subcommand("classifier")] | Annotated[Distill, tyro.conf.subcommand("distill")]
    )

    def run(self) -> int:
        """Run the command."""
        return self.command.run()


def _remark(dataset: Dataset) -> None:
    """Say what is trained on, and what is not."""
    if jax.default_backend() == "cpu":
        print("jnst: no GPU or TPU found, running on the CPU", file=sys.stderr)
    for fault in dataset.damaged:
        print(f"jnst: left out: {fault}", file=sys.stderr)
    counts = f"{len(dataset.train)} images to train on, {len(dataset.test)} held out"
    print(f"jnst: {len(dataset.classes)} classes ({', '.join(dataset.classes)}), {counts}", file=sys.stderr)


def _line(history: Sequence[Epoch], epochs: int) -> str:
    last = history[-1]
    train = f"train loss {last.train_loss:.4f} accuracy {last.train_accuracy:.3f}"
    test = f"test loss {last.test_loss:.4f} accuracy {last.test_accuracy:.3f}"
    return f"epoch {last.epoch}/{epochs}  {train}  {test}  {last.seconds:.1f} s"


@contextlib.contextmanager
def _progress(settings: Settings, interruption: Interruption) -> Iterator[tuple[OnStep, OnEpoch]]:
    """One line an epoch, and on a terminal a bar; on standard error. A signal ends the run between two steps."""
    console = rich.console.Console(stderr=True)
    columns = (
        rich.progress.TextColumn("epoch {task.fields[epoch]}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, epoch=1)

        def on_step(epoch: int, step: int, steps: int) -> None:
            if interruption.signal_number:
                raise KeyboardInterrupt
            bar.update(task, total=steps * settings.epochs, completed=steps * (epoch - 1) + step, epoch=epoch)

        def on_epoch(history: Sequence[Epoch]) -> None:
            line = _line(history, settings.epochs)
            if console.is_terminal:
                bar.console.print(line, highlight=False)
            else:
                print(line, file=sys.stderr, flush=True)

        yield on_step, on_epoch
