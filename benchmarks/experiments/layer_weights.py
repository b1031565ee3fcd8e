"""Experiment 2: layer weights 1, 0.8, 0.5, 0.3, 0.1 and the ratio of content to style weight.

Content is matched on conv4_2, style on conv1_1 to conv5_1, as far as a network has them. Five style weights share one
compiled program. Below the images are feature maps and Gram matrices of the style.
"""

from collections.abc import Sequence
from typing import Any

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
from jnst.apps import report
from jnst.apps.pixels import to_levels
from jnst.apps.report import Heading, Plot, Table, Tile
from jnst.types import Image

CONTENT, STYLE = ("conv4_2",), ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
LAYER_WEIGHTS = (1.0, 0.8, 0.5, 0.3, 0.1)
BETAS = (1e0, 1e1, 1e2, 1e3, 1e4)
PUBLISHED = {"total": (11.05e6, 2.17e6), "steps": 2400, "alpha": 1.0, "beta": 1e4}
"""What the project prints for an earlier run."""
HEADER = ("network", "alpha/beta", "first total", "last total", "first/last", "content", "style/beta")
NOTE = "A smaller alpha/beta means more style. Our losses are relative; those of the project are sums of squares."


def settings_of(network: Network, steps: int) -> jnst.Preset:
    """Our losses, which are relative to their targets, with the project's layers and weights."""
    style = available_layers(network, STYLE, network.backbone.style_layers)[: len(LAYER_WEIGHTS)]
    return jnst.preset(
        "jnst",
        content_layers=available_layers(network, CONTENT, network.backbone.content_layers)[:1],
        style_layers=style,
        style_layer_weights=LAYER_WEIGHTS[: len(style)],
        mean_of_styles=False,
        pyramid=None,
        num_steps=steps,
    )


def outcomes(network: Network, swept: jnst.Solution) -> list[dict[str, Any]]:
    """The losses with every style weight."""
    rows = []
    for index, beta in enumerate(BETAS):
        last = {name: float(values[index, -1]) for name, values in swept.parts.items()}
        style = sum(value for name, value in last.items() if name.startswith("style/"))
        first, end = (float(swept.losses[index, step]) for step in (0, -1))
        row = {"network": network.name, "alpha": 1, "beta": beta, "first": first, "last": end, "parts": last}
        rows.append(row | {"content": end - style, "style_over_beta": style / beta})
    return rows


def table_row(row: dict[str, Any]) -> tuple[Any, ...]:
    """The cells of a row, in the order of `HEADER`."""
    ratio = f"{row['alpha'] / row['beta']:g}", row["first"], row["last"], row["first"] / row["last"]
    return (row["network"], *ratio, row["content"], row["style_over_beta"])


def feature_tiles(network: Network, layers: Sequence[str], style: Image) -> list[list[Tile]]:
    """A row of tiles with feature maps, and one with Gram matrices, of the style layers."""
    features = network.backbone.apply(network.params, style, layers)
    maps = {layer: report.feature_montage(features[layer]) for layer in layers}
    grams = {layer: report.gram_image(jnst.gram_matrix(features[layer])) for layer in layers}
    return [
        [Tile(np.asarray(image.convert("RGB")), caption=layer) for layer, image in images.items()]
        for images in (maps, grams)
    ]


def main(words: Sequence[str]) -> None:
    """Run the experiment, and write its results."""
    args = parse(make_parser("layer-weights", __doc__, size=256, steps=500), words)
    content_name, content = next(iter(load_images(args, "contents", 1).items()))
    style_name, style = next(iter(load_images(args, "styles", 1).items()))
    tiles: list[list[Tile]] = []
    rows: list[Heading] = []
    plots: list[tuple[str, list[Plot]]] = []
    results: list[dict[str, Any]] = []
    for network in load_networks(args, ("vgg19",)):
        settings = settings_of(network, args.steps)
        layers = settings.terms.style_layers or ()
        swept = jnst.sweep(
            content, style, {"style_weight": BETAS}, network.params, backbone=network.backbone, preset=settings
        )
        print(
            f"{network.name}: content {', '.join(settings.terms.content_layers or ())}, style {', '.join(layers)}",
            flush=True,
        )
        results += outcomes(network, swept)
        captions = [f"alpha/beta {1 / beta:g}" for beta in BETAS]
        tiles.append([Tile(to_levels(image), caption=text) for image, text in zip(swept.image, captions, strict=True)])
        tiles += feature_tiles(network, layers, style)
        rows.append(Heading(network.name, (to_levels(content), to_levels(style))))
        rows += [Heading("feature maps of the style"), Heading("Gram matrices of the style")]
        curves = {"total": swept.losses[-1]} | {name: values[-1] for name, values in swept.parts.items()}
        plots.append((f"Losses of {network.name} at {captions[-1]}", [Plot(curves)]))
    weights = ", ".join(map(str, LAYER_WEIGHTS))
    sheet = table_sheet(
        rows,
        [Heading() for _ in BETAS],
        lambda row, column: tiles[row][column] if column < len(tiles[row]) else Tile(None),
        content,
        captions=1,
        note=f"{content_name} in the style of {style_name}, {args.steps} steps, layer weights {weights}",
    )
    older, newer = PUBLISHED["total"]
    published = (
        "project, VGG19",
        f"{PUBLISHED['alpha'] / PUBLISHED['beta']:g}",
        older,
        newer,
        older / newer,
        None,
        None,
    )
    table = Table(HEADER, [*map(table_row, results), published], NOTE)
    save(args, "Layer weights", sheet, [("Totals", [table]), *plots], rows=results, project=PUBLISHED)
