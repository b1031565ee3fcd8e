"""Losses in tiles compared with those of whole images: differences, time, programs and memory.

`equality`: value and gradient of every loss that works in tiles, on VGG19 to relu5_1 and on the embedded network, at
1024x683 pixels. Differences are relative to the largest value.

`time`: steps of Adam on VGG19 to relu5_1 with content on relu4_2, in turns; and how many programs for tiles there are
after each size.

`memory`: the peak resident memory of such steps, each in a process of its own.
"""

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

import jnst
from benchmarks import networks
from benchmarks.processes import run_module
from benchmarks.samples import ratios, shown, spread, take_turns
from jnst.backbones import Backbone
from jnst.losses import Covariance, Gram, MeanStd, TotalVariation, Wasserstein
from jnst.losses.objective import Objective, total_loss
from jnst.types import Params

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = ("equality", "time", "memory")
LOSSES = {"gram": Gram(), "covariance": Covariance(), "mean-std": MeanStd(), "wasserstein": Wasserstein()}
SHAPE = 683, 1024
PROGRAM_EVENT = "/jax/core/compile/backend_compile_duration"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="measure only these parts")
    parser.add_argument("--tile", type=int, default=256, help="the side of tiles in pixels")
    parser.add_argument("--largest-whole", type=int, default=2048, help="the largest size that is computed as a whole")
    parser.set_defaults(sizes=[1024, 2048])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    parts: dict[str, Callable[[argparse.Namespace], Any]] = {
        "memory": measure_memory,  # first, while this process holds nothing
        "equality": measure_equality,
        "time": measure_time,
    }
    return {name: function(options) for name, function in parts.items() if name in options.only}


def load(options: argparse.Namespace, name: str = "vgg19") -> tuple[Backbone, Params]:
    """The embedded network, or VGG19 with the weights of the options."""
    if name == "mini":
        return jnst.load_backbone()
    network = networks.vgg19(options.shared, options.weights)
    return jnst.make_backbone("vgg19"), jax.tree.map(jnp.asarray, network)


def make_objective(backbone: Backbone, loss: Any = LOSSES["gram"]) -> Objective:
    regularizers = {"tv": (TotalVariation(), 1e-5)}
    content = next(layer for layer in backbone.content_layers if layer in backbone.layers)
    style = [layer for layer in backbone.style_layers if layer in backbone.layers]
    return jnst.make_objective(
        content_layers=(content,), style_layers=style, style_loss=loss, style_weight=100.0, regularizers=regularizers
    )


def measure_equality(options: argparse.Namespace) -> list[dict[str, Any]]:
    """The largest differences of values and gradients, for each network and loss."""
    rows = []
    content, style = (jnp.asarray(image) for image in networks.square_images(options.shared, max(SHAPE)))
    content = content[: SHAPE[0]]
    for name in ("vgg19", "mini"):
        backbone, params = load(options, name)
        for loss_name, loss in LOSSES.items():
            objective = make_objective(backbone, loss)
            fit = jax.jit(
                lambda params, objective=objective, backbone=backbone: jnst.fit_targets(
                    content, style[:512, :512], objective, params, backbone=backbone
                )
            )
            targets = fit(params)
            image = jnp.clip(content + 0.1 * jax.random.normal(jax.random.key(0), content.shape), 0, 1)

            @jax.jit
            def whole(
                image: Any, targets: Any, params: Any, objective: Any = objective, backbone: Any = backbone
            ) -> Any:
                loss = lambda image: total_loss(image, objective, targets, params, backbone=backbone)  # noqa: E731
                return jax.value_and_grad(loss, has_aux=True)(image)

            (value, _), gradient = whole(image, targets, params)
            in_tiles: Any = jnst.transfer_loss(backbone, tile=options.tile).on_host
            (own, _), own_gradient = in_tiles(image, (objective, targets, params), jnp.int32(0))
            row = {
                "network": name,
                "loss": loss_name,
                "value": abs(float(own) / float(value) - 1),
                "gradient": float(jnp.abs(own_gradient - gradient).max() / jnp.abs(gradient).max()),
            }
            print(f"{name:6} {loss_name:12} value {row['value']:.1e}, gradient {row['gradient']:.1e}", flush=True)
            rows.append(row)
    return rows


