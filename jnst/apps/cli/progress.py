"""What a run shows and writes while it is under way."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

import rich.console
import rich.progress

from jnst.errors import ArgumentError
from jnst.solve.run import Report

Listener = Callable[[Report], None]
LINES = 20
"""About how many lines a whole run prints where there is no terminal."""


@contextlib.contextmanager
def progress() -> Iterator[Listener]:
    """Show a bar on a terminal, plain lines elsewhere; on standard error, so that output can be piped."""
    console = rich.console.Console(stderr=True)
    if not console.is_terminal:
        yield _print_lines(time.perf_counter())
        return
    columns = (
        rich.progress.TextColumn("{task.completed:>5.0f}/{task.total:.0f}"),
        rich.progress.BarColumn(),
        rich.progress.TextColumn("loss {task.fields[loss]}"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None, loss="…")

        def show(report: Report) -> None:
            done = report.first + len(report.total) - 1
            bar.update(task, total=report.num_steps, completed=done, loss=f"{report.total[-1]:.5g}")

        yield show


def _print_lines(begun: float) -> Listener:
    def show(report: Report) -> None:
        done = report.first + len(report.total) - 1
        every = max(1, report.num_steps // LINES)
        if report.first == 1 or done == report.num_steps or done // every > (report.first - 1) // every:
            seconds = time.perf_counter() - begun
            print(f"step {done}/{report.num_steps}  loss {report.total[-1]:.5g}  {seconds:.1f} s", file=sys.stderr)

    return show


class Jobs(NamedTuple):
    """Who is told of many jobs' progress.

    Attributes:
        ended: Called when a job ended, with a line about it.
        under_way: Called with how many of the jobs under way are done: a fraction of their number.
    """

    ended: Callable[[str], None]
    under_way: Callable[[float], None]


@contextlib.contextmanager
def jobs_progress(total: int) -> Iterator[Jobs]:
    """Show one bar over all jobs on a terminal, a plain line for each elsewhere; on standard error.

    Args:
        total: How many jobs there are.
    """
    console, begun, done = rich.console.Console(stderr=True), time.perf_counter(), 0
    columns = (
        rich.progress.TextColumn("{task.fields[ended]}/{task.total:.0f}"),
        rich.progress.BarColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(elapsed_when_finished=False),
    )
    with rich.progress.Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, ended=0)

        def ended(line: str) -> None:
            nonlocal done
            done += 1
            bar.update(task, completed=done, ended=done)
            if console.is_terminal:
                bar.console.print(line, highlight=False, markup=False)
                return
            seconds = time.perf_counter() - begun
            left = f", about {seconds / done * (total - done):.0f} s left" if done < total else ""
            print(f"{done}/{total}  {line}{left}", file=sys.stderr, flush=True)

        def under_way(jobs: float) -> None:
            bar.update(task, completed=min(total, done + jobs))

        yield Jobs(ended, under_way)


@contextlib.contextmanager
def log(path: str | os.PathLike[str] | None) -> Iterator[Listener]:
    """Write one JSON line a step: step, total, each weighted part, seconds since the run began.

    Raises:
        ArgumentError: The file cannot be opened.
    """
    if path is None:
        yield lambda report: None
        return
    try:
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ArgumentError(
            f"--log {os.fspath(path)}: {error.strerror}: choose a file in a folder that can be written"
        ) from None
    with file:
        yield lambda report: _write(file, report)


def _write(file: IO[str], report: Report) -> None:
    for i, total in enumerate(report.total):
        line = {"step": report.first + i, "total": float(total), "tv": 0.0}
        line |= {name: float(values[i]) for name, values in report.parts.items()}
        line |= {"seconds": round(report.seconds, 4)}
        file.write(json.dumps(line) + "\n")
    file.flush()
