"""From the start of a process to its first finished step, with the embedded network: first, and with a cache.

Every sample is a process of its own: Python, imports, weights, compiling, targets and one step. Those with a cache find
JAX's persistent compilation cache, in a temporary folder, filled by a process before them.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from typing import Any

from benchmarks.processes import run_module
from benchmarks.samples import check_losses, ratios, shown, spread
from benchmarks.timing import in_turns

CACHE = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
"""Keep every program, however small."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(sizes=[256])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Samples at every size, the two ways in turns."""
    rows = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            ways: dict[str, dict[str, str]] = {"first": {}, "cached": {"JAX_COMPILATION_CACHE_DIR": folder, **CACHE}}
            rows.append(row(size, ways, options.rounds))
    return {"starts": rows}


def row(size: int, ways: dict[str, dict[str, str]], rounds: int) -> dict[str, Any]:
    """Seconds of each way, and the second's over the first's.

    Raises:
        RuntimeError: A process failed, or the losses are not the same.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    losses: dict[str, list[float]] = {name: [] for name in ways}

    def start(name: str) -> None:
        taken, loss = first_step(size, ways[name])
        seconds[name].append(taken)
        losses[name].append(loss)

    # Each once before: files are read from the disk, the cache is filled.
    for name in ways:
        first_step(size, ways[name])
    in_turns({name: partial(start, name) for name in ways}, rounds)
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
    """Seconds from the start of a process to its first finished step, and the loss of that."""
    begun = time.time()
    said, _ = run_module("benchmarks.first_step", str(size), environment=environment)
    report = json.loads(said.splitlines()[-1])
    return report["done"] - begun, report["loss"]


def plot(results: dict[str, Any]) -> Any:
    """Every sample, and the medians."""
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
