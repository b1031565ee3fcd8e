"""Whole runs: the time to a loss that neural-style-pt reached, and the effect of lower precision on the result.

`reach`: images and settings are those of published curves of neural-style-pt (L-BFGS, VGG19 to relu3_2). jnst-fourier
minimises the same loss by L-BFGS with Fourier preconditioning. All peers take turns of some steps each, until the loss
is at most that which neural-style-pt printed at evaluation 100. It is judged by a float32 evaluation that is not timed.
Times start with the images and include fitting the targets. They are reported with and without compilation.

`agreement`: runs in float32 and in another precision on three pairs of images, compared by their final losses and by
the similarity of their images. For reference, there is a float32 run from an initial image with noise of `NOISE_STD`,
which is less than 8-bit files can store. With L-BFGS, that alone changes the result.

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
from benchmarks import comparison, networks, peers
from benchmarks.networks import ImageArray
from benchmarks.peers import PEERS, Settings, Step, Unavailable
from benchmarks.peers.jnst_peer import network, preset
from benchmarks.samples import check_losses, ratios, shown, spread
from jnst.backbones import PRECISIONS

CURVES = ("trajectory_parrots_starry_lbfgs_max.json", "trajectory_houses_wave_lbfgs_avg.json")
EVALUATION = 100
STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1")
NAMES = ("jnst-float32", "jnst-auto", "jnst-fourier", "torch-eager")
PAIRS = (
    ("kodim23_parrots.png", "starry_night.jpg"),
    ("kodim08_houses_street.png", "great_wave.jpg"),
    ("astronaut_portrait.png", "the_scream.jpg"),
)
PARTS = ("reach", "agreement")
NOISE_STD = 1e-6
"""The standard deviation of the noise in the initial image of the reference run; images are in [0, 1]."""
LIMIT = 4
"""A run fails if it needs more than this times the published number of steps."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", choices=PARTS, help="measure only this part")
    parser.add_argument("--curves", nargs="+", default=CURVES, help="files in golden/ for `reach`")
    parser.add_argument(
        "--evaluation", type=int, default=EVALUATION, help="the published evaluation whose loss is to be reached"
    )
    parser.add_argument("--every", type=int, default=5, help="steps in each turn of `reach`")
    parser.add_argument("--steps", type=int, default=200, help="steps of a run of `agreement`")
    parser.add_argument("--optimizer", choices=("adam", "lbfgs"), default="adam", help="optimiser of `agreement`")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto", help="compared with float32 in `agreement`")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=NAMES, help="peers of `reach`")
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


def make_judge(content: ImageArray, style: ImageArray, settings: Settings) -> Callable[[ImageArray], float]:
    """A function that returns the total loss of an image ``(h, w, 3)``, perhaps outside [0, 1].

    It is computed in float32, with parameters that are not prepared, so that the network uses XLA's convolutions.
    """
    backbone, params = network(settings.params, "float32")
    chosen = preset(settings)
    backbone = chosen.network.configure(backbone)
    objective = chosen.terms.objective(backbone)
    targets = jnst.fit_targets(jnp.asarray(content), jnp.asarray(style), objective, params, backbone=backbone)
    evaluate = jax.jit(jnst.total_loss, static_argnames="backbone")
    return lambda image: float(evaluate(jnp.asarray(image), objective, targets, params, backbone=backbone)[0])


