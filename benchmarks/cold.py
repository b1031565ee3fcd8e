"""The time from the start of a process to its first finished step, with and without a cache of compiled programs.

Each sample is a process of its own with the embedded network: Python, imports, weights, compilation, targets and one
step. The cache is JAX's persistent compilation cache in a temporary folder, filled by an earlier process.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from typing import Any

from benchmarks.processes import run_module
from benchmarks.samples import check_losses, ratios, shown, spread, take_turns

CACHE = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
"""Cache every program, however small."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(sizes=[256])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    rows = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            ways: dict[str, dict[str, str]] = {"first": {}, "cached": {"JAX_COMPILATION_CACHE_DIR": folder, **CACHE}}
            rows.append(measure_size(size, ways, options.rounds))
    return {"starts": rows}


def measure_size(size: int, ways: dict[str, dict[str, str]], rounds: int) -> dict[str, Any]:
    """The seconds of each way, and their ratios.

    Args:
        size: The side of the image, in pixels.
        ways: The environment variables of the ways "first" and "cached".
        rounds: Processes of each.

    Raises:
        RuntimeError: A process failed, or the losses differ.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses: dict[str, list[float]] = {name: [] for name in ways}

    def start(name: str) -> None:
        taken, loss = first_step(size, ways[name])
        seconds[name].append(taken)
        losses[name].append(loss)

    # One start of each that is not timed, to read files from the disk and to fill the cache.
    for name in ways:
        first_step(size, ways[name])
    take_turns({name: partial(start, name) for name in ways}, rounds)
    check_losses(losses, dict.fromkeys(losses, 1e-6))
    found = {
        "size": size,
        "seconds": {name: spread(samples) for name, samples in seconds.items()},
        "ratios": {"cached / first": ratios(seconds["cached"], seconds["first"])},
        "losses": losses,
    }
    for name, values in found["seconds"].items():
        print(f"{size:5} {name:16} {shown(values, digits=2)} s to the first finished step", flush=True)
    print(f"{size:5} cached / first   {shown(found['ratios']['cached / first'])} x")
    return found


def first_step(size: int, environment: dict[str, str]) -> tuple[float, float]:
    """The seconds from the start of a process to its first finished step, and the loss of that step."""
    begun = time.time()
    output, _ = run_module("benchmarks.children.first_step", str(size), environment=environment)
    report = json.loads(output.splitlines()[-1])
    return report["done"] - begun, report["loss"]


def plot(results: dict[str, Any]) -> Any:
    """Draw every sample, and the medians."""
    from matplotlib.figure import Figure

    rows = results["starts"]
    figure = Figure(figsize=(6.5, 1.2 + 0.9 * len(rows)), dpi=120, layout="constrained")
    axis = figure.subplots()
    cases = [(f"{name}, {row['size']} pixels", values) for row in rows for name, values in row["seconds"].items()]
    drawn = axis.barh([name for name, _ in cases], [values["median"] for _, values in cases], color="C0", alpha=0.5)
    axis.bar_label(drawn, [f"  {values['median']:.2f} s" for _, values in cases], padding=14)
    for place, (_, values) in enumerate(cases):
        axis.plot(values["samples"], [place] * len(values["samples"]), "o", color="C0", ms=3)
    axis.invert_yaxis()
    axis.margins(x=0.2)
    axis.set(xlabel="seconds from the start of a process to its first finished step", xlim=(0, None))
    return figure
