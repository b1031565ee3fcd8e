"""Modules of this folder in processes of their own, with the same packages as this one."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
START = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), None, '__main__', True)"
"""This folder comes last on the module path: jnst is the one that is installed, if one is."""


def run_module(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[str, float]:
    """Run ``python -m module arguments`` and return its standard output and the seconds from its start to its end.

    Nothing that was compiled is kept from one process to the next, and none takes a whole GPU for itself.

    Raises:
        RuntimeError: It failed; the message ends with what it said.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    variables = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        **(environment or {}),
    }
    begun = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, "-P", "-c", START, str(ROOT), module, *arguments],
        env=inherited | variables,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - begun
    if finished.returncode:
        raise RuntimeError(
            f"{module} {' '.join(arguments)} ended with {finished.returncode}: {finished.stderr[-2000:]}"
        )
    return finished.stdout, seconds
