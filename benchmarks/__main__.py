"""Run a benchmark: ``python -m benchmarks NAME [options]``. Without a name, list all of them."""

import sys

from benchmarks.harness import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
