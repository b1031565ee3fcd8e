"""Whole runs: wall time to the loss that neural-style-pt reached, and whether less precision changes the end.

`reach`: the images and settings of published curves of neural-style-pt (L-BFGS, VGG19 to relu3_2); jnst-waves
minimises the same loss with jnst's own L-BFGS, which moves waves instead of pixels. All take turns, some steps each,
until a float32 evaluation that is not timed finds the loss that the program had printed at evaluation 100. Time counts
from the images on, with the fitting of targets; compiling is given on its own and in the sum. `agreement`: runs in
float32 and in another precision on three pairs: final losses, how alike the images are; and for comparison a float32
run whose start differs by `BESIDE`, which no file of 8 bits could hold. With L-BFGS that alone changes the image.

Both need ``--shared``.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jnst
from benchmarks import contest, networks, peers
from benchmarks.judge import make_judge
from benchmarks.networks import ImageArray
from benchmarks.peers import PEERS, Settings, Step
from benchmarks.peers.jnst_peer import network, preset
from benchmarks.samples import check_losses, ratios, shown, spread
from jnst.backbones.kernels.choice import PRECISIONS

CURVES = ("trajectory_parrots_starry_lbfgs_max.json", "trajectory_houses_wave_lbfgs_avg.json")
EVALUATION = 100
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1")
NAMES = ("jnst-float32", "jnst-auto", "jnst-waves", "torch-eager")
PAIRS = (
    ("kodim23_parrots.png", "starry_night.jpg"),
    ("kodim08_houses_street.png", "great_wave.jpg"),
    ("astronaut_portrait.png", "the_scream.jpg"),
)
PARTS = ("reach", "agreement")
BESIDE = 1e-6
"""Standard deviation of what is added to the start of the run for comparison; images lie in [0, 1]."""
LIMIT = 4
"""A run that needs so many times the published number of steps has failed."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=PARTS, help="leave the other part out")
    parser.add_argument("--curves", nargs="+", default=CURVES, help="files in golden/")
    parser.add_argument("--evaluation", type=int, default=EVALUATION, help="whose loss is to be reached")
    parser.add_argument("--every", type=int, default=5, help="steps in a turn")
    parser.add_argument("--steps", type=int, default=200, help="of a run of `agreement`")
    parser.add_argument("--optimizer", choices=("adam", "lbfgs"), default="adam", help="of a run of `agreement`")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="beside float32, in `agreement`")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=NAMES)
    parser.set_defaults(sizes=[256])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    if options.shared is None:
        raise SystemExit("run needs --shared: the folder with weights/, images/ and golden/")
    found: dict[str, Any] = {}
    if options.only != "agreement":
        found["reach"] = [reach(options.shared / "golden" / name, options) for name in options.curves]
    if options.only != "reach":
        settings = Settings(
            networks.vgg19(options.shared, options.weights), optimizer=options.optimizer, steps=options.steps
        )
        cases = [(pair, size) for size in options.sizes for pair in PAIRS]
        found["agreement"] = [agreement(options.shared, settings, *case, options.precision) for case in cases]
    return found


