"""VGG19's convolutions with every algorithm, layer by layer: the measurements behind `algorithms.select_algorithm`.

Each sample is the value and the gradient by the input, with prepared kernels, at the layer's size in an image of the
given size. XLA's convolution and all algorithms take turns, and ratios are taken pair by pair. The one that
`jnst.stylize` uses is marked with a star.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.samples import ratios, shown, spread, take_turns
from jnst.backbones import ops
from jnst.backbones.kernels.algorithms import ALGORITHMS, select_algorithm
from jnst.backbones.vgg import VGG19_WIDTHS

XLA = "xla"
DEPTH = 5
"""How many blocks are measured; only the first convolution of the last one."""
TOLERANCE = 2e-2
"""The largest difference from XLA's results, relative to their largest value: that of bfloat16."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(sizes=[256, 512])


def shapes(size: int) -> list[tuple[int, int, int]]:
    """The side, the input channels and the output channels of every convolution, without repetitions."""
    found, channels = [], 3
    for block, widths in enumerate(VGG19_WIDTHS[:DEPTH]):
        for width in widths if block < DEPTH - 1 else widths[:1]:
            found.append((size // 2**block, channels, width))
            channels = width
    return list(dict.fromkeys(found))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    rows = [measure_layer(size, *shape, options.rounds) for size in options.sizes for shape in shapes(size)]
    return {"layers": rows}


def measure_layer(size: int, side: int, c_in: int, c_out: int, rounds: int) -> dict[str, Any]:
    """The seconds of every algorithm for one layer.

    Raises:
        RuntimeError: An algorithm's result differs from that of XLA's convolution.
    """
    random = np.random.default_rng(c_in)
    x, outer = (jnp.asarray(random.normal(size=(1, side, side, c)), jnp.float32) for c in (c_in, c_out))
    kernel = jnp.asarray(random.normal(size=(3, 3, c_in, c_out)) / np.sqrt(9 * c_in), jnp.float32)
    plain = partial(ops.convolve, kernel=kernel)
    runs = {XLA: compiled(lambda x, kernel: ops.convolve(x, kernel), x, kernel, outer)}
    for name, algorithm in ALGORITHMS.items():
        runs[name] = compiled(algorithm.correlate, x, algorithm.prepare_kernel(kernel), outer)
    check({name: run() for name, run in runs.items()}, plain(x))
    seconds = take_turns(runs, rounds)
    taken = select_algorithm(jax.default_backend(), "auto", kernel.shape) or XLA
    print(f"{size:5} {side:5} x {side:<5} {c_in:4} to {c_out:4} channels", end="")
    for name, samples in seconds.items():
        ratio = "" if name == XLA else f" ({ratios(samples, seconds[XLA])['median']:.2f} x)"
        print(f"   {name}{'*' if name == taken else ''} {1e3 * np.median(samples):.1f} ms{ratio}", end="")
    print(flush=True)
    return {
        "size": size,
        "side": side,
        "channels": [c_in, c_out],
        "taken": taken,
        "seconds": {name: spread(samples) for name, samples in seconds.items()},
        "ratios": {name: ratios(samples, seconds[XLA]) for name, samples in seconds.items() if name != XLA},
    }


def compiled(correlate: Callable[..., Any], x: Any, kernel: Any, outer: Any) -> Callable[[], Any]:
    """A function that computes a convolution and its gradient by the input, given that by the output."""

    @jax.jit
    def both(x: Any, kernel: Any, outer: Any) -> Any:
        y, pull = jax.vjp(lambda x: correlate(x, kernel), x)
        return y, pull(outer)[0]

    return partial(both, x, kernel, outer)


def check(results: dict[str, Any], expected: Any) -> None:
    """Check that all results are about those of XLA.

    Raises:
        RuntimeError: One is not.
    """
    scale = float(jnp.abs(expected).max())
    for name, (y, gradient) in results.items():
        by_xla = results[XLA][1]
        errors = float(jnp.abs(y - expected).max()) / scale, float(jnp.abs(gradient - by_xla).max() / by_xla.max())
        if not max(errors) < TOLERANCE:
            raise RuntimeError(f"{name} differs from XLA's convolution by {max(errors):.2g} of the largest value")


def plot(results: dict[str, Any]) -> Any:
    """Draw the ratios to the time of XLA's convolution; below 1 an algorithm is faster."""
    from matplotlib.figure import Figure

    rows = results["layers"]
    figure = Figure(figsize=(7, 1 + 0.34 * len(rows)), dpi=120, layout="constrained")
    axis = figure.subplots()
    labels = [f"{row['side']}² x {row['channels'][0]} to {row['channels'][1]}" for row in rows]
    for number, name in enumerate(ALGORITHMS):
        medians = [row["ratios"][name]["median"] for row in rows]
        places = [place + (number - 0.5) * 0.36 for place in range(len(rows))]
        drawn = axis.barh(places, medians, height=0.36, label=name, color=f"C{number}")
        axis.bar_label(drawn, [f" {shown(row['ratios'][name], digits=2)}" for row in rows], fontsize=6)
    axis.axvline(1, color="black", lw=0.8)
    axis.set_yticks(range(len(rows)), labels)
    axis.invert_yaxis()
    axis.margins(x=0.25)
    axis.set(xlabel="time relative to XLA's convolution, value and gradient")
    axis.legend()
    return figure
