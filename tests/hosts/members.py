"""Starting processes that connect on the loopback, each with two pretend devices."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

MEMBER = Path(__file__).with_name("member.py")
DEVICES = "--xla_force_host_platform_device_count=2"
QUICK = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
UNOPTIMISED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "XLA_FLAGS": f"{DEVICES} {QUICK}"}
"""Variables of a process for whose programs compiling takes longest."""
CLUSTER = ("SLURM", "OMPI", "KUBERNETES", "TPU", "JAX_COORDINATOR", "JAX_LOCAL_DEVICE", "CLOUD_TPU")
"""How the names of variables begin that would say something about a cluster where the tests run."""

Process = subprocess.Popen[str]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def environment(**variables: str) -> dict[str, str]:
    """This process' environment with two devices and no cluster but the one that is given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(CLUSTER)}
    return inherited | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": DEVICES} | variables


def commands(scenario: str, folder: Path, arguments: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """One command for each process, to call `connect` with the arguments and then do what the scenario says."""
    return [[sys.executable, str(MEMBER), scenario, str(folder), json.dumps(dict(own))] for own in arguments]


def explicit(count: int = 2, **options: Any) -> list[dict[str, Any]]:
    """Arguments of `connect` for each of so many processes."""
    coordinator = f"127.0.0.1:{free_port()}"
    return [
        {"coordinator": coordinator, "num_processes": count, "process_id": rank, **options} for rank in range(count)
    ]


@contextlib.contextmanager
def started(lines: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]]) -> Iterator[list[Process]]:
    """Processes that run together, and none of which outlives the block."""
    processes = [
        subprocess.Popen(line, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line, own in zip(lines, environments, strict=True)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def next_line(process: Process) -> dict[str, Any]:
    """What a member says next."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate()[1])
    return json.loads(line)
