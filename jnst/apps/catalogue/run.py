"""Carrying out a catalogue: images are read, jobs done block by block, every result written and noted as it ends."""

import dataclasses
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax

from jnst.apps.catalogue.blocks import Block, Task
from jnst.apps.catalogue.digest import file_hash
from jnst.apps.catalogue.entries import Entry
from jnst.apps.catalogue.journal import Journal, Record
from jnst.apps.catalogue.part import Setup
from jnst.apps.catalogue.reader import Reader
from jnst.apps.io import save_image
from jnst.apps.io.readings import result_size
from jnst.errors import ImageError, JnstError, ResourceError
from jnst.transfer.batches import Outcome, carry_out_many
from jnst.transfer.fitting import TargetStore
from jnst.transfer.jobs import check_images, stylize_job
from jnst.transfer.lanes import Callback, Report
from jnst.transfer.plan import Job


class Watch(NamedTuple):
    """Who looks on.

    Attributes:
        record: Called with every record after it is written.
        report: Called with the numbers of jobs under way, in jobs, between their steps.
        stop: Whether to end: as soon as the steps under way are made.
    """

    record: Callable[[Record], None]
    report: Callable[[float], None]
    stop: Callable[[], bool]


def carry_out_blocks(
    blocks: Sequence[Block], digests: Mapping[str, str], setup: Setup, journal: Journal, watch: Watch
) -> int:
    """Do all tasks. What cannot be read, and what stops being finite, is noted; the rest is done.

    Args:
        blocks: The tasks to do.
        digests: Of each, by the names of their files.
        setup: What they have in common.
        journal: Where the end of each is noted.
        watch: Who looks on.

    Returns:
        How many programs made the steps: one for each size of image, network, kind of loss and optimiser.

    Raises:
        ResourceError: Memory or disk space ran out. What is done by then is written and noted.
    """
    reader, store = Reader(setup.fit), TargetStore()
    programs: set[Hashable] = set()

    def note(record: Record) -> None:
        journal.write(record)
        watch.record(record)

    for block in blocks:
        ready: list[tuple[Task, Job]] = []
        for task in block:
            if watch.stop():
                return len(programs)
            try:
                ready.append((task, _job(task, reader, setup)))
            except JnstError as error:
                _raise_if_it_ends_all(error)
                note(_failure(task.entry, digests[task.entry.file], error))
        for task, job, ending in _endings(ready, setup, store, watch):
            if isinstance(ending, JnstError):
                note(_failure(task.entry, digests[task.entry.file], ending))
                continue
            programs.update(_programs(job))
            note(_saved(task.entry, digests[task.entry.file], ending, setup))
    return len(programs)


def _raise_if_it_ends_all(error: JnstError) -> None:
    if isinstance(error, ResourceError):
        raise error


def _job(task: Task, reader: Reader, setup: Setup) -> Job:
    if task.fault:
        raise ImageError(task.fault)
    content, *styles = (reader(source) for source in task.sources)
    settings, size = task.settings, result_size(task.settings)
    if size is None:  # the styles were read at their scale
        settings = dataclasses.replace(settings, style_scale=1.0)
    key = jax.random.key(task.entry.seed)
    return stylize_job(check_images(content, styles), settings, setup.backbone, key=key, size=size)


def _endings(
    ready: Sequence[tuple[Task, Job]], setup: Setup, store: TargetStore, watch: Watch
) -> Iterator[tuple[Task, Job, Outcome | JnstError]]:
    """Each job's end. One that cannot begin fails by itself: the others are done without it."""
    left = dict(enumerate(ready))
    try:
        jobs, listen = [job for _, job in ready], _listener(watch)
        for outcome in carry_out_many(
            jobs, setup.params, width=setup.width, mesh=setup.mesh, store=store, callback=listen
        ):
            if outcome.stopped:
                return
            yield *left.pop(outcome.number), outcome
    except JnstError as error:
        _raise_if_it_ends_all(error)
        if len(ready) == 1:
            yield *ready[0], error
            return
        for one in left.values():
            if not watch.stop():
                yield from _endings([one], setup, store, watch)


def _listener(watch: Watch) -> Callback:
    def listen(report: Report) -> bool:
        made = report.first + report.total.shape[-1] - 1
        watch.report(len(report.lanes) * made / max(1, report.num_steps))
        return watch.stop()

    return listen


def _programs(job: Job) -> Iterator[Hashable]:
    for scale in job.plan.scales:
        yield scale.shape, scale.method, jax.tree.structure(scale.objective)


def _failure(entry: Entry, digest: str, error: JnstError) -> Record:
    return dataclasses.replace(_blank(entry, digest), error=str(error), code=error.exit_code)


def _saved(entry: Entry, digest: str, outcome: Outcome, setup: Setup) -> Record:
    """Write the image, and say what there is to be said of it; of a loss that stopped being finite the last one."""
    solution, error = outcome.solution, outcome.error
    record = dataclasses.replace(
        _blank(entry, digest),
        error=None if error is None else str(error),
        code=0 if error is None else error.exit_code,
        steps=len(solution.losses),
        losses=[_number(solution.losses[place]) for place in ((0, -1) if len(solution.losses) else ())],
        parts={name: _number(values[-1]) for name, values in solution.parts.items() if len(values)},
        seconds=round(outcome.seconds, 3),
    )
    if error is not None and len(solution.losses) < 2:
        return record
    path = setup.folder / entry.file
    save_image(path, solution.image, quality=setup.quality)
    height, width = solution.image.shape[:2]
    return dataclasses.replace(
        record, bytes=path.stat().st_size, sha256=file_hash(path), width=width, height=height, time=time.time()
    )


def _blank(entry: Entry, digest: str) -> Record:
    return Record(
        file=entry.file,
        digest=digest,
        content=str(entry.content),
        styles=[str(path) for path in entry.styles],
        changes=dict(entry.changes),
        seed=entry.seed,
        time=time.time(),
    )


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
