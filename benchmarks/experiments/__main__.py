"""python -m benchmarks.experiments NAME [flags]: see --help of each."""

import sys

from benchmarks.experiments import backbones, classifier, layer_weights, layers, loss_table
from jnst.errors import JnstError, hint

EXPERIMENTS = {
    "classifier": classifier.main,
    "backbones": backbones.main,
    "layer-weights": layer_weights.main,
    "loss-table": loss_table.main,
    "layers": layers.main,
}
"""In the order of the documents."""


def main(arguments: list[str]) -> int:
    """Run one experiment; the exit status."""
    name, *flags = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(f"{__doc__}\n\nNAME: {', '.join(EXPERIMENTS)}")
        return 0
    try:
        if name not in EXPERIMENTS:
            raise JnstError(f"unknown experiment {name!r}: {hint(name, EXPERIMENTS)}")
        EXPERIMENTS[name](flags)
    except JnstError as error:
        print(f"benchmarks.experiments: error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
