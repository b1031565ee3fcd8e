"""The files that commands write: images, logs, films and reports, and the checks before the work begins."""

import contextlib
import dataclasses
import ipaddress
import itertools
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import tyro

from jnst.apps.animate import FRAMES, Film, Snapshots, film_format
from jnst.apps.cli.arguments import optional
from jnst.apps.io import check_output, save_image
from jnst.apps.preview import Preview, serve
from jnst.backbones import Backbone
from jnst.errors import ArgumentError, JnstError
from jnst.images import SEAMLESS
from jnst.presets import Preset
from jnst.presets.overrides import setting
from jnst.solve import Solution
from jnst.solve.driver import CHUNK
from jnst.transfer import Report
from jnst.types import Image
from jnst.weights.files import shown

command_line: ContextVar[tuple[str, ...]] = ContextVar("command_line", default=())
"""The arguments of the command that is running."""

ALONE: dict[str, tuple[str, Callable[[str], bool]]] = {
    "--preview": ("0", str.isdecimal),
    "--seamless": ("both", SEAMLESS.__contains__),
}
"""Flags that need no value: the value without one, and whether what follows is a value."""

PREVIEWED = (
    *("size", "num_steps", "optimizer", "content_layers", "style_layers", "content_weight", "style_weight"),
    *("tv_weight", "style_scale", "init", "pyramid", "average", "bounds", "pooling", "padding"),
)
"""The settings that a preview page shows, unless they are None, False, 0 or empty."""
CAPTIONS = {"content": "content", "style": "style", "init": "start", "masks": "mask", "style_masks": "style mask"}
"""Captions of the images and masks that `jnst.stylize` and its relatives take, by the arguments' names."""


def check_outputs(files: Mapping[str, Path | None], *, resume: bool, force: bool) -> None:
    """Fail before the work begins if a file cannot be written, or exists and must not be replaced.

    Args:
        files: Files by flag.
        resume: Whether a run continues. Existing files, except that of ``--output``, are then extended.
        force: Whether existing files may be replaced.

    Raises:
        ArgumentError: A file cannot be written, exists, or is named twice.
    """
    given = {flag: path for flag, path in files.items() if path is not None}
    if len({path.absolute() for path in given.values()}) < len(given):
        names = ", ".join(map(str, given.values()))
        raise ArgumentError(f"{names}: two of them are the same file; choose a name for each")
    for flag, path in given.items():
        _check_writable(flag, path, replace=force or (resume and flag != "--output"))


def _check_writable(flag: str, path: Path, *, replace: bool) -> None:
    if path.exists() and not path.is_file():
        raise ArgumentError(f"{flag} {path}: is not a regular file: choose another name")
    if path.exists() and not replace:
        resume = "--resume to continue from it, " if flag == "--checkpoint" else ""
        raise ArgumentError(f"{flag} {path} exists: choose another name, {resume}or --force to overwrite it")
    try:
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise ArgumentError(
            f"{flag} {path}: its folder cannot be written to ({error.strerror}): create it, or choose another"
        ) from error


def check_distinct(flag: str, path: Path, others: Iterable[Path]) -> None:
    """Fail if a file to be written is also one of the others.

    Raises:
        ArgumentError: It is.
    """
    if path.resolve() in {other.resolve() for other in others}:
        raise ArgumentError(f"{flag} {path} is also a file that is read or written otherwise: choose another name")


