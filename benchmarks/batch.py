"""Many pictures at once: pictures a second by batch, and a catalogue in one call, in many calls and in many commands.

`rates`: `jnst.stylize_batch` with all pictures side by side, and a loop of `jnst.stylize` over the same pictures, with
the embedded network at one size, in turns; the pictures' targets are computed anew each time, compilation is not
counted. `grid`: 3 contents by 4 styles by 3 style weights in fresh processes, everything counted from start to end.

    python -m benchmarks.batch --shared ../shared/images
"""

import argparse
import datetime
import json
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jnst
from benchmarks import grid
from benchmarks.machine import machine
from benchmarks.timing import in_turns
from jnst.demo_pictures import content_picture, style_picture
from jnst.presets import Preset
from jnst.types import Image

RESULTS = Path(__file__).parent / "results"
BATCHES = (1, 2, 4, 8, 16, 32, 64)
STEPS = {"rates": 20, "grid": 50}


def pictures(count: int, size: int) -> tuple[list[Image], list[Image]]:
    """Different contents and styles, by moving the demo's pictures sideways."""
    move = size // (count + 1)

    def moved(picture: np.ndarray) -> list[Image]:
        return [jnp.asarray(np.roll(picture, number * move, axis=1)) for number in range(count)]

    return moved(content_picture(size * 2 // 3, size)), moved(style_picture(size * 4 // 5, size))


def batched(contents: list[Image], styles: list[Image], settings: Preset) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and first losses of `jnst.stylize_batch`, in this machine's memory."""
    solutions = jnst.stylize_batch(contents, styles, preset=settings, width=len(contents))
    return np.asarray(solutions.image), solutions.losses[:, 0]


def looped(contents: list[Image], styles: list[Image], settings: Preset) -> tuple[np.ndarray, np.ndarray]:
    """The same of `jnst.stylize`, one after the other."""
    pairs = zip(contents, styles, strict=True)
    solutions = [jnst.stylize(content, style, preset=settings) for content, style in pairs]
    images = np.stack([np.asarray(solution.image) for solution in solutions])
    return images, np.stack([solution.losses[0] for solution in solutions])


def rate(batch: int, size: int, steps: int, rounds: int) -> dict[str, Any]:
    """Pictures a second in both ways, for one batch at one size.

    Raises:
        RuntimeError: Their first losses are not finite, or not the same.
    """
    contents, styles = pictures(batch, size)
    settings = jnst.preset("jnst", pyramid=None, num_steps=(steps,))
    ways = {name: partial(way, contents, styles, settings) for name, way in (("batched", batched), ("looped", looped))}
    (_, ours), (_, expected) = (way() for way in ways.values())
    if not (np.isfinite(expected).all() and np.allclose(ours, expected, rtol=1e-3)):
        raise RuntimeError(f"{batch} pictures of {size}: first losses {ours} in a batch, {expected} in a loop")
    seconds = in_turns(ways, rounds)
    speedup = float(np.median(np.divide(seconds["looped"], seconds["batched"])))
    rates = {name: [batch / time for time in times] for name, times in seconds.items()}
    print(
        f"{size:5} x{batch:3} {np.median(rates['batched']):8.3f} pictures/s in a batch "
        f"{np.median(rates['looped']):8.3f} in a loop {speedup:6.2f} x",
        flush=True,
    )
    return {"size": size, "batch": batch, "steps": steps, "pictures_per_second": rates, "speedup": speedup}


def plot(path: Path, rows: list[dict[str, Any]]) -> None:
    """Pictures a second over the batch, for every size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axis = figure.subplots()
    for number, size in enumerate(dict.fromkeys(row["size"] for row in rows)):
        own = [row for row in rows if row["size"] == size]
        for way, style in (("batched", "-"), ("looped", "--")):
            rates = [row["pictures_per_second"][way] for row in own]
            batches = [row["batch"] for row in own]
            axis.plot(
                *(batches, np.median(rates, 1)), style, color=f"C{number}", marker="o", label=f"{size} pixels, {way}"
            )
            axis.fill_between(batches, np.min(rates, 1), np.max(rates, 1), color=f"C{number}", alpha=0.15)
    axis.set_xscale("log", base=2)
    axis.set_xticks([row["batch"] for row in rows], [row["batch"] for row in rows])
    axis.set(xlabel="pictures", ylabel=f"pictures a second, {rows[0]['steps']} steps each", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path)


def write(output: Path, part: str, results: dict[str, Any]) -> Path:
    """Write a part's results with their head, and return the plot's name."""
    stem = output / f"batch-{part}-{jax.default_backend()}"
    summary = {"machine": machine(), "date": datetime.date.today().isoformat(), **results}
    stem.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n")
    return stem.with_suffix(".png")


def main() -> None:
    """Measure, print the tables, write JSON and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=STEPS, help="leave the other part as it is")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, help=f"steps of a picture; without it {STEPS}")
    parser.add_argument("--shared", type=Path, help="folder with content/ and style/; the demo's pictures without it")
    parser.add_argument("--grid-size", type=int, default=192)
    parser.add_argument("--grid", type=int, nargs=3, default=grid.SHAPE, help="contents, styles, style weights")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.output.mkdir(exist_ok=True)
    if args.only != "rates":
        # First, while this process has not taken the device's memory.
        made = grid.make(args.shared, args.grid_size, args.steps or STEPS["grid"], tuple(args.grid))
        grid.plot(write(args.output, "grid", made), made)
    if args.only != "grid":
        rows = [
            rate(batch, size, args.steps or STEPS["rates"], args.rounds)
            for size in args.sizes
            for batch in args.batches
        ]
        plot(write(args.output, "rates", {"rates": rows}), rows)


if __name__ == "__main__":
    main()
