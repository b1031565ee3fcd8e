"""The part of `benchmarks.memory` about compiled programs: rematerialisation, options of XLA, rows over devices.

A step is the value and the gradient of what the preset "jnst" minimises, on VGG19 (random weights; to relu5_1) and on
the embedded network. It is compiled as `jax.jit` does by itself and, where jnst has options of XLA for the device
(`jnst.solve.compilation.OPTIONS`), with these. Memory is what the compiled program asks for; times are taken in turns. The
memory of an image whose rows are divided is that of pretend CPU devices.
"""

import json
import os
from functools import partial
from typing import Any

import jax
import numpy as np

import jnst
from benchmarks import divided
from benchmarks.processes import run_module
from benchmarks.timing import in_turns
from jnst.backbones import Backbone
from jnst.solve.compilation import known
from jnst.solve.devices import needed_bytes
from jnst.types import Params

VARIANTS: dict[str, tuple[bool, bool]] = {
    "plain": (False, False),
    "remat": (True, False),
    "plain, options": (False, True),
    "remat, options": (True, True),
}
"""Whether blocks are computed again, and whether jnst's options of the compiler are given."""
MIB = 2**20


def load(name: str) -> tuple[Backbone, Params]:
    """The embedded network with its weights, any other with random ones."""
    if name == "mini":
        return jnst.load_backbone()
    backbone = jnst.make_backbone(name)
    return backbone, jax.jit(backbone.init)(jax.random.key(0))


def variants() -> dict[str, tuple[bool, dict[str, str]]]:
    """Those that differ here: whether blocks are computed again, and the options."""
    options = known(jax.default_backend())
    return {
        name: (remat, options if given else {}) for name, (remat, given) in VARIANTS.items() if options or not given
    }


def compile_steps(backbone: Backbone, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """The step in every variant."""
    steps = {}
    for name, (remat, options) in variants().items():
        loss = partial(jnst.total_loss, backbone=backbone.with_options(remat=remat))
        lowered = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(*arguments)
        steps[name] = lowered.compile(compiler_options={**options})
    return steps


def measure(name: str, size: int, rounds: int) -> list[dict[str, Any]]:
    """A row for every variant.

    Raises:
        RuntimeError: They do not give the same value and gradient.
    """
    backbone, params = load(name)
    image, style = jax.random.uniform(jax.random.key(1), (2, size, size, 3))
    objective = jnst.preset("jnst").objective(backbone)
    fit = jax.jit(partial(jnst.fit_targets, backbone=backbone))
    arguments = (0.5 * (image + style), objective, fit(objective, params, image, style), params)
    steps = compile_steps(backbone, arguments)
    check_equal({variant: step(*arguments) for variant, step in steps.items()})
    seconds = in_turns({variant: partial(step, *arguments) for variant, step in steps.items()}, rounds)
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
    (expected, _), gradient = results["plain"]
    for variant, ((value, _), other) in results.items():
        scale = float(np.abs(gradient).max())
        difference = float(np.abs(np.asarray(other) - np.asarray(gradient)).max()) / scale
        if not (np.isclose(value, expected, rtol=1e-4) and 0 < scale < np.inf and difference < 1e-3):
            raise RuntimeError(f"{variant} differs from plain: value {value} for {expected}, gradient by {difference}")


def divided_rows(names: list[str], sizes: list[int], devices: list[int]) -> list[dict[str, Any]]:
    """`benchmarks.divided` in a process that sees as many devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={divided.MOST_DEVICES}"
    environment = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    numbers = ("--sizes", *map(str, sizes), "--devices", *map(str, devices))
    rows = json.loads(run_module("benchmarks.divided", "--backbone", *names, *numbers, environment=environment)[0])
    for row in rows:
        print(
            f"{row['backbone']:10} {row['size']:5} {row['devices']} devices{' remat' if row['remat'] else '':18} "
            f"{row['temporary_bytes'] / MIB:8.0f} MiB temporary {row['total_bytes'] / MIB:8.0f} MiB in all, on each"
        )
    return rows


def plot(rows: list[dict[str, Any]], parts: list[dict[str, Any]]) -> Any:
    """Above, memory and time of the variants; below, memory over the number of devices; a column for each network."""
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
        drawn = bars.barh(labels, [row["total_bytes"] / MIB for row in own], color=[_color(row) for row in own])
        bars.bar_label(drawn, [f" {np.median(row['seconds']):.3g} s" for row in own])
        bars.invert_yaxis()
        bars.margins(x=0.2)
        bars.set(title=f"{name}: a step", xlabel="memory, MiB; time at the bar's end")
        for size, remat in dict.fromkeys((row["size"], row["remat"]) for row in parts):
            line = [part for part in parts if (part["backbone"], part["size"], part["remat"]) == (name, size, remat)]
            lines.plot(
                [part["devices"] for part in line],
                [part["total_bytes"] / MIB for part in line],
                marker="o",
                linestyle="--" if remat else "-",
                label=f"{size}{', remat' if remat else ''}",
            )
        lines.set(title=f"{name}: rows divided", xlabel="devices", ylabel="memory of each, MiB", ylim=(0, None))
        lines.set_xticks(sorted({part["devices"] for part in parts}))
        lines.grid(alpha=0.3)
        lines.legend()
    return figure


def _color(row: dict[str, Any]) -> str:
    return f"C{list(VARIANTS).index(row['variant'])}"
