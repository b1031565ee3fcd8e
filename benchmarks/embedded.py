"""The embedded network compared with VGG19, from which it was distilled: how much style it transfers, and its speed.

For every pair of content and style, both networks stylise with the same number of steps. The results are judged by
VGG19: by the style loss of neural-style (the sum over relu1_1, relu2_1, relu3_1 of the mean squared errors of Gram
matrices over c h w) and the content loss on relu3_2. The style weight for the embedded network is chosen so that its
content loss is within 20 % of that for VGG19. `gap closed` is (start - mini) / (start - vgg) in that style loss.
`border` compares a frame of 16 pixels with the interior, where results of either network differ from their targets.

Needs ``--shared``. ``--weights`` evaluates other weights than the embedded ones. Also writes a contact sheet.
"""

import argparse
import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image as Pillow

import jnst
from benchmarks.networks import OXFORD
from benchmarks.samples import ratios, shown, take_turns
from jnst.apps.pixels import to_levels
from jnst.apps.report import Heading, Tile, contact_sheet
from jnst.backbones import Backbone
from jnst.statistics import gram_matrix
from jnst.types import Image, Params

CONTENTS = (
    "kodim08_houses_street.png",
    "kodim23_parrots.png",
    "kodim21_coast_lighthouse.png",
    "astronaut_portrait.png",
)
STYLES = ("starry_night.jpg", "great_wave.jpg", "the_scream.jpg", "composition_vii.jpg")
LAYERS = ("relu1_1", "relu2_1", "relu3_1")
CONTENT = "relu3_2"
FRAME = 16
"""Width in pixels of the frame that is compared with the interior."""


@dataclasses.dataclass(frozen=True)
class Row:
    """The outcome of one pair, as VGG19 judges it."""

    content: str
    style: str
    style_weight: float
    content_ratio: float
    gap_closed: float
    seconds: float
    seconds_vgg19: float
    border: dict[str, dict[str, tuple[float, float]]]


@dataclasses.dataclass(frozen=True)
class Judge:
    """VGG19's style loss and content loss of an image."""

    backbone: Backbone
    params: Params

    def __call__(self, image: Image, content: Image, style: Image) -> tuple[float, float]:
        objective = jnst.make_objective(content_layers=(CONTENT,), style_layers=LAYERS)
        targets = jnst.fit_targets(content, style, objective, self.params, backbone=self.backbone)
        _, parts = jnst.total_loss(image, objective, targets, self.params, backbone=self.backbone)
        return sum(float(parts[f"style/{layer}"]) for layer in LAYERS), float(parts[f"content/{CONTENT}"])


def split_frame(x: Any, width: int) -> tuple[Any, Any]:
    """The positions in the frame of a map of an image ``width`` pixels wide, and the others: ``(1, n, c)`` each."""
    edge = FRAME * x.shape[1] // width
    inside = np.zeros(x.shape[:2], bool)
    inside[edge:-edge, edge:-edge] = True
    return np.asarray(x)[None, ~inside], np.asarray(x)[None, inside]


def border_errors(judge: Judge, image: Image, content: Image, style: Image) -> dict[str, tuple[float, float]]:
    """Errors of an image in its frame and in its interior.

    Those of content and style (the Gram matrices of each region against the whole style's) are squares relative to the
    target's. Those of the colours' means and standard deviations are root mean squares over the channels.
    """
    width, layers = image.shape[1], (*LAYERS, CONTENT)
    ours, kept, wanted = (judge.backbone.apply(judge.params, x, layers) for x in (image, content, style))
    colours = np.asarray(style)

    def relative(value: Any, target: Any) -> float:
        return float(np.sum((value - target) ** 2) / np.sum(target**2))

    def errors(region: int) -> dict[str, float]:
        here, there = (split_frame(x[CONTENT], width)[region] for x in (ours, kept))
        grams = [(gram_matrix(split_frame(ours[x], width)[region], "hw"), gram_matrix(wanted[x], "hw")) for x in LAYERS]
        pixels = split_frame(image, width)[region]
        return {
            "content": relative(here, there),
            "style": sum(relative(*pair) for pair in grams),
            "colour mean": float(np.sqrt(np.mean((pixels.mean((0, 1)) - colours.mean((0, 1))) ** 2))),
            "colour std": float(np.sqrt(np.mean((pixels.std((0, 1)) - colours.std((0, 1))) ** 2))),
        }

    frame, interior = errors(0), errors(1)
    return {name: (frame[name], interior[name]) for name in frame}


def mean_border(table: list[Row]) -> dict[str, dict[str, list[float]]]:
    """The mean over all pairs of `border_errors`, for each network."""
    return {
        network: {name: np.mean([row.border[network][name] for row in table], 0).tolist() for name in errors}
        for network, errors in table[0].border.items()
    }


def transfer(
    backbone: Backbone, params: Params, content: Image, style: Image, weight: float, steps: int
) -> tuple[Image, float]:
    settings = jnst.preset(
        "jnst", content_layers=(CONTENT,), style_layers=LAYERS, style_weight=weight, pyramid=None, num_steps=steps
    )
    begun = time.perf_counter()
    solution = jnst.stylize(content, style, params, backbone=backbone, preset=settings)
    return solution.image, time.perf_counter() - begun


