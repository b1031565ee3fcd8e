"""The memory of a step: of whole processes, compared with other systems, and of compiled programs.

`resident`: each peer makes some steps of VGG19 to conv5_1 in a process of its own, in turns. The result is its peak
resident memory, and on GPUs also the peak of the device's allocator, per pixel.

`compiled`: a step is the value and the gradient of the loss of the preset "jnst", on VGG19 with random weights to
relu5_1 and on the embedded network. It is compiled with and without rematerialised blocks, with the default options of
`jax.jit` and, where jnst has compiler options for the device (`jnst.solve.compilation.OPTIONS`), with these. Memory is
what the compiled program asks for; times are taken in turns. For images whose rows are divided among several devices,
it is the memory on each of several simulated CPU devices.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jnst
from benchmarks import comparison, networks
from benchmarks.children import divided_memory
from benchmarks.peers import PEERS
from benchmarks.processes import run_module
from benchmarks.samples import check_losses, ratios, shown, spread, take_turns
from jnst.backbones import Backbone
from jnst.solve.compilation import supported_options
from jnst.solve.devices import needed_bytes
from jnst.types import Params

PARTS = ("resident", "compiled")
NAMES = ("jnst-float32", "jnst-auto", "torch-eager")
VARIANTS: dict[str, tuple[bool, bool]] = {
    "plain": (False, False),
    "remat": (True, False),
    "plain, options": (False, True),
    "remat, options": (True, True),
}
"""Whether blocks are rematerialised, and whether jnst's compiler options are used."""
MIB = 2**20


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=PARTS, help="measure only this part")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=NAMES, help="peers for `resident`")
    parser.add_argument("--backbone", nargs="+", default=["vgg19", "mini"], help="networks for `compiled`")
    parser.add_argument(
        "--devices",
        type=int,
        nargs="+",
        default=[1, 2, 4, 8],
        help=f"numbers of simulated devices for `compiled`, at most {divided_memory.MAX_DEVICES}",
    )
    parser.set_defaults(sizes=[512, 1024])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if options.only != "compiled":
        # First, while this process holds nothing.
        found["resident"] = [measure_resident(size, options) for size in options.sizes]
    if options.only != "resident":
        cases = [(name, size) for name in options.backbone for size in options.sizes]
        found["steps"] = [row for case in cases for row in measure_compiled(*case, options.rounds)]
        found["divided"] = measure_divided(options.backbone, options.sizes, options.devices)
    return found


def measure_resident(size: int, options: argparse.Namespace) -> dict[str, Any]:
    """Peaks of every peer at one size, and ratios of ours to the others'.

    Raises:
        RuntimeError: A process failed, or the losses differ.
    """
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in options.peers}
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder) / "inputs.npz"
        params = networks.vgg19(options.shared, options.weights)
        networks.write_inputs(inputs, params, *networks.square_images(options.shared, size))
        for number in range(options.rounds):
            for name in options.peers[:: (-1) ** number]:
                output, _ = run_module("benchmarks.children.resident_memory", name, str(inputs))
                reports[name].append(json.loads(output.splitlines()[-1]))
    return {"size": size, **summarize(size, reports)}


