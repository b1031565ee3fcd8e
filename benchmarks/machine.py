"""What a measurement was made on: hardware, versions, settings and commit, for the head of every results file."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

import jnst

ROOT = Path(__file__).parents[1]
PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy", "torch")
VARIABLES = ("GLIBC_TUNABLES", "XLA_FLAGS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
"""Environment variables that change how fast things are."""


def machine() -> dict[str, Any]:
    """Describe machine, software and code, as JSON values; None for what cannot be found out.

    ``cores`` are those that this process may use, ``memory_gib`` is the machine's. ``dirty`` says whether anything but
    results differs from ``commit``. Packages that are not installed are left out of ``versions``.
    """
    commit = _git("rev-parse", "--short", "HEAD")
    changes = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "os": platform.platform(),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "versions": {"python": platform.python_version(), "jnst": jnst.__version__, **_versions()},
        "commit": commit,
        "dirty": None if changes is None else bool(changes),
        "environment": {name: os.environ.get(name) for name in VARIABLES},
    }


def _cpu() -> str:
    """The processor's model; the architecture where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        name = _output("sysctl", "-n", "machdep.cpu.brand_string")
    else:
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    return name or platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _versions() -> dict[str, str]:
    """By the packages' metadata: nothing is imported, which would take threads and memory."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git(*arguments: str) -> str | None:
    return _output("git", "--no-optional-locks", "-C", str(ROOT), *arguments)


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