def make_step(options: argparse.Namespace, size: int, tile: int | None) -> Callable[[], Any]:
    """A function that makes one step at a size."""
    backbone, params = load(options)
    params = backbone.prepare(params)
    content, style = (jnp.asarray(image) for image in networks.square_images(options.shared, size))
    objective = make_objective(backbone)
    targets = jnst.fit_targets(content, style[:512, :512], objective, params, backbone=backbone, tile=256)
    loss, solver = jnst.transfer_loss(backbone, tile=tile), jnst.Adam()
    state = jnst.solve.init(loss, solver, content)

    def step() -> Any:
        nonlocal state
        state, record = jnst.solve.step(loss, solver, state, (objective, targets, params))
        return record[0], state.image

    return step


def measure_time(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds of steps as a whole and in tiles, and the programs for tiles so far."""
    rows, programs = [], []

    def note(event: str, duration_secs: float, **about: str | int) -> None:
        if event == PROGRAM_EVENT and "_tile_" in str(about.get("fun_name")):
            programs.append(str(about["fun_name"]))

    jax.monitoring.register_event_duration_secs_listener(note)
    for size in options.sizes:
        ways = {"tiles": make_step(options, size, options.tile)}
        if size <= options.largest_whole:
            ways["whole"] = make_step(options, size, None)
        for step in ways.values():
            jax.block_until_ready(step())
        times = take_turns(ways, options.rounds)
        row: dict[str, Any] = {"size": size, "programs": len(programs)}
        row["microseconds_per_pixel"] = {
            name: spread([1e6 * each / size**2 for each in samples]) for name, samples in times.items()
        }
        if "whole" in times:
            row["ratio"] = ratios(times["tiles"], times["whole"])
        for name, values in row["microseconds_per_pixel"].items():
            print(f"{size:5} {name:6} {shown(values)} microseconds a pixel", flush=True)
        print(
            f"{size:5} ratio  {shown(row['ratio'])} x, " if "ratio" in row else "", f"{len(programs)} programs", sep=""
        )
        rows.append(row)
    return rows


def measure_memory(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Peak resident memory of two steps."""
    rows = []
    shared = [str(options.shared)] if options.shared else []
    for size in options.sizes:
        for tile in [0, options.tile] if size <= options.largest_whole else [options.tile]:
            output, _ = run_module("benchmarks.children.tiled_memory", str(size), str(tile), *shared)
            row = {"size": size, "tile": tile or None, **json.loads(output.splitlines()[-1])}
            print(
                f"{size:5} {f'tiles of {tile}' if tile else 'whole':12} {row['peak_bytes'] / 2**20:8.0f} MiB",
                flush=True,
            )
            rows.append(row)
    return rows


def plot(results: dict[str, Any]) -> "Figure":
    """Memory by size, and time for each pixel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    memory = results.get("memory", [])
    for tile in dict.fromkeys(row["tile"] for row in memory):
        own = [row for row in memory if row["tile"] == tile]
        label = f"tiles of {tile}" if tile else "whole"
        left.plot([row["size"] for row in own], [row["peak_bytes"] / 2**30 for row in own], "o-", label=label)
    left.set(title="Peak resident memory", xlabel="side in pixels", ylabel="GiB", ylim=(0, None))
    for name in ("whole", "tiles"):
        own = [row for row in results.get("time", []) if name in row["microseconds_per_pixel"]]
        medians = [row["microseconds_per_pixel"][name]["median"] for row in own]
        right.plot([row["size"] for row in own], medians, "o-", label=name)
    right.set(title="Time of a step", xlabel="side in pixels", ylabel="µs a pixel", ylim=(0, None))
    for axes in (left, right):
        if axes.lines:
            axes.legend()
    return figure
