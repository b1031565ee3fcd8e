"""The work of a catalogue: tasks are planned from the headers of image files, grouped, and carried out in blocks."""

import contextlib
import dataclasses
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jnst.apps.catalogue.digest import job_digest
from jnst.apps.catalogue.entries import Entry
from jnst.apps.catalogue.journal import Record
from jnst.apps.io import check_output, encode_image
from jnst.apps.io.load import image_size
from jnst.apps.io.sizes import LoadOptions, as_loaded, load_options, load_with, loaded_shape, result_size
from jnst.backbones import Backbone
from jnst.errors import ImageError, JnstError, NumericsError
from jnst.images import FITS, fit_shape
from jnst.presets import Preset, preset
from jnst.solve import Solution
from jnst.solve.devices import local_mesh
from jnst.transfer import Report
from jnst.transfer.batches import solve_jobs
from jnst.transfer.inputs import check_inputs
from jnst.transfer.memory import reports_exhaustion
from jnst.transfer.plan import Job, make_job
from jnst.transfer.target_store import TargetStore
from jnst.types import Image, Params
from jnst.weights.files import write_atomically

MAX_BYTES = 2**30
"""For the images of one block, and for the images that a worker keeps."""

MAX_JOBS = 64
"""The most jobs in a block: as many as run at once on an accelerator."""

MAX_PROGRAMS = 32
"""After compiling so many programs, a worker drops all of them: each takes megabytes, and hundreds of memory maps, of
which a process may have some 65,000."""

PIXEL_BYTES = 12

Size = tuple[int, int]
"""Height and width in pixels."""


class Setup(NamedTuple):
    """What all jobs of a catalogue have in common.

    Attributes:
        backbone: The network.
        params: Its parameters.
        network: Their hash, from `jnst.apps.catalogue.digest.network_digest`.
        fit: How contents are brought to one shape: a key of `jnst.images.FITS`, or "keep" for none.
        frame: Height and width of the file whose proportions all contents get; None with "keep".
        quality: For JPEG and WebP, 1 to 100.
        batch_size: How many images each device makes at once; None: as many as fit into its memory.
    """

    backbone: Backbone
    params: Params
    network: str
    fit: str
    frame: Size | None
    quality: int
    batch_size: int | None = None


def digest_of(entry: Entry, settings: Preset, setup: Setup, hashes: Callable[[Path], str]) -> str:
    """The hash of everything that an image depends on; empty if one of the files cannot be read.

    Args:
        entry: The image.
        settings: The settings, with the entry's changes.
        setup: What all jobs have in common.
        hashes: Returns the hash of a file's content, as `jnst.apps.catalogue.digest.file_hash`.
    """
    lossy = entry.file.lower().endswith((".jpg", ".jpeg", ".webp"))
    writing = {"fit": setup.fit, "frame": setup.frame, "quality": setup.quality if lossy else None}
    try:
        content, *styles = (hashes(path) for path in (entry.content, *entry.styles))
    except OSError:
        return ""
    return job_digest(content, styles, settings, entry.seed, setup.network, writing)


class Sizes:
    """The sizes of image files; each header is read once."""

    def __init__(self) -> None:
        self._known: dict[Path, Size | ImageError] = {}

    def __call__(self, path: Path) -> Size:
        """Return height and width. Raises the errors of `jnst.apps.io.load.image_size`."""
        if path not in self._known:
            try:
                self._known[path] = image_size(path)
            except ImageError as error:
                self._known[path] = error
        known = self._known[path]
        if isinstance(known, ImageError):
            raise known
        return known


def first_size(paths: Iterable[Path], sizes: Callable[[Path], Size]) -> Size | None:
    """The size of the first file that is an image; None if none is."""
    for path in paths:
        with contextlib.suppress(ImageError):
            return sizes(path)
    return None


class Source(NamedTuple):
    """An image to read.

    Attributes:
        path: The file.
        options: How it is loaded.
        shape: Height and width that it is cropped or resized to afterwards; None: unchanged.
        bytes: The memory it takes.
    """

    path: Path
    options: LoadOptions
    shape: Size | None
    bytes: int


