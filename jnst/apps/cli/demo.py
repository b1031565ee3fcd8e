"""`jnst demo`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from jnst.apps.cli.interruption import interruptible
from jnst.apps.cli.progress import progress
from jnst.apps.io import check_output, save_image
from jnst.solve.run import Report

NEXT = """Now with your own images:
  jnst stylize CONTENT.jpg STYLE.jpg -o out.png
and `jnst stylize --help` for what can be set, `jnst presets` for published systems' settings."""


@dataclasses.dataclass(frozen=True)
class Demo:
    """Make an image from nothing but the package: no files, no network."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = Path("demo.png")
    """The image to write: content, style and result side by side."""

    def run(self) -> int:
        """Run the demo and say what to do next."""
        from jnst.apps import demo

        check_output(self.output)
        with interruptible() as interruption, progress() as show:

            def listen(report: Report) -> bool:
                show(report)
                return bool(interruption.signal_number)

            result = demo.run(listen)
            save_image(self.output, demo.sheet(result))
        if interruption.signal_number:
            print(f"{self.output}: content, style and the image as far as it came")
            return 128 + interruption.signal_number
        print(f"{self.output}: content, style and result side by side\n\n{NEXT}")
        return 0
