"""Experiment 4: style from the first block, from the last, and from every other block; content from the last.

Each with several style weights, which share one compiled program.
"""

from collections.abc import Sequence
from typing import Any

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

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT = ("relu5_2", "relu5_1")
BETAS = (1e0, 1e1, 1e2, 1e3)
KEYS = ("network", "style_from", "alpha_over_beta", "first", "last", "style_loss", "content_loss")
NOTE = "Losses are relative: 0 for the target, 1 for an image without features. The project only shows images."


def choices(network: Network) -> dict[str, tuple[str, ...]]:
    """The style layers by name: of the first block, of the last, and of every other block."""
    layers = available_layers(network, STYLE, network.backbone.style_layers)
    return {"first block": layers[:1], "last block": layers[-1:], "every other block": layers[::2]}


def outcomes(swept: jnst.Solution) -> list[dict[str, Any]]:
    """The losses with every style weight."""
    rows = []
    for index, beta in enumerate(BETAS):
        content = sum(float(values[index, -1]) for name, values in swept.parts.items() if name.startswith("content/"))
        first, last = (float(swept.losses[index, step]) for step in (0, -1))
        losses = {"first": first, "last": last, "style_loss": (last - content) / beta, "content_loss": content}
        rows.append({"alpha_over_beta": 1 / beta} | losses)
    return rows


def main(words: Sequence[str]) -> None:
    """Run the experiment, and write its results."""
    args = parse(make_parser("layers", __doc__, size=256, steps=200), words)
    content_name, content = next(iter(load_images(args, "contents", 1).items()))
    style_name, style = next(iter(load_images(args, "styles", 1).items()))
    rows: list[Heading] = []
    solutions: list[jnst.Solution] = []
    plots: list[tuple[str, list[Plot]]] = []
    results: list[dict[str, Any]] = []
    for network in load_networks(args, ("vgg19",)):
        deepest = available_layers(network, CONTENT, network.backbone.layers[-1:])[:1]
        for name, layers in choices(network).items():
            settings = jnst.preset(
                "jnst", content_layers=deepest, style_layers=layers, pyramid=None, num_steps=args.steps
            )
            swept = jnst.sweep(
                content, style, {"style_weight": BETAS}, network.params, backbone=network.backbone, preset=settings
            )
            solutions.append(swept)
            rows.append(Heading(f"{network.name}\n{name}\n{', '.join(layers)}", (to_levels(content), to_levels(style))))
            about = {"network": network.name, "content": deepest[0], "style": layers, "style_from": name}
            results += [about | outcome for outcome in outcomes(swept)]
            curves = {
                f"alpha/beta {1 / beta:g}": values / values[0] for beta, values in zip(BETAS, swept.losses, strict=True)
            }
            plots.append((f"{network.name}, {name}: total relative to its first value", [Plot(curves)]))
            print(f"{network.name}: content {deepest[0]}, style {', '.join(layers)}", flush=True)
    columns = [Heading(f"alpha/beta {1 / beta:g}") for beta in BETAS]
    note = f"{content_name} in the style of {style_name}, {args.steps} steps, relative losses"
    sheet = table_sheet(
        rows, columns, lambda row, column: Tile(to_levels(solutions[row].image[column])), content, note=note
    )
    table = Table([key.replace("_", " ") for key in KEYS], [[row[key] for key in KEYS] for row in results], NOTE)
    save(args, "Style from the first and the last block", sheet, [("Losses", [table]), *plots], rows=results)
