"""Interrupt runs at random moments: while they start, compile, make steps and save.

``python tests/reliability/interrupts.py --rounds 20`` prints the results as JSON.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import runs
from runs import CHECKPOINT, OUTPUT

Flags = tuple[str | int, ...]

SECONDS = 300.0
"""After this time a run is considered to hang."""
FLAGS = ("--weights", "net.safetensors", "--content-layers", "relu2_1", "--style-layers", "relu1_1,relu2_1")
FLAGS += ("--size", runs.WIDTH, "--pyramid", "--checkpoint", CHECKPOINT, "--resume")
LONG = ("--min-size", 12, "--optimizer", "lbfgs-zoom", "--steps", 40)
"""Flags for four sizes, each with about as much time for compilation as for steps."""
SHORT = ("--min-size", 30, "--optimizer", "adam", "--steps", 20)
"""Flags for two sizes, which finish soon."""


def start(folder: Path, flags: Flags) -> "subprocess.Popen[str]":
    """Start or continue a run of the installed command."""
    words = [
        sys.executable,
        "-m",
        "jnst",
        "stylize",
        "content.png",
        "style.png",
        "-o",
        OUTPUT,
        *map(str, (*FLAGS, *flags)),
    ]
    # Every run compiles, so that compilation is interrupted as well.
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    return subprocess.Popen(
        words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def undisturbed(flags: Flags) -> tuple[str, float]:
    """The fingerprint of a run that is not interrupted, and its seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs.prepare(folder)
        begun = time.monotonic()
        process = start(folder, flags)
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, said
        return runs.fingerprint(folder, log=False), time.monotonic() - begun


def interrupt(folder: Path, flags: Flags, seconds: float, number: int) -> tuple[float, str, list[str]]:
    """Interrupt a run after some seconds.

    Returns:
        The seconds until it ended, what it was doing, and what is wrong.
    """
    old = (folder / OUTPUT).read_bytes()
    process = start(folder, flags)
    time.sleep(seconds)
    sent = time.monotonic()
    process.send_signal(number)
    try:
        _, said = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return SECONDS, "hanging", ["it did not end"]
    took = time.monotonic() - sent
    faults = runs.check_files(folder, interrupted=True)
    if process.returncode == 0:
        return took, "ended", faults
    stepped = any(line.startswith("step ") for line in said.splitlines())
    # While modules load, before `main`, Python shows its own traceback, and JAX's compiled modules may abort.
    is_loading = not stepped and "KeyboardInterrupt" in said and ", in main\n" not in said
    expected = (128 + number, -number, *[-signal.SIGABRT] * is_loading)
    if process.returncode not in expected:
        faults.append(f"status {process.returncode}: {said}")
    if "Traceback" in said and not is_loading:
        faults.append(said)
    if stepped and (folder / OUTPUT).read_bytes() == old:
        faults.append(f"steps were made, but no image was saved: {said}")
    if stepped and not (folder / CHECKPOINT).exists():
        faults.append(f"steps were made, but no state was saved: {said}")
    return took, "making steps" if stepped else "before the first step", faults


def rounds(count: int, flags: Flags, seed: int) -> dict[str, Any]:
    """Interrupt runs, let them continue and finish, and compare the results."""
    expected, whole = undisturbed(flags)
    generator, doing, times, faults, compared = random.Random(seed), Counter[str](), list[float](), list[str](), 0
    while len(times) < count:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            runs.prepare(folder)
            for _ in range(min(generator.randint(1, 4), count - len(times))):
                took, what, wrong = interrupt(folder, flags, generator.uniform(0.0, whole), signal.SIGINT)
                doing[what] += 1
                faults += wrong
                if what == "ended":
                    break
                times.append(took)
            process = start(folder, flags)
            _, said = process.communicate(timeout=SECONDS)
            compared += 1
            if process.returncode or runs.fingerprint(folder, log=False) != expected:
                faults.append(f"another result than without interruptions: {said}")
    return {
        "seconds of a run": round(whole, 1),
        "interruptions": len(times),
        "while": dict(doing),
        "seconds to the end": {
            "median": _share(times, 50),
            "95th percentile": _share(times, 95),
            "longest": max(times),
        },
        "results compared": compared,
        "faults": faults,
    }


def _share(times: list[float], percent: float) -> float:
    return round(float(np.percentile(times, percent)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="shorter runs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Shells let background jobs ignore it.
    print(json.dumps(rounds(args.rounds, SHORT if args.short else LONG, args.seed)))


if __name__ == "__main__":
    main()
