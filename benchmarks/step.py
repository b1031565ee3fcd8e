"""The time of a step of VGG19 to conv5_1, compared with other systems, other sizes, or another checkout.

All peers get the same images, network, layers and losses (content relu4_2, style relu1_1 to relu5_1, Adam): Gram
matrices in neural-style-pt's conventions, and Wasserstein distances in Crowson's. They take turns, and ratios are taken
pair by pair. With ``--growth``, three of them are timed at sizes from 128 to 1024. With ``--against``, the step of this
checkout is compared with that of another one (see `benchmarks.checkouts`).
"""

import argparse
import gc
import tempfile
from pathlib import Path
from typing import Any

import jax

from benchmarks import checkouts, comparison, networks
from benchmarks.peers import PEERS, STATISTICS
from benchmarks.samples import slope

SIZES = (256, 512)
GROWTH_SIZES = (128, 192, 256, 384, 512, 768, 1024)
GROWTH_PEERS = ("jnst-float32", "jnst-auto", "torch-eager")
AGAINST_PEERS = ("jnst-float32",)
COMPARABLE = tuple(name for name, peer in PEERS.items() if "optimizer" not in peer.options)
"""Peers that use the optimiser of the settings. With another one, losses differ from the second step on."""
DEFAULT_PEERS = tuple(name for name in COMPARABLE if name != "jnst-bfloat16")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", nargs="+", choices=COMPARABLE, help="the peers to time")
    parser.add_argument(
        "--statistics", nargs="+", choices=STATISTICS, help="all by default; gram with --growth or --against"
    )
    sizes = ", ".join(map(str, GROWTH_SIZES))
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--growth", action="store_true", help=f"time steps at {sizes} pixels")
    modes.add_argument(
        "--against",
        type=checkouts.checkout,
        metavar="DIR",
        help="compare this checkout with another one, which contains jnst/ and benchmarks/",
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Compare all peers for every statistic at every size; with ``--growth``, also compute the slopes."""
    if options.against is not None:
        return {"comparisons": compare_checkouts(options)}
    names = options.peers or (GROWTH_PEERS if options.growth else DEFAULT_PEERS)
    statistics = options.statistics or (["gram"] if options.growth else STATISTICS)
    params = networks.vgg19(options.shared, options.weights)
    rows = []
    for size in options.sizes or (GROWTH_SIZES if options.growth else SIZES):
        images = networks.square_images(options.shared, size)
        for statistic in statistics:
            steps, unavailable = comparison.prepare_steps(names, *images, STATISTICS[statistic](params))
            if steps:
                found = comparison.measure(steps, options.rounds)
                comparison.show(f"{statistic}, {size} x {size}", found)
                rows.append({"size": size, "statistic": statistic, **found, "unavailable": unavailable})
            del steps
            gc.collect()
            jax.clear_caches()
    return {"comparisons": rows, **({"slopes": slopes(rows)} if options.growth else {})}


def compare_checkouts(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare this checkout with ``options.against`` for every peer, statistic and size."""
    rows = []
    params = networks.vgg19(options.shared, options.weights)
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        for size in options.sizes or SIZES:
            networks.write_inputs(inputs, params, *networks.square_images(options.shared, size))
            for statistic in options.statistics or ["gram"]:
                for peer in options.peers or AGAINST_PEERS:
                    print(f"{peer}, {statistic}, {size} x {size}", flush=True)
                    found = checkouts.measure(options.against, peer, statistic, inputs, rounds=options.rounds)
                    comparison.show(f"{peer}, {statistic}, {size} x {size}", found)
                    rows.append({"size": size, "statistic": statistic, "peer": peer, **found})
    return rows


def slopes(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The power of the number of pixels with which each peer's step grows."""
    if len(rows) < 2:
        raise RuntimeError("growth needs at least two sizes")
    pixels = [row["size"] ** 2 for row in rows]
    found = {}
    for name in rows[0]["seconds"]:
        found[name] = slope(pixels, [row["seconds"][name]["median"] for row in rows])
        print(f"{name:46} grows with the power {found[name]:.3f} of the number of pixels")
    return found


def plot(results: dict[str, Any]) -> Any:
    """Draw bars for every comparison; with slopes, lines."""
    from matplotlib.figure import Figure

    rows = results["comparisons"]
    if "slopes" in results:
        figure = Figure(figsize=(6, 4.2), dpi=120, layout="constrained")
        draw_growth(figure.subplots(), rows, results["slopes"])
        return figure
    titles = [", ".join(filter(None, (row.get("peer"), row["statistic"]))) for row in rows]
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    most = {
        title: max(len(row["seconds"]) for row, own in zip(rows, titles, strict=True) if own == title)
        for title in titles
    }
    figure = Figure(figsize=(5.5 * len(sizes), 1.6 + 0.32 * sum(most.values())), dpi=120, layout="constrained")
    heights = [count + 2 for count in most.values()]
    axes = figure.subplots(len(most), len(sizes), squeeze=False, height_ratios=heights)
    for row, title in zip(rows, titles, strict=True):
        axis = axes[list(most).index(title), sizes.index(row["size"])]
        comparison.draw_bars(axis, row, f"{title}, {row['size']} x {row['size']}")
    return figure


def draw_growth(axis: Any, rows: list[dict[str, Any]], found: dict[str, float]) -> None:
    sizes = [row["size"] for row in rows]
    for name, power in found.items():
        seconds = [row["seconds"][name] for row in rows]
        lower, upper = zip(*(each["quartiles"] for each in seconds), strict=True)
        (line,) = axis.plot(sizes, [each["median"] for each in seconds], marker="o", label=f"{name}: slope {power:.2f}")
        axis.fill_between(sizes, lower, upper, color=line.get_color(), alpha=0.2)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(sizes, [str(size) for size in sizes])
    axis.minorticks_off()
    axis.set(xlabel="side of the image, pixels", ylabel="seconds of a step", title="growth (slopes by pixels)")
    axis.grid(alpha=0.3)
    axis.legend()
