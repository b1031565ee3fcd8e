"""The memory of a few steps of one peer in this process: a child of `benchmarks.memory`, which prints JSON.

    python -m benchmarks.resident torch-eager INPUTS.npz

INPUTS is what `benchmarks.networks.write_inputs` wrote. ``peak_bytes`` is the most that was resident at once,
``before_bytes`` the most before the peer was prepared: Python, network, images, and the packages that the peer
imports. On GPUs ``device_bytes`` is what the device's allocator held at most.
"""

import importlib
import json
import platform
import resource
import sys
from pathlib import Path
from typing import Any

from benchmarks import networks, peers
from benchmarks.peers import PEERS, STATISTICS, Unavailable

STEPS = 3


def peak_bytes() -> int:
    unit = 1 if platform.system() == "Darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def device_bytes() -> int | None:
    """The most that the GPU's allocator held; None on CPUs. Of JAX and torch only the one in use is loaded."""
    if "jax" in sys.modules:
        statistics = importlib.import_module("jax").local_devices()[0].memory_stats()
        return statistics["peak_bytes_in_use"] if statistics else None
    torch: Any = importlib.import_module("torch")
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def measure(name: str, inputs: Path) -> dict[str, Any]:
    """Make some steps of a row of `PEERS`.

    Raises:
        Unavailable: It does not work here.
    """
    params, content, style = networks.read_inputs(inputs)
    peers.load(name)
    before = peak_bytes()
    step = peers.prepare(name, content, style, STATISTICS[PEERS[name].statistics[0]](params))
    losses: list[float] = []
    while len(losses) < STEPS:
        losses += step.advance()
    found = {"peak_bytes": peak_bytes(), "before_bytes": before, "device_bytes": device_bytes()}
    return {**found, "losses": losses}


def main(arguments: list[str]) -> int:
    """Print what was measured, or why nothing was; returns the exit status."""
    name, inputs = arguments
    try:
        print(json.dumps(measure(name, Path(inputs))))
    except Unavailable as reason:
        print(json.dumps({"unavailable": str(reason)}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
