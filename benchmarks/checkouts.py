"""Compare the step of this checkout with that of another one, such as an earlier commit.

Each checkout runs in processes of its own. In every round, one process of each is started, and they make steps in
turns; the sample of a round is the median of its steps. New processes for every round average out what differs from
one process to the next, such as where its memory lies.
"""

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.machine import ROOT, describe_commit
from benchmarks.processes import child_environment
from benchmarks.samples import FLOAT32, check_losses, ratios, spread

CHILD = Path(__file__).parent / "children" / "timed_steps.py"
STEPS = 10
"""Timed calls in each round."""


def checkout(path: str) -> Path:
    """Parse the path of a checkout, as a type for `argparse`.

    Raises:
        argparse.ArgumentTypeError: It does not contain ``jnst/`` and ``benchmarks/``.
    """
    folder = Path(path)
    if not all((folder / name).is_dir() for name in ("jnst", "benchmarks")):
        raise argparse.ArgumentTypeError(f"{path}: expected a folder that contains jnst/ and benchmarks/")
    return folder


class TimedSteps:
    """A process that makes steps with the code of one checkout. It is a context manager.

    Args:
        checkout: A folder that contains ``jnst/`` and ``benchmarks/``.
        arguments: Of `benchmarks.children.timed_steps`.

    Attributes:
        losses: The losses of all steps so far, including the warm-up.

    Raises:
        RuntimeError: The process failed, or imported another jnst.
    """

    def __init__(self, checkout: Path, arguments: tuple[str, ...]) -> None:
        self._checkout = checkout.resolve()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(CHILD), *arguments],
            env=child_environment({"PYTHONPATH": str(self._checkout)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        ready = self._read()
        if not Path(ready["jnst"]).resolve().is_relative_to(self._checkout):
            self.__exit__(None, None, None)
            raise RuntimeError(f"the process for {checkout} imported {ready['jnst']}")
        self.losses: list[float] = ready["losses"]

    def advance(self) -> float:
        """Make one call of the peer's step, and return the seconds of a step."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        answer = self._read()
        self.losses += answer["losses"]
        return answer["seconds"]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            code = self._process.returncode
            raise RuntimeError(f"the process for {self._checkout} ended with {code}: see its error above")
        return json.loads(line)

    def __enter__(self) -> "TimedSteps":
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()


def measure(other: Path, peer: str, statistic: str, inputs: Path, *, rounds: int, steps: int = STEPS) -> dict[str, Any]:
    """Time the step of one peer in both checkouts.

    Args:
        other: The other checkout.
        peer: A key of `benchmarks.peers.PEERS`, in both checkouts.
        statistic: A key of `benchmarks.peers.STATISTICS`, in both checkouts.
        inputs: A file written by `benchmarks.networks.write_inputs`.
        rounds: Pairs of processes.
        steps: Timed calls in each round.

    Returns:
        The ``seconds`` of a step by checkout ("this", "other"), the ``ratios`` of this to the other, the ``losses`` of
        the last round, and the ``commits``.

    Raises:
        RuntimeError: A process failed, or the losses differ.
    """
    sides = {"this": ROOT, "other": other}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    losses: dict[str, list[float]] = {}
    for number in range(rounds):
        times, losses = run_round(sides, (peer, statistic, str(inputs)), steps, backwards=number % 2 == 1)
        check_losses(losses, dict.fromkeys(losses, FLOAT32))
        for name, samples in times.items():
            seconds[name].append(float(np.median(samples)))
        taken = ", ".join(f"{name} {samples[-1]:.4f} s" for name, samples in seconds.items())
        print(f"  round {number + 1} of {rounds}: {taken}", flush=True)
    return {
        "seconds": {name: spread(samples) for name, samples in seconds.items()},
        "ratios": {"this / other": ratios(seconds["this"], seconds["other"])},
        "losses": losses,
        "commits": {name: describe_commit(checkout) for name, checkout in sides.items()},
    }


def run_round(
    sides: Mapping[str, Path], arguments: tuple[str, ...], steps: int, *, backwards: bool
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Start a process for each checkout, and let them make steps in turns; returns the seconds and the losses."""
    names = [*sides][::-1] if backwards else [*sides]
    with contextlib.ExitStack() as stack:
        processes = {name: stack.enter_context(TimedSteps(sides[name], arguments)) for name in names}
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(steps):
            for name in reversed(names) if turn % 2 else names:
                seconds[name].append(processes[name].advance())
        return seconds, {name: processes[name].losses for name in sides}