def summarize(size: int, reports: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Summarise and print what all processes reported.

    Raises:
        RuntimeError: The losses differ.
    """
    unavailable = {name: own[0]["unavailable"] for name, own in reports.items() if "unavailable" in own[0]}
    working = {name: own for name, own in reports.items() if name not in unavailable}
    check_losses(
        {name: own[0]["losses"] for name, own in working.items()}, {name: PEERS[name].tolerance for name in working}
    )

    def column(key: str) -> dict[str, list[Any]]:
        return {name: [report[key] for report in own] for name, own in working.items()}

    peaks = column("peak_bytes")
    found: dict[str, Any] = {
        "peak_bytes": {name: spread(samples) for name, samples in peaks.items()},
        "before_bytes": {name: spread(samples) for name, samples in column("before_bytes").items()},
        "ratios": {f"{ours} / {other}": ratios(peaks[ours], peaks[other]) for ours, other in comparison.pairs(peaks)},
        "device_bytes_per_pixel": {
            name: spread([each / size**2 for each in samples])
            for name, samples in column("device_bytes").items()
            if None not in samples
        },
        "unavailable": unavailable,
    }
    for name, samples in peaks.items():
        print(f"{size:5} {name:30} {np.median(samples) / MIB:8.0f} MiB peak resident memory", flush=True)
    for name, values in found["ratios"].items():
        print(f"{size:5} {name:30} {shown(values)} x")
    for name, values in found["device_bytes_per_pixel"].items():
        print(f"{size:5} {name:30} {shown(values, digits=0)} bytes a pixel on the device")
    return found


def load(name: str) -> tuple[Backbone, Params]:
    """The embedded network with its weights, or any other network with random ones."""
    if name == "mini":
        return jnst.load_backbone()
    backbone = jnst.make_backbone(name)
    return backbone, jax.jit(backbone.init)(jax.random.key(0))


def variants() -> dict[str, tuple[bool, dict[str, str | bool]]]:
    """Whether blocks are rematerialised, and the compiler options, for those of `VARIANTS` that differ here."""
    options = supported_options(jax.default_backend())
    return {
        name: (remat, options if given else {}) for name, (remat, given) in VARIANTS.items() if options or not given
    }


def compile_steps(backbone: Backbone, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Compile the step in every variant."""
    steps = {}
    for name, (remat, options) in variants().items():
        loss = partial(jnst.total_loss, backbone=backbone.with_options(remat=remat))
        lowered = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(*arguments)
        steps[name] = lowered.compile(compiler_options={**options})
    return steps


def measure_compiled(name: str, size: int, rounds: int) -> list[dict[str, Any]]:
    """A row for each variant of the step of one network at one size.

    Raises:
        RuntimeError: The variants' values or gradients differ.
    """
    backbone, params = load(name)
    image, style = jax.random.uniform(jax.random.key(1), (2, size, size, 3))
    objective = jnst.preset("jnst").terms.objective(backbone)
    targets = jax.jit(partial(jnst.fit_targets, backbone=backbone))(image, style, objective, params)
    arguments = (0.5 * (image + style), objective, targets, params)
    steps = compile_steps(backbone, arguments)
    check_equal({variant: step(*arguments) for variant, step in steps.items()})
    seconds = take_turns({variant: partial(step, *arguments) for variant, step in steps.items()}, rounds)
    rows = [
        {
            "backbone": name,
            "size": size,
            "variant": variant,
            "temporary_bytes": step.memory_analysis().temp_size_in_bytes,
            "total_bytes": needed_bytes(step),
            "seconds": seconds[variant],
        }
        for variant, step in steps.items()
    ]
    plain = rows[0]
    for row in rows:
        ratio = np.median(np.divide(row["seconds"], plain["seconds"]))
        print(
            f"{name:10} {size:5} {row['variant']:20} {row['temporary_bytes'] / MIB:8.0f} MiB temporary "
            f"{row['total_bytes'] / MIB:8.0f} MiB in all {np.median(row['seconds']):8.3f} s {ratio:6.2f} x plain",
            flush=True,
        )
    return rows


def check_equal(results: dict[str, Any]) -> None:
    """Check that all variants give the value and the gradient of "plain".

    Raises:
        RuntimeError: One does not.
    """
    (expected, _), gradient = results["plain"]
    for variant, ((value, _), other) in results.items():
        scale = float(np.abs(gradient).max())
        difference = float(np.abs(np.asarray(other) - np.asarray(gradient)).max()) / scale
        if not (np.isclose(value, expected, rtol=1e-4) and 0 < scale < np.inf and difference < 1e-3):
            raise RuntimeError(
                f"{variant} differs from plain: its value is {value} instead of {expected}, its gradient differs by "
                f"{difference}"
            )


def measure_divided(names: Sequence[str], sizes: Sequence[int], devices: Sequence[int]) -> list[dict[str, Any]]:
    """The rows of `benchmarks.children.divided_memory`, from a process with enough simulated devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={divided_memory.MAX_DEVICES}"
    environment = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    numbers = ("--sizes", *map(str, sizes), "--devices", *map(str, devices))
    module = "benchmarks.children.divided_memory"
    rows = json.loads(run_module(module, "--backbone", *names, *numbers, environment=environment)[0])
    for row in rows:
        print(
            f"{row['backbone']:10} {row['size']:5} {row['devices']} devices{' remat' if row['remat'] else '':18} "
            f"{row['temporary_bytes'] / MIB:8.0f} MiB temporary {row['total_bytes'] / MIB:8.0f} MiB in all, on each"
        )
    return rows


def plot(results: dict[str, Any]) -> Any:
    """Draw the peaks of the processes; with `compiled` alone, the memory of the programs."""
    from matplotlib.figure import Figure

    if "resident" not in results:
        return plot_compiled(results["steps"], results["divided"])
    rows: Sequence[dict[str, Any]] = results["resident"]
    figure = Figure(figsize=(4.5 * len(rows), 2.8), dpi=120, layout="constrained")
    for axis, row in zip(figure.subplots(1, len(rows), squeeze=False)[0], rows, strict=True):
        medians = {name: values["median"] / MIB for name, values in row["peak_bytes"].items()}
        before = [row["before_bytes"][name]["median"] / MIB for name in medians]
        colors = ["C0" if name.startswith(comparison.OURS) else "0.65" for name in medians]
        drawn = axis.barh(list(medians), list(medians.values()), color=colors)
        axis.barh(list(medians), before, color="white", alpha=0.45, hatch="//", label="before the peer was prepared")
        axis.bar_label(drawn, fmt=" {:.0f}", fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.18)
        axis.set(title=f"a step at {row['size']} x {row['size']}", xlabel="peak resident memory, MiB")
        axis.tick_params(labelsize=8)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", fontsize=8)
    return figure


def plot_compiled(rows: list[dict[str, Any]], divided: list[dict[str, Any]]) -> Any:
    """Draw memory and time of the variants above memory over the number of devices, a column for each network."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row["backbone"] for row in rows))
    figure = Figure(figsize=(5.5 * len(names), 7), dpi=120, layout="constrained")
    for column, name in enumerate(names):
        bars, lines = (
            figure.add_subplot(2, len(names), column + 1),
            figure.add_subplot(2, len(names), len(names) + column + 1),
        )
        own = [row for row in rows if row["backbone"] == name]
        labels = [f"{row['size']}, {row['variant']}" for row in own]
        colors = [f"C{list(VARIANTS).index(row['variant'])}" for row in own]
        drawn = bars.barh(labels, [row["total_bytes"] / MIB for row in own], color=colors)
        bars.bar_label(drawn, [f" {np.median(row['seconds']):.3g} s" for row in own])
        bars.invert_yaxis()
        bars.margins(x=0.2)
        bars.set(title=f"{name}: a step", xlabel="memory, MiB (bars are labelled with times)")
        for size, remat in dict.fromkeys((row["size"], row["remat"]) for row in divided):
            line = [row for row in divided if (row["backbone"], row["size"], row["remat"]) == (name, size, remat)]
            lines.plot(
                [row["devices"] for row in line],
                [row["total_bytes"] / MIB for row in line],
                marker="o",
                linestyle="--" if remat else "-",
                label=f"{size}{', remat' if remat else ''}",
            )
        lines.set(title=f"{name}: divided rows", xlabel="devices", ylabel="memory of each, MiB", ylim=(0, None))
        lines.set_xticks(sorted({row["devices"] for row in divided}))
        lines.grid(alpha=0.3)
        lines.legend()
    return figure
