"""What the experiments have in common: their flags, networks and images at the start, and what they leave behind."""

import argparse
import datetime
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
from PIL import Image as Pillow

import jnst
from benchmarks.experiments import classes
from benchmarks.machine import machine
from jnst.apps import report
from jnst.apps.report import Heading, Tile
from jnst.apps.report.page import Block, cell_text
from jnst.images import demo as demo_images
from jnst.types import Image, Params
from jnst.weights.files import write_atomically

SHARED = (
    "vgg19-oxford-tfjs/model.json",
    "vgg19-slim16x/encoder_relu5_1.pth",
    "squeezenet1.1-keras/squeezenet_weights_tf_dim_ordering_tf_kernels_notop.h5",
)
IMAGES = {
    "contents": ("kodim08_houses_street", "kodim23_parrots", "kodim21_coast_lighthouse", "kodim22_red_barn"),
    "styles": ("starry_night", "great_wave", "the_scream", "composition_vii", "wheat_field_cypresses"),
}
"""Those of the shared folder that are used, in this order."""
MOST_BYTES, LARGEST_SHEET = 400_000, 2800
"""Of a contact sheet: its file, and its longer side."""


class Network(NamedTuple):
    """A backbone, its parameters, and what it is called."""

    name: str
    backbone: jnst.Backbone
    params: Params


def flags(name: str, about: str | None, *, size: int, steps: int, several: bool = True) -> argparse.ArgumentParser:
    """The flags that all experiments have, or those on ``several`` networks."""
    parser = argparse.ArgumentParser(prog=f"benchmarks.experiments {name}", description=about)
    parser.add_argument("--weights", type=Path, nargs="+", default=[], help="files of any known format and network")
    parser.add_argument("--shared", type=Path, help="folder with weights/ and images/")
    if several:
        parser.add_argument("--only", nargs="+", default=[], help="networks to run, by the beginning of their names")
    parser.add_argument("--contents", type=Path, nargs="+", default=[], help="image files")
    parser.add_argument("--styles", type=Path, nargs="+", default=[], help="image files")
    parser.add_argument("--size", type=int, default=size, help="of images' longer sides")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("-o", "--output", type=Path, default=Path(f"experiments-{name}"), help="folder to write to")
    parser.set_defaults(name=name)
    return parser


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The flags' values, and the words themselves, for the report."""
    return argparse.Namespace(**vars(parser.parse_args(words)), words=words)


def networks(args: argparse.Namespace, wanted: Sequence[str]) -> list[Network]:
    """Those of the files at hand, the embedded one, and those ``wanted`` that were downloaded before."""
    files = [*args.weights, *(args.shared / "weights" / name for name in SHARED if args.shared)]
    loaded = [jnst.load_backbone(weights=file) for file in files]
    whole = {backbone.name for backbone, _ in loaded if backbone.layers == backbone.all_layers}
    for name in wanted:
        if name not in whole:
            try:
                loaded.append(jnst.load_backbone(name, offline=True))
            except jnst.WeightsError as error:
                print(f"no row for the whole {name} (`jnst weights fetch {name}` downloads it): {error}")
    found = []
    for backbone, params in [*loaded, jnst.load_backbone()]:
        part = "" if backbone.layers == backbone.all_layers else f" to {backbone.layers[-1]}"
        found.append(Network(backbone.name + part, backbone, params))
    chosen = [network for network in found if not args.only or network.name.startswith(tuple(args.only))]
    if not chosen:
        raise jnst.JnstError(f"--only {' '.join(args.only)}: there are {', '.join(network.name for network in found)}")
    return chosen


def reached(network: Network, wanted: Iterable[str], usual: Iterable[str]) -> tuple[str, ...]:
    """Those of the wanted layers that a network has; else its usual ones."""
    has = network.backbone.layers
    return tuple(layer for layer in wanted if layer in has) or tuple(layer for layer in usual if layer in has)


def images(args: argparse.Namespace, kind: str, count: int) -> dict[str, Image]:
    """The first contents or styles by name: named by flags, else the shared ones, else made by formula."""
    files = getattr(args, kind)
    if not files and args.shared:
        folder = args.shared / "images" / kind.removesuffix("s")
        files = [path for name in IMAGES[kind] for path in folder.glob(f"{name}.*")]
    if files:
        return {path.stem: jnst.load_image(path, size=args.size) for path in files[:count]}
    if kind == "contents":
        made = {"landscape": demo_images.content_image(320, 448)}
        others = ("architecture", "travel", "food")
    else:
        made = {"swirls": demo_images.style_image(320, 448)}
        others = ("art", "food", "architecture", "travel")
    made |= {name: classes.image(name, len(kind)) / 255 for name in others}
    shape = max(16, args.size * 5 // 7), args.size
    return {name: jnst.resize(jnp.asarray(image, jnp.float32), shape) for name, image in list(made.items())[:count]}


def table_sheet(
    rows: Sequence[Heading],
    columns: Sequence[Heading],
    tile: Callable[[int, int], Tile],
    like: Image,
    *,
    captions: int = 0,
    note: str = "",
) -> Pillow.Image:
    """A contact sheet of images shaped like one of them; so many lines of captions are below each."""
    height, width = like.shape[:2]
    return report.contact_sheet(
        rows, columns, tile, shape=(height, width), captions=captions, note=note, max_side=LARGEST_SHEET
    )


def table_text(table: report.Table) -> str:
    """A table for the terminal."""
    rows = [list(map(str, table.header)), *([cell_text(value) for value in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*filter(None, [table.caption]), *lines])


def save(args: argparse.Namespace, title: str, sheet: Pillow.Image, parts: Sequence[Any], **results: Any) -> None:
    """Print the tables, and write JSON, contact sheet and report; ``parts`` are the report's sections."""
    name = f"experiments-{args.name}"
    sections: list[tuple[str, Sequence[Block]]] = [
        ("Images", [report.Figures([report.Figure(sheet, name=title)], wide=True)]),
        *parts,
        ("Versions", [report.Facts(report.versions())]),
        ("To repeat it", [report.Code(shlex.join(["python", "-m", "benchmarks.experiments", args.name, *args.words]))]),
    ]
    print("\n\n".join(table_text(block) for _, blocks in parts for block in blocks if isinstance(block, report.Table)))
    args.output.mkdir(parents=True, exist_ok=True)
    about = {"experiment": args.name, "machine": machine(), "date": datetime.date.today().isoformat()}
    settings = {"size": args.size, "steps": args.steps}
    text = json.dumps(about | settings | results, indent=1, default=float)
    write_atomically(args.output / f"{name}.json", f"{text}\n".encode())
    write_atomically(args.output / f"{name}.jpg", small_jpeg(sheet))
    report.save_page(
        args.output / "report.html", report.Page(title, f"Size {args.size}, {args.steps} steps.", sections)
    )
    print(f"{args.output}: {name}.json, {name}.jpg, report.html", file=sys.stderr)


def small_jpeg(sheet: Pillow.Image) -> bytes:
    """The sheet as JPEG below `MOST_BYTES`: first of less quality, then smaller."""
    for scale, quality in ((1.0, 90), (1.0, 82), (1.0, 74), (0.85, 74), (0.7, 74), (0.6, 74), (0.5, 74), (0.35, 70)):
        size = round(sheet.width * scale), round(sheet.height * scale)
        buffer = BytesIO()
        sheet.resize(size, Pillow.Resampling.LANCZOS).save(buffer, "JPEG", quality=quality)
        if buffer.tell() < MOST_BYTES:
            break
    return buffer.getvalue()
