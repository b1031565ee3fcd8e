"""Every style statistic: a picture of each, its time for a step beside Gram's, and the memory of a step at 512 pixels.

python -m benchmarks.losses --shared ../shared
"""

import argparse
import datetime
import functools
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jnst
from benchmarks.machine import machine
from benchmarks.sheets import captioned
from jnst.backbones import Backbone
from jnst.presets import STATISTICS, Preset, with_style_statistic
from jnst.types import Image, Params

RESULTS = Path(__file__).parent / "results"
CONTENT, STYLE = "kodim08_houses_street.png", "starry_night.jpg"
SAMPLES = 9


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


def ratios(content: Image, style: Image, backbone: Backbone, params: Params) -> dict[str, list[float]]:
    """Seconds of a step over those of a step with Gram matrices, the two alternating."""
    gram = step("gram", backbone, params, content, style)
    table: dict[str, list[float]] = {}
    for name in STATISTICS:
        other = step(name, backbone, params, content, style)
        pairs = [(seconds(*other), seconds(*gram)) for _ in range(SAMPLES + 1)][1:]
        table[name] = [ours / base for ours, base in pairs]
        del other
        print(f"{name:20} {np.median(table[name]):6.2f} x gram's step", flush=True)
    return table


def memory(content: Image, style: Image, backbone: Backbone, params: Params) -> dict[str, int]:
    """Bytes of temporary memory that the compiled step asks for."""
    needs = {}
    for name in STATISTICS:
        compiled, _ = step(name, backbone, params, content, style)
        needs[name] = compiled.memory_analysis().temp_size_in_bytes
        print(f"{name:20} {needs[name] / 2**20:8.0f} MiB at {content.shape[1]}x{content.shape[0]}", flush=True)
    return needs


def load(folder: Path, size: int) -> tuple[Image, Image]:
    return (
        jnst.load_image(folder / "content" / CONTENT, size=size),
        jnst.load_image(folder / "style" / STYLE, size=size),
    )


def main() -> None:
    """Run all, write JSON and contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with images/")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--large", type=int, default=512, help="size at which memory is read")
    parser.add_argument("--only", choices=("pictures", "figures"), help="leave the rest as it is")
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    folder = args.shared / "images"
    backbone, params = jnst.load_backbone()
    args.output.mkdir(exist_ok=True)
    if args.only != "figures":
        tiles = []
        for name, row in STATISTICS.items():
            solution = jnst.stylize(*load(folder, args.size), params, backbone=backbone, preset=settings(name))
            tiles.append((name, row.good_for, np.asarray(solution.image)))
            print(f"{name:20} loss {solution.losses[0]:.4g} to {solution.losses[-1]:.4g}", flush=True)
            captioned(tiles).save(args.output / "losses.jpg", quality=85)
            jax.clear_caches()
    if args.only != "pictures":
        summary = {
            "machine": machine(),
            "date": datetime.date.today().isoformat(),
            "size": args.size,
            "step_over_gram": ratios(*load(folder, args.size), backbone, params),
            "memory_size": args.large,
            "temporary_bytes": memory(*load(folder, args.large), backbone, params),
        }
        (args.output / "losses.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
