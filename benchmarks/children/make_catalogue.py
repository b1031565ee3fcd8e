"""Make a catalogue of images in this process, and count the programs that XLA compiles for it.

    python -m benchmarks.children.make_catalogue REPORT grid FOLDER            # one call of jnst.stylize_grid
    python -m benchmarks.children.make_catalogue REPORT singles FOLDER         # one call of jnst.stylize per image
    python -m benchmarks.children.make_catalogue REPORT command ARGUMENTS...   # the command `jnst ARGUMENTS`: one image

A child of `benchmarks.batch`. FOLDER holds a `Catalogue`; the images are written there. REPORT is the JSON file to
write.
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
    """Every content in every style with every style weight. The images are files of one size in the same folder."""

    contents: tuple[str, ...]
    styles: tuple[str, ...]
    style_weights: tuple[float, ...]
    steps: int

    def images(self) -> Iterator[tuple[str, str, float, str]]:
        """Yield the content, the style, the style weight, and the name of the resulting image."""
        for i, content in enumerate(self.contents):
            for j, style in enumerate(self.styles):
                for k, weight in enumerate(self.style_weights):
                    yield content, style, weight, f"{i}-{j}-{k}.png"

    def write(self, folder: Path) -> None:
        (folder / FILE).write_text(json.dumps(dataclasses.asdict(self)))


def read(folder: Path) -> Catalogue:
    """Read what `Catalogue.write` wrote."""
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
    solution = jnst.stylize_grid(
        contents,
        styles,
        preset=jnst.preset("jnst", pyramid=None),
        num_steps=catalogue.steps,
        over={"style_weight": catalogue.style_weights},
    )
    images = solution.image.reshape(-1, *solution.image.shape[-3:])
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
        solution = jnst.stylize(loaded[content], loaded[style], preset=settings, num_steps=catalogue.steps)
        jnst.save_image(folder / f"singles-{name}", solution.image)
    return 0


def command(arguments: Sequence[str]) -> int:
    from jnst.apps.cli import main as jnst_command

    return jnst_command(arguments)


WAYS: dict[str, Callable[[Sequence[str]], int]] = {"grid": grid, "singles": singles, "command": command}
"""Ways to make the catalogue, or one image of it. They import jnst themselves, as a program would."""


def main(arguments: Sequence[str]) -> int:
    """Make the images in one of `WAYS` and write the report; returns the exit status."""
    report, way, *others = arguments
    compiled: list[float] = []

    def listen(event: str, duration_secs: float, **_: object) -> None:
        if event == EVENT:
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        status = WAYS[way](others)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    Path(report).write_text(json.dumps({"compilations": len(compiled), "compile_seconds": sum(compiled)}))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
