"""Measure the memory of a few steps of one peer in this process: a child of `benchmarks.memory`.

    python -m benchmarks.children.resident_memory torch-eager INPUTS.npz

INPUTS is a file written by `benchmarks.networks.write_inputs`. Prints JSON: ``peak_bytes`` is the peak resident memory;
``before_bytes`` is the peak before the peer was prepared, that is, of Python, the network's parameters, the images and
the packages that the peer imports. On GPUs, ``device_bytes`` is the peak of the device's allocator.
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
    """The peak resident memory of this process so far."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def device_bytes() -> int | None:
    """The peak of the GPU's allocator; None on CPUs. Of JAX and torch, only the one in use is imported."""
    if "jax" in sys.modules:
        statistics = importlib.import_module("jax").local_devices()[0].memory_stats()
        return statistics["peak_bytes_in_use"] if statistics else None
    torch: Any = importlib.import_module("torch")
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def measure(name: str, inputs: Path) -> dict[str, Any]:
    """Make some steps of a peer.

    Args:
        name: A key of `PEERS`.
        inputs: A file written by `benchmarks.networks.write_inputs`.

    Raises:
        Unavailable: The peer does not work here.
    """
    params, content, style = networks.read_inputs(inputs)
    peers.load(name)
    before = peak_bytes()
    step = peers.prepare(name, content, style, STATISTICS[PEERS[name].statistics[0]](params))
    losses: list[float] = []
    while len(losses) < STEPS:
        losses += step.advance()
    return {"peak_bytes": peak_bytes(), "before_bytes": before, "device_bytes": device_bytes(), "losses": losses}


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
