"""A step of VGG19 to conv5_1 beside every peer's, and how a step's time grows with the image.

All are given the same images, network, layers and losses (content relu4_2, style relu1_1 to relu5_1, Adam), with Gram
matrices in neural-style-pt's conventions and with Wasserstein distances in Crowson's. They take turns; ratios are taken
pair by pair. With ``--growth`` only some of them are timed, at sizes from 128 to 1024.
"""

import argparse
import gc
from typing import Any

import jax

from benchmarks import contest, networks
from benchmarks.peers import PEERS, STATISTICS
from benchmarks.samples import slope

SIZES = (256, 512)
GROWTH_SIZES = (128, 192, 256, 384, 512, 768, 1024)
GROWING = ("jnst-float32", "jnst-auto", "torch-eager")
COMPARABLE = tuple(name for name, peer in PEERS.items() if "optimizer" not in peer.options)
"""Those that take the settings' optimiser: another's losses are others from the second step on."""
USUAL = tuple(name for name in COMPARABLE if name != "jnst-bfloat16")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", nargs="+", choices=COMPARABLE, help="only these")
    parser.add_argument("--statistics", nargs="+", choices=STATISTICS, default=list(STATISTICS))
    parser.add_argument("--growth", action="store_true", help=f"time at {', '.join(map(str, GROWTH_SIZES))} pixels")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """A contest for every statistic at every size; with ``--growth`` also the slopes."""
    names = options.peers or (GROWING if options.growth else USUAL)
    statistics = ["gram"] if options.growth else options.statistics
    params = networks.vgg19(options.shared, options.weights)
    rows = []
    for size in options.sizes or (GROWTH_SIZES if options.growth else SIZES):
        images = networks.square_images(options.shared, size)
        for statistic in statistics:
            steps, unavailable = contest.enter(names, *images, STATISTICS[statistic](params))
            if steps:
                found = contest.measure(steps, options.rounds)
                contest.show(f"{statistic}, {size} x {size}", found)
                rows.append({"size": size, "statistic": statistic, **found, "unavailable": unavailable})
            del steps
            gc.collect()
            jax.clear_caches()
    return {"contests": rows, **({"slopes": slopes(rows)} if options.growth else {})}


def slopes(rows: list[dict[str, Any]]) -> dict[str, float]:
    """By which power of the number of pixels each peer's step grows."""
    if len(rows) < 2:
        raise RuntimeError("growth needs at least two sizes")
    pixels = [row["size"] ** 2 for row in rows]
    found = {}
    for name in rows[0]["seconds"]:
        found[name] = slope(pixels, [row["seconds"][name]["median"] for row in rows])
        print(f"{name:46} grows with the {found[name]:.3f}th power of the pixels")
    return found


def plot(results: dict[str, Any]) -> Any:
    """Bars for every contest; with slopes, lines."""
    from matplotlib.figure import Figure

    rows = results["contests"]
    if "slopes" in results:
        figure = Figure(figsize=(6, 4.2), dpi=120, layout="constrained")
        draw_growth(figure.subplots(), rows, results["slopes"])
        return figure
    statistics = list(dict.fromkeys(row["statistic"] for row in rows))
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    most = [max(len(row["seconds"]) for row in rows if row["statistic"] == statistic) for statistic in statistics]
    figure = Figure(figsize=(5.5 * len(sizes), 1.6 + 0.32 * sum(most)), dpi=120, layout="constrained")
    axes = figure.subplots(len(statistics), len(sizes), squeeze=False, height_ratios=[count + 2 for count in most])
    for row in rows:
        axis = axes[statistics.index(row["statistic"]), sizes.index(row["size"])]
        contest.bars(axis, row, f"{row['statistic']}, {row['size']} x {row['size']}")
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
    axis.set(xlabel="side of the image, pixels", ylabel="seconds of a step", title="growth; slopes are by pixels")
    axis.grid(alpha=0.3)
    axis.legend()
