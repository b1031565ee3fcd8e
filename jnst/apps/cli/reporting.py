"""`--report`: a page about what was made."""

import dataclasses
import os
import shlex
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jnst.apps.cli.outputs import check_outputs
from jnst.backbones import Backbone
from jnst.errors import ArgumentError
from jnst.presets import Preset
from jnst.transfer.coarse_to_fine import Finished
from jnst.weights.files import shown

SHOWN = {"content": "content", "style": "style", "init": "start", "masks": "mask", "style_masks": "style mask"}
"""What of a function's arguments is an image, or several, and what it is called."""

command_line: ContextVar[tuple[str, ...]] = ContextVar("command_line", default=())
"""The words that the command in progress was given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportFlag:
    """The flag of commands that can write a report."""

    report: Annotated[tuple[Path, ...] | None, tyro.conf.arg(metavar="[FILE.html]")] = None
    """Write a page with images, losses, settings and versions; without a name beside the output."""

    def check_report(self, others: Iterable[str | os.PathLike[str]]) -> None:
        """Fail before the work begins if the report could not be written.

        Args:
            others: The files that are read, or written otherwise.

        Raises:
            ArgumentError: More than one name, one of another file, or a folder that cannot be written to.
        """
        if not self.report:
            return
        path, *more = self.report
        if more:
            names = ", ".join(map(shown, self.report))
            raise ArgumentError(f"--report {names}: expected one file, or none; name inputs before the flags")
        if path.suffix.lower() not in (".html", ".htm"):
            raise ArgumentError(f"--report {shown(path)}: expected a name that ends in .html; name inputs before the flags")
        if path.resolve() in {Path(other).resolve() for other in others}:
            raise ArgumentError(f"--report {shown(path)} is also a file that is read or written otherwise: name another")
        check_outputs({"--report": path}, resume=False, force=True)

    def save_run_report(
        self,
        beside: Path,
        solution: Finished,
        arguments: Mapping[str, Any],
        settings: Preset,
        backbone: Backbone,
        about: Mapping[str, Any],
    ) -> None:
        """Write what is asked for about one run.

        Args:
            beside: The image that was written.
            solution: The run's end.
            arguments: What it was made of.
            settings: With the flags put in.
            backbone: The network.
            about: Further facts.
        """
        if self.report is None:
            return
        from jnst.apps.report import run_page

        page = run_page(
            solution,
            images_of(arguments),
            settings,
            backbone,
            title=beside.name,
            command=_command(),
            about=about,
        )
        self._write_report(beside.with_suffix(".html"), page)

    def save_catalogue_report(self, folder: Path) -> None:
        """Write what is asked for about a folder of images."""
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
    """The images and masks among a function's arguments, by caption."""
    found: dict[str, np.ndarray] = {}
    for name, caption in SHOWN.items():
        value = arguments.get(name)
        several = value if isinstance(value, list | tuple) else [value]
        images = [np.asarray(part) for part in several if part is not None and not isinstance(part, str)]
        for number, image in enumerate(images, start=1):
            label = caption if len(images) == 1 else f"{caption} {number}"
            found[label] = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    return found


def _command() -> str:
    return shlex.join(("jnst", *command_line.get()))