class Task(NamedTuple):
    """An entry, and what is known about it before any image is decoded.

    Attributes:
        entry: What to make.
        digest: From `digest_of`.
        settings: The settings, with the entry's changes.
        sources: The content, then the styles; empty if a header cannot be read.
        fault: Why it cannot be read; empty otherwise.
        program: Equal for tasks that probably share compiled programs: same size and steps, same kind of optimiser.
    """

    entry: Entry
    digest: str
    settings: Preset
    sources: tuple[Source, ...]
    fault: str
    program: Hashable


Block = tuple[Task, ...]

Result = tuple[Record, bytes | None]
"""What became of a task, and the content of the image's file, if there is one."""


def make_task(
    entry: Entry, digest: str, settings: Preset, sizes: Callable[[Path], Size], frame: Size | None = None
) -> Task:
    """Plan the work for an entry.

    Args:
        entry: What to make.
        digest: From `digest_of`.
        settings: The settings, with the entry's changes.
        sizes: Returns a file's height and width.
        frame: Height and width of the file whose proportions contents get; None: they keep their own.
    """
    try:
        content = _source(entry.content, settings, 1.0, sizes, frame)
        styles = [_source(path, settings, settings.schedule.style_scale, sizes, None) for path in entry.styles]
    except ImageError as error:
        return Task(entry, digest, settings, (), str(error), None)
    shape, size = content.shape or loaded_shape(sizes(entry.content), content.options), result_size(settings)
    shape = shape if size is None else fit_shape(shape, size)
    # A learning rate is an argument of the compiled program: jobs that differ in it alone share the program.
    program = (shape, settings.schedule.num_steps, preset(settings, learning_rate=1.0).solver)
    return Task(entry, digest, settings, (content, *styles), "", program)


def _source(path: Path, settings: Preset, scale: float, sizes: Callable[[Path], Size], frame: Size | None) -> Source:
    own = sizes(path)
    options = load_options(path, settings, scale, lambda _: own)
    if frame is None:
        return Source(path, options, None, PIXEL_BYTES * math.prod(loaded_shape(own, options)))
    target = loaded_shape(frame, load_options(path, settings, scale, lambda _: frame))
    # Large enough that cropping or stretching does not enlarge anything.
    side = math.ceil(max(own) * max(target[0] / own[0], target[1] / own[1]))
    options = options._replace(size=side)
    return Source(path, options, target, PIXEL_BYTES * max(math.prod(loaded_shape(own, options)), math.prod(target)))


def make_blocks(tasks: Sequence[Task], max_bytes: int = MAX_BYTES, max_jobs: int = MAX_JOBS) -> list[Block]:
    """Sort tasks so that neighbours share programs and contents, and cut them into blocks of one program each.

    Args:
        tasks: What is to be done.
        max_bytes: For a block's images, each counted once; a task that needs more is a block of its own.
        max_jobs: The most tasks in a block.
    """
    programs = {program: place for place, program in enumerate(dict.fromkeys(task.program for task in tasks))}
    contents = {path: place for place, path in enumerate(dict.fromkeys(task.entry.content for task in tasks))}

    def place(task: Task) -> tuple[bool, int, int]:
        return not task.sources, programs[task.program], contents[task.entry.content]

    return list(_cut(sorted(tasks, key=place), max_bytes, max_jobs))


def _cut(tasks: Sequence[Task], max_bytes: int, max_jobs: int) -> Iterator[Block]:
    block: list[Task] = []
    held: set[Source] = set()
    for task in tasks:
        together = held.union(task.sources)
        full = len(block) == max_jobs or sum(source.bytes for source in together) > max_bytes
        if block and (full or task.program != block[0].program):
            yield tuple(block)
            block, together = [], set(task.sources)
        block.append(task)
        held = together
    if block:
        yield tuple(block)


