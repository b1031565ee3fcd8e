"""A catalogue made in this process, and how many programs XLA compiled for it: the children of `benchmarks.grid`.

    python -m benchmarks.counted REPORT grid FOLDER            # one call of jnst.stylize_grid
    python -m benchmarks.counted REPORT singles FOLDER         # jnst.transfer.stylize, again and again
    python -m benchmarks.counted REPORT command ARGUMENTS...   # jnst ARGUMENTS, an image

REPORT is a JSON file to write, FOLDER holds the `Catalogue`; the images are written there.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax

EVENT = "/jax/core/compile/backend_compile_duration"
FILE = "catalogue.json"


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """Every content in every style with every style weight; images are files in its folder, of one size."""

    contents: tuple[str, ...]
    styles: tuple[str, ...]
    style_weights: tuple[float, ...]
    steps: int

    def images(self) -> Iterator[tuple[str, str, float, str]]:
        """Content, style, style weight, and the name of the image that is made."""
        for i, content in enumerate(self.contents):
            for j, style in enumerate(self.styles):
                for k, weight in enumerate(self.style_weights):
                    yield content, style, weight, f"{i}-{j}-{k}.png"

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(dataclasses.asdict(self)))


def read(folder: Path) -> Catalogue:
    values = json.loads((folder / FILE).read_text())
    lists = {name: tuple(values.pop(name)) for name in ("contents", "styles", "style_weights")}
    return Catalogue(**lists, **values)


def grid(arguments: Sequence[str]) -> int:
    import jnst

    folder = Path(*arguments)
    catalogue = read(folder)
    contents, styles = (
        [jnst.load_image(folder / name) for name in names] for names in (catalogue.contents, catalogue.styles)
    )
    solutions = jnst.stylize_grid(
        contents,
        styles,
        preset=jnst.preset("jnst", pyramid=None),
        num_steps=catalogue.steps,
        over={"style_weight": catalogue.style_weights},
    )
    images = solutions.image.reshape(-1, *solutions.image.shape[-3:])
    for image, (*_, name) in zip(images, catalogue.images(), strict=True):
        jnst.save_image(folder / f"grid-{name}", image)
    return 0


def singles(arguments: Sequence[str]) -> int:
    import jnst

    folder = Path(*arguments)
    catalogue = read(folder)
    loaded = {name: jnst.load_image(folder / name) for name in (*catalogue.contents, *catalogue.styles)}
    for content, style, weight, name in catalogue.images():
        settings = jnst.preset("jnst", pyramid=None, style_weight=weight)
        solution = jnst.transfer.stylize(loaded[content], loaded[style], preset=settings, num_steps=catalogue.steps)
        jnst.save_image(folder / f"singles-{name}", solution.image)
    return 0


def command(arguments: Sequence[str]) -> int:
    from jnst.apps.cli import main as jnst_command

    return jnst_command(arguments)


CALLS: dict[str, Callable[[Sequence[str]], int]] = {"grid": grid, "singles": singles, "command": command}
"""What each does; jnst is imported only there, as a program would."""


def main(arguments: Sequence[str]) -> int:
    """Do what is asked for, write the report, and return the exit status."""
    report, what, *others = arguments
    compiled: list[float] = []

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if event == EVENT:
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        status = CALLS[what](others)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    Path(report).write_text(json.dumps({"compilations": len(compiled), "compile_seconds": sum(compiled)}))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
