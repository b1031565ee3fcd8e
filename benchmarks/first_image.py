"""The whole wait for an image: from the start of the command to its first step and to its end.

Every sample is a process of its own: imports, weights, compilation, steps and writing. "cold" begins with an empty
cache of programs; "again" repeats the same command with the cache that it left; "other style" then takes a style of
other proportions. With --against, the cold start of another checkout takes turns, and every wait is divided by its.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.checkouts import checkout
from benchmarks.machine import ROOT, describe_commit
from benchmarks.processes import child_environment
from benchmarks.samples import ratios, shown, spread

CHILD = Path(__file__).parent / "children" / "watched_command.py"
IMAGES = ("content/kodim08_houses_street.png", "style/starry_night.jpg", "style/great_wave.jpg")
VGG19 = ("--backbone", "vgg19", "--optimizer", "adam", "--no-pyramid", "--steps", "500")


class Command(NamedTuple):
    """A command to time.

    Attributes:
        name: For tables.
        arguments: Of `jnst`, without the output.
        other: The same with a style of other proportions; none for the demo.
    """

    name: str
    arguments: tuple[str, ...]
    other: tuple[str, ...] = ()


class Wait(NamedTuple):
    """What a command took.

    Attributes:
        first_step: Seconds from its start to its first finished step.
        image: Seconds to its end.
        compile_seconds: Seconds that XLA compiled, in all threads.
        programs: How many programs it compiled.
    """

    first_step: float
    image: float
    compile_seconds: float
    programs: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", type=checkout, help="another checkout, such as an earlier commit")
    parser.add_argument("--commands", nargs="+", choices=("demo", "default", "vgg19"), default=["demo", "default"])
    parser.set_defaults(sizes=[512])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time all commands in all ways."""
    checkouts = {"this": ROOT} | ({"against": options.against} if options.against else {})
    commits = {name: describe_commit(folder) for name, folder in checkouts.items()}
    rows = []
    for command in commands(options.commands, options.shared, options.sizes, options.weights):
        waits: dict[str, list[Wait]] = {}
        for number in range(options.rounds):
            for name in reversed([*checkouts]) if number % 2 else checkouts:
                for way, wait in once(command, checkouts[name], only_cold=name == "against"):
                    waits.setdefault(f"{name}, {way}", []).append(wait)
        rows.append({"command": command.name} | summary(waits))
        show(rows[-1])
    return {"commits": commits, "commands": rows}


def commands(
    names: Sequence[str], shared: Path | None, sizes: Sequence[int], weights: Path | None
) -> Iterator[Command]:
    """The commands by these names.

    Raises:
        SystemExit: One needs images, and there are none.
    """
    for name in names:
        if name == "demo":
            yield Command("demo", ("demo",))
            continue
        if shared is None:
            raise SystemExit("first_image: --commands default and vgg19 need --shared")
        content, style, other = (str(shared.resolve() / "images" / path) for path in IMAGES)
        extra = () if name == "default" else (*VGG19, *(("--weights", str(weights.resolve())) if weights else ()))
        for size in sizes:
            flags = ("--size", str(size), *extra)
            yield Command(f"{name} {size}", ("stylize", content, style, *flags), ("stylize", content, other, *flags))


def once(command: Command, folder: Path, *, only_cold: bool) -> Iterator[tuple[str, Wait]]:
    """Run a command with an empty cache, again, and with another style."""
    with tempfile.TemporaryDirectory() as scratch:
        yield "cold", run(command.arguments, folder, Path(scratch))
        if only_cold:
            return
        yield "again", run(command.arguments, folder, Path(scratch))
        if command.other:
            yield "other style", run(command.other, folder, Path(scratch))


def run(arguments: Sequence[str], folder: Path, scratch: Path) -> Wait:
    """Run `jnst` of a checkout in a process of its own.

    Raises:
        RuntimeError: It failed.
    """
    environment = child_environment({"PYTHONPATH": str(folder.resolve()), "JNST_CACHE": str(scratch / "cache")})
    command = [sys.executable, "-P", str(CHILD), *arguments, "-o", str(scratch / "out.png")]
    begun, first, said = time.perf_counter(), None, list[str]()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if first is None and line.startswith("step "):
                first = time.perf_counter() - begun
        output = process.stdout.read()
    seconds = time.perf_counter() - begun
    if process.returncode or first is None:
        raise RuntimeError(f"jnst {' '.join(arguments)} ended with {process.returncode}: {''.join(said)[-2000:]}")
    found = json.loads(output.splitlines()[-1])
    return Wait(first, seconds, found["compile_seconds"], found["programs"])


def summary(waits: dict[str, list[Wait]]) -> dict[str, Any]:
    """The spread of every figure, and the ratios of this checkout's waits to the other's."""
    found = {
        name: {field: spread([getattr(wait, field) for wait in all_]) for field in Wait._fields}
        for name, all_ in waits.items()
    }
    before = [wait.image for wait in waits.get("against, cold", [])]
    ours = {name: [wait.image for wait in samples] for name, samples in waits.items() if name.startswith("this")}
    compared = {name: ratios(images, before) for name, images in ours.items()} if before else {}
    return {"waits": found, "ratios": compared}


def show(row: dict[str, Any]) -> None:
    """Print a table."""
    for name, values in row["waits"].items():
        first, image = (shown(values[field], " s", digits=1) for field in ("first_step", "image"))
        compiled = f"{values['programs']['median']:.0f} programs in {values['compile_seconds']['median']:.1f} s"
        print(f"{row['command']:12} {name:22} first step {first}, image {image}, {compiled}", flush=True)
    for name, values in row["ratios"].items():
        print(f"{row['command']:12} {name:22} / against, cold: {shown(values)}", flush=True)


def plot(results: dict[str, Any]) -> Any:
    """Draw the waits for the first step and for the image, and every sample."""
    from matplotlib.figure import Figure

    cases = [
        (f"{row['command']}: {name}", values) for row in results["commands"] for name, values in row["waits"].items()
    ]
    figure = Figure(figsize=(8, 1.2 + 0.45 * len(cases)), dpi=120, layout="constrained")
    axis = figure.subplots()
    for field, label, alpha in (("image", "image", 0.35), ("first_step", "first step", 0.8)):
        medians = [values[field]["median"] for _, values in cases]
        axis.barh([name for name, _ in cases], medians, color="C0", alpha=alpha, label=label)
    for place, (_, values) in enumerate(cases):
        axis.plot(values["image"]["samples"], [place] * len(values["image"]["samples"]), "o", color="C0", ms=3)
    axis.invert_yaxis()
    axis.legend()
    axis.set(xlabel="seconds from the start of the command", xlim=(0, None))
    return figure
