"""The common parts of all experiments: options, networks, images, and the files that they write."""

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
from benchmarks.experiments import procedural_images
from benchmarks.machine import describe_machine
from jnst.apps import report
from jnst.apps.report import Heading, Tile
from jnst.images.demo import content_image, style_image
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
"""The images of the shared folder that are used, in this order."""
MAX_BYTES, MAX_SIDE = 400_000, 2800
"""The size of a contact sheet's file, and its longer side in pixels."""


class Network(NamedTuple):
    """A backbone, its parameters, and its name in tables."""

    name: str
    backbone: jnst.Backbone
    params: Params


def make_parser(
    name: str, about: str | None, *, size: int, steps: int, several: bool = True
) -> argparse.ArgumentParser:
    """A parser with the common options.

    Args:
        name: The experiment's name.
        about: Its description.
        size: Its default size.
        steps: Its default number of steps.
        several: Whether it compares several networks, which can be chosen.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.experiments {name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--weights", type=Path, nargs="+", default=[], help="weights files of any known format")
    parser.add_argument("--shared", type=Path, help="folder with weights/ and images/")
    if several:
        parser.add_argument("--only", nargs="+", default=[], help="the networks to run: beginnings of their names")
    parser.add_argument("--contents", type=Path, nargs="+", default=[], help="content images")
    parser.add_argument("--styles", type=Path, nargs="+", default=[], help="style images")
    parser.add_argument("--size", type=int, default=size, help="the longer side of the images, in pixels")
    parser.add_argument("--steps", type=int, default=steps, help="steps of each image")
    parser.add_argument("-o", "--output", type=Path, default=Path(f"experiments-{name}"), help="folder for the results")
    parser.set_defaults(name=name)
    return parser


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Parse the options, and keep the words themselves for the report."""
    return argparse.Namespace(**vars(parser.parse_args(words)), words=words)


def load_networks(args: argparse.Namespace, wanted: Sequence[str]) -> list[Network]:
    """Load networks: from weights files, those ``wanted`` from earlier downloads, and the embedded one.

    The files are those of the options, or without any the shared ones.
    """
    files = args.weights or [args.shared / "weights" / name for name in SHARED if args.shared]
    loaded = [jnst.load_backbone(weights=file) for file in files]
    complete = {backbone.name for backbone, _ in loaded if backbone.layers == backbone.all_layers}
    for name in wanted:
        if name not in complete:
            try:
                loaded.append(jnst.load_backbone(name, offline=True))
            except jnst.WeightsError as error:
                print(f"{name} with complete weights is left out (`jnst weights fetch {name}` downloads it): {error}")
    found = []
    for backbone, params in [*loaded, jnst.load_backbone()]:
        part = "" if backbone.layers == backbone.all_layers else f" to {backbone.layers[-1]}"
        found.append(Network(backbone.name + part, backbone, params))
    chosen = [network for network in found if not args.only or network.name.startswith(tuple(args.only))]
    if not chosen:
        raise jnst.ArgumentError(
            f"--only {' '.join(args.only)}: the networks are {', '.join(network.name for network in found)}"
        )
    return chosen


def available_layers(network: Network, wanted: Iterable[str], usual: Iterable[str]) -> tuple[str, ...]:
    """The wanted layers that a network has; if it has none of them, the usual ones."""
    has = network.backbone.layers
    return tuple(layer for layer in wanted if layer in has) or tuple(layer for layer in usual if layer in has)


def load_images(args: argparse.Namespace, kind: str, count: int) -> dict[str, Image]:
    """The first images by name: those of the options, else the shared ones, else procedural ones.

    Args:
        args: The parsed options.
        kind: "contents" or "styles".
        count: How many.
    """
    files = getattr(args, kind)
    if not files and args.shared:
        folder = args.shared / "images" / kind.removesuffix("s")
        files = [path for name in IMAGES[kind] for path in folder.glob(f"{name}.*")]
    if files:
        return {path.stem: jnst.load_image(path, size=args.size) for path in files[:count]}
    if kind == "contents":
        made = {"landscape": content_image(320, 448)}
        others = ("architecture", "travel", "food")
    else:
        made = {"swirls": style_image(320, 448)}
        others = ("art", "food", "architecture", "travel")
    made |= {name: procedural_images.image(name, len(kind)) / 255 for name in others}
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
    """A contact sheet.

    Args:
        rows: The rows' headings.
        columns: The columns' headings.
        tile: Returns the tile in a row and a column.
        like: One of the images, whose shape tiles get.
        captions: Lines of text below each tile.
        note: A line at the bottom.
    """
    height, width = like.shape[:2]
    return report.contact_sheet(
        rows, columns, tile, shape=(height, width), captions=captions, note=note, max_side=MAX_SIDE
    )


def table_text(table: report.Table) -> str:
    """Format a table for the terminal."""
    rows = [list(map(str, table.header)), *([report.cell_text(value) for value in row] for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*filter(None, [table.caption]), *lines])


def save(args: argparse.Namespace, title: str, sheet: Pillow.Image, parts: Sequence[Any], **results: Any) -> None:
    """Print the tables, and write the results as JSON, the contact sheet, and a report.

    Args:
        args: The parsed options.
        title: The report's title.
        sheet: The contact sheet.
        parts: Further sections of the report.
        **results: Written as JSON.
    """
    name = f"experiments-{args.name}"
    sections: list[tuple[str, Sequence[report.Block]]] = [
        ("Images", [report.Figures([report.Figure(sheet, name=title)], wide=True)]),
        *parts,
        ("Versions", [report.Facts(report.versions())]),
        ("Command", [report.Code(shlex.join(["python", "-m", "benchmarks.experiments", args.name, *args.words]))]),
    ]
    print("\n\n".join(table_text(block) for _, blocks in parts for block in blocks if isinstance(block, report.Table)))
    args.output.mkdir(parents=True, exist_ok=True)
    about = {"experiment": args.name, "machine": describe_machine(), "date": datetime.date.today().isoformat()}
    settings = {"size": args.size, "steps": args.steps}
    text = json.dumps(about | settings | results, indent=1, default=float)
    write_atomically(args.output / f"{name}.json", f"{text}\n".encode())
    write_atomically(args.output / f"{name}.jpg", small_jpeg(sheet))
    report.save_page(
        args.output / "report.html", report.Page(title, f"Size {args.size}, {args.steps} steps.", sections)
    )
    print(f"wrote {name}.json, {name}.jpg and report.html to {args.output}", file=sys.stderr)


def small_jpeg(sheet: Pillow.Image) -> bytes:
    """Encode a contact sheet as JPEG of less than `MAX_BYTES`, first by lower quality, then by a smaller size."""
    for scale, quality in ((1.0, 90), (1.0, 82), (1.0, 74), (0.85, 74), (0.7, 74), (0.6, 74), (0.5, 74), (0.35, 70)):
        size = round(sheet.width * scale), round(sheet.height * scale)
        buffer = BytesIO()
        sheet.resize(size, Pillow.Resampling.LANCZOS).save(buffer, "JPEG", quality=quality)
        if buffer.tell() < MAX_BYTES:
            break
    return buffer.getvalue()
