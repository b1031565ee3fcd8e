"""Run a benchmark: ``python -m benchmarks NAME [options]``; without a name, list them."""

import sys

from benchmarks.harness import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
