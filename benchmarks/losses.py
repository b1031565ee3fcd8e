"""Every style statistic: an image, the time of a step relative to Gram matrices, and the memory of a large step.

The images are photographs from ``--shared``, or the demo's images without it. Also writes the contact sheet
``losses.jpg``.
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jnst
from benchmarks.samples import ratios, shown, take_turns
from jnst.apps.pixels import to_levels
from jnst.apps.report import Heading, Tile, contact_sheet
from jnst.backbones import Backbone
from jnst.images.demo import content_image, style_image
from jnst.presets import STATISTICS, Preset
from jnst.types import Image, Params

CONTENT, STYLE = Path("images/content/kodim08_houses_street.png"), Path("images/style/starry_night.jpg")
PARTS = ("images", "figures")
COLUMNS = 3


def settings(name: str) -> Preset:
    return jnst.preset("jnst", style_statistic=name)


def compile_step(name: str, backbone: Backbone, params: Params, content: Image, style: Image) -> tuple[Any, Any]:
    """Compile the gradient of the loss; returns the compiled program, and a function that runs it."""
    objective = settings(name).terms.objective(backbone)
    fit = jax.jit(jnst.fit_targets, static_argnames="backbone")
    targets = fit(content, style, objective, params, backbone=backbone)
    gradient = jax.jit(jax.grad(functools.partial(jnst.total_loss, backbone=backbone), has_aux=True))
    arguments, key = (content, objective, targets, params), jax.random.key(1)
    compiled = gradient.lower(*arguments, key=key).compile()
    return compiled, functools.partial(compiled, *arguments, key=key)


def check_finite(name: str, step: Any) -> None:
    """Make a step.

    Raises:
        RuntimeError: The gradient is not finite, or zero everywhere: there is nothing to measure.
    """
    gradient, _ = step()
    largest = float(jnp.abs(gradient).max())
    if not 0 < largest < np.inf:
        raise RuntimeError(f"{name}: the largest absolute value of its gradient is {largest}")


def step_ratios(
    content: Image, style: Image, backbone: Backbone, params: Params, rounds: int
) -> dict[str, dict[str, Any]]:
    """The time of a step with each statistic relative to one with Gram matrices."""
    table: dict[str, dict[str, Any]] = {}
    _, gram = compile_step("gram", backbone, params, content, style)
    check_finite("gram", gram)
    for name in STATISTICS:
        _, step = compile_step(name, backbone, params, content, style)
        check_finite(name, step)
        seconds = take_turns({"gram": gram, "other": step}, rounds)
        table[name] = ratios(seconds["other"], seconds["gram"])
        print(f"{name:20} {shown(table[name], digits=2)} x the step of gram", flush=True)
    return table


def memory(content: Image, style: Image, backbone: Backbone, params: Params) -> dict[str, int]:
    """The temporary memory that the compiled step asks for, in bytes."""
    needs = {}
    for name in STATISTICS:
        compiled, _ = compile_step(name, backbone, params, content, style)
        needs[name] = compiled.memory_analysis().temp_size_in_bytes
        print(f"{name:20} {needs[name] / 2**20:8.0f} MiB at {content.shape[1]}x{content.shape[0]}", flush=True)
    return needs


def load(shared: Path | None, size: int) -> tuple[Image, Image]:
    if shared is None:
        return jnp.asarray(content_image(size * 2 // 3, size)), jnp.asarray(style_image(size * 4 // 5, size))
    return jnst.load_image(shared / CONTENT, size=size), jnst.load_image(shared / STYLE, size=size)


def make_sheet(
    path: Path, shared: Path | None, size: int, backbone: Backbone, params: Params
) -> dict[str, list[float]]:
    """Draw an image with each statistic; returns the first and the last loss of each."""
    content, style = load(shared, size)
    tiles, ends = [], {}
    for name, row in STATISTICS.items():
        solution = jnst.stylize(content, style, params, backbone=backbone, preset=settings(name))
        tiles.append(Tile(to_levels(solution.image), caption=f"{name}\n{row.good_for}"))
        ends[name] = [float(solution.losses[0]), float(solution.losses[-1])]
        print(f"{name:20} loss {ends[name][0]:.4g} to {ends[name][1]:.4g}", flush=True)
        jax.clear_caches()
    tiles += [Tile(None)] * (-len(tiles) % COLUMNS)
    rows, columns = [Heading()] * (len(tiles) // COLUMNS), [Heading()] * COLUMNS
    height, width = content.shape[:2]
    sheet = contact_sheet(
        rows, columns, lambda row, column: tiles[row * COLUMNS + column], shape=(height, width), captions=True
    )
    sheet.save(path, quality=85)
    return ends


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--large", type=int, default=512, help="size of the image whose memory is computed")
    parser.add_argument("--only", choices=PARTS, help="measure only this part")
    parser.set_defaults(sizes=[256])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Make images at the first size, and figures at all sizes."""
    network = jnst.load_backbone(None, options.weights)
    found: dict[str, Any] = {}
    if options.only != "figures":
        found["losses"] = make_sheet(options.output / "losses.jpg", options.shared, options.sizes[0], *network)
    if options.only != "images":
        found["step_over_gram"] = {
            str(size): step_ratios(*load(options.shared, size), *network, options.rounds) for size in options.sizes
        }
        found["temporary_bytes"] = memory(*load(options.shared, options.large), *network)
    return found


def plot(results: dict[str, Any]) -> Any:
    """Draw step times and memory; for images alone, the relative decrease of their losses."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), dpi=120, layout="constrained")
    if "step_over_gram" not in results:
        axis = figure.subplots()
        draw_bars(axis, {name: last / first for name, (first, last) in results["losses"].items()}, " {:.3g}")
        axis.set_xlabel("last loss over the first")
        return figure
    times, needs = figure.subplots(1, 2, sharey=True)
    size, table = next(iter(results["step_over_gram"].items()))
    draw_bars(times, {name: values["median"] for name, values in table.items()}, " {:.2f}")
    times.set_xlabel(f"time of a step relative to gram, {size} pixels")
    draw_bars(needs, {name: each / 2**20 for name, each in results["temporary_bytes"].items()}, " {:.0f}")
    needs.set_xlabel("temporary memory of a large step, MiB")
    times.invert_yaxis()
    return figure


def draw_bars(axis: Any, values: dict[str, float], form: str) -> None:
    axis.bar_label(axis.barh(list(values), list(values.values())), fmt=form, fontsize=8)
    axis.margins(x=0.15)
    axis.tick_params(labelsize=8)