def reach(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run every peer to the published loss, ``options.rounds`` times."""
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

    names = [name for name in options.peers if is_installed(name)]
    starting, warm = ({name: seconds_to_first(prepare, name) for name in names} for _ in range(2))
    compiling = {name: max(0.0, starting[name] - warm[name]) for name in names}
    tries = [
        race(prepare, names[:: (-1) ** number], judge, target, options.every, limit) for number in range(options.rounds)
    ]
    print(f"\n{path.name}: seconds to a loss of {target:.6g}, median (quartiles)")
    return {"curve": path.name, "target": target, **report(tries, compiling, names)}


def is_installed(name: str) -> bool:
    """Whether the packages of a peer are installed; prints why the peer is left out if not."""
    try:
        peers.load(name)
    except Unavailable as reason:
        print(f"{name:24} is left out: {reason}", flush=True)
        return False
    return True


def seconds_to_first(prepare: Callable[[str], Step], name: str) -> float:
    """The time to prepare a peer and to make its first step."""
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
    """Run each peer once, in turns of ``every`` steps, until all have reached ``target``.

    Returns:
        For each peer its ``seconds`` and ``steps``, the ``losses`` that it evaluated itself, and the loss that it
        ``reached`` according to the judge.

    Raises:
        RuntimeError: A peer does not reach the target within ``limit`` steps, or has a loss that is not finite.
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
    """Summarise and print the times of all tries, without and with compilation, and their ratios try by try."""
    # Only the first losses of L-BFGS are the same: peers scale its first step differently.
    firsts = {name: tries[0][name]["losses"][:1] for name in names}
    check_losses(firsts, {name: PEERS[name].tolerance for name in names})
    found: dict[str, Any] = {"compile_seconds": compiling, "steps": {}, "reached": {}}
    for key, added in (("excluded", dict.fromkeys(names, 0.0)), ("included", compiling)):
        seconds = {name: [attempt[name]["seconds"] + added[name] for attempt in tries] for name in names}
        found[key] = {
            "seconds": {name: spread(samples) for name, samples in seconds.items()},
            "ratios": {
                f"{ours} / {other}": ratios(seconds[ours], seconds[other]) for ours, other in comparison.pairs(names)
            },
        }
        for name, values in (found[key]["seconds"] | found[key]["ratios"]).items():
            print(f"  {name:30} compilation {key}: {shown(values)}", flush=True)
    for name in names:
        found["steps"][name] = [attempt[name]["steps"] for attempt in tries]
        found["reached"][name] = [attempt[name]["reached"] for attempt in tries]
    found["losses"] = {name: tries[0][name]["losses"] for name in names}
    return found


def agreement(shared: Path, settings: Settings, pair: tuple[str, str], size: int, precision: str) -> dict[str, Any]:
    """Compare `jnst.stylize` in two precisions by the final losses, judged in float32, and the images' similarity."""
    content, style = (
        networks.sized_image(shared / "images" / kind / name, size)
        for kind, name in zip(("content", "style"), pair, strict=True)
    )
    judge = make_judge(content, style, settings)
    noisy = np.clip(content + NOISE_STD * np.random.default_rng(0).standard_normal(content.shape), 0, 1)
    runs = {"float32": ("float32", content), "noisy start": ("float32", noisy), precision: (precision, content)}
    ends, images = {}, {}
    for name, (each, start) in runs.items():
        backbone, arrays = network(settings.params, each)
        given: Any = {"backbone": backbone, "preset": preset(settings), "init": jnp.asarray(start, jnp.float32)}
        solution = jnst.stylize(jnp.asarray(content), jnp.asarray(style), arrays, **given)
        assert solution.state is not None
        ends[name], images[name] = judge(np.asarray(solution.state.image)), solution.image
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
        "noisy_start": {"gap": gaps["noisy start"], "ssim": similarities["noisy start"]},
    }
    for name in (precision, "noisy start"):
        print(
            f"{pair[0]:28} {pair[1]:18} {size} {settings.optimizer}: {name:11} / float32 - 1 {gaps[name]:+.4f}, "
            f"SSIM {similarities[name]:.4f}",
            flush=True,
        )
    jax.clear_caches()
    return row


def plot(results: dict[str, Any]) -> Any:
    """Draw the times to the published loss, and the differences between final losses."""
    from matplotlib.figure import Figure

    parts = [("reach", row) for row in results.get("reach", ())]
    parts += [("agreement", results["agreement"])] if "agreement" in results else []
    figure = Figure(figsize=(8, 2.4 * len(parts)), dpi=120, layout="constrained")
    for axis, (kind, row) in zip(figure.subplots(len(parts), squeeze=False)[:, 0], parts, strict=True):
        if kind == "reach":
            comparison.draw_bars(axis, row["excluded"], f"{row['curve']}: to the loss {row['target']:.6g}")
            axis.set_xlabel("seconds, compilation excluded")
            continue
        labels = [f"{pair['content'].split('.')[0]}, {pair['style'].split('.')[0]}, {pair['size']}" for pair in row]
        drawn = axis.barh(labels, [100 * pair["gap"] for pair in row])
        axis.bar_label(drawn, [f" SSIM {pair['ssim']:.4f}" for pair in row], fontsize=8)
        axis.invert_yaxis()
        axis.margins(x=0.25)
        axis.axvline(0, color="0.3", lw=0.8)
        axis.set(title=f"{row[0]['precision']} compared with float32", xlabel="final loss above float32's, %")
        axis.tick_params(labelsize=8)
    return figure
