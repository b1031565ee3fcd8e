"""`jnst demo`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from jnst.apps import demo
from jnst.apps.cli.interruption import interruptible
from jnst.apps.cli.progress import progress
from jnst.apps.io import check_output, save_image
from jnst.transfer import Report

NEXT = """Now with your own images:
  jnst stylize CONTENT.jpg STYLE.jpg -o out.png
`jnst stylize --help` explains the settings, and `jnst presets` lists those of published systems."""


@dataclasses.dataclass(frozen=True)
class Demo:
    """Make an image from what the package contains: no files and no network needed."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = Path("demo.png")
    """Image file to write: content, style and result side by side."""
    no_program_cache: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Do not keep compiled programs."""

    def run(self) -> int:
        """Run the demo, and print what to do next."""
        check_output(self.output)
        with interruptible() as interruption, progress() as show:

            def listen(report: Report) -> bool:
                show.report(report)
                return bool(interruption.signal_number)

            result = demo.run(listen, show.compiling)
            save_image(self.output, demo.sheet(result))
        if interruption.signal_number:
            print(f"{self.output}: content, style and the unfinished result side by side")
            return 128 + interruption.signal_number
        print(f"{self.output}: content, style and result side by side\n\n{NEXT}")
        return 0