class Reader:
    """Reads images and keeps the most recently used; returns the same array again, by which targets are recognised.

    Args:
        fit: How contents are brought to their shape: a key of `jnst.images.FITS`.
        max_bytes: For the images kept; the last one is kept in any case.

    Attributes:
        reads: How many files were decoded.
    """

    def __init__(self, fit: str, max_bytes: int = MAX_BYTES) -> None:
        self.reads = 0
        self._fit, self._max_bytes = fit, max_bytes
        self._kept: OrderedDict[Source, Image] = OrderedDict()
        self._damaged: dict[Source, str] = {}

    def __call__(self, source: Source) -> Image:
        """Return the image, ``(h, w, 3)`` in [0, 1].

        Raises:
            ImageError: As for `jnst.load_image`; a damaged file is not read again.
        """
        if source in self._damaged:
            raise ImageError(self._damaged[source])
        if source not in self._kept:
            self._kept[source] = self._read(source)
        self._kept.move_to_end(source)
        while len(self._kept) > 1 and sum(image.nbytes for image in self._kept.values()) > self._max_bytes:
            self._kept.popitem(last=False)
        return self._kept[source]

    def _read(self, source: Source) -> Image:
        self.reads += 1
        try:
            image = load_with(source.path, source.options)
        except ImageError as error:
            self._damaged[source] = str(error)
            raise
        return image if source.shape is None else FITS[self._fit](image, source.shape)


class Watch(NamedTuple):
    """What the worker tells, and asks, while jobs run.

    Attributes:
        progress: Called between steps with the share of the running jobs that is done, in jobs.
        stop: Returns whether to stop before the next steps.
    """

    progress: Callable[[float], None]
    stop: Callable[[], bool]


SILENT = Watch(lambda jobs: None, lambda: False)


class Worker:
    """Carries out tasks. It keeps images, targets and compiled programs for the tasks that follow.

    Args:
        setup: What all jobs have in common.

    Attributes:
        programs: How many programs made the steps so far: one for each image size, network, loss and optimiser.
    """

    def __init__(self, setup: Setup) -> None:
        self.programs = 0
        self._setup, self._reader, self._store = setup, Reader(setup.fit), TargetStore()
        # Once, because targets are kept together with the parameters that they were computed with.
        self._params = setup.backbone.prepare(jax.tree.map(jnp.asarray, setup.params))
        self._compiled: set[Hashable] = set()
        # On a CPU a single image keeps all threads busy.
        several = len(jax.local_devices()) > 1 and jax.default_backend() != "cpu"
        self._mesh = local_mesh() if several else None

    def run(self, tasks: Sequence[Task], watch: Watch = SILENT) -> Iterator[Result]:
        """Carry out tasks, those of one structure together, and yield what became of each, in any order.

        A task fails if a file cannot be read, the loss stops being finite, or memory is too small for it. This is
        recorded, and the other tasks are done.
        """
        ready: list[tuple[Task, Job]] = []
        for task in tasks:
            if watch.stop():
                return
            try:
                ready.append((task, self._job(task)))
            except JnstError as error:
                yield failure(task, error), None
        for record, image in self._solve(ready, watch):
            yield (record, None) if image is None else _encoded(record, image, self._setup.quality)
        if len(self._compiled) >= MAX_PROGRAMS:
            self._compiled.clear()
            jax.clear_caches()

    @reports_exhaustion
    def _job(self, task: Task) -> Job:
        if task.fault:
            raise ImageError(task.fault)
        content, *styles = (self._reader(source) for source in task.sources)
        settings, size = as_loaded(task.settings)
        key = jax.random.key(task.entry.seed)
        return make_job(check_inputs(content, styles), settings, self._setup.backbone, key=key, size=size)

    def _solve(self, ready: Sequence[tuple[Task, Job]], watch: Watch) -> Iterator[tuple[Record, np.ndarray | None]]:
        """If a batch raises an error, its jobs are tried one by one."""
        remaining, stopped, begun = dict(enumerate(ready)), False, time.perf_counter()

        def listen(report: Report) -> bool:
            nonlocal stopped
            watch.progress(len(report.runs) * report.last / max(1, report.num_steps))
            stopped = watch.stop()
            return stopped

        jobs = [job for _, job in ready]
        # Targets on a mesh belong to copies of the parameters that are made anew for each call.
        store = self._store if self._mesh is None else None
        try:
            for numbers, solution in solve_jobs(
                jobs, self._params, width=self._setup.batch_size, mesh=self._mesh, store=store, callback=listen
            ):
                seconds, begun = time.perf_counter() - begun, time.perf_counter()
                for place, number in enumerate(numbers):
                    task, job = remaining.pop(number)
                    made = int(solution.num_steps[place])
                    if stopped and solution.error(place) is None and made < sum(job.plan.num_steps):
                        continue
                    self._count(job)
                    yield _outcome(task, solution, place, seconds)
                if stopped:
                    return
        except JnstError as error:
            if len(ready) == 1:
                yield failure(ready[0][0], error), None
                return
            for one in remaining.values():
                if not watch.stop():
                    yield from self._solve([one], watch)

    def _count(self, job: Job) -> None:
        for scale in job.plan.scales:
            program = job.plan.backbone, scale.shape, jax.tree.structure((scale.solver, scale.objective))
            if program not in self._compiled:
                self._compiled.add(program)
                self.programs += 1


