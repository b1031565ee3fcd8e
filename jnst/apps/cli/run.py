"""What `jnst stylize`, `jnst synthesize` and `jnst reconstruct` have in common."""

import abc
import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

import jnst
from jnst.apps.catalogue.digest import NUMERICS, file_hash, network_digest, settings_json
from jnst.apps.cli.checkpointing import CheckpointFlags, Keeper
from jnst.apps.cli.inputs import remark
from jnst.apps.cli.interruption import interruptible
from jnst.apps.cli.outputs import stopped_line
from jnst.apps.cli.progress import log, progress
from jnst.apps.cli.reporting import ReportFlag
from jnst.apps.cli.settings import SettingsFlags
from jnst.apps.cli.watching import Saved, WatchingFlags, described, finishing
from jnst.apps.io import check_output, save_image
from jnst.backbones import Backbone
from jnst.errors import ArgumentError, JnstError, NumericsError
from jnst.presets import Preset, preset
from jnst.solve.run import Report
from jnst.transfer.inputs import INITS
from jnst.transfer.stylize import Solution
from jnst.types import Image, Params

DEPENDS = ("seed", "style_weights", "shape")
"""The flags on which an image depends beside its settings, its network and its images."""
IMAGES = ("content", "style", "mask", "style_mask")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputFlag:
    """What stands first in the help."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """The image to write: .png, .jpg, .webp or .tif."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(ReportFlag, WatchingFlags, CheckpointFlags, SettingsFlags, OutputFlag, abc.ABC):
    """Flags and course of a command that makes an image by optimisation."""

    init: str = "content"
    """Where to start: content, style, noise, or an image file."""

    bit_depth: Literal[8, 16] = 8
    """16 for PNG and TIFF only."""
    quality: int = 95
    """For JPEG and WebP, 1 to 100."""
    log: Annotated[Path | None, tyro.conf.arg(metavar="FILE.jsonl")] = None
    """Write one JSON line a step: every weighted term, and the seconds."""
    force: bool = False
    """Allow the output to be written over an input, and the checkpoint over another."""

    def settings(self) -> Preset:
        """The preset with the flags put in."""
        settings = super().settings()
        return preset(settings, init=self.init) if self.init in INITS else settings

    def inputs(self) -> tuple[Path, ...]:
        """The files that are read."""
        return () if self.init in INITS else (Path(self.init),)

    @abc.abstractmethod
    def load(self, settings: Preset) -> dict[str, Any]:
        """The images, by the names of the arguments of `solve`'s function."""

    @abc.abstractmethod
    def solve(self, **arguments: Any) -> Solution:
        """Make the image."""

    def run(self) -> int:
        """Read the images, optimise, write the result."""
        settings = self.settings()
        self._check_files()
        images = self.load(settings)
        backbone, params = self.network(settings)
        if images.get("size") is None:
            settings = preset(settings, style_scale=1.0)
        remark(settings, self.preset, backbone)
        shown, finish = described(settings, self.preset, backbone, self.inputs()), finishing(settings, images)
        keeper = self.keeper(
            lambda: self._about(settings, backbone, params),
            settings.num_steps,
            lambda image: self._save_image(finish(image)),
        )
        with (
            self.watching(Saved(self.output, self.bit_depth, self.quality), shown, finish) as watch,
            interruptible(keeper.last_resort) as interruption,
        ):
            with progress() as show, log(self.log) as write:
                for report in keeper.records.reports():
                    write(report)

                def listen(report: Report) -> bool:
                    report = keeper.listen(report)
                    show(report)
                    write(report)
                    watch.listen(report)
                    return bool(interruption.signal_number)

                common = {"params": params, "backbone": backbone, "preset": settings, "callback": listen}
                solution = self._solve(common | images | {"chunk": self.chunk(settings), "state": keeper.state}, keeper)
            whole = keeper.whole(solution)
            keeper.end(lambda: self._save(whole), solution)
            watch.end(solution.image)
        if interruption.signal_number and self.checkpoint is not None:
            print(stopped_line(self.checkpoint), file=sys.stderr)
        about = {"seed": self.seed, "seconds": keeper.records.seconds}
        self.save_run_report(self.output, whole, images, settings, backbone, about)
        return 128 + interruption.signal_number if interruption.signal_number else 0

    def _check_files(self) -> None:
        inputs = self.inputs()
        check_output(self.output, inputs=inputs, force=self.force, bit_depth=self.bit_depth, quality=self.quality)
        others = (*inputs, self.output, *filter(None, [self.weights]))
        if self.log and self.log.resolve() in {Path(path).resolve() for path in others}:
            raise ArgumentError(f"--log {self.log} is also a file that is read or written otherwise: name another")
        read = (*inputs, *filter(None, [self.weights, self.log]))
        self.check_watching(self.output, [Path(path) for path in read], self.force)
        self.check_report((*others, *filter(None, [self.log])))
        written = filter(None, [self.log, self.animate, *(self.report or ())])
        self.check_checkpoint([Path(path) for path in (*others, *written)], self.force)

    def _about(self, settings: Preset, backbone: Backbone, params: Params) -> dict[str, Any]:
        """What a run is: what must be the same where it goes on (the steps are compared otherwise), and versions."""
        same = {"command": type(self).__name__.lower(), "numerics": NUMERICS} | settings_json(settings)
        del same["num_steps"]
        same |= {name: getattr(self, name) for name in DEPENDS if hasattr(self, name)}
        same |= {"network": f"{backbone.name}, {backbone.training} weights", "params": network_digest(backbone, params)}
        for name in IMAGES:
            files = getattr(self, name, ())
            same[name] = file_hash(files) if isinstance(files, Path) else [file_hash(path) for path in files]
        if self.init not in INITS:
            same["init"] = file_hash(Path(self.init))
        return {"run": same, "jnst": jnst.__version__, "jax": jax.__version__}

    def _solve(self, arguments: dict[str, Any], keeper: Keeper) -> Solution:
        try:
            return self.solve(key=jax.random.key(self.seed), **arguments)
        except NumericsError as error:
            if isinstance(error.result, Solution):
                whole = keeper.whole(error.result)
                with contextlib.suppress(JnstError):
                    keeper.end(lambda: self._save(whole) if len(whole.losses) > 1 else None, None)
            raise

    def _save(self, solution: Solution) -> None:
        self._save_image(solution.image)
        height, width = solution.image.shape[:2]
        loss = f", loss {solution.losses[0]:.5g} to {solution.losses[-1]:.5g}" if len(solution.losses) else ""
        print(f"{self.output}: {width}x{height}, {len(solution.losses)} steps{loss}")

    def _save_image(self, image: Image) -> None:
        save_image(self.output, image, bit_depth=self.bit_depth, quality=self.quality)
