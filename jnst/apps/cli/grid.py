"""`jnst grid`: catalogues, every content in every style."""

import contextlib
import dataclasses
import functools
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import tyro

import jnst
from jnst.apps.catalogue.digest import file_hash, network_digest, settings_json
from jnst.apps.catalogue.entries import Entry, check_inputs, collect, make_folder, product, read_manifest
from jnst.apps.catalogue.journal import INDEX, Journal, Record, is_done, make_index, read_journal, same_jobs, save_index
from jnst.apps.catalogue.ray_workers import cluster, plan_resources, run_blocks_on_ray
from jnst.apps.catalogue.sheets import save_sheets
from jnst.apps.catalogue.sweeps import Changes, apply_changes, parse_sweeps, value_text
from jnst.apps.catalogue.work import (
    Setup,
    Sizes,
    Task,
    Watch,
    digest_of,
    first_size,
    make_blocks,
    make_task,
    run_blocks,
)
from jnst.apps.cli.arguments import Count, Number, Text, optional
from jnst.apps.cli.flags import SettingsFlags, remark
from jnst.apps.cli.interruption import interruptible
from jnst.apps.cli.outputs import ReportFlag
from jnst.apps.cli.progress import jobs_progress
from jnst.apps.cli.startup import choose_device
from jnst.errors import ArgumentError, JnstError
from jnst.images import KEEP_COLOUR
from jnst.presets import Preset, preset
from jnst.weights.files import shown

MANY = 200
"""From this many images on, a message says that the contact sheets are being drawn."""

