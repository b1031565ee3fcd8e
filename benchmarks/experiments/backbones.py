"""Experiment 1: the same images with several networks.

Every content gets every style with each network; one pair also at a low resolution. With each image are its distances
from style and content, judged by the same network for all, LPIPS to the content, and the seconds it took.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jnst
from benchmarks.experiments.experiment import (
    Network,
    load_images,
    load_networks,
    make_parser,
    parse,
    save,
    table_sheet,
)
from jnst.apps.pixels import to_levels
from jnst.apps.report import Heading, Table, Tile
from jnst.types import Image

WANTED = ("vgg16", "vgg19", "resnet50")
LPIPS = "weights/lpips-squeeze/lpips_squeeze.pt"
MEASURES = ("style_distance", "content_distance", "lpips", "seconds")

style_distance = jax.jit(jnst.style_distance, static_argnames="backbone")
content_distance = jax.jit(jnst.content_distance, static_argnames="backbone")
lpips_distance = jax.jit(jnst.lpips, static_argnames="metric")

Row = dict[str, Any]
"""An image's network, content, style, size and measures."""
Cases = list[tuple[str, Image, str, Image, int]]
"""What each network makes: content and style, each with its name, and the size."""


def transfer(network: Network, content: Image, style: Image, steps: int) -> tuple[Image, float]:
    """Make an image at one size from the content; returns it, and the seconds it took."""
    settings = jnst.preset("jnst", pyramid=None, num_steps=steps)
    begun = time.perf_counter()
    solution = jnst.stylize(content, style, network.params, backbone=network.backbone, preset=settings)
    return solution.image.block_until_ready(), time.perf_counter() - begun


def measure(judge: Network, lpips: Any, image: Image, content: Image, style: Image) -> dict[str, float | None]:
    """The distances of an image from its style and its content."""
    return {
        "style_distance": float(style_distance(image, style, judge.params, backbone=judge.backbone)),
        "content_distance": float(content_distance(image, content, judge.params, backbone=judge.backbone)),
        "lpips": float(lpips_distance(image, content, lpips[1], metric=lpips[0])) if lpips else None,
    }


def at_size(image: Image, size: int) -> Image:
    """Resize an image to a longer side of ``size`` pixels."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    return jnst.resize(image, (round(height * scale), round(width * scale)))


def run(network: Network, cases: Cases, steps: int, judge: Network, lpips: Any) -> list[tuple[Row, np.ndarray]]:
    """Make all images with one network, and measure them."""
    made = []
    for name, content, style_name, style, size in cases:
        content, style = at_size(content, size), at_size(style, size)
        image, seconds = transfer(network, content, style, steps)
        about = {"network": network.name, "content": name, "style": style_name, "size": size, "seconds": seconds}
        made.append((about | measure(judge, lpips, image, content, style), to_levels(image)))
    print(f"{network.name}: {len(made)} images", flush=True)
    return made


def summary(rows: list[Row], judge: Network) -> Table:
    """The means of each network, and the median of the seconds, which leaves out compilation."""
    table, size = [], max(row["size"] for row in rows)
    for name in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == name and row["size"] == size]
        means = [np.mean([row[key] for row in own]) if own[0][key] is not None else None for key in MEASURES[:3]]
        table.append((name, *means, np.median([row["seconds"] for row in own])))
    return Table(("network", "style", "content", "LPIPS", "seconds"), table, f"Distances judged by {judge.name}")


def caption(row: Row) -> str:
    """The text below an image."""
    lpips = "" if row["lpips"] is None else f"\nLPIPS {row['lpips']:.2f}"
    return f"style {row['style_distance']:.2f}, content {row['content_distance']:.2f}{lpips}"


def main(words: Sequence[str]) -> None:
    """Run the experiment, and write its results."""
    parser = make_parser("backbones", __doc__, size=256, steps=100)
    parser.add_argument("--pairs", type=int, nargs=2, default=(4, 5), help="the numbers of contents and styles")
    parser.add_argument("--low", type=int, default=128, help="the size of the last row; 0 for none")
    parser.add_argument("--lpips", type=Path, help="a complete LPIPS model; the shared one by default")
    args = parse(parser, words)
    networks = load_networks(args, WANTED)
    contents, styles = load_images(args, "contents", args.pairs[0]), load_images(args, "styles", args.pairs[1])
    file = args.lpips or (args.shared and args.shared / LPIPS)
    lpips, judge = jnst.load_lpips(file) if file else None, networks[0]
    cases = [(*content, *style, args.size) for content in contents.items() for style in styles.items()]
    cases += [(*cases[0][:4], args.low)] if args.low else []
    made = [run(network, cases, args.steps, judge, lpips) for network in networks]
    rows = [row for column in made for row, _ in column]

    def tile(row: int, column: int) -> Tile:
        line, network = divmod(row, len(networks))
        case = line * len(styles) + column
        if case >= len(cases):  # at the low resolution there is only one style
            return Tile(None)
        measured, image = made[network][case]
        return Tile(image, caption=caption(measured))

    lines = [(*content, args.size) for content in contents.items()] + [(*cases[0][:2], args.low)] * bool(args.low)
    headings = [
        Heading(f"{name}\n{size} pixels\n{network.name}", (to_levels(content),))
        for name, content, size in lines
        for network in networks
    ]
    columns = [Heading(name, (to_levels(style),)) for name, style in styles.items()]
    sheet = table_sheet(headings, columns, tile, next(iter(contents.values())), captions=2)
    keys = ("network", "content", "style", "size", *MEASURES)
    parts = [
        ("Networks", [summary(rows, judge)]),
        ("Every image", [Table(keys, [[row[key] for key in keys] for row in rows])]),
    ]
    save(args, "Several networks", sheet, parts, judge=judge.name, rows=rows)
