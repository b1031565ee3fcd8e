"""Catalogues on a Ray cluster of several simulated machines, one of which is lost, or whose command is killed.

``python tests/reliability/lost_process.py --rounds 10`` prints what came of it, as JSON: whether every image was made
once, with the same bytes as in one process, and whether the command, run again, made only what was missing. Then an
unreadable image, an image that kills its workers, and signals: how the command ends, and what it has made.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FLAGS = ("--size", "24", "--optimizer", "adam", "--content-layers", "relu1_1", "--style-layers", "relu1_1")
CONTENTS, STYLES, NODES = 6, 4, 3
PATIENCE = 300.0
"""Seconds that a command may take on a busy machine."""

DEADLY = """
import os
from jnst.apps.catalogue import work
load = work.load_with
work.load_with = lambda path, options: os._exit(1) if path.name == "deadly.png" else load(path, options)
"""
"""A module that Python imports by itself when a process starts: an image kills whoever reads it."""


def make_inputs(folder: Path) -> None:
    """Images of one size, so that there is one program."""
    generator = np.random.default_rng(0)
    for name, count in (("contents", CONTENTS), ("styles", STYLES)):
        (folder / name).mkdir()
        for number in range(count):
            coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), np.uint8))
            coarse.resize((24, 18)).save(folder / name / f"{number}.png")


def start(folder: Path, output: Path, steps: int, *flags: str, **variables: str) -> subprocess.Popen[str]:
    """Start `jnst grid`, with these flags and environment variables besides."""
    line = [sys.executable, "-m", "jnst", "grid", "--contents", str(folder / "contents"), "--steps", str(steps), *FLAGS]
    line += ["--styles", str(folder / "styles"), "-o", str(output), "--no-sheet", *flags]
    environment = os.environ | {
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    environment |= variables
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the command, and return what it printed on standard error."""
    _, err = process.communicate(timeout=PATIENCE)
    if process.returncode:
        raise AssertionError(err)
    return err


def wait_for_images(output: Path, count: int, process: subprocess.Popen[str]) -> bool:
    """Wait until so many images are made; return False if the command ended before."""
    end = time.monotonic() + PATIENCE
    while made(output).total() < count:
        if process.poll() is not None:
            return False
        if time.monotonic() > end:
            raise AssertionError(f"{count} images were not made within {PATIENCE} s")
        time.sleep(0.01)
    return process.poll() is None


def images(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("*.png")}


def made(output: Path) -> Counter[str]:
    """How often each image was made, according to the complete lines of the journal."""
    path = output / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return Counter(json.loads(line)["file"] for line in lines if line.endswith(b"\n"))


def faults(output: Path, expected: dict[str, bytes]) -> list[str]:
    """What is wrong with a finished catalogue."""
    index = json.loads((output / "index.json").read_text())
    checks = {
        "an image is missing or differs": images(output) == expected,
        "an image was made twice": set(made(output).values()) == {1} and len(made(output)) == len(expected),
        "the index is incomplete": index["counts"] == {"done": len(expected), "failed": 0, "missing": 0},
    }
    return [fault for fault, passed in checks.items() if not passed]


@contextlib.contextmanager
def simulated_cluster() -> Iterator[Any]:
    """A head without CPUs and several machines with one CPU each, all on this machine."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


def lose_node(folder: Path, output: Path, steps: int, count: int, cluster: Any, nodes: list[Any]) -> bool:
    """Remove a machine when ``count`` images are made, and let the command finish; return whether it was in time."""
    process = start(folder, output, steps, "--ray", cluster.address, "--cpus-per-task", "1")
    in_time = wait_for_images(output, count, process)
    if in_time:
        cluster.remove_node(nodes.pop(0), allow_graceful=False)
    said = finish(process)
    return in_time and "a worker was lost" in said


def kill_command(folder: Path, output: Path, steps: int, count: int, cluster: Any) -> bool:
    """Kill the command when ``count`` images are made, and run it again; return whether it was in time."""
    process = start(folder, output, steps, "--ray", cluster.address, "--cpus-per-task", "1")
    in_time = wait_for_images(output, count, process)
    process.kill()
    process.communicate()
    finish(start(folder, output, steps, "--ray", cluster.address, "--cpus-per-task", "1"))
    return in_time


def failures(steps: int) -> dict[str, Any]:
    """How the command ends, and how many images are done, if an input is damaged or deadly, or a signal arrives."""
    found: dict[str, Any] = {}

    def end(name: str, process: subprocess.Popen[str], output: Path) -> None:
        process.communicate(timeout=PATIENCE)
        index = json.loads((output / "index.json").read_text())
        errors = Counter(job["error"] for job in index["jobs"] if job["error"])
        found[name] = {"status": process.returncode, **index["counts"], "errors": errors}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder)
        for number in (signal.SIGINT, signal.SIGTERM):
            process = start(folder, folder / "stopped", steps, "--force", "--ray", "--cpus-per-task", "1")
            wait_for_images(folder / "stopped", made(folder / "stopped").total() + 3, process)
            process.send_signal(number)
            end(signal.Signals(number).name, process, folder / "stopped")
        (folder / "contents" / "damaged.png").write_bytes((folder / "contents" / "0.png").read_bytes()[:100])
        end("damaged", start(folder, folder / "out", steps, "--ray", "--cpus-per-task", "1"), folder / "out")
        (folder / "contents" / "damaged.png").rename(folder / "contents" / "deadly.png")
        (folder / "contents" / "deadly.png").write_bytes((folder / "contents" / "0.png").read_bytes())
        (folder / "sitecustomize.py").write_text(DEADLY)
        path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
        process = start(folder, folder / "out", steps, "--ray", "--cpus-per-task", "1", PYTHONPATH=path)
        end("deadly", process, folder / "out")
    return found


def rounds(count: int, steps: int, seed: int, *, kills: bool = True) -> dict[str, Any]:
    """Lose a machine so often and, unless told otherwise, kill the command so often."""
    generator, in_time, found = random.Random(seed), list[bool](), list[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder)
        finish(start(folder, folder / "whole", steps))
        expected = images(folder / "whole")
        with simulated_cluster() as cluster:
            nodes = [cluster.add_node(num_cpus=1) for _ in range(NODES)]
            for number in range(count):
                output, moment = folder / f"lost {number}", generator.randrange(1, len(expected))
                in_time.append(lose_node(folder, output, steps, moment, cluster, nodes))
                found += [f"{output.name}: {fault}" for fault in faults(output, expected)]
                nodes.append(cluster.add_node(num_cpus=1))
                if kills:
                    output, moment = folder / f"killed {number}", generator.randrange(1, len(expected))
                    in_time.append(kill_command(folder, output, steps, moment, cluster))
                    found += [f"{output.name}: {fault}" for fault in faults(output, expected)]
    return {"images": len(expected), "rounds": count, "trials": len(in_time), "in time": sum(in_time), "faults": found}


def main() -> None:
    """Run the full count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    result = rounds(args.rounds, args.steps, args.seed) if args.rounds else {}
    print(json.dumps(result | failures(args.steps), indent=1))


if __name__ == "__main__":
    main()
