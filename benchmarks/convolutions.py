"""Every way to compute VGG19's convolutions, layer by layer, beside XLA's own: what `formulations.fastest` rests on.

Value and gradient by the map, with kernels laid out before, at the maps' sizes in an image of each size. The ways take
turns; ratios are taken pair by pair. The way that runs take is marked with a star.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.samples import ratios, shown, spread
from benchmarks.timing import in_turns
from jnst.backbones import ops
from jnst.backbones.kernels.choice import FORMULATIONS, fastest, has_bfloat16_units
from jnst.backbones.vgg import VGG19_WIDTHS

XLA = "xla"
DEPTH = 5
"""Blocks; of the last only the first convolution."""
TOLERANCE = 2e-2
"""How far results may lie from XLA's, relative to the largest: bfloat16's."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(sizes=[256, 512])


def shapes(size: int) -> list[tuple[int, int, int]]:
    """Every convolution once: the map's side, channels in and out."""
    found, channels = [], 3
    for block, widths in enumerate(VGG19_WIDTHS[:DEPTH]):
        for width in widths if block < DEPTH - 1 else widths[:1]:
            found.append((size // 2**block, channels, width))
            channels = width
    return list(dict.fromkeys(found))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    units = has_bfloat16_units()
    print(f"this CPU has {'' if units else 'no '}units for bfloat16")
    rows = [row(size, *shape, options.rounds) for size in options.sizes for shape in shapes(size)]
    return {"bfloat16_units": units, "layers": rows}


def row(size: int, side: int, c_in: int, c_out: int, rounds: int) -> dict[str, Any]:
    """Seconds of every way for one layer.

    Raises:
        RuntimeError: A way gives something else than XLA's convolution.
    """
    random = np.random.default_rng(c_in)
    x, outer = (jnp.asarray(random.normal(size=(1, side, side, c)), jnp.float32) for c in (c_in, c_out))
    kernel = jnp.asarray(random.normal(size=(3, 3, c_in, c_out)) / np.sqrt(9 * c_in), jnp.float32)
    plain = partial(ops.convolve, kernel=kernel)
    runs = {XLA: compiled(lambda x, kernel: ops.convolve(x, kernel), x, kernel, outer)}
    for name, way in FORMULATIONS.items():
        runs[name] = compiled(way.correlate, x, way.lay_out(kernel), outer)
    check({name: run() for name, run in runs.items()}, plain(x))
    seconds = in_turns(runs, rounds)
    taken = fastest(jax.default_backend(), "auto", kernel.shape) or XLA
    print(f"{size:5} {side:5} x {side:<5} {c_in:4} to {c_out:4} channels", end="")
    for name, samples in seconds.items():
        beside = "" if name == XLA else f" ({ratios(samples, seconds[XLA])['median']:.2f} x)"
        print(f"   {name}{'*' if name == taken else ''} {1e3 * np.median(samples):.1f} ms{beside}", end="")
    print(flush=True)
    return {
        "size": size,
        "side": side,
        "channels": [c_in, c_out],
        "taken": taken,
        "seconds": {name: spread(samples) for name, samples in seconds.items()},
        "ratios": {name: ratios(samples, seconds[XLA]) for name, samples in seconds.items() if name != XLA},
    }


def compiled(correlate: Callable[..., Any], x: Any, layout: Any, outer: Any) -> Callable[[], Any]:
    """Value and gradient by the map, as a program that has run."""

    @jax.jit
    def both(x: Any, layout: Any, outer: Any) -> Any:
        y, pull = jax.vjp(lambda x: correlate(x, layout), x)
        return y, pull(outer)[0]

    return partial(both, x, layout, outer)


def check(results: dict[str, Any], expected: Any) -> None:
    scale = float(jnp.abs(expected).max())
    for name, (y, gradient) in results.items():
        by_xla = results[XLA][1]
        errors = float(jnp.abs(y - expected).max()) / scale, float(jnp.abs(gradient - by_xla).max() / by_xla.max())
        if not max(errors) < TOLERANCE:
            raise RuntimeError(f"{name} lies {max(errors):.2g} from XLA's convolution: nothing was measured")


def plot(results: dict[str, Any]) -> Any:
    """Ratios to XLA's own convolution; below 1 a way is faster."""
    from matplotlib.figure import Figure

    rows = results["layers"]
    figure = Figure(figsize=(7, 1 + 0.34 * len(rows)), dpi=120, layout="constrained")
    axis = figure.subplots()
    labels = [f"{row['side']}² x {row['channels'][0]} to {row['channels'][1]}" for row in rows]
    for number, name in enumerate(FORMULATIONS):
        medians = [row["ratios"][name]["median"] for row in rows]
        places = [place + (number - 0.5) * 0.36 for place in range(len(rows))]
        drawn = axis.barh(places, medians, height=0.36, label=name, color=f"C{number}")
        axis.bar_label(drawn, [f" {shown(row['ratios'][name], digits=2)}" for row in rows], fontsize=6)
    axis.axvline(1, color="black", lw=0.8)
    axis.set_yticks(range(len(rows)), labels)
    axis.invert_yaxis()
    axis.margins(x=0.25)
    axis.set(xlabel="time over that of XLA's own convolution, value and gradient")
    axis.legend()
    return figure
