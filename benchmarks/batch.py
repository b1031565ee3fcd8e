"""Many images at once: images a second by batch size, and a catalogue in one call, many calls, or many commands.

`rates`: `jnst.stylize_batch` with all images at once and a loop of `jnst.stylize` over the same images take turns, with
the embedded network at one size. Targets are computed anew each time; compilation does not count.

`grid`: 3 contents by 4 styles by 3 style weights, in fresh processes. Everything counts, from start to end. The images
are photographs and paintings from ``--shared``, or the demo's images without it.
"""

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

import jnst
from benchmarks.children.make_catalogue import Catalogue
from benchmarks.processes import run_module
from benchmarks.samples import ratios, shown, spread, take_turns
from jnst.apps.pixels import to_levels
from jnst.images.demo import content_image, style_image
from jnst.presets import Preset
from jnst.types import Image

BATCHES = (1, 2, 4, 8, 16, 32, 64)
STEPS = {"rates": 20, "grid": 50}
"""The parts, and the default number of steps for each."""

CONTENTS = ("kodim08_houses_street.png", "kodim23_parrots.png", "astronaut_portrait.png")
STYLES = ("starry_night.jpg", "great_wave.jpg", "the_scream.jpg", "composition_vii.jpg")
STYLE_WEIGHTS = (30.0, 100.0, 300.0)
SHAPE = (len(CONTENTS), len(STYLES), len(STYLE_WEIGHTS))
WAYS = {"grid": "one call of stylize_grid", "singles": "calls of stylize", "commands": "commands"}
CHILD = "benchmarks.children.make_catalogue"

