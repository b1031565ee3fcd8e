"""The machine on which something was measured, and whether it was busy with something else."""

import importlib.metadata
import os
import platform
import resource
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import jax

import jnst

ROOT = Path(__file__).parents[1]
PACKAGES = ("jax", "jaxlib", "optax", "flax", "numpy", "torch")
VARIABLES = ("GLIBC_TUNABLES", "XLA_FLAGS", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
"""Environment variables that affect speed."""

STAT = Path("/proc/stat")
IDLE = (3, 4)
"""Places of the times in /proc/stat in which nothing is computed: idle, and waiting for disks."""
GUESTS = (8, 9)
"""Places of the times in /proc/stat that are also contained in user and nice."""
MAX_OTHERS_SHARE = 0.05
"""The share of the machine's time that other processes may take. Above it, a measurement is not worth publishing.

Ratios do not protect against this. Threads that spin while they wait for each other, as PyTorch's do under OpenMP's
default policy, lose far more to other processes than threads that sleep. On two busy cores, steps of PyTorch took seven
times as long as under ``OMP_WAIT_POLICY=passive``, which would have made ours look seven times as good.
"""


def describe_machine() -> dict[str, Any]:
    """Describe hardware, software and code as JSON values; None where something is unknown.

    ``cores`` are those that this process may use, ``memory_gib`` is the machine's memory. ``versions`` has only
    packages that are installed. ``commit`` and ``dirty`` are described at `describe_commit`.
    """
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
        "os": platform.platform(),
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "versions": {"python": platform.python_version(), "jnst": jnst.__version__, **_versions()},
        **describe_commit(ROOT),
        "environment": {name: os.environ.get(name) for name in VARIABLES},
    }


def describe_commit(checkout: Path) -> dict[str, Any]:
    """The ``commit`` of a checkout, and whether it is ``dirty``: anything but results differs from the commit."""
    commit = _git(checkout, "rev-parse", "--short", "HEAD")
    changes = _git(checkout, "status", "--porcelain", "--", ".", ":!benchmarks/results")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}


def _cpu() -> str:
    """The model of the processor, or its architecture if the system does not say."""
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
    """Versions from the packages' metadata. Importing the packages would take memory and start threads."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _git(checkout: Path, *arguments: str) -> str | None:
    return _output("git", "--no-optional-locks", "-C", str(checkout), *arguments)


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


class CpuTimes(NamedTuple):
    """Seconds of all cores since the machine started, those they were busy, and those of this process and its children.

    The children's are included once they have ended.
    """

    passed: float
    busy: float
    own: float


def read_cpu_times() -> CpuTimes | None:
    """Read the clocks; None if the system has no /proc/stat."""
    try:
        fields = [int(field) for field in STAT.read_text().partition("\n")[0].split()[1:]]
    except OSError:
        return None
    unit = os.sysconf("SC_CLK_TCK")
    passed = sum(each for place, each in enumerate(fields) if place not in GUESTS)
    own = sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    return CpuTimes(passed / unit, (passed - sum(fields[place] for place in IDLE)) / unit, own)


def others_share(before: CpuTimes | None, after: CpuTimes | None) -> float | None:
    """The share of the machine's time that other processes took between two readings, in [0, 1]; None if unknown."""
    if before is None or after is None or after.passed <= before.passed:
        return None
    busy = (after.busy - before.busy) - (after.own - before.own)
    return min(1.0, max(0.0, busy / (after.passed - before.passed)))