def stopped_line(checkpoint: Path | None) -> str:
    """The message for a run that was interrupted."""
    if checkpoint is None or not checkpoint.exists():
        return "jnst: stopped before the end: there is no --checkpoint to continue from"
    return f"jnst: stopped before the end: continue from {checkpoint} with --resume"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """Flags for the image that a command writes."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """Image file to write: .png, .jpg, .webp or .tif."""
    bit_depth: Literal[8, 16] = 8
    """Bits per sample: 8, or 16 for PNG and TIFF."""
    quality: int = 95
    """Quality of JPEG and WebP, from 1 to 100."""
    force: bool = False
    """Allow the output to replace an input, and a new checkpoint to replace an old one."""

    def outputs(self) -> tuple[Path, ...]:
        """The image files that are written."""
        return (self.output,)

    def check_output(self, inputs: Iterable[Path], side: int | None = None) -> None:
        """Fail before the run if the image, with a longer side of so many pixels, could not be written.

        Raises:
            ArgumentError: See `jnst.apps.io.check_output`.
        """
        for path in self.outputs():
            check_output(
                path, inputs=inputs, force=self.force, bit_depth=self.bit_depth, quality=self.quality, side=side
            )

    def save_image(self, image: Image, alpha: np.ndarray | None = None) -> None:
        """Write the image, with how opaque it is."""
        save_image(self.output, image, alpha=alpha, bit_depth=self.bit_depth, quality=self.quality)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchingFlags(OutputFlags):
    """Flags for watching a run, and for keeping what it does on its way."""

    log: Annotated[Path | None, optional("FILE.jsonl")] = None
    """Write one JSON line per step, with every weighted term of the loss and the seconds so far."""
    save_every: Annotated[int | None, optional("N")] = None
    """Save the image every N steps, next to the output: out-0100.png."""
    animate: Annotated[Path | None, optional("FILE.webp|gif")] = None
    """Make a film, with a frame every --save-every steps, or with about 48 frames."""
    preview: Annotated[int | None, optional("[PORT]")] = None
    """Serve a page that shows the run, at a free port unless PORT is given."""
    preview_host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    """IP address of the page. At any other than 127.0.0.1, everybody who can reach it can watch."""

    def check_watching(self, others: Sequence[Path]) -> None:
        """Fail before the run if one of the flags cannot be obeyed.

        Args:
            others: The files that are read or written otherwise.

        Raises:
            ArgumentError: A number below 1, an unknown suffix of a film, or a file that cannot or must not be written.
        """
        if self.save_every is not None and self.save_every < 1:
            raise ArgumentError(f"--save-every {self.save_every}: expected a number of steps, at least 1")
        taken = [] if self.force else [path.resolve() for path in others]
        if self.animate is not None:
            film_format(self.animate)
            check_outputs({"--output": self.output, "--animate": self.animate}, resume=False, force=True)
            check_distinct("--animate", self.animate, taken)
        if self.save_every is not None:
            whole = self.output.resolve()
            name = re.compile(rf"{re.escape(whole.stem)}-\d+{re.escape(whole.suffix)}")
            for path in taken:
                if path.parent == whole.parent and name.fullmatch(path.name):
                    raise ArgumentError(
                        f"--save-every would overwrite {path.name}: choose another output, or allow it with --force"
                    )

    def chunk(self, settings: Preset) -> int | None:
        """The number of steps of one compiled program, such that images are available when needed; None: any."""
        if jax.default_backend() == "cpu" or (self.save_every is None and self.animate is None):
            return None
        if self.save_every is None:
            return max(1, min(CHUNK, max(settings.schedule.num_steps) // FRAMES))
        return max(number for number in range(1, CHUNK + 1) if self.save_every % number == 0)

    @contextlib.contextmanager
    def watching(self, facts: Mapping[str, object]) -> Iterator["Watchers"]:
        """Do what the flags ask for.

        Args:
            facts: What the preview page shows about the run, by name.

        Raises:
            ArgumentError: The page's port or address is not available.
        """
        with contextlib.ExitStack() as stack:
            watchers = Watchers([], [], [])
            if self.save_every is not None:
                snapshots = Snapshots(self.output, self.save_every, bit_depth=self.bit_depth, quality=self.quality)
                watchers.steps.append(_until_it_fails(snapshots))
            if self.preview is not None:
                preview = stack.enter_context(self._page(facts))
                watchers.steps.append(preview)
                watchers.results.append(preview.show)
                watchers.waits.append(preview.wait)
            if self.animate is not None:
                film = Film(self.save_every)
                watchers.steps.append(film)
                watchers.results.append(lambda image: self._save_film(film, image))
            yield watchers

    @contextlib.contextmanager
    def _page(self, facts: Mapping[str, object]) -> Iterator[Preview]:
        with serve(self.preview or 0, self.preview_host, title=self.output.name, settings=facts) as preview:
            print(f"jnst: preview at {preview.address}", file=sys.stderr, flush=True)
            if not ipaddress.ip_address(self.preview_host).is_loopback:
                warning = f"everybody who can reach {self.preview_host} can watch, there is no password"
                print(f"jnst: {warning} (--preview-host)", file=sys.stderr, flush=True)
            yield preview

    def _save_film(self, film: Film, image: Image) -> None:
        assert self.animate is not None
        frames = film.save(self.animate, image)
        print(f"{self.animate}: {image.shape[1]}x{image.shape[0]}, {frames} frames")


class Watchers(NamedTuple):
    """Functions that are called during a run.

    Attributes:
        steps: With every report.
        results: With the result, ``(h, w, 3)``.
        waits: With what the run waits for, in words.
    """

    steps: list[Callable[[Report], None]]
    results: list[Callable[[Image], None]]
    waits: list[Callable[[str], None]]


def _until_it_fails(save: Callable[[Report], None]) -> Callable[[Report], None]:
    """Do not end the run because intermediate images cannot be written any more."""
    failed = False

    def listen(report: Report) -> None:
        nonlocal failed
        if failed:
            return
        try:
            save(report)
        except JnstError as error:
            failed = True
            print(f"jnst: no more intermediate images: {error}", file=sys.stderr)

    return listen


def preview_facts(settings: Preset, name: str, backbone: Backbone, files: Sequence[Path]) -> dict[str, str]:
    """What a preview page shows about a run.

    Args:
        settings: The preset, overridden by flags.
        name: The preset's name.
        backbone: The network.
        files: The images that are read.
    """
    facts: dict[str, object] = {"images": tuple(path.name for path in files), "preset": name, "network": backbone.name}
    facts |= {field.replace("_", " "): setting(settings, field) for field in PREVIEWED}
    facts |= {"keep color": settings.keep_color, "seamless": settings.seamless}
    return {fact: _in_words(value) for fact, value in facts.items() if value}


def _in_words(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_in_words, value))
    if dataclasses.is_dataclass(value):
        fields = {field.name.replace("_", " "): getattr(value, field.name) for field in dataclasses.fields(value)}
        return (
            f"{type(value).__name__}: {', '.join(f'{name} {_in_words(part)}' for name, part in fields.items() if part)}"
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def with_values(args: Sequence[str]) -> list[str]:
    """The command line with a value after every flag that may stand alone: see `ALONE`."""
    result: list[str] = []
    for arg, following in itertools.zip_longest(args, args[1:], fillvalue=""):
        result.append(arg)
        value, is_value = ALONE.get(arg, ("", lambda _: True))
        if not is_value(following):
            result.append(value)
    return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportFlag:
    """The flag of commands that can write a report."""

    report: Annotated[tuple[Path, ...] | None, optional("[FILE.html]")] = None
    """Write an HTML page with images, losses, settings and versions, next to the output unless FILE is given."""

    def check_report(self, others: Iterable[str | os.PathLike[str]]) -> None:
        """Fail before the work begins if the report could not be written.

        Args:
            others: The files that are read or written otherwise.

        Raises:
            ArgumentError: Several names, the name of another file, a folder that cannot be written to, or a package
                that is not installed.
        """
        if self.report is not None:
            from jnst.apps.report import check_installed

            check_installed()
        if not self.report:
            return
        path, *more = self.report
        if more:
            names = ", ".join(map(shown, self.report))
            raise ArgumentError(f"--report {names}: expected at most one file; put the images in front of the flags")
        if path.suffix.lower() not in (".html", ".htm"):
            raise ArgumentError(
                f"--report {shown(path)}: expected a name that ends in .html; put the images in front of the flags"
            )
        check_distinct("--report", path, map(Path, others))
        check_outputs({"--report": path}, resume=False, force=True)

    def save_run_report(
        self,
        output: Path,
        solution: Solution,
        arguments: Mapping[str, Any],
        settings: Preset,
        backbone: Backbone,
        about: Mapping[str, Any],
    ) -> None:
        """Write a report about one run, if the flag is given.

        Args:
            output: The image that was written.
            solution: The run.
            arguments: The arguments of the run's function: its images are shown.
            settings: The preset, overridden by flags.
            backbone: The network.
            about: Further facts.
        """
        if self.report is None:
            return
        from jnst.apps.report import run_page

        command, images = _command(), images_of(arguments)
        page = run_page(solution, images, settings, backbone, title=output.name, command=command, about=about)
        self._write_report(output.with_suffix(".html"), page)

    def save_catalogue_report(self, folder: Path) -> None:
        """Write a report about a folder of images, if the flag is given."""
        if self.report is None:
            return
        from jnst.apps.report import catalogue_page

        self._write_report(folder / "report.html", catalogue_page(folder, command=_command()))

    def _write_report(self, default: Path, page: Any) -> None:
        from jnst.apps.report import save_page

        path = self.report[0] if self.report else default
        save_page(path, page)
        print(f"{path}: report")


def images_of(arguments: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The images and masks among a function's arguments, ``(h, w, 3)``, by caption."""
    found: dict[str, np.ndarray] = {}
    for name, caption in CAPTIONS.items():
        value = arguments.get(name)
        several = value if isinstance(value, list | tuple) else [value]
        images = [np.asarray(part) for part in several if part is not None and not isinstance(part, str)]
        for number, image in enumerate(images, start=1):
            label = caption if len(images) == 1 else f"{caption} {number}"
            found[label] = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    return found


def _command() -> str:
    return shlex.join(("jnst", *command_line.get()))