Run = Callable[..., tuple[str, float]]
"""The type of `run_module`."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=STEPS, help="measure only this part")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="batch sizes for `rates`")
    defaults = ", ".join(f"{count} for `{part}`" for part, count in STEPS.items())
    parser.add_argument("--steps", type=int, help=f"steps of each image; {defaults} by default")
    parser.add_argument(
        "--grid-size", type=int, default=192, help="the longer side of the images for `grid`, in pixels"
    )
    parser.add_argument(
        "--grid", type=int, nargs=3, default=SHAPE, help="numbers of contents, styles and style weights for `grid`"
    )
    parser.set_defaults(sizes=[256, 512])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options.only != "rates":
        # First, before this process takes memory of the device.
        images = options.shared and options.shared / "images"
        found["grid"] = make_catalogues(images, options.grid_size, options.steps or STEPS["grid"], tuple(options.grid))
    if options.only != "grid":
        steps = options.steps or STEPS["rates"]
        cases = [(batch, size) for size in options.sizes for batch in options.batches]
        found["rates"] = [measure_rate(*case, steps, options.rounds) for case in cases]
    return found


def make_images(count: int, size: int) -> tuple[list[Image], list[Image]]:
    """Different contents and styles, made by rolling the demo's images."""
    offset = size // (count + 1)

    def rolled(image: np.ndarray) -> list[Image]:
        return [jnp.asarray(np.roll(image, number * offset, axis=1)) for number in range(count)]

    return rolled(content_image(size * 2 // 3, size)), rolled(style_image(size * 4 // 5, size))


def batched(contents: list[Image], styles: list[Image], settings: Preset) -> tuple[np.ndarray, np.ndarray]:
    """The images and first losses of `jnst.stylize_batch`, on the host."""
    solution = jnst.stylize_batch(contents, styles, preset=settings, width=len(contents))
    return np.asarray(solution.image), solution.losses[:, 0]


def looped(contents: list[Image], styles: list[Image], settings: Preset) -> tuple[np.ndarray, np.ndarray]:
    """The images and first losses of `jnst.stylize`, called once for each pair, on the host."""
    pairs = zip(contents, styles, strict=True)
    solutions = [jnst.stylize(content, style, preset=settings) for content, style in pairs]
    images = np.stack([np.asarray(solution.image) for solution in solutions])
    return images, np.stack([solution.losses[0] for solution in solutions])


def measure_rate(batch: int, size: int, steps: int, rounds: int) -> dict[str, Any]:
    """Images a second in both ways, for one batch size and one size of image.

    Raises:
        RuntimeError: The first losses are not finite, or differ.
    """
    contents, styles = make_images(batch, size)
    settings = jnst.preset("jnst", pyramid=None, num_steps=steps)
    ways = {name: partial(way, contents, styles, settings) for name, way in (("batched", batched), ("looped", looped))}
    (_, ours), (_, expected) = (way() for way in ways.values())
    if not (np.isfinite(expected).all() and np.allclose(ours, expected, rtol=1e-3)):
        raise RuntimeError(f"{batch} images of {size}: first losses {ours} in a batch, {expected} in a loop")
    seconds = take_turns(ways, rounds)
    speedup = ratios(seconds["looped"], seconds["batched"])
    rates = {name: spread([batch / time for time in times]) for name, times in seconds.items()}
    print(
        f"{size:5} x{batch:3} {rates['batched']['median']:8.3f} images/s in a batch "
        f"{rates['looped']['median']:8.3f} in a loop {shown(speedup)} x",
        flush=True,
    )
    return {"size": size, "batch": batch, "steps": steps, "images_per_second": rates, "speedup": speedup}


def make_catalogues(
    images: Path | None, size: int, steps: int, shape: tuple[int, ...] = SHAPE, run: Run = run_module
) -> dict[str, Any]:
    """Make the catalogue in three ways, each in fresh processes.

    Args:
        images: A folder with ``content/`` and ``style/``; None: variations of the demo's images.
        size: The longer side of all images, in pixels.
        steps: Steps of each image, at one size.
        shape: How many contents, styles and style weights, at most `SHAPE`.
        run: Runs a module, see `run_module`.

    Returns:
        For each way its seconds, from the start of the first process to the end of the last, its compilations, and the
        largest mean difference of an image from that of `grid`, in levels of 255.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalogue = prepare_catalogue(folder, images, size, steps, shape)
        rows = {
            "grid": run_once(run, folder, "grid"),
            "singles": run_once(run, folder, "singles"),
            "commands": run_commands(run, folder, catalogue, size),
        }
        for way, row in rows.items():
            row["difference"] = max(difference(folder, way, name) for *_, name in catalogue.images())
    for way, row in rows.items():
        row["seconds_over_grid"] = row["seconds"] / rows["grid"]["seconds"]
        print(
            f"{WAYS[way]:26} {row['seconds']:8.1f} s {row['seconds_over_grid']:6.2f} x "
            f"{row['compilations']:5} compilations, which took {row['compile_seconds']:.1f} s; "
            f"images differ by {row['difference']:.3f} levels",
            flush=True,
        )
    return {"size": size, **dataclasses.asdict(catalogue), "ways": rows}


def prepare_catalogue(folder: Path, images: Path | None, size: int, steps: int, shape: tuple[int, ...]) -> Catalogue:
    """Write the images, all of one size, and the catalogue into a folder."""
    sides = (size, max(1, round(size * 3 / 4)))
    files = demo_images(*sides) if images is None else read_images(images)
    for name, image in files.items():
        ImageOps.fit(image.convert("RGB"), sides, Pillow.Resampling.LANCZOS).save(folder / name)
    names, (contents, styles, weights) = tuple(files), shape
    first = len(CONTENTS)
    catalogue = Catalogue(names[:contents], names[first : first + styles], STYLE_WEIGHTS[:weights], steps)
    catalogue.write(folder)
    return catalogue


def read_images(images: Path) -> dict[str, Pillow.Image]:
    paths = [images / "content" / name for name in CONTENTS] + [images / "style" / name for name in STYLES]
    return {f"{path.stem}.png": Pillow.open(path) for path in paths}


def demo_images(width: int, height: int) -> dict[str, Pillow.Image]:
    """The demo's landscape and painting, mirrored and with exchanged colour channels."""
    images = {"content": (content_image(height, width), len(CONTENTS)), "style": (style_image(), len(STYLES))}
    return {
        f"{kind}{number}.png": Pillow.fromarray(to_levels(np.roll(image[:, :: (-1) ** number], number, axis=-1)))
        for kind, (image, count) in images.items()
        for number in range(count)
    }


def run_once(run: Run, folder: Path, way: str) -> dict[str, Any]:
    """Make all images in one process."""
    report = folder / "report.json"
    _, seconds = run(CHILD, str(report), way, str(folder))
    return {"seconds": seconds, **json.loads(report.read_text())}


def run_commands(run: Run, folder: Path, catalogue: Catalogue, size: int) -> dict[str, Any]:
    """Make each image in a process of its own, one after the other."""
    report = folder / "report.json"
    total = {"seconds": 0.0, "compilations": 0, "compile_seconds": 0.0}
    for content, style, weight, name in catalogue.images():
        files = (str(folder / content), str(folder / style), "-o", str(folder / f"commands-{name}"))
        flags = ("--size", str(size), "--steps", str(catalogue.steps), "--style-weight", str(weight), "--no-pyramid")
        _, seconds = run(CHILD, str(report), "command", "stylize", *files, *flags)
        for key, value in {"seconds": seconds, **json.loads(report.read_text())}.items():
            total[key] += value
    return total


def difference(folder: Path, way: str, name: str) -> float:
    """The mean difference of an image from that of `grid`, in levels of 255."""
    ours, first = (np.asarray(Pillow.open(folder / f"{kind}-{name}"), np.float64) for kind in (way, "grid"))
    return float(np.abs(ours - first).mean())


def plot(results: dict[str, Any]) -> Any:
    """Draw images a second over the batch size, and the seconds and compilations of the catalogue."""
    from matplotlib.figure import Figure

    rows, made = results.get("rates"), results.get("grid")
    heights = [4.0] * bool(rows) + [2.6] * bool(made)
    figure = Figure(figsize=(9, sum(heights)), dpi=120, layout="constrained")
    parts = figure.subfigures(len(heights), squeeze=False, height_ratios=heights)
    if rows:
        draw_rates(parts[0, 0].subplots(), rows)
    if made:
        draw_catalogue(parts[-1, 0], made)
    return figure


def draw_rates(axis: Any, rows: list[dict[str, Any]]) -> None:
    for number, size in enumerate(dict.fromkeys(row["size"] for row in rows)):
        own = [row for row in rows if row["size"] == size]
        batches = [row["batch"] for row in own]
        for way, style in (("batched", "-"), ("looped", "--")):
            rates = [row["images_per_second"][way] for row in own]
            lower, upper = np.transpose([rate["quartiles"] for rate in rates])
            medians = [rate["median"] for rate in rates]
            axis.plot(batches, medians, style, color=f"C{number}", marker="o", label=f"{size} pixels, {way}")
            axis.fill_between(batches, lower, upper, color=f"C{number}", alpha=0.15)
    axis.set_xscale("log", base=2)
    axis.set_xticks([row["batch"] for row in rows], [row["batch"] for row in rows])
    axis.set(xlabel="images", ylabel=f"images a second, {rows[0]['steps']} steps each", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend()


def draw_catalogue(figure: Any, made: dict[str, Any]) -> None:
    count = len(made["contents"]) * len(made["styles"]) * len(made["style_weights"])
    axes = figure.subplots(1, 2, sharey=True)
    for axis, key, label in zip(axes, ("seconds", "compilations"), ("seconds", "compiled programs"), strict=True):
        values = [row[key] for row in made["ways"].values()]
        axis.bar_label(axis.barh([WAYS[way] for way in made["ways"]], values), fmt=" {:.0f}")
        axis.set_xlabel(label)
        axis.margins(x=0.15)
    axes[0].invert_yaxis()
    figure.suptitle(f"{count} images of {made['size']} pixels, {made['steps']} steps each")