def failure(task: Task, error: JnstError) -> Record:
    """The record of a task that made no image."""
    return dataclasses.replace(_blank(task), error=str(error), code=error.exit_code)


def _outcome(task: Task, solution: Solution, place: int, seconds: float) -> tuple[Record, np.ndarray | None]:
    """The record and the image of one run of a batch; no image if not even the first loss was finite."""
    error, steps = solution.error(place), int(solution.num_steps[place])
    losses = solution.losses[place][:steps]
    record = dataclasses.replace(
        _blank(task),
        error=error,
        code=0 if error is None else NumericsError.exit_code,
        warning=solution.warning(place) if error is None else None,
        steps=steps,
        losses=[_finite(losses[0]), _finite(losses[-1])] if steps else [],
        parts={name: _finite(values[place][steps - 1]) for name, values in solution.parts.items()} if steps else {},
        seconds=round(seconds, 3),
    )
    return record, None if error is not None and steps < 2 else np.asarray(solution.image)[place]


def _blank(task: Task) -> Record:
    entry = task.entry
    return Record(
        file=entry.file,
        digest=task.digest,
        content=str(entry.content),
        styles=[str(path) for path in entry.styles],
        changes=dict(entry.changes),
        seed=entry.seed,
        time=time.time(),
    )


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _encoded(record: Record, image: np.ndarray, quality: int) -> Result:
    """Encode an image, and add the facts about its file to the record."""
    try:
        data = encode_image(record.file, image, quality=quality)
    except JnstError as error:
        return dataclasses.replace(record, error=str(error), code=error.exit_code), None
    height, width = image.shape[:2]
    digest, now = hashlib.sha256(data).hexdigest(), time.time()
    return dataclasses.replace(record, bytes=len(data), sha256=digest, width=width, height=height, time=now), data


def save_result(result: Result, folder: Path, note: Callable[[Record], None]) -> None:
    """Write an image's file, if there is one, and note what became of the task.

    Raises:
        ResourceError: The disk is full.
        ArgumentError: The file cannot be written for another reason.
    """
    record, data = result
    if data is not None:
        check_output(folder / record.file, force=True)
        write_atomically(folder / record.file, data)
    note(record)


def run_blocks(
    blocks: Sequence[Block], setup: Setup, folder: Path, note: Callable[[Record], None], watch: Watch
) -> int:
    """Carry out blocks in this process, write every image, and note what became of each task.

    Returns:
        How many programs made the steps.

    Raises:
        ResourceError: The disk is full, so that no other image could be written either. What was done before is written
            and noted.
    """
    worker = Worker(setup)
    for block in blocks:
        for result in worker.run(block, watch):
            save_result(result, folder, note)
    return worker.programs
