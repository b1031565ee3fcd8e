"""The flags with which a run is watched, and kept on its way: a page, intermediate images, a film."""

import contextlib
import dataclasses
import ipaddress
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import tyro

from jnst.apps.animate import FRAMES, Film, Snapshots, film_format
from jnst.apps.cli.outputs import check_outputs
from jnst.apps.preview import Preview, serve
from jnst.backbones import Backbone
from jnst.errors import ArgumentError, JnstError
from jnst.images import resize, size_of
from jnst.images.keep_colour import KEEP_COLOUR
from jnst.presets import Preset
from jnst.solve.run import Report
from jnst.transfer.pace import SCANNED_STEPS
from jnst.types import Image

PREVIEW = "--preview"
SHOWN = (
    *("size", "num_steps", "optimizer", "content_layers", "style_layers", "content_weight", "style_weight"),
    *("tv_weight", "style_scale", "init", "pyramid", "keep_color", "average", "clamp", "pooling", "padding"),
)
"""The fields of a preset that a page shows,"""
UNSET = (None, False, 0.0, ())
"""but not with these values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class WatchingFlags:
    """Flags of a command that makes one image."""

    preview: Annotated[int | None, tyro.conf.arg(metavar="[PORT]")] = None
    """Serve a page on this machine that shows the run; without PORT, or with 0, at a free port."""
    preview_host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    """Serve it at this IP address: at others than 127.0.0.1 to everybody who reaches it."""
    save_every: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Save the image every N steps, beside the output: out-0100.png."""
    animate: Annotated[Path | None, tyro.conf.arg(metavar="FILE.webp|gif")] = None
    """Make a film of the image every --save-every steps; if not given, of about 48 frames."""

    def check_watching(self, output: Path, others: Sequence[Path], force: bool) -> None:
        """Fail before the run if what is asked for cannot be done.

        Args:
            output: The image to write.
            others: The files that are read or written otherwise.
            force: Whether inputs may be written over.

        Raises:
            ArgumentError: A number below 1, a film's unknown suffix, or a file that cannot be or must not be written.
        """
        if self.save_every is not None and self.save_every < 1:
            raise ArgumentError(f"--save-every {self.save_every}: expected a number of steps, at least 1")
        taken = [] if force else [path.resolve() for path in others]
        if self.animate is not None:
            film_format(self.animate)
            check_outputs({"--output": output, "--animate": self.animate}, resume=False, force=True)
            if self.animate.resolve() in taken:
                raise ArgumentError(
                    f"--animate {self.animate} is also a file that is read or written otherwise: name another"
                )
        if self.save_every is not None:
            whole = output.resolve()
            name = re.compile(rf"{re.escape(whole.stem)}-\d+{re.escape(whole.suffix)}")
            for path in taken:
                if path.parent == whole.parent and name.fullmatch(path.name):
                    raise ArgumentError(f"--save-every would write over {path.name}: name another output, or --force it")

    def chunk(self, settings: Preset) -> int | None:
        """How many steps to compile into one program, so that images can be had when they are wanted; None: any."""
        if jax.default_backend() == "cpu" or (self.save_every is None and self.animate is None):
            return None
        if self.save_every is None:
            return max(1, min(SCANNED_STEPS, max(settings.num_steps) // FRAMES))
        return max(number for number in range(1, SCANNED_STEPS + 1) if self.save_every % number == 0)

    @contextlib.contextmanager
    def watching(
        self, saved: "Saved", shown: Mapping[str, object], finish: Callable[[Image], Image]
    ) -> Iterator["Watch"]:
        """What is done while a run goes on, and with its result.

        Args:
            saved: How the result is saved.
            shown: Names and values for the page.
            finish: What is done to images on the way, see `finishing`.

        Raises:
            ArgumentError: A port or an address that cannot be had.
        """
        with contextlib.ExitStack() as stack:
            watch = Watch([], [])
            if self.save_every is not None:
                snapshots = Snapshots(
                    saved.path, self.save_every, bit_depth=saved.bit_depth, quality=saved.quality, finish=finish
                )
                watch.listeners.append(_as_long_as_it_can(snapshots))
            if self.preview is not None:
                preview = stack.enter_context(self._page(saved.path.name, shown, finish))
                watch.listeners.append(preview)
                watch.endings.append(preview.show)
            if self.animate is not None:
                film = Film(self.save_every, finish=finish)
                watch.listeners.append(film)
                watch.endings.append(partial(_save_film, film, self.animate))
            yield watch

    @contextlib.contextmanager
    def _page(self, title: str, shown: Mapping[str, object], finish: Callable[[Image], Image]) -> Iterator[Preview]:
        port, host = self.preview or 0, self.preview_host
        with serve(port, host, title=title, settings=shown, finish=finish) as preview:
            print(f"jnst: preview at {preview.address}", file=sys.stderr, flush=True)
            if not ipaddress.ip_address(host).is_loopback:
                warning = f"everybody who reaches {host} can watch, there is no password (--preview-host)"
                print(f"jnst: {warning}", file=sys.stderr, flush=True)
            yield preview


class Saved(NamedTuple):
    """How an image is saved: the arguments of `jnst.save_image`."""

    path: Path
    bit_depth: int
    quality: int


class Watch(NamedTuple):
    """Who is told of a run: at every report, and of the result ``(h, w, 3)``."""

    listeners: list[Callable[[Report], None]]
    endings: list[Callable[[Image], None]]

    def listen(self, report: Report) -> None:
        """Tell all who listen."""
        for listener in self.listeners:
            listener(report)

    def end(self, image: Image) -> None:
        """Hand the result to those who wait for it."""
        for ending in self.endings:
            ending(image)


def finishing(settings: Preset, images: Mapping[str, Any]) -> Callable[[Image], Image]:
    """What a run does to its result at the end: gives it the content's colours, if it is to keep them."""
    content, way = images.get("content"), KEEP_COLOUR.get(settings.keep_color or "")
    if way is None or content is None:
        return lambda image: image
    return lambda image: way.result(jnp.clip(image, 0.0, 1.0), resize(content, size_of(image), settings.resample))


def described(settings: Preset, name: str, backbone: Backbone, files: Sequence[Path]) -> dict[str, str]:
    """What a page shows of a run's settings: those that are set, in a reader's words."""
    rows: dict[str, object] = {"images": tuple(path.name for path in files), "preset": name, "network": backbone.name}
    rows |= {field.replace("_", " "): getattr(settings, field) for field in SHOWN}
    return {row: _words(value) for row, value in rows.items() if value not in UNSET}


def _words(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_words, value))
    if dataclasses.is_dataclass(value):
        given = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        parts = (f"{name.replace('_', ' ')} {_words(part)}" for name, part in given.items() if part not in UNSET)
        return f"{type(value).__name__}: {', '.join(parts)}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _as_long_as_it_can(save: Callable[[Report], None]) -> Callable[[Report], None]:
    """Intermediate images that cannot be written any more are no reason to lose the run."""
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


def _save_film(film: Film, path: Path, image: Image) -> None:
    frames = film.save(path, image)
    print(f"{path}: {image.shape[1]}x{image.shape[0]}, {frames} frames")


def with_port(args: Sequence[str]) -> list[str]:
    """The command line with 0 after every ``--preview`` that no number follows."""
    given: list[str] = []
    for arg, following in itertools.zip_longest(args, args[1:], fillvalue=""):
        given.append(arg)
        if arg == PREVIEW and not following.isdecimal():
            given.append("0")
    return given
