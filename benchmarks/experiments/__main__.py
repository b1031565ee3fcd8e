"""Run an experiment: python -m benchmarks.experiments NAME [options]. NAME --help lists the options."""

import sys

from benchmarks.experiments import backbones, classifier, layer_weights, layers, loss_table, seamless
from jnst.errors import ArgumentError, JnstError, hint

EXPERIMENTS = {
    "classifier": classifier.main,
    "backbones": backbones.main,
    "layer-weights": layer_weights.main,
    "loss-table": loss_table.main,
    "layers": layers.main,
    "seamless": seamless.main,
}
"""In the order of the projects."""


def main(arguments: list[str]) -> int:
    """Run one experiment; returns the exit status."""
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(f"{__doc__}\n\nNAME: {', '.join(EXPERIMENTS)}")
        return 0
    try:
        if name not in EXPERIMENTS:
            raise ArgumentError(f"unknown experiment {name!r}: {hint(name, EXPERIMENTS)}")
        EXPERIMENTS[name](rest)
    except JnstError as error:
        print(f"benchmarks.experiments: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
