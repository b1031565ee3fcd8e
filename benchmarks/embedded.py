"""The embedded network against the VGG19 that it descends from: how much style it brings over, and how fast.

For every pair of content and style, both networks stylise with the same number of steps. What counts is measured by the
real VGG19: the style loss of neural-style (the sum over relu1_1, relu2_1, relu3_1 of mean squared errors of Gram
matrices over c h w) and the content loss on relu3_2. The embedded network's style weight is chosen so that its content
loss lies within 20 % of VGG19's. `gap closed` is (start - mini) / (start - vgg) in that style loss.

    python -m benchmarks.embedded --shared ../shared
"""

import argparse
import dataclasses
import datetime
import json
import time
from pathlib import Path

import jax
import numpy as np

import jnst
from benchmarks.machine import machine
from benchmarks.sheets import contact_sheet
from jnst.backbones import Backbone
from jnst.types import Image, Params

CONTENTS = (
    "kodim08_houses_street.png",
    "kodim23_parrots.png",
    "kodim21_coast_lighthouse.png",
    "astronaut_portrait.png",
)
STYLES = ("starry_night.jpg", "great_wave.jpg", "the_scream.jpg", "composition_vii.jpg")
LAYERS = ("relu1_1", "relu2_1", "relu3_1")
CONTENT = "relu3_2"
RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True)
class Row:
    """A pair's outcome; losses are the real VGG19's."""

    content: str
    style: str
    style_weight: float
    content_ratio: float
    gap_closed: float
    seconds: float
    seconds_vgg19: float


@dataclasses.dataclass(frozen=True)
class Judge:
    """The real VGG19's style and content loss of a picture."""

    backbone: Backbone
    params: Params

    def __call__(self, image: Image, content: Image, style: Image) -> tuple[float, float]:
        objective = jnst.make_objective(content_layers=(CONTENT,), style_layers=LAYERS)
        targets = jnst.fit_targets(objective, self.params, content, style, backbone=self.backbone)
        _, parts = jnst.total_loss(image, objective, targets, self.params, backbone=self.backbone)
        return sum(float(parts[f"style/{layer}"]) for layer in LAYERS), float(parts[f"content/{CONTENT}"])


def transfer(
    backbone: Backbone, params: Params, content: Image, style: Image, weight: float, steps: int
) -> tuple[Image, float]:
    settings = jnst.preset(
        "jnst", content_layers=(CONTENT,), style_layers=LAYERS, style_weight=weight, pyramid=None, num_steps=(steps,)
    )
    begun = time.perf_counter()
    solution = jnst.stylize(content, style, params, backbone=backbone, preset=settings)
    return solution.image, time.perf_counter() - begun


def compare(
    judge: Judge, mini: tuple[Backbone, Params], content: Image, style: Image, steps: int
) -> tuple[dict[str, float], Image, Image]:
    """Stylise with both, matching the content loss by at most four tries of the style weight."""
    start, _ = judge(content, content, style)
    theirs, seconds_vgg19 = transfer(judge.backbone, judge.params, content, style, 100.0, steps)
    style_loss, content_loss = judge(theirs, content, style)
    weight, tries = 40.0, []
    for _ in range(4):
        ours, seconds = transfer(*mini, content, style, weight, steps)
        loss, kept = judge(ours, content, style)
        ratio = kept / content_loss
        tries.append((abs(np.log(ratio)), weight, ratio, loss, seconds, ours))
        if abs(np.log(ratio)) < np.log(1.15):
            break
        weight *= float(np.clip(ratio**-3.0, 0.1, 10.0))
    _, weight, ratio, loss, seconds, ours = min(tries, key=lambda entry: entry[0])
    return (
        {
            "style_weight": weight,
            "content_ratio": ratio,
            "gap_closed": (start - loss) / (start - style_loss),
            "seconds": seconds,
            "seconds_vgg19": seconds_vgg19,
        },
        theirs,
        ours,
    )


def step_ratio(judge: Judge, mini: tuple[Backbone, Params], size: tuple[int, int], samples: int = 25) -> list[float]:
    """Seconds of a gradient to relu3_2 with the embedded network over VGG19's, alternating."""
    image = jax.random.uniform(jax.random.key(0), (*size, 3))
    steps = []
    for backbone, params in (mini, (judge.backbone, judge.params)):
        objective = jnst.make_objective(content_layers=(CONTENT,), style_layers=LAYERS)
        targets = jnst.fit_targets(objective, params, image, image[::-1], backbone=backbone)
        gradient = jax.jit(jax.grad(jnst.total_loss, has_aux=True), static_argnames="backbone")
        steps.append(lambda g=gradient, o=objective, t=targets, p=params, b=backbone: g(image, o, t, p, backbone=b))
    times = []
    for _ in range(samples + 1):
        times.append([_seconds(step) for step in steps])
    return [ours / theirs for ours, theirs in times[1:]]


def _seconds(step) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(step())
    return time.perf_counter() - begun


def main() -> None:
    """Run all pairs, print the table, write JSON and contact sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, required=True, help="folder with weights/ and images/")
    parser.add_argument("--weights", type=Path, help="another student than the embedded one")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("-o", "--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    judge = Judge(*jnst.load_backbone("vgg19", args.shared / "weights/vgg19-oxford-tfjs/model.json"))
    mini = jnst.load_backbone(None, args.weights)
    table: list[Row] = []
    pictures: list[tuple[str, list[Image]]] = []
    for content_name in CONTENTS:
        content = jnst.load_image(args.shared / "images/content" / content_name, size=args.size)
        label = content_name.split("_")[0 if content_name.startswith("astro") else 1]
        both: tuple[list[Image], list[Image]] = ([], [])
        for style_name in STYLES:
            style = jnst.load_image(args.shared / "images/style" / style_name, size=args.size)
            outcome, theirs, ours = compare(judge, mini, content, style, args.steps)
            table.append(Row(content_name, style_name, **outcome))
            both[0].append(theirs)
            both[1].append(ours)
            print(
                f"{content_name:30} {style_name:22} " + "  ".join(f"{k} {v:.3g}" for k, v in outcome.items()),
                flush=True,
            )
        pictures += [(f"{label[:9]}\nVGG19", both[0]), (f"{label[:9]}\nmini", both[1])]
    ratios = step_ratio(judge, mini, (args.size * 2 // 3, args.size))
    print(
        f"step time, mini / VGG19 to {CONTENT}: median {np.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )
    closed = [row.gap_closed for row in table]
    print(f"gap closed: mean {np.mean(closed):.3f}, worst {min(closed):.3f}")
    summary = {
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "size": args.size,
        "steps": args.steps,
        "step_ratio": ratios,
        "gap_closed": {"mean": float(np.mean(closed)), "worst": float(min(closed))},
        "pairs": [dataclasses.asdict(row) for row in table],
    }
    args.output.mkdir(exist_ok=True)
    (args.output / "embedded.json").write_text(json.dumps(summary, indent=1) + "\n")
    contact_sheet([name.rsplit(".", 1)[0] for name in STYLES], pictures).save(args.output / "embedded.jpg", quality=82)


if __name__ == "__main__":
    main()
