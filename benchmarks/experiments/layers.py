"""Experiment 4: style from the first block alone, from the last alone, from every other one; content from the last.

Each under several style weights, which are numbers of one compiled program.
"""

from collections.abc import Sequence
from typing import Any

import jnst
from benchmarks.experiments.classes import to_pixels
from benchmarks.experiments.outcome import Network, flags, images, networks, parse, reached, save, table_sheet
from jnst.apps.report import Heading, Plot, Table, Tile

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
CONTENT = ("relu5_2", "relu5_1")
BETAS = (1e0, 1e1, 1e2, 1e3)
KEYS = ("network", "style_from", "alpha_over_beta", "first", "last", "style_loss", "content_loss")
NOTE = "Relative losses: 0 for the target, 1 for an image without features. The document shows images only."


def choices(network: Network) -> dict[str, tuple[str, ...]]:
    """Style layers by what they are called: of five blocks the first, the last, and 1, 3, 5."""
    layers = reached(network, STYLE, network.backbone.style_layers)
    return {"first block": layers[:1], "last block": layers[-1:], "every other block": layers[::2]}


def outcomes(swept: jnst.Solutions) -> list[dict[str, Any]]:
    """What every style weight came to."""
    rows = []
    for index, beta in enumerate(BETAS):
        content = sum(float(values[index, -1]) for name, values in swept.parts.items() if name.startswith("content/"))
        first, last = (float(swept.losses[index, step]) for step in (0, -1))
        losses = {"first": first, "last": last, "style_loss": (last - content) / beta, "content_loss": content}
        rows.append({"alpha_over_beta": 1 / beta} | losses)
    return rows


def main(words: Sequence[str]) -> None:
    """Run all, and write the table of images."""
    args = parse(flags("layers", __doc__, size=256, steps=200), words)
    content_name, content = next(iter(images(args, "contents", 1).items()))
    style_name, style = next(iter(images(args, "styles", 1).items()))
    rows: list[Heading] = []
    made: list[jnst.Solutions] = []
    plots: list[tuple[str, list[Plot]]] = []
    results: list[dict[str, Any]] = []
    for network in networks(args, ("vgg19",)):
        deepest = reached(network, CONTENT, network.backbone.layers[-1:])[:1]
        for name, layers in choices(network).items():
            settings = jnst.preset(
                "jnst", content_layers=deepest, style_layers=layers, pyramid=None, num_steps=(args.steps,)
            )
            swept = jnst.sweep(
                content, style, {"style_weight": BETAS}, network.params, backbone=network.backbone, preset=settings
            )
            made.append(swept)
            rows.append(Heading(f"{network.name}\n{name}\n{', '.join(layers)}", (to_pixels(content), to_pixels(style))))
            about = {"network": network.name, "content": deepest[0], "style": layers, "style_from": name}
            results += [about | outcome for outcome in outcomes(swept)]
            curves = {
                f"alpha/beta {1 / beta:g}": values / values[0] for beta, values in zip(BETAS, swept.losses, strict=True)
            }
            plots.append((f"{network.name}, {name}: total over its first value", [Plot(curves)]))
            print(f"{network.name}: content {deepest[0]}, style {', '.join(layers)}", flush=True)
    columns = [Heading(f"alpha/beta {1 / beta:g}") for beta in BETAS]
    note = f"{content_name} after {style_name}, {args.steps} steps, relative losses"
    sheet = table_sheet(rows, columns, lambda row, column: Tile(to_pixels(made[row].image[column])), content, note=note)
    table = Table([key.replace("_", " ") for key in KEYS], [[row[key] for key in KEYS] for row in results], NOTE)
    save(args, "Style from the first and the last block", sheet, [("Losses", [table]), *plots], rows=results)
