"""What every benchmark has in common: its options, how it is started, and the form of what it writes.

A benchmark is a module with three functions:

- ``add_options(parser)``: its own options, and its defaults of the common ones;
- ``measure(options)``: measures, prints a table, and returns what it found as JSON values, every sample among it;
- ``plot(results)``: draws it, a Matplotlib figure.
"""

import argparse
import datetime
import importlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from benchmarks.machine import machine
from benchmarks.quiet import LOUD, others_share, times
from jnst.errors import hint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
ROUNDS = 9
FEWEST_ROUNDS = 7
"""With fewer samples, medians and quartiles say little."""

BENCHMARKS: dict[str, str] = {
    "step": "benchmarks.step",
    "run": "benchmarks.run",
    "memory": "benchmarks.memory",
    "cold": "benchmarks.cold",
    "batch": "benchmarks.batch",
    "device": "benchmarks.device",
    "losses": "benchmarks.losses",
    "embedded": "benchmarks.embedded",
    "convolutions": "benchmarks.convolutions",
}
"""Every benchmark and its module."""

NOISE = ("CPU", "Processor", "(R)", "(TM)", "with Radeon Graphics")
"""Words in processors' names that tell nothing."""


class Benchmark(Protocol):
    """A module of `BENCHMARKS`."""

    __doc__: str | None

    def add_options(self, parser: argparse.ArgumentParser) -> None: ...

    def measure(self, options: argparse.Namespace) -> dict[str, Any]: ...

    def plot(self, results: dict[str, Any]) -> "Figure": ...


def main(arguments: Sequence[str]) -> int:
    """List the benchmarks, or run one; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("python -m benchmarks NAME [options]; NAME --help has its options.\n")
        for name, module in BENCHMARKS.items():
            print(f"{name:12} {summary(load(module))}")
        return 0
    name, *others = arguments
    if name not in BENCHMARKS:
        print(f"unknown benchmark {name!r}: {hint(name, BENCHMARKS)}")
        return 2
    benchmark = load(BENCHMARKS[name])
    options = parse(name, benchmark, others)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.rounds < FEWEST_ROUNDS:
        print(f"{options.rounds} rounds: too few to publish, at least {FEWEST_ROUNDS} are wanted")
    before = times()
    results = benchmark.measure(options)
    others = others_share(before, times())
    if others is not None and others > LOUD:
        print(f"others took {100 * others:.0f} % of the machine's time: ratios are not to be trusted, measure again")
    path = write(options.output, name, options, results | {"others_share": others}, benchmark)
    print(f"{path} and {path.with_suffix('.png').name}")
    return 0


def load(module: str) -> Benchmark:
    return cast(Benchmark, importlib.import_module(module))


def summary(benchmark: Benchmark) -> str:
    """The first line of its docstring."""
    return (benchmark.__doc__ or "").partition("\n")[0]


def parse(name: str, benchmark: Benchmark, arguments: Sequence[str]) -> argparse.Namespace:
    """The common options and the benchmark's own."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        description=benchmark.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = parser.add_argument_group("common options")
    common.add_argument("--shared", type=Path, help="folder with weights/, images/ and golden/; some need it")
    common.add_argument("-o", "--output", type=Path, default=RESULTS, help="folder for JSON and plot")
    common.add_argument("--rounds", type=int, default=ROUNDS, help="samples of each configuration, in turns")
    common.add_argument("--sizes", type=int, nargs="+", help="in pixels")
    common.add_argument("--weights", type=Path, help="a weights file, in place of the usual weights")
    benchmark.add_options(parser)
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: expected at least 1")
    return options


def write(output: Path, name: str, options: argparse.Namespace, results: dict[str, Any], benchmark: Benchmark) -> Path:
    """Write ``NAME-MACHINE-DATE.json`` and the plot beside it, and return the former's path.

    Raises:
        ValueError: A number that is not finite: no benchmark is worth anything with one.
    """
    head, date = machine(), datetime.date.today().isoformat()
    path = output / f"{name}-{slug(head)}-{date}.json"
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    del settings["output"]
    if options.shared is not None:
        settings["shared"] = options.shared.name
    if options.weights is not None:
        settings["weights"] = options.weights.name
    content = {"benchmark": name, "date": date, "machine": head, "settings": settings, "results": results}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    benchmark.plot(results).savefig(path.with_suffix(".png"))
    return path


def slug(head: Mapping[str, Any]) -> str:
    """A short name of a machine: its processor's or accelerator's, and the number of its cores."""
    model = head["cpu"] if head["backend"] == "cpu" else head["device"]
    for word in NOISE:
        model = model.replace(word, " ")
    model = re.sub(r"@.*", "", model)
    words = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    return f"{words[:32].strip('-')}-{head['cores']}-cores"
