"""`jnst train distill`: distil the embedded network again."""

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from jnst.apps.cli.interruption import TRAINING_GRACE, interruptible
from jnst.apps.cli.outputs import check_outputs, stopped_line
from jnst.apps.training.data import load_folder
from jnst.apps.training.distill import (
    Recipe,
    Record,
    held_out_losses,
    init_mini,
    make_held_out_pairs,
    split_images,
    train_student,
)
from jnst.errors import ArgumentError
from jnst.weights import Weights, save_weights
from jnst.weights.convert import flatten
from jnst.weights.files import write_atomically

LICENCE = "CC-BY-4.0"
"""Licence of Oxford's VGG networks, from which the student is derived."""


@dataclasses.dataclass(frozen=True)
class Distill:
    """Distil VGG19 into the small network that the package includes.

    DIR contains photographs and paintings. Every seventh image is held out for evaluation.
    """

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """Folder of images, searched recursively."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE.safetensors")]
    """Weights file to write, in float16."""
    vgg19: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """Weights of Oxford's VGG19, at least up to conv4_1."""

    steps: int = Recipe.steps
    """Number of training steps."""
    crop: int = Recipe.crop
    """Side of the crops in pixels."""
    seed: int = Recipe.seed
    """Seed of the crops, their augmentation and their order."""
    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Save the complete training state to this file every 20 steps."""
    resume: bool = False
    """Continue from the checkpoint."""
    log: Annotated[Path | None, tyro.conf.arg(metavar="FILE.jsonl")] = None
    """Write one JSON line every 20 steps."""
    force: bool = False
    """Overwrite existing files."""

    def run(self) -> int:
        """Train the network and write its weights."""
        if self.resume and self.checkpoint is None:
            raise ArgumentError("--resume needs the file to continue from: add --checkpoint FILE")
        files = {"--output": self.output, "--checkpoint": self.checkpoint, "--log": self.log}
        check_outputs(files, resume=self.resume, force=self.force)
        recipe = Recipe(steps=self.steps, crop=self.crop, seed=self.seed)
        images, held_out = split_images(load_folder(self.directory))
        with interruptible(grace=TRAINING_GRACE) as interruption:
            setup, teacher_params, state = init_mini(self.vgg19, images, recipe)
            pairs = make_held_out_pairs(state.student, teacher_params, held_out, setup)
            state = train_student(
                setup,
                state,
                teacher_params,
                images,
                checkpoint=self.checkpoint,
                resume=self.resume,
                evaluate=lambda student: held_out_losses(student, pairs, teacher_params, setup),
                on_record=self._logger(recipe.steps),
                stop=lambda: bool(interruption.signal_number),
            )
        if state.step < recipe.steps:
            print(stopped_line(self.checkpoint), file=sys.stderr)
            return 128 + interruption.signal_number
        student, params = setup.student, flatten(state.student.params)
        weights = Weights(
            architecture=student.name,
            params=params,
            preprocessing=student.preprocessing,
            training=student.training,
            source=f"jnst train distill: {len(images)} images, {recipe.steps} steps, seed {recipe.seed}",
            licence=LICENCE,
        )
        save_weights(self.output, weights, dtype="float16")
        print(f"{self.output}: {student.name}, {sum(array.size for array in params.values()):,} parameters")
        return 0

    def _logger(self, steps: int) -> Callable[[Record], None]:
        """Return a function that prints each log record and writes it to the log file."""
        start = time.perf_counter()
        lines = [self.log.read_bytes()] if self.log is not None and self.resume and self.log.exists() else []

        def log(record: Record) -> None:
            seconds = time.perf_counter() - start
            print(_record_line(record, steps, seconds), file=sys.stderr, flush=True)
            lines.append((json.dumps(record | {"seconds": round(seconds, 1)}) + "\n").encode())
            if self.log is not None:
                write_atomically(self.log, b"".join(lines))

        return log


def _record_line(record: Record, steps: int, seconds: float) -> str:
    names = ("total", "images", "styles", "pull", "held_out/total", "held_out/images", "held_out/pull")
    parts = "  ".join(f"{name} {record[name]:.4f}" for name in names if name in record)
    return f"step {record['step']:.0f}/{steps}  {parts}  {seconds:.0f} s"
