"""Textures that repeat: gradients across the seam against those of the interior, with and without ``seamless``.

Each texture is synthesised twice by the embedded network, and repeated 3x3. A row (a column) of pixels has a gradient,
the mean absolute difference from the next one, and a curvature, that of its second difference. A seam passes if it lies
within those of the interior.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import jnst
from benchmarks.experiments import procedural_images
from benchmarks.experiments.experiment import make_parser, parse, save, table_sheet
from jnst.apps.pixels import to_levels
from jnst.apps.report import Heading, Table, Tile
from jnst.images.demo import style_image
from jnst.images.resize import crop_to_fit
from jnst.types import Image

SHARED = (
    *("content/kodim13_mountain_stream.png", "content/kodim08_houses_street.png", "content/coffee.png"),
    *("style/starry_night.jpg", "style/wheat_field_cypresses.jpg", "style/water_lilies_1919.jpg"),
    "style/adele_bloch_bauer.jpg",
)
MEASURES = {"gradient": 1, "curvature": 2}
"""The order of the differences."""
HEADER = ("texture", "direction", "measure", "seamless", "its rank", "without", "its rank")


def bricks(side: int) -> np.ndarray:
    """Rows of bricks of several shades, each row shifted by half a brick: they end in the middle of a brick."""
    y, x = np.mgrid[:side, :side] / side * 6.4
    row = np.floor(y)
    along = x / 2 + row % 2 / 2
    shade = 0.75 + 0.25 * np.sin(12.9898 * np.floor(along) + 78.233 * row)
    mortar = (y % 1 < 0.14) | (along % 1 < 0.07)
    return np.where(mortar[..., None], 0.8, shade[..., None] * np.array((0.7, 0.32, 0.22)))


def weave(side: int) -> np.ndarray:
    """Bands over and under each other."""
    y, x = np.mgrid[:side, :side] / side * 5.5
    over = (np.floor(y) + np.floor(x)) % 2 == 0
    bands = np.where(over, np.sin(np.pi * (y % 1)), np.sin(np.pi * (x % 1)))[..., None] ** 0.5
    return bands * np.where(over[..., None], (0.85, 0.7, 0.4), (0.35, 0.5, 0.65))


def textures(shared: Path | None, side: int, count: int) -> dict[str, Image]:
    """The first of ten textures by name: crops of the shared images, if there are any, and images made by code."""
    found: dict[str, Any] = {}
    if shared:
        found |= {path.split("/")[1].split(".")[0]: jnst.load_image(shared / "images" / path) for path in SHARED}
    made = {"bricks": bricks(side), "weave": weave(side), "swirls": style_image(2 * side, 2 * side)}
    made |= {
        f"{kind} {seed}": procedural_images.image(kind, seed) / 255
        for kind, seed in (
            ("art", 1),
            ("art", 2),
            ("food", 1),
            ("architecture", 1),
            ("art", 3),
            ("food", 2),
            ("art", 4),
        )
    }
    found |= {name: jnp.asarray(np.clip(image, 0, 1), jnp.float32) for name, image in made.items()}
    return {name: crop_to_fit(image, (side, side)) for name, image in list(found.items())[: min(count, 10)]}


def seam(image: np.ndarray, axis: int, order: int) -> tuple[float, float, bool]:
    """The seam's mean difference relative to the interior's median, its rank among them, and whether it is within."""
    ring = np.moveaxis(image, axis, 0)
    for _ in range(order):
        ring = np.roll(ring, -1, 0) - ring
    sizes = np.abs(ring).mean((1, 2))
    across, interior = sizes[-order:].max(), sizes[:-order]
    return across / np.median(interior), float((interior < across).mean()), bool(across <= interior.max())


def main(words: Sequence[str]) -> None:
    """Run the experiment, and write its results."""
    parser = make_parser("seamless", __doc__, size=128, steps=120, several=False)
    parser.add_argument("--count", type=int, default=10, help="how many of the ten textures")
    args = parse(parser, words)
    backbone, params = jnst.load_backbone()
    sources = textures(args.shared, args.size, args.count)
    made: dict[str, dict[str, np.ndarray]] = {}
    results: list[dict[str, Any]] = []
    for name, source in sources.items():
        made[name] = {}
        for label, seamless in (("seamless", True), ("without", False)):
            settings = jnst.preset("jnst", pyramid=None, num_steps=args.steps, seamless=seamless)
            solution = jnst.synthesize(source, None, params, backbone=backbone, preset=settings)
            image = made[name][label] = np.asarray(solution.image, np.float64)
            for axis, direction in enumerate("yx"):
                for measure, order in MEASURES.items():
                    ratio, rank, within = seam(image, axis, order)
                    results.append(
                        {
                            **{"texture": name, "label": label, "direction": direction, "measure": measure},
                            **{"over_median": ratio, "rank": rank, "within": within},
                        }
                    )
        print(name, flush=True)
    names = list(sources)
    pairs = [names[start : start + 2] for start in range(0, len(names), 2)]
    rows = [Heading("\n".join(pair), tuple(to_levels(sources[name]) for name in pair)) for pair in pairs]
    labels = ("seamless", "without")

    def tile(row: int, column: int) -> Tile:
        return Tile(np.tile(to_levels(made[pairs[row][column // 2]][labels[column % 2]]), (3, 3, 1)))

    like = jnp.zeros((3 * args.size, 3 * args.size, 3))
    note = f"3x3 repetitions of {args.size}x{args.size} pixels, {args.steps} steps, {backbone.name}"
    sheet = table_sheet(rows, [Heading(label) for label in labels * 2], tile, like, note=note)
    counts = {label: sum(row["within"] for row in results if row["label"] == label) for label in labels}
    cells = []
    for one, other in zip(*([row for row in results if row["label"] == label] for label in labels), strict=True):
        cells.append(
            [
                *(one[key] for key in ("texture", "direction", "measure")),
                *(
                    value
                    for row in (one, other)
                    for value in (f"{row['over_median']:.2f}", f"{100 * row['rank']:.0f} %")
                ),
            ]
        )
    caption = (
        f"Seams over the interior's median, and the share of the interior below it. Within the interior: "
        f"{counts['seamless']} of {len(results) // 2} with seamless, {counts['without']} without"
    )
    save(args, "Seamless textures", sheet, [("Seams", [Table(HEADER, cells, caption)])], rows=results, within=counts)
