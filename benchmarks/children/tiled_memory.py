"""Measure the memory of two steps at one size in this process: a child of `benchmarks.tiles`.

    python -m benchmarks.children.tiled_memory SIZE TILE [SHARED]

TILE is the side of tiles in pixels, or 0 for the whole image. Prints JSON with the peak resident memory.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks.children.resident_memory import peak_bytes


def main(arguments: list[str]) -> int:
    """Print what was measured; returns the exit status."""
    import jax

    from benchmarks.tiles import make_step

    size, tile, *shared = arguments
    options = argparse.Namespace(shared=Path(shared[0]) if shared else None, weights=None)
    step = make_step(options, int(size), int(tile) or None)
    losses = [float(jax.block_until_ready(step())[0]) for _ in range(2)]
    print(json.dumps({"peak_bytes": peak_bytes(), "losses": losses}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
