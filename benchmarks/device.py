"""Steps a second on an accelerator by size and batch, and as a share of the rate of matrix products.

jnst in float32 and bfloat16, PyTorch and Crowson's program take turns on VGG19 to conv5_1. The rate of matrix products
is measured in the same run. The operations of a step are those of the convolutions and Gram matrices and of their
gradients by the image. The share is operations a second over the rate of products in the peer's precision. CPUs work
too.
"""

import argparse
import gc
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import comparison, networks
from benchmarks.networks import ImageArray, Network
from benchmarks.peers import PEERS, STATISTICS, Settings
from benchmarks.samples import BFLOAT16, spread, take_turns

NAMES = (
    "jnst-float32",
    "jnst-bfloat16",
    "torch-eager",
    "torch-channels-last",
    "torch-bfloat16",
    "torch-compile",
    "torch-compile-bfloat16",
    "crowson",
)
PRODUCT_SIDE = 8192
REPEATS = 8
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=NAMES)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument(
        "--product-side", type=int, default=PRODUCT_SIDE, help="side of the square matrices whose products are timed"
    )
    parser.set_defaults(sizes=[512, 1024])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Compare all peers for every statistic, size and batch."""
    params = networks.vgg19(options.shared, options.weights)
    products = product_rates(options.product_side, options.rounds)
    rows = []
    for size in options.sizes:
        for batch in options.batches:
            given = batched(networks.square_images(options.shared, size), batch)
            for statistic, make in STATISTICS.items():
                names = [name for name in options.peers if statistic in PEERS[name].statistics]
                row = {"size": size, "batch": batch, "statistic": statistic}
                rows.append(row | measure_row(names, given, make(params), options.rounds, products))
    return {"products": products, "comparisons": rows}


def batched(images: tuple[ImageArray, ImageArray], batch: int) -> tuple[ImageArray, ImageArray]:
    """Batches of different images, made by rolling; for a batch of 1 the images without a batch axis."""
    if batch == 1:
        return images
    content, style = (
        np.stack([np.roll(each, number * each.shape[1] // batch, axis=1) for number in range(batch)]) for each in images
    )
    return content, style


def measure_row(
    names: Sequence[str],
    given: tuple[ImageArray, ImageArray],
    settings: Settings,
    rounds: int,
    products: dict[str, Any],
) -> dict[str, Any]:
    """Seconds, ratios, steps a second, and shares of the rate of products."""
    content, _ = given
    batch = content.shape[0] if content.ndim == 4 else 1
    steps, unavailable = comparison.prepare_steps(names, *given, settings)
    if not steps:
        empty: dict[str, Any] = {key: {} for key in ("seconds", "ratios", "losses", "steps_per_second", "share")}
        return empty | {"unavailable": unavailable}
    found = comparison.measure(steps, rounds)
    del steps
    gc.collect()
    jax.clear_caches()
    operations = batch * step_operations(content.shape[-3:-1], settings)
    rates = {name: spread([1 / each for each in row["samples"]]) for name, row in found["seconds"].items()}
    share = {
        name: operations * values["median"] / products[precision(name)]["median"] for name, values in rates.items()
    }
    comparison.show(f"{settings.statistic}, {batch} of {content.shape[-3]} x {content.shape[-2]}", found)
    for name, values in rates.items():
        print(
            f"  {name:46} {values['median']:.3f} steps/s, {100 * share[name]:.1f} % of the rate of products", flush=True
        )
    return {**found, "steps_per_second": rates, "share": share, "unavailable": unavailable}


def precision(name: str) -> str:
    return "bfloat16" if PEERS[name].tolerance == BFLOAT16 else "float32"


def product_rates(side: int, rounds: int) -> dict[str, Any]:
    """Operations a second in products of square matrices, with the device's default precision for float32."""
    operands = {name: jax.random.normal(jax.random.key(0), (side, side), dtype) for name, dtype in DTYPES.items()}
    ways: dict[str, Callable[[], Any]] = {name: partial(_products, operand) for name, operand in operands.items()}
    for way in ways.values():
        jax.block_until_ready(way())
    found = {}
    for name, seconds in take_turns(ways, rounds).items():
        found[name] = spread([REPEATS * 2 * side**3 / each for each in seconds])
        print(f"products of {side} x {side} in {name}: {found[name]['median'] / 1e12:.3f} TFLOP/s", flush=True)
    return found


@jax.jit
def _products(matrix: jax.Array) -> jax.Array:
    """Multiply `REPEATS` times, and scale each product to stay in range."""
    product = matrix
    for _ in range(REPEATS):
        product = (product @ matrix) * jnp.asarray(matrix.shape[0] ** -0.5, matrix.dtype)
    return product


def step_operations(shape: Sequence[int], settings: Settings) -> float:
    """Multiplications and additions of a step: of convolutions, Gram matrices, and their gradients by the input."""
    params: Network = settings.params
    total = 0.0
    for name, part in params.items():
        block, _, index = name.removeprefix("conv").partition("_")
        positions = np.prod([side // 2 ** (int(block) - 1) for side in shape])
        kernel = part["kernel"]
        total += 2 * 2 * kernel.size * positions
        if f"relu{block}_{index}" in settings.style_layers:
            total += 2 * 2 * kernel.shape[-1] ** 2 * positions
    return float(total)


def plot(results: dict[str, Any]) -> Any:
    """Draw the steps a second of all images of a batch, for every size and statistic."""
    from matplotlib.figure import Figure

    rows = [row for row in results["comparisons"] if row["seconds"]]
    statistics, sizes = (list(dict.fromkeys(row[key] for row in rows)) for key in ("statistic", "size"))
    figure = Figure(figsize=(5 * len(sizes), 3.2 * len(statistics)), dpi=120, layout="constrained")
    axes = figure.subplots(len(statistics), len(sizes), squeeze=False)
    for axis, (statistic, size) in zip(axes.flat, itertools.product(statistics, sizes), strict=True):
        own = [row for row in rows if (row["statistic"], row["size"]) == (statistic, size)]
        for number, name in enumerate(dict.fromkeys(name for row in own for name in row["seconds"])):
            line = [(row["batch"], row["batch"] * row["steps_per_second"][name]["median"])
                    for row in own if name in row["seconds"]]  # fmt: skip
            ours = name.startswith(comparison.OURS)
            axis.plot(*zip(*line, strict=True), "-o" if ours else "--s", color=f"C{number}", label=name, ms=4)
        axis.set_xscale("log", base=2)
        batches = sorted({row["batch"] for row in own})
        axis.set_xticks(batches, [str(batch) for batch in batches])
        axis.set(title=f"{statistic}, {size} x {size}", xlabel="images", ylabel="steps a second, all images")
        axis.set_ylim(0, None)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    return figure
