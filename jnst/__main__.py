"""`python -m jnst`: the command `jnst`."""

import sys

from jnst.apps.cli import main

if __name__ == "__main__":
    sys.exit(main())
