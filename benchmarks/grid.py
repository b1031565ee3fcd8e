"""The grid part of `benchmarks.batch`: a catalogue in one call, in many calls, and in many commands."""

import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from benchmarks.counted import Catalogue
from benchmarks.processes import run_module
from jnst.images.demo import content_image, style_image

CONTENTS = ("kodim08_houses_street.png", "kodim23_parrots.png", "astronaut_portrait.png")
STYLES = ("starry_night.jpg", "great_wave.jpg", "the_scream.jpg", "composition_vii.jpg")
STYLE_WEIGHTS = (30.0, 100.0, 300.0)
SHAPE = (len(CONTENTS), len(STYLES), len(STYLE_WEIGHTS))
WAYS = {"grid": "one call of stylize_grid", "singles": "calls of stylize", "commands": "commands"}

Run = Callable[..., tuple[str, float]]


def make(
    images: Path | None, size: int, steps: int, shape: tuple[int, ...] = SHAPE, run: Run = run_module
) -> dict[str, Any]:
    """Make the catalogue in three ways, each in fresh processes.

    Args:
        images: Folder with ``content/`` and ``style/``; None: variations of the demo's images.
        size: The longer side of all images, in pixels.
        steps: For each image, at one size.
        shape: How many contents, styles and style weights, at most `SHAPE`.
        run: See `run_module`.

    Returns:
        For each way its seconds from the first process' start to the last one's end, its compilations, and how far
        its images are from those of `grid`, in levels of 255 on average.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalogue = prepare(folder, images, size, steps, shape)
        rows = {
            "grid": one_process(run, folder, "grid"),
            "singles": one_process(run, folder, "singles"),
            "commands": commands(run, folder, catalogue, size),
        }
        for way, row in rows.items():
            row["difference"] = max(difference(folder, way, name) for *_, name in catalogue.images())
    for way, row in rows.items():
        row["seconds_over_grid"] = row["seconds"] / rows["grid"]["seconds"]
        print(
            f"{WAYS[way]:26} {row['seconds']:8.1f} s {row['seconds_over_grid']:6.2f} x "
            f"{row['compilations']:5} compilations of {row['compile_seconds']:.1f} s; "
            f"images differ by {row['difference']:.3f} levels",
            flush=True,
        )
    return {"size": size, **dataclasses.asdict(catalogue), "ways": rows}


def prepare(folder: Path, images: Path | None, size: int, steps: int, shape: tuple[int, ...]) -> Catalogue:
    """Write the images, all of one size, and the catalogue."""
    sides = (size, max(1, round(size * 3 / 4)))
    pictures = demo_images(*sides) if images is None else read_images(images)
    for name, image in pictures.items():
        ImageOps.fit(image.convert("RGB"), sides, Pillow.Resampling.LANCZOS).save(folder / name)
    names, (contents, styles, weights) = tuple(pictures), shape
    first = len(CONTENTS)
    catalogue = Catalogue(names[:contents], names[first : first + styles], STYLE_WEIGHTS[:weights], steps)
    catalogue.write(folder)
    return catalogue


def read_images(images: Path) -> dict[str, Pillow.Image]:
    paths = [images / "content" / name for name in CONTENTS] + [images / "style" / name for name in STYLES]
    return {f"{path.stem}.png": Pillow.open(path) for path in paths}


def demo_images(width: int, height: int) -> dict[str, Pillow.Image]:
    """The demo's landscape and painting, mirrored and with their colours exchanged."""
    images = {"content": (content_image(height, width), len(CONTENTS)), "style": (style_image(), len(STYLES))}
    return {
        f"{kind}{number}.png": to_pillow(np.roll(image[:, :: (-1) ** number], number, axis=-1))
        for kind, (image, count) in images.items()
        for number in range(count)
    }


def to_pillow(image: np.ndarray) -> Pillow.Image:
    return Pillow.fromarray(np.asarray(image * 255 + 0.5, np.uint8))


def one_process(run: Run, folder: Path, way: str) -> dict[str, Any]:
    """All images by one of `benchmarks.counted`'s calls."""
    report = folder / "report.json"
    _, seconds = run("benchmarks.counted", str(report), way, str(folder))
    return {"seconds": seconds, **json.loads(report.read_text())}


def commands(run: Run, folder: Path, catalogue: Catalogue, size: int) -> dict[str, Any]:
    """A process for each image, one after the other."""
    report = folder / "report.json"
    total = {"seconds": 0.0, "compilations": 0, "compile_seconds": 0.0}
    for content, style, weight, name in catalogue.images():
        files = (str(folder / content), str(folder / style), "-o", str(folder / f"commands-{name}"))
        flags = ("--size", str(size), "--steps", str(catalogue.steps), "--style-weight", str(weight), "--no-pyramid")
        _, seconds = run("benchmarks.counted", str(report), "command", "stylize", *files, *flags)
        for key, value in {"seconds": seconds, **json.loads(report.read_text())}.items():
            total[key] += value
    return total


def difference(folder: Path, way: str, name: str) -> float:
    """The mean difference of an image from that of `grid`, in levels of 255."""
    ours, first = (np.asarray(Pillow.open(folder / f"{kind}-{name}"), np.float64) for kind in (way, "grid"))
    return float(np.abs(ours - first).mean())


def draw(figure: Any, made: dict[str, Any]) -> None:
    """Seconds and compilations as bars, on a Matplotlib figure or a part of one."""
    count = len(made["contents"]) * len(made["styles"]) * len(made["style_weights"])
    axes = figure.subplots(1, 2, sharey=True)
    for axis, key, label in zip(axes, ("seconds", "compilations"), ("seconds", "programs compiled"), strict=True):
        values = [row[key] for row in made["ways"].values()]
        axis.bar_label(axis.barh([WAYS[way] for way in made["ways"]], values), fmt=" {:.0f}")
        axis.set_xlabel(label)
        axis.margins(x=0.15)
    axes[0].invert_yaxis()
    figure.suptitle(f"{count} images of {made['size']} pixels, {made['steps']} steps each")
