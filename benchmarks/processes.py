"""Modules of this folder in processes of their own, with the same packages as this one."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
START = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), None, '__main__', True)"
"""Runs a module of this checkout, which comes last on the module path: an installed jnst takes precedence."""


def child_environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child process: without a cache of compiled programs, and without preallocation on GPUs."""
    inherited = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return {**inherited, "XLA_PYTHON_CLIENT_PREALLOCATE": "false", **(changes or {})}


def run_module(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[str, float]:
    """Run ``python -m module arguments`` in an environment from `child_environment`.

    Args:
        module: Its full name.
        *arguments: Its command-line arguments.
        environment: Further environment variables.

    Returns:
        The standard output, and the seconds from the start of the process to its end.

    Raises:
        RuntimeError: It failed; the message ends with its standard error.
    """
    begun = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, "-P", "-c", START, str(ROOT), module, *arguments],
        env=child_environment(environment),
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - begun
    if finished.returncode:
        raise RuntimeError(
            f"{module} {' '.join(arguments)} ended with {finished.returncode}: {finished.stderr[-2000:]}"
        )
    return finished.stdout, seconds
