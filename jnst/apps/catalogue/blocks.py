"""Work cut into blocks: what belongs together is done together, and a block's images fit in memory."""

import contextlib
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jnst.apps.catalogue.entries import Entry
from jnst.apps.io.peek import image_size
from jnst.apps.io.readings import Reading, read_shape, reading, result_size
from jnst.errors import ImageError
from jnst.images import fit_shape
from jnst.presets import Preset

MOST_BYTES = 2**30
"""Of a block's images in memory."""

MOST_JOBS = 64
"""In a block: as many as run at once on an accelerator."""

PIXEL = 12
"""Bytes of a pixel: three float32."""

Size = tuple[int, int]
"""Height and width."""


class Sizes:
    """Sizes of image files, each header read once."""

    def __init__(self) -> None:
        self._known: dict[Path, Size | ImageError] = {}

    def __call__(self, path: Path) -> Size:
        """As `image_size`.

        Raises:
            ImageError: As `image_size`.
        """
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
        how: Arguments of `load_image`.
        shape: Height and width to which it is brought then; None: it stays as it is.
        bytes: What it takes in memory.
    """

    path: Path
    how: Reading
    shape: Size | None
    bytes: int


class Task(NamedTuple):
    """An entry, and what is known of its work before any image is decoded.

    Attributes:
        entry: What to make.
        settings: With the entry's changes put in.
        sources: The content, then the styles; empty if a header cannot be read.
        fault: Why it cannot; empty if all is well.
        program: What jobs have in common that are done together: equal for results of one size by one optimiser.
        cost: Steps times pixels.
    """

    entry: Entry
    settings: Preset
    sources: tuple[Source, ...]
    fault: str
    program: Hashable
    cost: float


Block = tuple[Task, ...]


def make_task(entry: Entry, settings: Preset, sizes: Callable[[Path], Size], frame: Size | None) -> Task:
    """See `Task`.

    Args:
        entry: What to make.
        settings: With the entry's changes put in.
        sizes: Gives a file's height and width.
        frame: Height and width of the file to whose proportions contents are brought; None: they keep their own.
    """
    try:
        content = _source(entry.content, settings, 1.0, sizes, frame)
        styles = [_source(path, settings, settings.style_scale, sizes, None) for path in entry.styles]
    except ImageError as error:
        return Task(entry, settings, (), str(error), None, 1.0)
    shape, size = content.shape or read_shape(sizes(entry.content), content.how), result_size(settings)
    shape = shape if size is None else fit_shape(shape, size)
    # A learning rate may be a constant of a program, so jobs of several are never put into one.
    program = (shape, settings.optimizer, settings.last_learning_rate, settings.num_steps)
    return Task(entry, settings, (content, *styles), "", program, float(math.prod(shape) * max(settings.num_steps)))


def _source(path: Path, settings: Preset, scale: float, sizes: Callable[[Path], Size], frame: Size | None) -> Source:
    own = sizes(path)
    how = reading(path, settings, scale, lambda _: own)
    if frame is None:
        return Source(path, how, None, PIXEL * math.prod(read_shape(own, how)))
    like = reading(path, settings, scale, lambda _: frame)
    target = read_shape(frame, like)
    # Large enough that nothing is enlarged when it is cut or stretched.
    side = math.ceil(max(own) * max(target[0] / own[0], target[1] / own[1]))
    how = how._replace(size=side, enlarge=how.enlarge)
    return Source(path, how, target, PIXEL * max(math.prod(read_shape(own, how)), math.prod(target)))


def make_blocks(tasks: Sequence[Task], most_bytes: int = MOST_BYTES, most_jobs: int = MOST_JOBS) -> list[Block]:
    """Tasks in an order in which neighbours share programs and contents, cut where a block would grow too large.

    The blocks depend on the whole catalogue alone: not on what is done already, nor on who does it.

    Args:
        tasks: All of a catalogue's.
        most_bytes: Of a block's images, each counted once; a task that alone needs more is a block.
        most_jobs: In a block.
    """
    programs = {program: place for place, program in enumerate(dict.fromkeys(task.program for task in tasks))}
    contents = {path: place for place, path in enumerate(dict.fromkeys(task.entry.content for task in tasks))}

    def place(task: Task) -> tuple[bool, int, int]:
        return not task.sources, programs[task.program], contents[task.entry.content]

    return list(_cut(sorted(tasks, key=place), most_bytes, most_jobs))


def _cut(tasks: Sequence[Task], most_bytes: int, most_jobs: int) -> Iterator[Block]:
    block: list[Task] = []
    held: set[Source] = set()
    for task in tasks:
        together = held.union(task.sources)
        full = len(block) == most_jobs or sum(source.bytes for source in together) > most_bytes
        if block and (full or task.program != block[0].program):
            yield tuple(block)
            block, together = [], set(task.sources)
        block.append(task)
        held = together
    if block:
        yield tuple(block)


def share(blocks: Sequence[Block], rank: int, count: int) -> list[Block]:
    """What one of ``count`` processes does: neighbouring tasks, about as much work as the others'.

    Every task belongs to exactly one process, by its place alone. Blocks are cut where two processes meet.
    """
    whole = sum(task.cost for block in blocks for task in block)
    before, own = 0.0, []
    for block in blocks:
        kept = []
        for task in block:
            middle = before + task.cost / 2
            if min(int(count * middle / whole), count - 1) == rank:
                kept.append(task)
            before += task.cost
        if kept:
            own.append(tuple(kept))
    return own