def compare(
    judge: Judge, mini: tuple[Backbone, Params], content: Image, style: Image, steps: int
) -> tuple[dict[str, float], Image, Image]:
    """Stylise with both networks, and try up to four style weights to match the content loss."""
    start, _ = judge(content, content, style)
    theirs, seconds_vgg19 = transfer(judge.backbone, judge.params, content, style, 100.0, steps)
    style_loss, content_loss = judge(theirs, content, style)
    weight, tries = 40.0, []
    for _ in range(4):
        ours, seconds = transfer(*mini, content, style, weight, steps)
        loss, kept = judge(ours, content, style)
        ratio = kept / content_loss
        tries.append((abs(np.log(ratio)), weight, ratio, loss, seconds, ours))
        if abs(np.log(ratio)) < np.log(1.15):
            break
        weight *= float(np.clip(ratio**-3.0, 0.1, 10.0))
    _, weight, ratio, loss, seconds, ours = min(tries, key=lambda entry: entry[0])
    return (
        {
            "style_weight": weight,
            "content_ratio": ratio,
            "gap_closed": (start - loss) / (start - style_loss),
            "seconds": seconds,
            "seconds_vgg19": seconds_vgg19,
        },
        theirs,
        ours,
    )


def step_ratio(judge: Judge, mini: tuple[Backbone, Params], size: tuple[int, int], rounds: int) -> dict[str, Any]:
    """The time of a gradient to relu3_2 with the embedded network relative to VGG19."""
    image = jax.random.uniform(jax.random.key(0), (*size, 3))
    objective = jnst.make_objective(content_layers=(CONTENT,), style_layers=LAYERS)
    gradient = jax.jit(jax.grad(jnst.total_loss, has_aux=True), static_argnames="backbone")
    steps = {}
    for name, (backbone, params) in {"mini": mini, "vgg19": (judge.backbone, judge.params)}.items():
        targets = jnst.fit_targets(image, image[::-1], objective, params, backbone=backbone)
        steps[name] = partial(gradient, image, objective, targets, params, backbone=backbone)
        jax.block_until_ready(steps[name]())
    seconds = take_turns(steps, rounds)
    return ratios(seconds["mini"], seconds["vgg19"])


def make_pairs(
    images: Path, judge: Judge, mini: tuple[Backbone, Params], size: int, steps: int
) -> tuple[list[Row], list[tuple[str, list[Image]]]]:
    """The outcome of every pair, and the rows of the contact sheet."""
    table: list[Row] = []
    sheet: list[tuple[str, list[Image]]] = []
    for content_name in CONTENTS:
        content = jnst.load_image(images / "content" / content_name, size=size)
        words = Path(content_name).stem.split("_")
        label = words[1 if words[0].startswith("kodim") else 0]
        both: tuple[list[Image], list[Image]] = ([], [])
        for style_name in STYLES:
            style = jnst.load_image(images / "style" / style_name, size=size)
            outcome, theirs, ours = compare(judge, mini, content, style, steps)
            border = {
                network: border_errors(judge, image, content, style)
                for network, image in (("vgg19", theirs), ("mini", ours))
            }
            table.append(Row(content_name, style_name, **outcome, border=border))
            both[0].append(theirs)
            both[1].append(ours)
            told = "  ".join(f"{key} {value:.3g}" for key, value in outcome.items())
            print(f"{content_name:30} {style_name:22} {told}", flush=True)
        sheet += [(f"{label}\nVGG19", both[0]), (f"{label}\nmini", both[1])]
    return table, sheet


def make_sheet(rows: list[tuple[str, list[Image]]]) -> Pillow.Image:
    """A contact sheet with a column for each style."""
    columns = [Heading(name.rsplit(".", 1)[0]) for name in STYLES]
    height, width = rows[0][1][0].shape[:2]
    return contact_sheet(
        [Heading(label, shape=images[0].shape[:2]) for label, images in rows],  # pyright: ignore[reportArgumentType]
        columns,
        lambda row, column: Tile(to_levels(rows[row][1][column])),
        shape=(height, width),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=50)
    parser.set_defaults(sizes=[384], rounds=25)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Compare all pairs at the first size, then time steps."""
    if options.shared is None:
        raise SystemExit("embedded needs --shared: the folder with weights/ and images/")
    size = options.sizes[0]
    judge = Judge(*jnst.load_backbone("vgg19", options.shared / OXFORD))
    mini = jnst.load_backbone(None, options.weights)
    table, rows = make_pairs(options.shared / "images", judge, mini, size, options.steps)
    make_sheet(rows).save(options.output / "embedded.jpg", quality=82)
    ratio = step_ratio(judge, mini, (size * 2 // 3, size), options.rounds)
    closed = [row.gap_closed for row in table]
    print(f"step time, mini / VGG19 to {CONTENT}: {shown(ratio)}")
    print(f"gap closed: mean {np.mean(closed):.3f}, worst {min(closed):.3f}")
    border = mean_border(table)
    for network, errors in border.items():
        told = "  ".join(f"{name} {frame:.3f} / {interior:.3f}" for name, (frame, interior) in errors.items())
        print(f"frame / interior, {network}: {told}")
    return {
        "size": size,
        "step_ratio": ratio,
        "gap_closed": {"mean": float(np.mean(closed)), "worst": float(min(closed))},
        "border": border,
        "pairs": [dataclasses.asdict(row) for row in table],
    }


def plot(results: dict[str, Any]) -> Any:
    """Draw the gap closed of every pair."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.2), dpi=120, layout="constrained")
    axis = figure.subplots()
    labels = [f"{row['content'].split('.')[0]}, {row['style'].split('.')[0]}" for row in results["pairs"]]
    axis.bar_label(axis.barh(labels, [row["gap_closed"] for row in results["pairs"]]), fmt=" {:.2f}", fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set(xlabel=f"gap closed, {results['size']} pixels")
    axis.tick_params(labelsize=8)
    return figure
