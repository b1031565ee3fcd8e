"""`jnst grid`: many images in one program."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import tyro

import jnst
from jnst.apps.catalogue.blocks import Block, Sizes, first_size, make_blocks, make_task, share
from jnst.apps.catalogue.changes import Settled, in_words, parse_sweeps
from jnst.apps.catalogue.digest import network_digest, settings_json
from jnst.apps.catalogue.entries import Entry, collect, product
from jnst.apps.catalogue.folder import check_inputs, make_folder
from jnst.apps.catalogue.index import NAME, make_index, same_jobs, save_index
from jnst.apps.catalogue.journal import Journal, Record
from jnst.apps.catalogue.manifest import read_manifest
from jnst.apps.catalogue.part import Part, Setup, take_part
from jnst.apps.catalogue.run import Watch, carry_out_blocks
from jnst.apps.catalogue.sheets import save_sheets
from jnst.apps.cli.arguments import Count, Text
from jnst.apps.cli.inputs import remark
from jnst.apps.cli.interruption import Interruption, interruptible
from jnst.apps.cli.progress import jobs_progress
from jnst.apps.cli.reporting import ReportFlag
from jnst.apps.cli.settings import SettingsFlags
from jnst.backbones import Backbone
from jnst.errors import ArgumentError, JnstError
from jnst.images.keep_colour import KEEP_COLOUR
from jnst.presets import Preset, preset
from jnst.solve.devices import local_mesh
from jnst.types import Params
from jnst.weights.files import shown

MANY = 200
"""So many images make one wait for their contact sheets."""

Files = Annotated[tuple[Path, ...], tyro.conf.arg(metavar="DIR|FILE [FILE ...]")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridInputs:
    """What stands first in the help."""

    contents: Files = ()
    """The images whose content is kept: files, or folders of them."""
    styles: Files = ()
    """The images whose style is taken: files, or folders of them."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")]
    """The folder to write to: an image for each job, index.json, and contact sheets."""
    sweep: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME=A,B,...")] = ()
    """A setting to go through (size, seed, steps, style_weight, style_statistic ...); of several, all combinations."""
    manifest: Annotated[Path | None, tyro.conf.arg(metavar="FILE.jsonl")] = None
    """A list of jobs in place of contents and styles, one JSON object a line: content, style, output, any setting."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid(ReportFlag, SettingsFlags, GridInputs):
    """Make every content in every style: a folder of images, an index and contact sheets.

    What is done already is not done again: an interrupted command goes on where it stopped. A preset sets all
    defaults, as for `jnst stylize`.
    """

    init: Literal["content", "style", "noise"] = "content"
    """Where to start."""
    keep_color: Annotated[Text, tyro.conf.arg(metavar=f"{{auto,{','.join(KEEP_COLOUR)}}}")] = None
    """Keep the contents' colours; auto: as the preset does (most do not)."""
    fit: Literal["keep", "crop", "resize"] = "keep"
    """Contents keep their proportions (a program for every shape), or are cropped or stretched to the first one's."""
    lanes: Count = None
    """How many images each device makes at once; auto: as many as its memory allows, on CPUs one."""
    format: Literal["png", "jpg", "webp"] = "png"
    """Of the images."""
    quality: int = 95
    """For JPEG and WebP, 1 to 100."""
    sheet: bool = True
    """Write contact sheets."""
    force: bool = False
    """Do again what is done."""

    distributed: bool = False
    """Share the work with other processes that run the same command (Slurm, Open MPI, TPU hosts, or as named below)."""
    coordinator: Annotated[Text, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Where process 0 is to be found; auto: as the cluster says."""
    num_processes: Count = None
    """How many processes there are; auto: as the cluster says."""
    process_id: Count = None
    """The number of this one, from 0; auto: as the cluster says."""
    heartbeat: Count = None
    """Seconds of silence after which a process counts as lost, and all others end; auto: 100."""

    @classmethod
    def own_defaults(cls, settings: Preset) -> dict[str, Any]:
        """See `SettingsFlags`."""
        return {"init": settings.init, "keep_color": settings.keep_color}

    def settings(self) -> Preset:
        """See `SettingsFlags`."""
        return preset(super().settings(), init=self.init, keep_color=self.keep_color)

    def run(self) -> int:
        """Do what is missing, and write index and sheets."""
        begun = time.perf_counter()
        self._check_flags()
        rank, count = self._connect()
        settings = self.settings()
        backbone, params = self.network(settings)
        settled = self._settled(settings, backbone)
        entries = self._entries(settled, say=rank == 0)
        check_inputs(entries, self.output)
        self.check_report(path for entry in entries for path in (entry.content, *entry.styles))
        make_folder(self.output)
        if rank == 0:
            remark(settings, self.preset, backbone)
        setup, blocks = self._plan(entries, settled, backbone, params)
        part = take_part(share(blocks, rank, count), setup, self.force)
        with interruptible() as interruption:
            summary = _carry_out(part, setup, rank, interruption)
        interrupted, written = bool(interruption.signal_number), list[str]()
        if count > 1 and not interrupted:
            from jnst.hosts import barrier

            barrier("all images made")
        if rank == 0 and not (count > 1 and interrupted):
            about = self._about(setup, settings, summary.programs)
            written = self._write(entries, part.records(self.output), about, sheet=self.sheet and not interrupted)
            self.save_catalogue_report(self.output)
        print(_last_line(self.output, summary, written, time.perf_counter() - begun, interrupted))
        return 128 + interruption.signal_number if interrupted else summary.code

    def _check_flags(self) -> None:
        if self.manifest is not None and (self.contents or self.styles or self.sweep):
            raise ArgumentError("--manifest with --contents, --styles or --sweep: a manifest names these itself, give one")
        if self.manifest is None and not (self.contents and self.styles):
            raise ArgumentError("--contents and --styles name images or folders of them: give both, or --manifest FILE")
        if self.lanes is not None and self.lanes < 1:
            raise ArgumentError(f"--lanes {self.lanes}: expected at least 1")
        if not 1 <= self.quality <= 100:
            raise ArgumentError(f"--quality {self.quality}: expected a whole number from 1 to 100")
        apart = (self.coordinator, self.num_processes, self.process_id, self.heartbeat)
        if not self.distributed and any(value is not None for value in apart):
            raise ArgumentError("--coordinator, --num-processes, --process-id, --heartbeat belong to --distributed: add it")
        if self.heartbeat is not None and self.heartbeat < 1:
            raise ArgumentError(f"--heartbeat {self.heartbeat}: expected at least 1 second")
        folder = self.output.resolve()
        for flag, paths in (("--contents", self.contents), ("--styles", self.styles)):
            if any(path.is_dir() and path.resolve() == folder for path in paths):
                raise ArgumentError(f"the output folder {shown(self.output)} is also in {flag}: name another")

    def _connect(self) -> tuple[int, int]:
        if not self.distributed:
            return 0, 1
        from jnst.hosts import HEARTBEAT_SECONDS, connect

        heartbeat = HEARTBEAT_SECONDS if self.heartbeat is None else self.heartbeat
        hosts = connect(self.coordinator, self.num_processes, self.process_id, heartbeat_seconds=heartbeat)
        return hosts.rank, hosts.count

    def _settled(self, settings: Preset, backbone: Backbone) -> Settled:
        """The settings under changes, checked without any."""
        fixed = {}
        if self.style_statistic is not None:
            fixed["style_statistic"] = "style_statistic varies, and --style-statistic gives one: leave that out"
        settled = Settled(settings, backbone, fixed)
        settled(())
        return settled

    def _entries(self, settled: Settled, say: bool) -> list[Entry]:
        if self.manifest is not None:
            return read_manifest(self.manifest, self.seed, f".{self.format}", settled)
        contents, left = collect(self.contents, "--contents")
        styles, also_left = collect(self.styles, "--styles")
        if say:
            for path in (*left, *also_left):
                print(f"jnst: left out: {shown(path)} does not have the name of an image", file=sys.stderr)
        entries = product(contents, styles, parse_sweeps(self.sweep), self.seed, f".{self.format}")
        for changes in dict.fromkeys(entry.changes for entry in entries):
            try:
                settled(changes)
            except JnstError as error:
                values = ", ".join(f"{name}={in_words(value)}" for name, value in changes)
                raise type(error)(f"--sweep {values}: {error}") from None
        return entries

    def _plan(
        self, entries: list[Entry], settled: Settled, backbone: Backbone, params: Params
    ) -> tuple[Setup, list[Block]]:
        sizes = Sizes()
        frame = None if self.fit == "keep" else first_size([entry.content for entry in entries], sizes)
        # On CPUs one image keeps all threads busy, and is the same whatever devices are pretended.
        several = len(jax.local_devices()) > 1 and jax.default_backend() != "cpu"
        mesh = local_mesh() if several else None
        network = network_digest(backbone, params)
        setup = Setup(self.output, backbone, params, network, self.fit, frame, self.quality, self.lanes, mesh)
        return setup, make_blocks([make_task(entry, settled(entry.changes), sizes, frame) for entry in entries])

    def _about(self, setup: Setup, settings: Preset, programs: int) -> dict[str, Any]:
        backbone = setup.backbone
        return {
            "jnst": jnst.__version__,
            "jax": jax.__version__,
            "backbone": {"name": backbone.name, "training": backbone.training, "sha256": setup.network},
            "preset": self.preset,
            "settings": settings_json(settings),
            "fit": self.fit,
            "programs": programs,
        }

    def _write(
        self, entries: list[Entry], records: dict[str, Record], about: dict[str, Any], *, sheet: bool
    ) -> list[str]:
        """Write index and sheets, unless those that are there say the same; the names of what was written."""
        index = make_index(about, entries, records)
        if same_jobs(self.output, index) and (not sheet or any(self.output.glob("sheet*.jpg"))):
            return []
        save_index(self.output, index)
        if not sheet:
            return [NAME]
        if len(entries) > MANY:
            print("jnst: drawing the contact sheets", file=sys.stderr)
        network = "{name} ({training})".format(**about["backbone"])
        note = f"preset {self.preset}, network {network}, {self.size} pixels"
        sheets, left = save_sheets(self.output, entries, records, note)
        if left:
            print(f"jnst: {left} images are on no contact sheet: there would be too many of them", file=sys.stderr)
        return [NAME, *sheets]


class Summary(NamedTuple):
    """What one process did: jobs done, skipped and failed, its exit status, and how many programs it compiled."""

    done: int
    skipped: int
    failed: int
    code: int
    programs: int


def _carry_out(part: Part, setup: Setup, rank: int, interruption: Interruption) -> Summary:
    ended: list[Record] = []
    total = sum(len(block) for block in part.missing)
    with Journal(setup.folder, rank) as journal, jobs_progress(total) as progress:

        def note(record: Record) -> None:
            ended.append(record)
            progress.ended(_line(record))

        watch = Watch(note, progress.under_way, lambda: bool(interruption.signal_number))
        programs = carry_out_blocks(part.missing, part.digests, setup, journal, watch)
    failed = [record for record in ended if record.error is not None]
    code = max((record.code for record in failed), default=0)
    return Summary(len(ended) - len(failed), len(part.digests) - total, len(failed), code, programs)


def _line(record: Record) -> str:
    if record.error is not None:
        return f"{record.file}: failed: {record.error}"
    losses = (
        "" if None in record.losses or not record.losses else f"  loss {record.losses[0]:.5g} to {record.losses[1]:.5g}"
    )
    return f"{record.file}{losses}  {record.seconds:.1f} s"


def _last_line(folder: Path, summary: Summary, written: list[str], seconds: float, interrupted: bool) -> str:
    said = [f"{summary.done} done"]
    said += [f"{summary.skipped} skipped (done before)"] if summary.skipped else []
    said += [f"{summary.failed} failed"] if summary.failed else []
    said += [f"{summary.programs} program{'' if summary.programs == 1 else 's'} compiled", f"{seconds:.1f} s"]
    also = f"; {', '.join(written)} written" if written else ""
    stopped = "; stopped before the end: the same command goes on from there" if interrupted else ""
    return f"{folder}: {', '.join(said)}{also}{stopped}"