Files = Annotated[tuple[Path, ...], optional("DIR|FILE [FILE ...]")]
Settings = Callable[[Changes], Preset]
"""Returns the checked settings of a catalogue with an entry's changes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridInputs:
    """Flags for the inputs and the output folder."""

    contents: Files = ()
    """Content images: files, or folders of them."""
    styles: Files = ()
    """Style images: files, or folders of them."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")]
    """Folder for the images, index.json, and contact sheets."""
    sweep: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="NAME=A,B,...")] = ()
    """Setting to vary (size, seed, steps, style_weight ...), with its values. All combinations of sweeps are made."""
    manifest: Annotated[Path | None, optional("FILE.jsonl")] = None
    """List of images to make: one JSON object per line, with content, style, output (optional), and any setting."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid(ReportFlag, SettingsFlags, GridInputs):
    """Make every content in every style: a folder of images with an index and contact sheets.

    Run the same command again to continue after an interruption, or to add images: only what is missing is made.
    `jnst grid --preset NAME --help` shows a preset's values; flags override the preset.
    """

    init: Literal["content", "style", "noise"] = "content"
    """Image to start from."""
    keep_color: Annotated[Text, tyro.conf.arg(metavar=f"{{auto,{','.join(KEEP_COLOUR)}}}")] = None
    """Keep the colours of the contents. auto: the preset's (most do not keep them)."""
    fit: Literal["keep", "crop", "resize"] = "keep"
    """Keep the contents' proportions (each shape compiles a program), or crop or stretch them to those of the first."""
    batch_size: Count = None
    """Number of images that each device makes at once. auto: as many as fit into its memory; 1 on CPUs."""
    format: Literal["png", "jpg", "webp"] = "png"
    """Format of the images."""
    quality: int = 95
    """Quality of JPEG and WebP, from 1 to 100."""
    sheet: bool = True
    """Write contact sheets."""
    force: bool = False
    """Make all images again."""

    ray: Annotated[tuple[str, ...] | None, optional("[HOST:PORT]")] = None
    """Distribute the images among Ray workers, on this machine or on a cluster with access to the same files."""
    gpus_per_task: Number = None
    """GPUs for each worker: 0.5 lets two share one, 0 leaves them unused. auto: 1 if the cluster has GPUs."""
    cpus_per_task: Number = None
    """CPUs for each worker. auto: 1 with a GPU, otherwise all CPUs of a machine."""

    @classmethod
    def own_defaults(cls, settings: Preset) -> dict[str, Any]:
        """See `SettingsFlags`."""
        return {"init": settings.schedule.init, "keep_color": settings.keep_color}

    def settings(self) -> Preset:
        """See `SettingsFlags`."""
        return preset(super().settings(), init=self.init, keep_color=self.keep_color)

    def choose_device(self) -> None:
        """See `SettingsFlags`. With Ray the workers compute, and this process must not take a GPU's memory."""
        if self.ray is None:
            super().choose_device()
        else:
            jax.config.update("jax_platforms", "cpu")

    def run(self) -> int:
        """Make what is missing, and write the index and the contact sheets."""
        begun = time.perf_counter()
        self._check_flags()
        base = self.settings()
        backbone, params = self.network(base)
        settings = functools.cache(functools.partial(self._changed, base, backbone))
        entries = self._entries(settings)
        check_inputs(entries, self.output)
        self.check_report(path for entry in entries for path in (entry.content, *entry.styles))
        make_folder(self.output)
        remark(base, self.preset, backbone)
        sizes = Sizes()
        frame = None if self.fit == "keep" else first_size([entry.content for entry in entries], sizes)
        setup = Setup(
            backbone, params, network_digest(backbone, params), self.fit, frame, self.quality, self.batch_size
        )
        hashes = functools.cache(file_hash)
        digests = {entry.file: digest_of(entry, settings(entry.changes), setup, hashes) for entry in entries}
        records = read_journal(self.output)
        missing = [
            make_task(entry, digests[entry.file], settings(entry.changes), sizes, frame)
            for entry in entries
            if self.force or not is_done(records.get(entry.file), digests[entry.file], self.output)
        ]
        summary = self._make(missing, setup)
        interrupted = bool(summary.signal_number)
        about = self._about(setup, base, summary.programs)
        records = {
            file: record for file, record in read_journal(self.output).items() if digests.get(file) == record.digest
        }
        written = self._write(entries, records, about, sheet=self.sheet and not interrupted)
        self.save_catalogue_report(self.output)
        print(_last_line(self.output, summary, len(entries) - len(missing), written, time.perf_counter() - begun))
        return 128 + summary.signal_number if interrupted else summary.code

    def _check_flags(self) -> None:
        if self.manifest is not None and (self.contents or self.styles or self.sweep):
            raise ArgumentError("--manifest replaces --contents, --styles and --sweep: give one or the other")
        if self.manifest is None and not (self.contents and self.styles):
            raise ArgumentError("--contents and --styles name images or folders of them: give both, or --manifest FILE")
        if self.batch_size is not None and self.batch_size < 1:
            raise ArgumentError(f"--batch-size {self.batch_size}: expected at least 1")
        if not 1 <= self.quality <= 100:
            raise ArgumentError(f"--quality {self.quality}: expected a whole number from 1 to 100")
        if self.ray is not None and len(self.ray) > 1:
            raise ArgumentError(f"--ray {' '.join(self.ray)}: expected one address, or none")
        for flag, value in (("--gpus-per-task", self.gpus_per_task), ("--cpus-per-task", self.cpus_per_task)):
            if value is not None and self.ray is None:
                raise ArgumentError(f"{flag} is for workers of a Ray cluster: add --ray, or leave it out")
        gpus = self.gpus_per_task
        if gpus is not None and not (0 <= gpus < 1 or (gpus < math.inf and gpus == int(gpus) > 0)):
            raise ArgumentError(f"--gpus-per-task {gpus:g}: expected a whole number, or a part of 1")
        if self.gpus_per_task == 0 and self.device == "gpu":
            raise ArgumentError("--gpus-per-task 0 leaves no GPU for --device gpu: leave one of them out")
        if self.cpus_per_task is not None and not 0 < self.cpus_per_task < math.inf:
            raise ArgumentError(f"--cpus-per-task {self.cpus_per_task:g}: expected more than 0")
        folder = self.output.resolve()
        for flag, paths in (("--contents", self.contents), ("--styles", self.styles)):
            if any(path.is_dir() and path.resolve() == folder for path in paths):
                raise ArgumentError(f"the output folder {shown(self.output)} is also in {flag}: name another")

    def _changed(self, base: Preset, backbone: jnst.Backbone, changes: Changes) -> Preset:
        if self.style_statistic is not None and "style_statistic" in dict(changes):
            raise ArgumentError("style_statistic varies, so leave --style-statistic out")
        return apply_changes(base, changes, backbone)

    def _entries(self, settings: Settings) -> list[Entry]:
        """The catalogue's entries; the settings of all are checked."""
        settings(())
        if self.manifest is not None:
            return read_manifest(self.manifest, self.seed, f".{self.format}", settings)
        contents, others = collect(self.contents, "--contents")
        styles, more = collect(self.styles, "--styles")
        for path in (*others, *more):
            print(f"jnst: skipped {shown(path)}: its name is not that of an image", file=sys.stderr)
        entries = product(contents, styles, parse_sweeps(self.sweep), self.seed, f".{self.format}")
        for changes in dict.fromkeys(entry.changes for entry in entries):
            try:
                settings(changes)
            except JnstError as error:
                values = ", ".join(f"{name}={value_text(value)}" for name, value in changes)
                raise type(error)(f"--sweep {values}: {error}") from None
        return entries

    def _make(self, tasks: list[Task], setup: Setup) -> "Summary":
        """Carry out what is missing, in this process or on a Ray cluster."""
        ended: list[Record] = []
        blocks = make_blocks(tasks)
        with contextlib.ExitStack() as stack:
            on_ray: Any = None
            if self.ray is not None and blocks:
                ray = stack.enter_context(cluster(*self.ray or (None,)))
                no_gpus = 0.0 if self.device == "cpu" else None
                gpus = no_gpus if self.gpus_per_task is None else self.gpus_per_task
                resources = plan_resources(ray, gpus, self.cpus_per_task)
                device = "cpu" if self.gpus_per_task == 0 and self.device == "auto" else self.device
                prepare = functools.partial(choose_device, device, self.deterministic)
                on_ray = functools.partial(run_blocks_on_ray, ray, resources=resources, prepare=prepare)
            interruption = stack.enter_context(interruptible())
            journal = stack.enter_context(Journal(self.output))
            progress = stack.enter_context(jobs_progress(len(tasks)))

            def note(record: Record) -> None:
                journal.write(record)
                ended.append(record)
                progress.ended(_line(record))

            def stop() -> bool:
                return bool(interruption.signal_number)

            if on_ray is not None:
                programs = on_ray(blocks, setup, self.output, note=note, stop=stop)
            else:
                programs = run_blocks(blocks, setup, self.output, note, Watch(progress.under_way, stop))
        failed = [record for record in ended if record.error is not None]
        code = max((record.code for record in failed), default=0)
        return Summary(len(ended) - len(failed), len(failed), code, programs, interruption.signal_number)

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
        """Write the index and the contact sheets, unless they are up to date; return the names of the files."""
        index = make_index(about, entries, records)
        if same_jobs(self.output, index) and (not sheet or any(self.output.glob("sheet*.jpg"))):
            return []
        save_index(self.output, index)
        if not sheet:
            return [INDEX]
        if len(entries) > MANY:
            print("jnst: drawing the contact sheets", file=sys.stderr)
        network = "{name} ({training})".format(**about["backbone"])
        note = f"preset {self.preset}, network {network}, {self.size} pixels"
        sheets, omitted = save_sheets(self.output, entries, records, note)
        if omitted:
            print(f"jnst: {omitted} images are on no contact sheet, because there would be too many", file=sys.stderr)
        return [INDEX, *sheets]


class Summary(NamedTuple):
    """What a command did: jobs done and failed, the exit status of the failures, the programs compiled, the signal."""

    done: int
    failed: int
    code: int
    programs: int
    signal_number: int


def _line(record: Record) -> str:
    if record.error is not None:
        return f"{record.file}: failed: {record.error}"
    losses = (
        "" if None in record.losses or not record.losses else f"  loss {record.losses[0]:.5g} to {record.losses[1]:.5g}"
    )
    warning = f"  ({record.warning})" if record.warning else ""
    return f"{record.file}{losses}  {record.seconds:.1f} s{warning}"


def _last_line(folder: Path, summary: Summary, skipped: int, written: list[str], seconds: float) -> str:
    parts = [f"{summary.done} done"]
    parts += [f"{skipped} skipped (done before)"] if skipped else []
    parts += [f"{summary.failed} failed"] if summary.failed else []
    parts += [f"{summary.programs} program{'' if summary.programs == 1 else 's'} compiled", f"{seconds:.1f} s"]
    files = f"; {', '.join(written)} written" if written else ""
    stopped = "; stopped before the end: run the same command again to continue" if summary.signal_number else ""
    return f"{folder}: {', '.join(parts)}{files}{stopped}"
