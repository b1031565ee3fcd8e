"""Two processes that share a catalogue, one of which is killed at a random moment.

``python tests/reliability/lost_process.py --rounds 10`` prints what came of it, as JSON: how long the other lived
on, what was done by then, and whether the command, run again, did the rest and nothing else.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[1] / "hosts"))

from members import UNOPTIMISED, Process, environment, free_port, started  # pyright: ignore[reportMissingImports]

START = "import sys; from jnst.apps.cli import main; sys.exit(main())"
FLAGS = (
    "--size",
    "24",
    "--optimizer",
    "adam",
    "--no-sheet",
    "--content-layers",
    "relu1_1",
    "--style-layers",
    "relu1_1",
)
CONTENTS, STYLES = 4, 3
HEARTBEAT = 4
PATIENCE = 300.0
"""Seconds that a whole run may take where the machine is busy."""


def make_inputs(folder: Path) -> None:
    """Images of one size, so that there is one program."""
    generator = np.random.default_rng(0)
    for name, count in (("contents", CONTENTS), ("styles", STYLES)):
        (folder / name).mkdir()
        for number in range(count):
            coarse = Image.fromarray(generator.integers(0, 256, (6, 8, 3), np.uint8))
            coarse.resize((24, 18)).save(folder / name / f"{number}.png")


def commands(folder: Path, output: Path, count: int, steps: int) -> list[list[str]]:
    line = [sys.executable, "-c", START, "grid", "--contents", str(folder / "contents"), *FLAGS, "--steps", str(steps)]
    line += ["--styles", str(folder / "styles"), "-o", str(output)]
    if count == 1:
        return [line]
    line += ["--distributed", "--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", str(count)]
    return [[*line, "--heartbeat", str(HEARTBEAT), "--process-id", str(rank)] for rank in range(count)]


def run(folder: Path, output: Path, count: int, steps: int) -> float:
    """Let so many processes do all; seconds between the first sign of the output and the end."""
    lines = commands(folder, output, count, steps)
    with started(lines, [environment(**UNOPTIMISED)] * count) as processes:
        wait_for(output, processes)
        begun = time.monotonic()
        for process in processes:
            _, err = process.communicate(timeout=PATIENCE)
            if process.returncode:
                raise AssertionError(err)
        return time.monotonic() - begun


def wait_for(path: Path, processes: list[Process]) -> None:
    ends = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > ends or any(process.poll() for process in processes):
            raise AssertionError([process.communicate(timeout=1)[1] for process in processes if process.poll()])
        time.sleep(0.01)


def images(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("**/*.png")}


def journal(output: Path) -> Counter[str]:
    """How often each image was made, as far as whole lines say."""
    lines = [line for path in output.glob("journal*.jsonl") for line in path.read_bytes().splitlines(keepends=True)]
    return Counter(json.loads(line)["file"] for line in lines if line.strip() and line.endswith(b"\n"))


def lose_one(folder: Path, output: Path, steps: int, victim: int, delay: float) -> dict[str, Any] | None:
    """Kill one of two processes so long after they met, and wait for the other; None if the run was over by then."""
    lines = commands(folder, output, 2, steps)
    with started(lines, [environment(**UNOPTIMISED)] * 2) as processes:
        # The folder is made after all have met.
        wait_for(output, processes)
        time.sleep(delay)
        if any(process.poll() is not None for process in processes):
            return None
        processes[victim].kill()
        begun = time.monotonic()
        try:
            _, err = processes[1 - victim].communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            return {"victim": victim, "status": None, "seconds": PATIENCE}
        seconds = time.monotonic() - begun
    named = "heartbeat" in err or "coordination" in err.lower()
    status = processes[1 - victim].returncode
    return {"victim": victim, "status": status, "seconds": round(seconds, 2), "says why": named}


def rounds(count: int, steps: int, seed: int) -> dict[str, Any]:
    generator, said, faults = random.Random(seed), list[dict[str, Any]](), list[str]()
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        make_inputs(folder)
        seconds = run(folder, folder / "whole", 2, steps)
        expected = images(folder / "whole")
        while len(said) < count:
            output = folder / f"round {len(said)} {generator.random()}"
            what = lose_one(folder, output, steps, len(said) % 2, generator.uniform(0, 0.9 * seconds))
            if what is None:
                continue
            before = journal(output)
            run(folder, output, 1 + len(said) % 2, steps)
            after, made = journal(output), images(output)
            what["done before"] = before.total()
            checks = {
                "the other process lived on": what["status"] is not None,
                "no message": what["status"] == 0 or what.get("says why"),
                "an image is missing or another": made == expected,
                "made twice": set(after.values()) == {1} and len(after) == len(expected),
                "undone": before <= after,
            }
            faults += [f"{fault}: {what}" for fault, well in checks.items() if not well]
            said.append(what)
    return {"images": len(expected), "heartbeat": HEARTBEAT, "rounds": said, "faults": faults}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(json.dumps(rounds(args.rounds, args.steps, args.seed), indent=1))


if __name__ == "__main__":
    main()
