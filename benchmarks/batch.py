"""Many images at once: images a second by batch; a catalogue in one call, in many calls, by many commands.

`rates`: `jnst.stylize_batch` with all images side by side, and a loop of `jnst.transfer.stylize` over the same images, with
the embedded network at one size, in turns; the images' targets are computed anew each time, compilation is not
counted. `grid`: 3 contents by 4 styles by 3 style weights in fresh processes, everything counted from start to end.
The images of `grid` are those of ``--shared``, the demo's without it.
"""

import argparse
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

import jnst
from benchmarks import grid
from benchmarks.samples import ratios, shown, spread
from benchmarks.timing import in_turns
from jnst.images.demo import content_image, style_image
from jnst.presets import Preset
from jnst.types import Image

BATCHES = (1, 2, 4, 8, 16, 32, 64)
STEPS = {"rates": 20, "grid": 50}


def images(count: int, size: int) -> tuple[list[Image], list[Image]]:
    """Different contents and styles, by moving the demo's images sideways."""
    move = size // (count + 1)

    def moved(image: np.ndarray) -> list[Image]:
        return [jnp.asarray(np.roll(image, number * move, axis=1)) for number in range(count)]

    return moved(content_image(size * 2 // 3, size)), moved(style_image(size * 4 // 5, size))


def batched(contents: list[Image], styles: list[Image], settings: Preset) -> tuple[np.ndarray, np.ndarray]:
    """Images and first losses of `jnst.stylize_batch`, in this machine's memory."""
    solutions = jnst.stylize_batch(contents, styles, preset=settings, width=len(contents))
    return np.asarray(solutions.image), solutions.losses[:, 0]


def looped(contents: list[Image], styles: list[Image], settings: Preset) -> tuple[np.ndarray, np.ndarray]:
    """The same of `jnst.transfer.stylize`, one after the other."""
    pairs = zip(contents, styles, strict=True)
    solutions = [jnst.transfer.stylize(content, style, preset=settings) for content, style in pairs]
    images = np.stack([np.asarray(solution.image) for solution in solutions])
    return images, np.stack([solution.losses[0] for solution in solutions])


def rate(batch: int, size: int, steps: int, rounds: int) -> dict[str, Any]:
    """Images a second in both ways, for one batch at one size.

    Raises:
        RuntimeError: Their first losses are not finite, or not the same.
    """
    contents, styles = images(batch, size)
    settings = jnst.preset("jnst", pyramid=None, num_steps=(steps,))
    ways = {name: partial(way, contents, styles, settings) for name, way in (("batched", batched), ("looped", looped))}
    (_, ours), (_, expected) = (way() for way in ways.values())
    if not (np.isfinite(expected).all() and np.allclose(ours, expected, rtol=1e-3)):
        raise RuntimeError(f"{batch} images of {size}: first losses {ours} in a batch, {expected} in a loop")
    seconds = in_turns(ways, rounds)
    speedup = ratios(seconds["looped"], seconds["batched"])
    rates = {name: spread([batch / time for time in times]) for name, times in seconds.items()}
    print(
        f"{size:5} x{batch:3} {rates['batched']['median']:8.3f} images/s in a batch "
        f"{rates['looped']['median']:8.3f} in a loop {shown(speedup)} x",
        flush=True,
    )
    return {"size": size, "batch": batch, "steps": steps, "images_per_second": rates, "speedup": speedup}


def plot(results: dict[str, Any]) -> Any:
    """Images a second over the batch, for every size; the catalogue's seconds and programs."""
    from matplotlib.figure import Figure

    rows, made = results.get("rates"), results.get("grid")
    heights = [4.0] * bool(rows) + [2.6] * bool(made)
    figure = Figure(figsize=(9, sum(heights)), dpi=120, layout="constrained")
    parts = figure.subfigures(len(heights), squeeze=False, height_ratios=heights)
    if rows:
        draw_rates(parts[0, 0].subplots(), rows)
    if made:
        grid.draw(parts[-1, 0], made)
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


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=STEPS, help="leave the other part out")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--steps", type=int, help=f"steps of an image; without it {STEPS}")
    parser.add_argument("--grid-size", type=int, default=192)
    parser.add_argument("--grid", type=int, nargs=3, default=grid.SHAPE, help="contents, styles, style weights")
    parser.set_defaults(sizes=[256, 512])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options.only != "rates":
        # First, while this process has not taken the device's memory.
        images = options.shared and options.shared / "images"
        found["grid"] = grid.make(images, options.grid_size, options.steps or STEPS["grid"], tuple(options.grid))
    if options.only != "grid":
        steps = options.steps or STEPS["rates"]
        cases = [(batch, size) for size in options.sizes for batch in options.batches]
        found["rates"] = [rate(*case, steps, options.rounds) for case in cases]
    return found
