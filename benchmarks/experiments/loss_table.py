"""Experiment 3: one content in three styles as one batch, and a table of its losses.

Settings are those of the 2018 TensorFlow tutorial (preset "tf-blogpost", which suits features on VGG's scale but not
the slim VGG19's), with and without total variation. The table has losses and times after every tenth of the steps, and
the peak memory.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jnst
from benchmarks.experiments.experiment import (
    Network,
    available_layers,
    load_images,
    load_networks,
    make_parser,
    parse,
    save,
    table_sheet,
)
from jnst.apps.pixels import to_levels
from jnst.apps.report import Heading, Plot, Table, Tile
from jnst.types import Image

VARIANTS = {"without total variation": 0.0, "with total variation": 30.0}
"""The weight is that of TensorFlow's later tutorial."""
STYLE, CONTENT = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"), ("relu5_2", "relu5_1")
HEADER = ("step", "total", "style", "content", "seconds")
PUBLISHED = {"total": 1.2240e6, "style": 5.83e5, "content": 6.41e5}
"""Published losses after 1000 steps. The first total was 4.8348e8."""
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextlib.contextmanager
def peak_memory() -> Iterator[list[float]]:
    """Yield a list to which the peak in MiB is appended at the end, if it is known.

    On accelerators it is the peak since the process started, on Linux that of the process during the context.
    """
    peak: list[float] = []
    with contextlib.suppress(OSError):
        CLEAR.write_text("5")
    yield peak
    stats = jax.devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        peak.append(stats["peak_bytes_in_use"] / 2**20)
    elif STATUS.exists():
        lines = STATUS.read_text().splitlines()
        peak += [int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM")]


def settings_of(network: Network, tv_weight: float, steps: int) -> jnst.Preset:
    """The tutorial's settings, on the layers that the network has."""
    return jnst.preset(
        "tf-blogpost",
        content_layers=available_layers(network, CONTENT, network.backbone.content_layers)[:1],
        style_layers=available_layers(network, STYLE, network.backbone.style_layers),
        tv_weight=tv_weight,
        num_steps=steps,
    )


def run(
    network: Network, content: Image, styles: Sequence[Image], settings: jnst.Preset
) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """Make images with all styles in one call; returns them, and for each style its curves by the names in `HEADER`."""
    seconds = np.zeros((len(styles), settings.schedule.num_steps[0]))

    def watch(report: jnst.Report) -> None:
        seconds[list(report.runs), report.first - 1 : report.last] = report.seconds

    solution = jnst.stylize_grid(
        [content], styles, network.params, backbone=network.backbone, preset=settings, callback=watch
    )
    kinds = {
        kind: sum(values[0] for name, values in solution.parts.items() if name.startswith(f"{kind}/"))
        for kind in ("style", "content")
    }
    curves = {"total": solution.losses[0], **kinds, "seconds": seconds}
    images = np.stack([to_levels(image) for image in solution.image[0]])
    return images, [
        {name: np.asarray(values[index]) for name, values in curves.items()} for index in range(len(styles))
    ]


def loss_rows(curves: dict[str, np.ndarray]) -> list[tuple[float | int, ...]]:
    """The rows of the table: the first step, and every tenth of the run."""
    steps = len(curves["total"])
    every = max(1, steps // 10)
    return [
        (step + 1, *(float(curves[name][step]) for name in HEADER[1:])) for step in (0, *range(every - 1, steps, every))
    ]


def main(words: Sequence[str]) -> None:
    """Run the experiment, and write its results."""
    args = parse(make_parser("loss-table", __doc__, size=256, steps=1000), words)
    content_name, content = next(iter(load_images(args, "contents", 1).items()))
    styles = load_images(args, "styles", 3)
    rows: list[Heading] = []
    images: list[np.ndarray] = []
    parts: list[Any] = []
    results: list[dict[str, Any]] = []
    memory: list[tuple[str, str, float | None]] = []
    published: list[Any] = ["project", *(PUBLISHED[name] for name in HEADER[1:4]), None]
    for network in load_networks(args, ("vgg19",)):
        for variant, weight in VARIANTS.items():
            with peak_memory() as peak:
                made, curves = run(network, content, list(styles.values()), settings_of(network, weight, args.steps))
            memory.append((network.name, variant, peak[0] if peak else None))
            rows.append(Heading(f"{network.name}\n{variant}", (to_levels(content),)))
            images.append(made)
            for style, own in zip(styles, curves, strict=True):
                title, table = f"{network.name}, {style}, {variant}", loss_rows(own)
                shown = {name: own[name] for name in HEADER[1:4]}
                parts.append((title, [Table(HEADER, [*table, published], title), Plot(shown)]))
                results.append({"network": network.name, "style": style, "tv_weight": weight, "rows": table})
            print(f"{network.name}, {variant}: {len(styles)} images", flush=True)
    columns = [Heading(name, (to_levels(style),)) for name, style in styles.items()]
    note = f"{content_name}, preset tf-blogpost, {args.steps} steps"
    sheet = table_sheet(rows, columns, lambda row, column: Tile(images[row][column]), content, note=note)
    parts.append(("Memory", [Table(("network", "variant", "MiB"), memory, "Peak memory")]))
    about = {"header": HEADER, "tables": results, "peak_memory": memory, "project": PUBLISHED}
    save(args, "Three styles in one batch", sheet, parts, **about)
