"""What all jobs of a catalogue share, and which of them one process has still to do."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from jax.sharding import Mesh

from jnst.apps.catalogue.blocks import Block, Task
from jnst.apps.catalogue.digest import FileHashes, job_digest
from jnst.apps.catalogue.journal import Record, is_done, read_journals
from jnst.backbones import Backbone
from jnst.types import Params


class Setup(NamedTuple):
    """What all jobs of a catalogue have in common.

    Attributes:
        folder: Where the images are written.
        backbone: The network.
        params: Its parameters.
        network: Their hash, from `jnst.apps.catalogue.digest.network_digest`.
        fit: How contents are brought to one shape: a key of `jnst.transfer.inputs.FITS`, or "keep".
        frame: Height and width of the file to whose proportions they are brought; None with "keep".
        quality: Of JPEG and WebP, 1 to 100.
        width: How many jobs run at once on each device; None chooses.
        mesh: The devices; None: the default one.
    """

    folder: Path
    backbone: Backbone
    params: Params
    network: str
    fit: str
    frame: tuple[int, int] | None
    quality: int
    width: int | None = None
    mesh: Mesh | None = None


class Part(NamedTuple):
    """One process' part of a catalogue.

    Attributes:
        missing: The tasks to do, in their blocks.
        digests: Of all its tasks, by the names of their files.
    """

    missing: list[Block]
    digests: Mapping[str, str]

    def records(self, folder: Path) -> dict[str, Record]:
        """The last record of every image file in a folder; of the part's own tasks only those that still hold."""
        records = read_journals(folder)
        return {
            file: record for file, record in records.items() if self.digests.get(file, record.digest) == record.digest
        }


def take_part(blocks: Sequence[Block], setup: Setup, force: bool) -> Part:
    """Find out what is done already: of the same inputs and settings, with the image as it was written.

    Args:
        blocks: The process' tasks.
        setup: What they have in common.
        force: Whether to do again what is done.

    Raises:
        OSError: A journal cannot be read.
    """
    hashes, before = FileHashes(), read_journals(setup.folder)
    digests = {task.entry.file: digest_of(task, setup, hashes) for block in blocks for task in block}

    def to_do(task: Task) -> bool:
        file = task.entry.file
        return force or not is_done(file, digests[file], before, setup.folder)

    return Part([tuple(filter(to_do, block)) for block in blocks], digests)


def digest_of(task: Task, setup: Setup, hashes: FileHashes) -> str:
    """The hash of all that a task's image depends on; empty if one of its files cannot be read."""
    entry = task.entry
    lossy = entry.file.endswith((".jpg", ".jpeg", ".webp"))
    writing = {"fit": setup.fit, "frame": setup.frame, "quality": setup.quality if lossy else None}
    try:
        content, *styles = (hashes(path) for path in (entry.content, *entry.styles))
    except OSError:
        return ""
    return job_digest(content, styles, task.settings, entry.seed, setup.network, writing)
