"""What a run shows and logs while it goes on."""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import rich.console
import rich.progress

from jnst.errors import ArgumentError
from jnst.transfer import Compiling, Report

LINES = 20
"""About how many lines a whole run prints if standard error is no terminal."""

Log = Callable[[int, np.ndarray, Mapping[str, np.ndarray], np.ndarray | float], None]
"""``log(first, losses, parts, seconds)``: write the steps from number ``first`` on."""


class Progress(NamedTuple):
    """How to show the progress of one run.

    Attributes:
        report: Call it with every report.
        compiling: Call it before the run waits for a program.
    """

    report: Callable[[Report], None]
    compiling: Callable[[Compiling], None]


def describe(compiling: Compiling) -> str:
    """What a run waits for, in words: "compiling 256x171, size 3 of 5"."""
    height, width = compiling.shape
    which = f", size {compiling.scale + 1} of {compiling.num_scales}" if compiling.num_scales > 1 else ""
    return f"compiling {width}x{height}{which}"


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Show a progress bar on a terminal, or print lines, on standard error."""
    console = rich.console.Console(stderr=True)
    if not console.is_terminal:
        yield Progress(_line_printer(), lambda compiling: print(describe(compiling), file=sys.stderr))
        return
    columns = (
        rich.progress.TextColumn("{task.completed:>5.0f}/{task.total:.0f}"),
        rich.progress.BarColumn(),
        rich.progress.TextColumn("{task.fields[state]}"),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None, state="")

        def report(report: Report) -> None:
            loss = f"loss {report.losses[-1]:.5g}"
            bar.update(task, total=report.num_steps, completed=report.last, state=loss)

        yield Progress(report, lambda compiling: bar.update(task, state=describe(compiling)))


@contextlib.contextmanager
def remarks() -> Iterator[None]:
    """Print what the library logs, such as that tiles are used, on standard error."""
    logger, handler = logging.getLogger("jnst"), logging.StreamHandler()
    level = logger.level
    handler.setFormatter(logging.Formatter("jnst: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _line_printer() -> Callable[[Report], None]:
    begun = time.perf_counter()

    def show(report: Report) -> None:
        every = max(1, report.num_steps // LINES)
        is_due = report.last // every > (report.first - 1) // every
        if is_due or report.first == 1 or report.last == report.num_steps:
            seconds = time.perf_counter() - begun
            print(
                f"step {report.last}/{report.num_steps}  loss {report.losses[-1]:.5g}  {seconds:.1f} s", file=sys.stderr
            )

    return show


@contextlib.contextmanager
def training_progress(
    *columns: rich.progress.ProgressColumn, **fields: Any
) -> Iterator[tuple[Callable[..., None], Callable[[str], None]]]:
    """Show a progress bar on a terminal, and print lines, to standard error.

    Args:
        columns: What stands in front of the bar.
        fields: ``total`` and further fields of the task, as for `rich.progress.Progress.add_task`.

    Yields:
        A function that updates the task's fields, such as ``completed``, and one that prints a line above the bar.
    """
    console = rich.console.Console(stderr=True)
    times = (
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(
        *columns, rich.progress.BarColumn(), *times, console=console, disable=not console.is_terminal
    ) as bar:

        def print_line(line: str) -> None:
            if console.is_terminal:
                bar.console.print(line, highlight=False)
            else:
                print(line, file=sys.stderr, flush=True)

        yield partial(bar.update, bar.add_task("", **fields)), print_line


class Jobs(NamedTuple):
    """How to report the progress of many jobs.

    Attributes:
        ended: Call it when a job has ended, with a line about it.
        under_way: Call it with how many of the current jobs are done, as a fraction of their number.
    """

    ended: Callable[[str], None]
    under_way: Callable[[float], None]


@contextlib.contextmanager
def jobs_progress(total: int) -> Iterator[Jobs]:
    """Show a progress bar over all jobs on a terminal, or print a line for each, on standard error.

    Args:
        total: The number of jobs.
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
def open_log(path: str | os.PathLike[str] | None) -> Iterator[Log]:
    """Open a log with one JSON line per step: its number, the total, each weighted term, and the seconds so far.

    Args:
        path: The file; None for no log.

    Raises:
        ArgumentError: The file cannot be opened.
    """
    if path is None:
        yield lambda first, losses, parts, seconds: None
        return
    try:
        file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ArgumentError(
            f"--log {os.fspath(path)} cannot be written ({error.strerror}): choose a file in a writable folder"
        ) from None

    def write(first: int, losses: np.ndarray, parts: Mapping[str, np.ndarray], seconds: np.ndarray | float) -> None:
        for index, time_so_far in enumerate(np.broadcast_to(seconds, losses.shape)):
            line = {"step": first + index, "total": float(losses[index]), "tv": 0.0}
            line |= {name: float(values[index]) for name, values in parts.items()}
            file.write(json.dumps(line | {"seconds": round(float(time_so_far), 4)}) + "\n")
        file.flush()

    with file:
        yield write
