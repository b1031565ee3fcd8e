"""Memory of a step: resident in a fresh process beside torch-eager's, and as the compiled program asks for it.

`resident`: some steps of VGG19 to conv5_1 by each peer, each time in a process of its own, in turns; what counts is the
most memory that was resident at once (on GPUs also the most that the device's allocator held, by pixel). `compiled`:
see `benchmarks.compiled`.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import compiled, contest, divided, networks
from benchmarks.peers import PEERS
from benchmarks.processes import run_module
from benchmarks.samples import check_losses, ratios, shown, spread

PARTS = ("resident", "compiled")
NAMES = ("jnst-float32", "jnst-auto", "torch-eager")
MIB = 2**20


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=PARTS, help="leave the other part out")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=NAMES, help="of `resident`")
    parser.add_argument("--backbone", nargs="+", default=["vgg19", "mini"], help="of `compiled`")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8], help=f"at most {divided.MOST_DEVICES}")
    parser.set_defaults(sizes=[512, 1024])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options.only != "compiled":
        # First, while this process holds nothing.
        found["resident"] = [resident(size, options) for size in options.sizes]
    if options.only != "resident":
        cases = [(name, size) for name in options.backbone for size in options.sizes]
        found["steps"] = [row for case in cases for row in compiled.measure(*case, options.rounds)]
        found["divided"] = compiled.divided_rows(options.backbone, options.sizes, options.devices)
    return found


def resident(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Peaks of every peer at one size, and ours over the others'.

    Raises:
        RuntimeError: A process failed, or their losses are not the same.
    """
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in options.peers}
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        params = networks.vgg19(options.shared, options.weights)
        networks.write_inputs(inputs, params, *networks.square_images(options.shared, size))
        for number in range(options.rounds):
            for name in options.peers[:: (-1) ** number]:
                said, _ = run_module("benchmarks.resident", name, str(inputs))
                reports[name].append(json.loads(said.splitlines()[-1]))
    return {"size": size, **summary(size, reports)}


def summary(size: int, reports: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """What all processes reported, put together, and printed.

    Raises:
        RuntimeError: Their losses are not the same.
    """
    unavailable = {name: own[0]["unavailable"] for name, own in reports.items() if "unavailable" in own[0]}
    working = {name: own for name, own in reports.items() if name not in unavailable}
    check_losses(
        {name: own[0]["losses"] for name, own in working.items()}, {name: PEERS[name].tolerance for name in working}
    )
    column = partial(_column, working)
    peaks = column("peak_bytes")
    found: dict[str, Any] = {
        "peak_bytes": {name: spread(samples) for name, samples in peaks.items()},
        "before_bytes": {name: spread(samples) for name, samples in column("before_bytes").items()},
        "ratios": {f"{ours} / {other}": ratios(peaks[ours], peaks[other]) for ours, other in contest.pairs(peaks)},
        "device_bytes_per_pixel": {
            name: spread([each / size**2 for each in samples])
            for name, samples in column("device_bytes").items()
            if None not in samples
        },
        "unavailable": unavailable,
    }
    for name, samples in peaks.items():
        print(f"{size:5} {name:30} {np.median(samples) / MIB:8.0f} MiB resident at most", flush=True)
    for name, values in found["ratios"].items():
        print(f"{size:5} {name:30} {shown(values)} x")
    for name, values in found["device_bytes_per_pixel"].items():
        print(f"{size:5} {name:30} {shown(values, digits=0)} bytes a pixel on the device")
    return found


def _column(reports: dict[str, list[dict[str, Any]]], key: str) -> dict[str, list[Any]]:
    return {name: [report[key] for report in own] for name, own in reports.items()}


def plot(results: dict[str, Any]) -> Any:
    """Peaks of the processes; with `compiled` alone, its own plot."""
    from matplotlib.figure import Figure

    if "resident" not in results:
        return compiled.plot(results["steps"], results["divided"])
    rows: Sequence[dict[str, Any]] = results["resident"]
    figure = Figure(figsize=(4.5 * len(rows), 2.8), dpi=120, layout="constrained")
    for axis, row in zip(figure.subplots(1, len(rows), squeeze=False)[0], rows, strict=True):
        medians = {name: values["median"] / MIB for name, values in row["peak_bytes"].items()}
        before = [row["before_bytes"][name]["median"] / MIB for name in medians]
        colors = ["C0" if name.startswith(contest.OURS) else "0.65" for name in medians]
        drawn = axis.barh(list(medians), list(medians.values()), color=colors)
        axis.barh(list(medians), before, color="white", alpha=0.45, hatch="//", label="before the peer was prepared")
        axis.bar_label(drawn, fmt=" {:.0f}", fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.18)
        axis.set(title=f"a step at {row['size']} x {row['size']}", xlabel="resident memory at most, MiB")
        axis.tick_params(labelsize=8)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8)
    return figure
