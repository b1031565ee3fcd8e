"""What a run is said to need, beside the memory that its process really takes.

``python tests/reliability/memory_needed.py --sizes 256 512 1024`` prints, for Adam and L-BFGS, both in MiB, as JSON.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
STEPS = 3


def resident(field: str) -> float:
    """MiB of this process: "VmRSS", what it has now, or "VmHWM", the most since `REFERENCES` were cleared."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def measure(size: int, optimizer: str) -> dict[str, Any]:
    """Run the embedded network on one image in this process; the compiler's own memory is not looked at."""
    import jax
    import jax.numpy as jnp

    import jnst
    from jnst.transfer import memory
    from jnst.transfer.inputs import check_inputs
    from jnst.transfer.plan import make_job

    backbone, params = jnst.load_backbone()
    method = {"adam": jnst.Adam(), "lbfgs": jnst.LBFGS(memory_size=20)}[optimizer]
    settings = jnst.preset("jnst", num_steps=STEPS, pyramid=False, optimizer=method)
    content = jax.random.uniform(jax.random.key(0), (size, size, 3))
    before = resident("VmRSS")

    def forget_compilation(report: jnst.Report) -> None:
        if report.first == 1:
            REFERENCES.write_text("5")

    job = make_job(check_inputs(content, content), settings, backbone)
    jnst.stylize(
        content,
        jnp.flip(content),
        params,
        backbone=backbone,
        preset=settings,
        chunk=1,
        callback=forget_compilation,
    )
    taken = resident("VmHWM") - before
    needed = memory.run_bytes(job, params, chunk=1) / 2**20
    return {
        "size": size,
        "optimizer": optimizer,
        "said": round(needed),
        "taken": round(taken),
        "said / taken": round(needed / taken, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512, 1024])
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "OPTIMIZER"), help="measure in this process")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(int(args.one[0]), args.one[1])))
        return
    for size in args.sizes:
        for optimizer in ("adam", "lbfgs"):
            # Each in a process of its own: allocators keep what others have let go of.
            words = [sys.executable, __file__, "--one", str(size), optimizer]
            print(subprocess.run(words, check=True, capture_output=True, text=True).stdout, end="", flush=True)


if __name__ == "__main__":
    main()
