"""`jnst train distill`: the network that comes with the package, trained again."""

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
from jnst.apps.training.crops import load_folder
from jnst.apps.training.distill import Recipe
from jnst.apps.training.held_out import hold_out, measure, split
from jnst.apps.training.mini import Record, begin, load_teachers, train
from jnst.errors import ArgumentError
from jnst.weights import Weights, save_weights
from jnst.weights.convert import flatten
from jnst.weights.files import write_atomically

LICENCE = "CC-BY-4.0"
"""Of Oxford's VGG networks, from which the student descends."""


@dataclasses.dataclass(frozen=True)
class Distill:
    """Distil VGG19 into the small network that comes with the package.

    DIR holds images: photographs and paintings. Every seventh is held out and only looked at.
    """

    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """The folder of images, searched through."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE.safetensors")]
    """The weights file to write (float16)."""
    vgg19: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """Oxford's VGG19, up to conv3_4 at least."""
    slim: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """The slim VGG19 (Wang et al. 2020), which teaches what lies deeper."""

    steps: int = Recipe.steps
    """Updates of the student."""
    crop: int = Recipe.crop
    """Side of the crops in pixels."""
    seed: int = Recipe.seed
    """Of crops, changes and order."""
    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the whole state here every 20 steps."""
    resume: bool = False
    """Continue from the checkpoint."""
    log: Annotated[Path | None, tyro.conf.arg(metavar="FILE.jsonl")] = None
    """Write one JSON line every 20 steps."""
    force: bool = False
    """Write over existing files."""

    def run(self) -> int:
        """Train and write the weights."""
        if self.resume and self.checkpoint is None:
            raise ArgumentError("--resume without --checkpoint: expected the file to continue from; add --checkpoint FILE")
        files = {"--output": self.output, "--checkpoint": self.checkpoint, "--log": self.log}
        check_outputs(files, resume=self.resume, force=self.force)
        recipe = Recipe(steps=self.steps, crop=self.crop, seed=self.seed)
        teachers, params = load_teachers(self.vgg19, self.slim)
        images, unseen = split(load_folder(self.directory))
        with interruptible(grace=TRAINING_GRACE) as interruption:
            setup, training = begin(teachers, params, images, recipe)
            held = hold_out(training.student, params, unseen, setup)
            training = train(
                setup,
                training,
                params,
                images,
                checkpoint=self.checkpoint,
                resume=self.resume,
                measure=lambda trained: measure(trained, held, params, setup),
                on_record=self._noting(recipe.steps),
                stop=lambda: bool(interruption.signal_number),
            )
        if training.step < recipe.steps:
            print(stopped_line(self.checkpoint), file=sys.stderr)
            return 128 + interruption.signal_number
        source = f"jnst train distill: {len(images)} images, {recipe.steps} steps, seed {recipe.seed}"
        student, flat = setup.backbone, flatten(training.student.params)
        weights = Weights(
            architecture=student.name,
            params=flat,
            preprocessing=student.preprocessing,
            training=student.training,
            source=source,
            licence=LICENCE,
            options={"padding": "reflect"},
        )
        save_weights(self.output, weights, dtype="float16")
        print(f"{self.output}: {student.name}, {sum(array.size for array in flat.values()):,} parameters")
        return 0

    def _noting(self, steps: int) -> Callable[[Record], None]:
        """Print each line of the log, and write it."""
        begun = time.perf_counter()
        old = self.log.read_bytes() if self.log and self.resume and self.log.exists() else b""
        lines = [old] if old else []

        def note(record: Record) -> None:
            seconds = time.perf_counter() - begun
            print(_line(record, steps, seconds), file=sys.stderr, flush=True)
            lines.append((json.dumps(record | {"seconds": round(seconds, 1)}) + "\n").encode())
            if self.log is not None:
                write_atomically(self.log, b"".join(lines))

        return note


def _line(record: Record, steps: int, seconds: float) -> str:
    names = ("total", "images", "styles", "pull", "held_out/total", "held_out/images", "held_out/pull")
    parts = "  ".join(f"{name} {record[name]:.4f}" for name in names if name in record)
    return f"step {record['step']:.0f}/{steps}  {parts}  {seconds:.0f} s"