def reach(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Runs to the published loss, `options.rounds` of them for each peer."""
    published = json.loads(path.read_text())
    content, style = (
        networks.sized_image(options.shared / "images" / published[kind], published["image_size"])
        for kind in ("content", "style")
    )
    params = networks.vgg19(options.shared, options.weights, last="conv3_2")
    settings = Settings(
        params, "relu3_2", STYLE_LAYERS, style_layer_weights=(1.0,) * 3, pooling=published["pooling"], optimizer="lbfgs"
    )
    target = next(row["total"] for row in published["iterations"] if row["iteration"] == options.evaluation)
    judge = make_judge(content, style, settings)
    judge(content)
    limit = LIMIT * options.evaluation

    def prepare(name: str) -> Step:
        return peers.prepare(name, content, style, settings)

    starting, warm = ({name: seconds_to_first(prepare, name) for name in options.peers} for _ in range(2))
    compiling = {name: max(0.0, starting[name] - warm[name]) for name in options.peers}
    tries = [
        race(prepare, names, judge, target, options.every, limit)
        for names in (options.peers[:: (-1) ** number] for number in range(options.rounds))
    ]
    print(f"\n{path.name}: seconds to a loss of {target:.6g}, median (quartiles)")
    return {"curve": path.name, "target": target, **report(tries, compiling, options.peers)}


def seconds_to_first(prepare: Callable[[str], Step], name: str) -> float:
    """From the images to the end of the first step."""
    begun = time.perf_counter()
    prepare(name)()
    return time.perf_counter() - begun


def race(
    prepare: Callable[[str], Step],
    names: Iterable[str],
    judge: Callable[[ImageArray], float],
    target: float,
    every: int,
    limit: int,
) -> dict[str, dict[str, Any]]:
    """One run of each peer, in turns of ``every`` steps, until all have reached ``target``.

    Returns:
        For each its ``seconds``, ``steps``, ``losses`` by its own account, and ``reached``, the last judgement.

    Raises:
        RuntimeError: One has not reached it after ``limit`` steps, or met a loss that is not finite.
    """
    runs: dict[str, dict[str, Any]] = {}
    steps: dict[str, Step] = {}
    for name in names:
        begun = time.perf_counter()
        steps[name] = prepare(name)
        runs[name] = {"seconds": time.perf_counter() - begun, "steps": 0, "losses": [], "reached": np.inf}
    while waiting := [name for name, run in runs.items() if run["reached"] > target]:
        for name in waiting:
            run, begun = runs[name], time.perf_counter()
            turn = [loss for _ in range(max(1, every // steps[name].length)) for loss in steps[name].advance()]
            run["seconds"] += time.perf_counter() - begun
            run["losses"] += turn
            run["steps"] += len(turn)
            run["reached"] = judge(steps[name].image())
            if not np.isfinite(turn).all() or (run["reached"] > target and run["steps"] >= limit):
                raise RuntimeError(
                    f"{name}: a loss of {run['reached']:.6g} after {run['steps']} steps, not {target:.6g}"
                )
    return runs


def report(tries: list[dict[str, dict[str, Any]]], compiling: dict[str, float], names: Iterable[str]) -> dict[str, Any]:
    """Times of all tries, without and with compiling, and their ratios try by try."""
    # Of L-BFGS's paths only the start is the same: its first step is scaled in other ways.
    firsts = {name: tries[0][name]["losses"][:1] for name in names}
    check_losses(firsts, {name: PEERS[name].tolerance for name in names})
    found: dict[str, Any] = {"compile_seconds": compiling, "steps": {}, "reached": {}}
    for key, added in (("excluded", dict.fromkeys(names, 0.0)), ("included", compiling)):
        seconds = {name: [attempt[name]["seconds"] + added[name] for attempt in tries] for name in names}
        found[key] = {
            "seconds": {name: spread(samples) for name, samples in seconds.items()},
            "ratios": {
                f"{ours} / {other}": ratios(seconds[ours], seconds[other]) for ours, other in contest.pairs(names)
            },
        }
        for name, values in (found[key]["seconds"] | found[key]["ratios"]).items():
            print(f"  {name:30} compiling {key}: {shown(values)}", flush=True)
    for name in names:
        found["steps"][name] = [attempt[name]["steps"] for attempt in tries]
        found["reached"][name] = [attempt[name]["reached"] for attempt in tries]
    found["losses"] = {name: tries[0][name]["losses"] for name in names}
    return found


def agreement(shared: Path, settings: Settings, pair: tuple[str, str], size: int, precision: str) -> dict[str, Any]:
    """`jnst.transfer.stylize` in both precisions: final losses judged in float32, and the images' similarity."""
    content, style = (
        networks.sized_image(shared / "images" / kind / name, size)
        for kind, name in zip(("content", "style"), pair, strict=True)
    )
    judge = make_judge(content, style, settings)
    beside = np.clip(content + BESIDE * np.random.default_rng(0).standard_normal(content.shape), 0, 1)
    runs = {"float32": ("float32", content), "beside": ("float32", beside), precision: (precision, content)}
    ends, images = {}, {}
    for name, (each, start) in runs.items():
        backbone, arrays = network(settings.params, each)
        given: Any = {"backbone": backbone, "preset": preset(settings), "init": jnp.asarray(start, jnp.float32)}
        solution = jnst.transfer.stylize(jnp.asarray(content), jnp.asarray(style), arrays, **given)
        ends[name], images[name] = judge(np.asarray(solution.state.run.image)), solution.image
    gaps = {name: end / ends["float32"] - 1 for name, end in ends.items()}
    similarities = {name: float(jnst.ssim(image, images["float32"])) for name, image in images.items()}
    row = {
        "content": pair[0],
        "style": pair[1],
        "size": size,
        "optimizer": settings.optimizer,
        "precision": precision,
        "losses": ends,
        "gap": gaps[precision],
        "ssim": similarities[precision],
        "beside": {"gap": gaps["beside"], "ssim": similarities["beside"]},
    }
    for name in (precision, "beside"):
        print(
            f"{pair[0]:28} {pair[1]:18} {size} {settings.optimizer}: {name:9} / float32 - 1 {gaps[name]:+.4f}, "
            f"SSIM {similarities[name]:.4f}",
            flush=True,
        )
    jax.clear_caches()
    return row


def plot(results: dict[str, Any]) -> Any:
    """Times to the published loss; gaps and similarities."""
    from matplotlib.figure import Figure

    parts = [("reach", row) for row in results.get("reach", ())]
    parts += [("agreement", results["agreement"])] if "agreement" in results else []
    figure = Figure(figsize=(8, 2.4 * len(parts)), dpi=120, layout="constrained")
    for axis, (kind, row) in zip(figure.subplots(len(parts), squeeze=False)[:, 0], parts, strict=True):
        if kind == "reach":
            contest.bars(axis, row["excluded"], f"{row['curve']}: to the loss {row['target']:.6g}")
            axis.set_xlabel("seconds, compiling excluded")
            continue
        labels = [f"{pair['content'].split('.')[0]}, {pair['style'].split('.')[0]}, {pair['size']}" for pair in row]
        drawn = axis.barh(labels, [100 * pair["gap"] for pair in row])
        axis.bar_label(drawn, [f" SSIM {pair['ssim']:.4f}" for pair in row], fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.25)
        axis.axvline(0, color="0.3", lw=0.8)
        axis.set(title=f"{row[0]['precision']} against float32", xlabel="final loss above float32's, %")
        axis.tick_params(labelsize=8)
    return figure
