"""`--checkpoint` and `--resume`: a run keeps its state in a file, and continues from it."""

import contextlib
import dataclasses
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from jnst.apps.animate import passes
from jnst.apps.checkpoint import differences, is_there, load_state, previous_of, save_state
from jnst.apps.cli.arguments import optional
from jnst.apps.cli.outputs import OutputFlags, check_distinct, check_outputs, stopped_line
from jnst.errors import ArgumentError, JnstError
from jnst.presets import Schedule
from jnst.solve import Solution, State
from jnst.solve.driver import copied
from jnst.solve.saved import SavedState
from jnst.transfer import Report
from jnst.types import Image
from jnst.weights.files import shown

SECONDS = 30.0
"""Time between two checkpoints, unless a number of steps is given."""
SHARE = 0.05
"""The most of a run's time that checkpoints may take, and so may copies for the last resort."""
MAX_COPY = 1 << 30
"""The largest state, in bytes, that is copied for the last resort."""


class Records:
    """The losses, their parts, the seconds and the sizes of all steps so far, in arrays that can be saved."""

    def __init__(self) -> None:
        self._columns: dict[str, list[np.ndarray]] = {}

    @classmethod
    def load(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """Restore what `arrays` returned.

        Raises:
            ArgumentError: The arrays are not those of a run.
        """
        shapes = {array.shape for array in arrays.values()}
        if arrays and (not {"total", "seconds", "scale"} <= set(arrays) or len(shapes) > 1 or len(*shapes) != 1):
            raise ArgumentError("the checkpoint contains no losses: expected one that the command jnst wrote")
        records = cls()
        records._columns = {name: [np.asarray(array)] for name, array in arrays.items()}
        return records

    def add(self, report: Report) -> None:
        """Add the steps of a report."""
        columns = {"total": report.losses} | {f"parts/{name}": values for name, values in report.parts.items()}
        columns |= {
            "seconds": np.full(len(report.losses), report.seconds),
            "scale": np.full(len(report.losses), report.scale, np.int32),
        }
        for name, values in columns.items():
            self._columns.setdefault(name, []).append(values)

    def arrays(self) -> dict[str, np.ndarray]:
        """All columns by name, each ``(n,)``."""
        # What comes later is then appended to one array instead of thousands.
        self._columns = {name: [np.concatenate(values)] for name, values in self._columns.items()}
        return {name: values for name, (values,) in self._columns.items()}

    @property
    def losses(self) -> np.ndarray:
        """The total at each step, ``(n,)``."""
        return self.arrays().get("total", np.zeros(0, np.float32))

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """Its weighted parts by name, each ``(n,)``."""
        return {
            name.removeprefix("parts/"): array for name, array in self.arrays().items() if name.startswith("parts/")
        }

    @property
    def seconds(self) -> np.ndarray:
        """The time since the run began at each step, ``(n,)``."""
        return self.arrays().get("seconds", np.zeros(0))

    def differences(self, schedule: Schedule) -> list[str]:
        """How the steps that were made differ from those of a schedule, in words. Steps may be missing at the end."""
        scales = self.arrays().get("scale", np.zeros(0, np.int32))
        last = int(scales[-1]) if len(scales) else 0
        made = np.bincount(scales, minlength=last + 1)
        return [
            f"steps at size {index + 1} were {made[index]}, are now {wanted}"
            for index, wanted in enumerate(schedule.steps(last + 1))
            if made[index] > wanted or (made[index] < wanted and index < last)
        ]


class _Snapshot(NamedTuple):
    """A copy of what a run has reached.

    Attributes:
        step: The number of the last step.
        image: The image, ``(h, w, 3)``.
        state: The state, or None if it is too large or not needed.
    """

    step: int
    image: np.ndarray
    state: State | None


class Keeper:
    """Keeps the losses of a run, and its state in a file. Another thread may call `last_resort`.

    Args:
        path: The file; None for no checkpoints.
        every: The number of steps between two checkpoints; None: see `SECONDS`.
        about: What must be the same when the run continues.
        save_image: Writes an image that is not yet the result.
        found: The checkpoint to continue from.

    Attributes:
        state: The checkpoint to continue from, or None.
        records: The losses of all steps, those before that checkpoint included.
        compile_seconds: How long this process has waited for compilation and targets.
    """

    def __init__(
        self,
        path: Path | None,
        every: int | None,
        about: Mapping[str, Any],
        save_image: Callable[[Image], None],
        found: SavedState | None = None,
    ) -> None:
        self.state, self.compile_seconds = found, 0.0
        self.records, self._before = (Records.load({} if found is None else found.records) for _ in range(2))
        self._path, self._every, self._about, self._save_image = path, every, about, save_image
        self._seconds = float(self._before.seconds[-1]) if len(self._before.seconds) else 0.0
        self._lock, self._ended = threading.RLock(), False
        self._report: Report | None = None
        self._snapshot: _Snapshot | None = None
        self._next_snapshot, self._next_save = 0.0, time.monotonic() + SECONDS

    def listen(self, report: Report) -> Report:
        """Record the steps of a report, and save the state if it is time.

        Returns:
            The report, with the seconds of the whole run.
        """
        with self._lock:
            report = dataclasses.replace(report, seconds=self._seconds + report.seconds)
            self.records.add(report)
            self.compile_seconds = report.compile_seconds
            self._report = report
            self._take_snapshot(report)
            if self._path is not None and report.last < report.num_steps and self._is_due(report):
                assert report.state is not None
                self._try_to_save(report.state)
        return report

    def whole(self, solution: Solution) -> Solution:
        """The solution with the steps before the checkpoint included."""
        before = self._before.parts
        return dataclasses.replace(
            solution,
            losses=np.concatenate([self._before.losses, solution.losses]),
            num_steps=len(self._before.losses) + solution.num_steps,
            parts={
                name: np.concatenate([side[name] for side in (before, solution.parts) if name in side])
                for name in {**before, **solution.parts}
            },
        )

    def end(self, save_image: Callable[[], None], solution: Solution | None) -> None:
        """Save the state and the result. Afterwards the last resort does nothing.

        Args:
            save_image: Writes the result.
            solution: The run; None to leave the checkpoint as it is.

        Raises:
            ArgumentError: A file cannot be written.
            ResourceError: The disk is full.
        """
        with self._lock:
            self._ended = True
            # Whichever of the two fails, the other is not lost.
            try:
                if solution is not None and self._path is not None:
                    self._save(solution.state)
            finally:
                save_image()

    def last_resort(self) -> None:
        """Save the last image and the last state of a run that does not respond."""
        with self._lock:
            if self._ended or self._report is None:
                return
            self._ended = True
            report, snapshot = self._report, self._snapshot
            assert snapshot is not None
            image, candidates = snapshot.image, [(snapshot.step, snapshot.state)]
            # While the next size is compiled, the last report is still valid. A step takes the buffers of its state.
            with contextlib.suppress(RuntimeError, ValueError):
                if not any(leaf.is_deleted() for leaf in jax.tree.leaves(report.state)):
                    image = np.asarray(report.image)
                    candidates.insert(0, (report.last, report.state))
            self._save_image(jnp.asarray(image))
            if self._path is not None:
                self._save_first_valid(self._path, candidates)

    def _save_first_valid(self, path: Path, candidates: Sequence[tuple[int, State | None]]) -> None:
        for step, state in candidates:
            if state is None:
                continue
            try:
                self._save(state, step)
            except JnstError as error:
                print(f"jnst: no checkpoint: {error}", file=sys.stderr)
                return
            except (RuntimeError, ValueError):  # The next step has begun in the meantime.
                continue
            print(stopped_line(path), file=sys.stderr)
            return
        reason = "a step takes long, and the state is large"
        print(f"jnst: checkpoint {shown(path)} was not updated: {reason}", file=sys.stderr)

    def _is_due(self, report: Report) -> bool:
        return time.monotonic() >= self._next_save if self._every is None else passes(report, self._every)

    def _try_to_save(self, state: State) -> None:
        """Save the state. A checkpoint that cannot be written does not end the run."""
        begun = time.monotonic()
        try:
            self._save(state)
        except JnstError as error:
            print(f"jnst: no checkpoint: {error}", file=sys.stderr)
        now = time.monotonic()
        self._next_save = now + max(SECONDS, (now - begun) / SHARE)

    def _save(self, state: Any, step: int | None = None) -> None:
        assert self._path is not None
        records = {name: array[:step] for name, array in self.records.arrays().items()}
        save_state(self._path, state, about=self._about, records=records)

    def _take_snapshot(self, report: Report) -> None:
        """Copy the image, and the state if it is not too large, as often as `SHARE` allows."""
        begun = time.monotonic()
        if begun < self._next_snapshot:
            return
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(report.state))
        state = copied(report.state) if self._path is not None and size <= MAX_COPY else None
        self._snapshot = _Snapshot(report.last, np.asarray(report.image), jax.block_until_ready(state))
        now = time.monotonic()
        self._next_snapshot = now + (now - begun) / SHARE


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointFlags(OutputFlags):
    """Flags for keeping the state of a run."""

    checkpoint: Annotated[Path | None, optional("FILE")] = None
    """Keep the state of the run in this file, and the one before in FILE.previous: 10 to 600 MB each at 512 pixels."""
    checkpoint_every: Annotated[int | None, optional("N")] = None
    """Save the state every N steps. By default about every 30 seconds, less often if it is large."""
    resume: bool = False
    """Continue from the checkpoint, to the same image as without an interruption; start if there is none yet."""

    def check_checkpoint(self, others: Sequence[Path]) -> None:
        """Fail before the run if its state could not or must not be saved.

        Args:
            others: The files that are read or written otherwise.

        Raises:
            ArgumentError: It could not, or another flag is missing or wrong.
        """
        every, path = self.checkpoint_every, self.checkpoint
        if path is None:
            for flag, given in (("--resume", self.resume), ("--checkpoint-every", every is not None)):
                if given:
                    raise ArgumentError(f"{flag} without --checkpoint: expected a file; add --checkpoint FILE")
            return
        if every is not None and every < 1:
            raise ArgumentError(f"--checkpoint-every {every}: expected a number of steps, at least 1")
        check_distinct("--checkpoint", path, others)
        check_distinct("--checkpoint", previous_of(path), others)
        check_outputs({"--checkpoint": path}, resume=self.resume, force=self.force)
        if is_there(path) and not (path.exists() or self.resume or self.force):
            raise ArgumentError(
                f"--checkpoint {path}: there is {previous_of(path).name}: --resume from it, or --force to overwrite it"
            )

    def keeper(self, about: Callable[[], Mapping[str, Any]], schedule: Schedule) -> Keeper:
        """Load the checkpoint if the run is to continue.

        Args:
            about: Returns JSON values by name. Those of ``run`` must be the same when the run continues.
            schedule: Of the run.

        Raises:
            ArgumentError: The checkpoint cannot be read, or belongs to another run: the message names the differences.
        """
        path = self.checkpoint
        if path is None:
            return Keeper(None, None, {}, self.save_image)
        known, found = dict(about()), None
        if self.resume and not is_there(path):
            print(f"jnst: no checkpoint {shown(path)} yet: starting", file=sys.stderr)
        elif self.resume:
            found = _load(path)
            _check_same(path, found, known, schedule)
        return Keeper(path, self.checkpoint_every, known, self.save_image, found)


def _load(path: Path) -> SavedState:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load_state(path)
    for warning in caught:
        print(f"jnst: {warning.message}", file=sys.stderr)
    return found


def _check_same(path: Path, found: SavedState, about: Mapping[str, Any], schedule: Schedule) -> None:
    records = Records.load(found.records)
    different = differences(found.about.get("run", {}), about["run"]) + records.differences(schedule)
    if different:
        raise ArgumentError(
            f"checkpoint {shown(path)} belongs to another run ({'; '.join(different)}): use the same images and flags, "
            "or start again with --force or another file"
        )
    print(f"jnst: continuing from {shown(path)} after step {len(records.losses)}", file=sys.stderr)
