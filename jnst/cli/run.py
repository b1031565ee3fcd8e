"""What `jnst stylize`, `jnst synthesize` and `jnst reconstruct` have in common."""

import abc
import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

from jnst.cli.inputs import remark
from jnst.cli.progress import interruptible, log, progress
from jnst.cli.reporting import ReportFlag
from jnst.cli.settings import SettingsFlags
from jnst.cli.watching import Saved, WatchingFlags, described, finishing
from jnst.errors import JnstError, NumericsError
from jnst.io import check_output, save_image
from jnst.optimize import Report
from jnst.pictures import INITS
from jnst.presets import Preset, preset
from jnst.stylize import Solution


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputFlag:
    """What stands first in the help."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """The picture to write: .png, .jpg, .webp or .tif."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(ReportFlag, WatchingFlags, SettingsFlags, OutputFlag, abc.ABC):
    """Flags and course of a command that makes a picture by optimisation."""

    init: str = "content"
    """Where to start: content, style, noise, or a picture file."""

    bit_depth: Literal[8, 16] = 8
    """16 for PNG and TIFF only."""
    quality: int = 95
    """For JPEG and WebP, 1 to 100."""
    log: Annotated[Path | None, tyro.conf.arg(metavar="FILE.jsonl")] = None
    """Write one JSON line a step: every weighted term, and the seconds."""
    force: bool = False
    """Allow the output to be written over an input."""

    def settings(self) -> Preset:
        """The preset with the flags put in."""
        settings = super().settings()
        return preset(settings, init=self.init) if self.init in INITS else settings

    def inputs(self) -> tuple[Path, ...]:
        """The files that are read."""
        return () if self.init in INITS else (Path(self.init),)

    @abc.abstractmethod
    def load(self, settings: Preset) -> dict[str, Any]:
        """The pictures, by the names of the arguments of `solve`'s function."""

    @abc.abstractmethod
    def solve(self, **arguments: Any) -> Solution:
        """Make the picture."""

    def run(self) -> int:
        """Read the pictures, optimise, write the result."""
        settings = self.settings()
        self._check_files()
        pictures = self.load(settings)
        backbone, params = self.network(settings)
        if pictures.get("size") is None:
            settings = preset(settings, style_scale=1.0)
        remark(settings, self.preset, backbone)
        shown, finish = described(settings, self.preset, backbone, self.inputs()), finishing(settings, pictures)
        begun = time.perf_counter()
        with self.watching(Saved(self.output, self.bit_depth, self.quality), shown, finish) as watch:
            with interruptible() as interruption, progress() as show, log(self.log) as write:

                def listen(report: Report) -> bool:
                    show(report)
                    write(report)
                    watch.listen(report)
                    return bool(interruption.signal_number)

                common = {"params": params, "backbone": backbone, "preset": settings, "callback": listen}
                solution = self._solve(common | pictures | {"chunk": self.chunk(settings)})
            about = {"seed": self.seed, "seconds": time.perf_counter() - begun}
            self._save(solution)
            watch.end(solution.image)
        self.save_run_report(self.output, solution, pictures, settings, backbone, about)
        return 128 + interruption.signal_number if interruption.signal_number else 0

    def _check_files(self) -> None:
        inputs = self.inputs()
        check_output(self.output, inputs=inputs, force=self.force, bit_depth=self.bit_depth, quality=self.quality)
        others = (*inputs, self.output, *filter(None, [self.weights]))
        if self.log and self.log.resolve() in {Path(path).resolve() for path in others}:
            raise JnstError(f"--log {self.log} is also a file that is read or written otherwise: name another")
        read = (*inputs, *filter(None, [self.weights, self.log]))
        self.check_watching(self.output, [Path(path) for path in read], self.force)
        self.check_report((*others, *filter(None, [self.log])))

    def _solve(self, arguments: dict[str, Any]) -> Solution:
        try:
            return self.solve(key=jax.random.key(self.seed), **arguments)
        except NumericsError as error:
            if isinstance(error.result, Solution) and len(error.result.losses) > 1:
                with contextlib.suppress(JnstError):
                    self._save(error.result)
            raise

    def _save(self, solution: Solution) -> None:
        save_image(self.output, solution.image, bit_depth=self.bit_depth, quality=self.quality)
        height, width = solution.image.shape[:2]
        loss = f", loss {solution.losses[0]:.5g} to {solution.losses[-1]:.5g}" if len(solution.losses) else ""
        print(f"{self.output}: {width}x{height}, {len(solution.losses)} steps{loss}")
