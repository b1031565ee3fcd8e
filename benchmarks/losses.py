"""Every style statistic: an image of each, its time for a step beside Gram's, and the memory of a large step.

Its images are those of ``--shared``, the demo's without it. It writes the contact sheet ``losses.jpg`` as well.
"""

import argparse
import functools
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jnst
from benchmarks.samples import shown, spread
from benchmarks.sheets import captioned
from jnst.backbones import Backbone
from jnst.images.demo import content_image, style_image
from jnst.presets import STATISTICS, Preset, with_style_statistic
from jnst.types import Image, Params

CONTENT, STYLE = Path("images/content/kodim08_houses_street.png"), Path("images/style/starry_night.jpg")
PARTS = ("images", "figures")


def settings(name: str) -> Preset:
    return with_style_statistic(jnst.preset("jnst"), name)


def step(name: str, backbone: Backbone, params: Params, content: Image, style: Image) -> Any:
    """A compiled gradient of the objective, and its arguments."""
    objective = settings(name).objective(backbone)
    fit = jax.jit(jnst.fit_targets, static_argnames="backbone")
    targets = fit(objective, params, content, style, backbone=backbone)
    gradient = jax.jit(jax.grad(functools.partial(jnst.total_loss, backbone=backbone), has_aux=True))
    arguments = (content, objective, targets, params)
    return gradient.lower(*arguments, key=jax.random.key(0)).compile(), arguments


def seconds(compiled: Any, arguments: Any) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(compiled(*arguments, key=jax.random.key(1)))
    return time.perf_counter() - begun


def check_finite(name: str, compiled: Any, arguments: Any) -> None:
    """Run a step once.

    Raises:
        RuntimeError: Its gradient is not finite, or nothing but zeros: there is nothing to measure.
    """
    gradient, _ = compiled(*arguments, key=jax.random.key(1))
    largest = float(jnp.abs(gradient).max())
    if not 0 < largest < np.inf:
        raise RuntimeError(f"{name}: the largest magnitude in its gradient is {largest}")


def step_ratios(
    content: Image, style: Image, backbone: Backbone, params: Params, rounds: int
) -> dict[str, dict[str, Any]]:
    """Seconds of a step over those of a step with Gram matrices, the two alternating."""
    gram = step("gram", backbone, params, content, style)
    check_finite("gram", *gram)
    table: dict[str, dict[str, Any]] = {}
    for name in STATISTICS:
        other = step(name, backbone, params, content, style)
        check_finite(name, *other)
        table[name] = spread([seconds(*other) / seconds(*gram) for _ in range(rounds)])
        del other
        print(f"{name:20} {shown(table[name], digits=2)} x gram's step", flush=True)
    return table


def memory(content: Image, style: Image, backbone: Backbone, params: Params) -> dict[str, int]:
    """Bytes of temporary memory that the compiled step asks for."""
    needs = {}
    for name in STATISTICS:
        compiled, _ = step(name, backbone, params, content, style)
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
    """An image of each statistic, one beside the other; returns the first and the last loss of each."""
    tiles, ends = [], {}
    for name, row in STATISTICS.items():
        solution = jnst.transfer.stylize(*load(shared, size), params, backbone=backbone, preset=settings(name))
        tiles.append((name, row.good_for, np.asarray(solution.image)))
        ends[name] = [float(solution.losses[0]), float(solution.losses[-1])]
        print(f"{name:20} loss {ends[name][0]:.4g} to {ends[name][1]:.4g}", flush=True)
        captioned(tiles).save(path, quality=85)
        jax.clear_caches()
    return ends


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--large", type=int, default=512, help="size at which memory is read")
    parser.add_argument("--only", choices=PARTS, help="leave the other part out")
    parser.set_defaults(sizes=[256])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Images are made at the first size; figures at all."""
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
    """Steps over Gram's, and memory; of images alone, by how much their losses fell."""
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
    times.set_xlabel(f"seconds of a step over gram's, {size} pixels")
    draw_bars(needs, {name: each / 2**20 for name, each in results["temporary_bytes"].items()}, " {:.0f}")
    needs.set_xlabel("temporary memory of a large step, MiB")
    times.invert_yaxis()
    return figure


def draw_bars(axis: Any, values: dict[str, float], form: str) -> None:
    axis.bar_label(axis.barh(list(values), list(values.values())), fmt=form, fontsize=8)
    axis.margins(x=0.15)
    axis.tick_params(labelsize=8)
