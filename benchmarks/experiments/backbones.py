"""Experiment 1: the same images through several networks.

Every content in every style with each network, one pair also at a low resolution; beside the images how far each is
from its style and content, as one network judges all of them, LPIPS against the content, and the seconds.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jnst
from benchmarks.experiments.classes import to_pixels
from benchmarks.experiments.outcome import Network, flags, images, networks, parse, save, table_sheet
from jnst.apps.report import Heading, Table, Tile
from jnst.types import Image

WANTED = ("vgg16", "vgg19", "resnet50")
LPIPS = "weights/lpips-squeeze/lpips_squeeze.pt"
MEASURES = ("style_distance", "content_distance", "lpips", "seconds")

# Compiled as a whole: the networks and the metric are hashable, their parameters are arguments.
style_distance, content_distance, perceptual_distance = (
    jax.jit(distance, static_argnums=0) for distance in (jnst.style_distance, jnst.content_distance, jnst.lpips)
)

Row = dict[str, Any]
"""One image: its network, content, style, resolution and measures."""
Places = list[tuple[str, Image, str, Image, int]]
"""The table's rows: content and style, each with its name, and the size."""


def transfer(network: Network, content: Image, style: Image, steps: int) -> tuple[Image, float]:
    """An image at one size, begun from the content, and the seconds it took."""
    settings = jnst.preset("jnst", pyramid=None, num_steps=(steps,))
    begun = time.perf_counter()
    solution = jnst.transfer.stylize(content, style, network.params, backbone=network.backbone, preset=settings)
    return solution.image.block_until_ready(), time.perf_counter() - begun


def measure(judge: Network, lpips: Any, image: Image, content: Image, style: Image) -> dict[str, float | None]:
    """How far an image is from its style and its content."""
    return {
        "style_distance": float(style_distance(judge.backbone, judge.params, image, style)),
        "content_distance": float(content_distance(judge.backbone, judge.params, image, content)),
        "lpips": float(perceptual_distance(lpips[0], lpips[1], image, content)) if lpips else None,
    }


def at_size(image: Image, size: int) -> Image:
    """The image with a longer side of ``size`` pixels."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    return jnst.resize(image, (round(height * scale), round(width * scale)))


def run(network: Network, places: Places, steps: int, judge: Network, lpips: Any) -> list[tuple[Row, np.ndarray]]:
    """All images of a network, with their measures."""
    made = []
    for name, content, style_name, style, size in places:
        content, style = at_size(content, size), at_size(style, size)
        image, seconds = transfer(network, content, style, steps)
        about = {"network": network.name, "content": name, "style": style_name, "size": size, "seconds": seconds}
        made.append((about | measure(judge, lpips, image, content, style), to_pixels(image)))
    print(f"{network.name}: {len(made)} images", flush=True)
    return made


def summary(rows: list[Row], judge: Network) -> Table:
    """The networks' means; of the seconds the median, which leaves out compilation."""
    table, size = [], max(row["size"] for row in rows)
    for name in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == name and row["size"] == size]
        means = [np.mean([row[key] for row in own]) if own[0][key] is not None else None for key in MEASURES[:3]]
        table.append((name, *means, np.median([row["seconds"] for row in own])))
    return Table(("network", "style", "content", "LPIPS", "seconds"), table, f"Distances as {judge.name} judges them")


def caption(row: Row) -> str:
    """What stands below an image."""
    apart = "" if row["lpips"] is None else f"LPIPS {row['lpips']:.2f}, "
    return f"style {row['style_distance']:.2f}, content {row['content_distance']:.2f}\n{apart}{row['seconds']:.1f} s"


def main(words: Sequence[str]) -> None:
    """Run all, and write the table of images."""
    parser = flags("backbones", __doc__, size=256, steps=100)
    parser.add_argument("--pairs", type=int, nargs=2, default=(4, 5), help="how many contents and styles")
    parser.add_argument("--low", type=int, default=128, help="size of the last row, at a low resolution; 0 for none")
    parser.add_argument("--lpips", type=Path, help="a whole LPIPS model; default: the shared one")
    args = parse(parser, words)
    nets = networks(args, WANTED)
    contents, styles = images(args, "contents", args.pairs[0]), images(args, "styles", args.pairs[1])
    file = args.lpips or (args.shared and args.shared / LPIPS)
    lpips, judge = jnst.load_lpips(file) if file else None, nets[0]
    places = [(*content, *style, args.size) for content in contents.items() for style in styles.items()]
    places += [(*places[0][:4], args.low)] if args.low else []
    made = [run(network, places, args.steps, judge, lpips) for network in nets]
    rows = [row for column in made for row, _ in column]

    def tile(row: int, column: int) -> Tile:
        measured, image = made[column][row]
        return Tile(image, caption=caption(measured))

    headings = [
        Heading(f"{name}\n{style_name}\n{size} pixels", (to_pixels(content), to_pixels(style)))
        for name, content, style_name, style, size in places
    ]
    columns = [Heading(network.name) for network in nets]
    sheet = table_sheet(headings, columns, tile, next(iter(contents.values())), captions=2)
    keys = ("network", "content", "style", "size", *MEASURES)
    parts = [
        ("Networks", [summary(rows, judge)]),
        ("Every image", [Table(keys, [[row[key] for key in keys] for row in rows])]),
    ]
    save(args, "Several networks", sheet, parts, judge=judge.name, rows=rows)
