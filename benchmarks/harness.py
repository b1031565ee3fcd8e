"""The common part of all benchmarks: options, how a benchmark is run, and what it writes.

A benchmark is a module with three functions:

- ``add_options(parser)`` adds its options, and sets its defaults of the common ones;
- ``measure(options)`` measures, prints a table, and returns its results as JSON values, including every sample;
- ``plot(results)`` returns a Matplotlib figure.
"""

import argparse
import datetime
import importlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from benchmarks.machine import MAX_OTHERS_SHARE, describe_machine, others_share, read_cpu_times
from jnst.errors import hint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).parent / "results"
ROUNDS = 9
MIN_ROUNDS = 7
"""With fewer samples, medians and quartiles say little."""

BENCHMARKS: dict[str, str] = {
    "step": "benchmarks.step",
    "run": "benchmarks.run",
    "memory": "benchmarks.memory",
    "tiles": "benchmarks.tiles",
    "first_image": "benchmarks.first_image",
    "batch": "benchmarks.batch",
    "device": "benchmarks.device",
    "losses": "benchmarks.losses",
    "lpips": "benchmarks.lpips",
    "embedded": "benchmarks.embedded",
    "style_network": "benchmarks.style_network",
    "convolutions": "benchmarks.convolutions",
}
"""Every benchmark and its module."""

NOISE = ("CPU", "Processor", "(R)", "(TM)", "with Radeon Graphics")
"""Words to leave out of processors' names."""


class Benchmark(Protocol):
    """A module of `BENCHMARKS`."""

    __doc__: str | None

    def add_options(self, parser: argparse.ArgumentParser) -> None: ...

    def measure(self, options: argparse.Namespace) -> dict[str, Any]: ...

    def plot(self, results: dict[str, Any]) -> "Figure": ...


def main(arguments: Sequence[str]) -> int:
    """List the benchmarks, or run one; returns the exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("python -m benchmarks NAME [options]. NAME --help lists the options of a benchmark.\n")
        for name, module in BENCHMARKS.items():
            print(f"{name:13} {summary(load(module))}")
        return 0
    name, *rest = arguments
    if name not in BENCHMARKS:
        print(f"unknown benchmark {name!r}: {hint(name, BENCHMARKS)}")
        return 2
    benchmark = load(BENCHMARKS[name])
    options = parse(name, benchmark, rest)
    options.output.mkdir(parents=True, exist_ok=True)
    if options.rounds < MIN_ROUNDS:
        print(f"{options.rounds} rounds are too few to publish: use at least {MIN_ROUNDS}")
    before = read_cpu_times()
    results = benchmark.measure(options)
    others = others_share(before, read_cpu_times())
    if others is not None and others > MAX_OTHERS_SHARE:
        print(
            f"other processes took {100 * others:.0f} % of the machine's time: do not trust the ratios, measure again"
        )
    path = write(options.output, name, options, results | {"others_share": others}, benchmark)
    print(f"wrote {path} and {path.with_suffix('.png').name}")
    return 0


def load(module: str) -> Benchmark:
    return cast(Benchmark, importlib.import_module(module))


def summary(benchmark: Benchmark) -> str:
    """The first line of a benchmark's docstring."""
    return (benchmark.__doc__ or "").partition("\n")[0]


def parse(name: str, benchmark: Benchmark, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the common options and the benchmark's own."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}",
        description=benchmark.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = parser.add_argument_group("common options")
    common.add_argument(
        "--shared", type=Path, help="folder with weights/, images/ and golden/; some benchmarks need it"
    )
    common.add_argument("-o", "--output", type=Path, default=RESULTS, help="folder for the JSON file and the plot")
    common.add_argument("--rounds", type=int, default=ROUNDS, help="samples of each configuration, taken in turns")
    common.add_argument("--sizes", type=int, nargs="+", help="image sizes in pixels")
    common.add_argument("--weights", type=Path, help="a weights file to use instead of the default weights")
    benchmark.add_options(parser)
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: expected at least 1")
    return options


def write(output: Path, name: str, options: argparse.Namespace, results: dict[str, Any], benchmark: Benchmark) -> Path:
    """Write ``NAME-MACHINE-DATE.json`` and the plot, and return the path of the JSON file.

    Raises:
        ValueError: A number in the results is not finite.
    """
    machine, date = describe_machine(), datetime.date.today().isoformat()
    path = output / f"{name}-{slug(machine)}-{date}.json"
    settings = {key: value.name if isinstance(value, Path) else value for key, value in vars(options).items()}
    del settings["output"]
    content = {"benchmark": name, "date": date, "machine": machine, "settings": settings, "results": results}
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    benchmark.plot(results).savefig(path.with_suffix(".png"))
    return path


def slug(machine: Mapping[str, Any]) -> str:
    """A short name of a machine: its processor or accelerator, and the number of its cores."""
    model = machine["cpu"] if machine["backend"] == "cpu" else machine["device"]
    for word in NOISE:
        model = model.replace(word, " ")
    model = re.sub(r"@.*", "", model)
    words = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    return f"{words[:32].strip('-')}-{machine['cores']}-cores"
