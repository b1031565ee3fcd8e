"""Images of ever new shapes in one process: what grows.

`python tests/reliability/changing_shapes.py --shapes 300` prints a line of JSON: the growth of resident memory from the
shapes after the first 50 to the last ones, and how many programs, arrays and files there were at most.
"""

import argparse
import ctypes
import gc
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import jnst

SETTINGS = jnst.preset("jnst", content_layers=("relu1_1",), style_layers=("relu1_1",), num_steps=(2,))
BEFORE, WINDOW = 50, 20


class Seen(NamedTuple):
    """What a process holds after a run."""

    resident: float
    programs: int
    arrays: int
    files: int


def run(shape: tuple[int, int]) -> None:
    """An image of ``shape`` with a style of that shape, from a smaller size on, so that images are resized too.

    In NumPy, since single operations of JAX are programs of their own, which JAX keeps.
    """
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]] / max(shape)
    content: Any = np.stack([rows, columns, 0.5 + 0.3 * np.sin(9 * columns)], -1).astype(np.float32)
    jnst.stylize(content, content[::-1], preset=SETTINGS, optimizer=jnst.Adam(0.02))


def shapes(count: int) -> Iterator[tuple[int, int]]:
    """So many different heights and widths."""
    for number in range(count):
        yield 12 + number // 20, 12 + number % 20


def look() -> Seen:
    """Count, after what is garbage has gone: also what the allocator keeps of memory that was freed."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    programs = len(jax.local_devices()[0].client.live_executables())
    files = len(os.listdir("/proc/self/fd"))
    return Seen(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, programs, len(jax.live_arrays()), files)


class Compilations:
    """Names of the functions that were compiled."""

    def __init__(self) -> None:
        self.names: list[str] = []
        jax.monitoring.register_event_duration_secs_listener(self._note)

    def _note(self, event: str, duration_secs: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            self.names.append(str(about.get("fun_name")))

    def of(self, name: str) -> int:
        """How often a function was compiled."""
        return sum(name in found for found in self.names)


def growth(seen: Sequence[Seen]) -> float:
    """Of resident memory, in percent, from the shapes after the first `BEFORE` to the last ones."""
    first, last = (np.mean([one.resident for one in part]) for part in (seen[BEFORE:][:WINDOW], seen[-WINDOW:]))
    return float(100 * (last / first - 1))


def main() -> None:
    """Run the full count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", type=int, default=300)
    count = parser.parse_args().shapes
    jax.config.update("jax_disable_most_optimizations", True)
    compiled, seen = Compilations(), []
    for number, shape in enumerate(shapes(count), 1):
        run(shape)
        seen.append(look())
        if number % 25 == 0:
            print(number, seen[-1], file=sys.stderr, flush=True)
    steps = compiled.of("steps")
    for shape in list(shapes(count))[-5:]:
        run(shape)
    settled = seen[BEFORE:] or seen
    result = {
        "shapes": count,
        "growth %": round(growth(seen), 2) if count > BEFORE + WINDOW else None,
        "resident MiB": [round(one.resident) for one in seen[:: max(1, count // 10)]],
        "programs at most": max(one.programs for one in seen),
        "arrays": sorted({one.arrays for one in settled}),
        "files": sorted({one.files for one in settled}),
        "compilations of the step": steps,
        "again for the last five shapes": compiled.of("steps") - steps,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
