"""The flags with which a run is kept in a file on its way, and goes on from it; and who sees to that."""

import dataclasses
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from jnst.apps.animate import last_step, passes
from jnst.apps.checkpoint import SavedState, differences, is_there, load_state, previous_of, save_state
from jnst.apps.cli.outputs import check_outputs, stopped_line
from jnst.apps.cli.records import Records
from jnst.errors import ArgumentError, JnstError
from jnst.solve.run import Report, RunState, image
from jnst.transfer.coarse_to_fine import Solution
from jnst.types import Image
from jnst.weights.files import shown

SECONDS, SHARE = 30.0, 0.05
"""Between two checkpoints where no number of steps is given: so many seconds, and so many that writing them takes no
more than this share of the time."""
COPIED_PER_SECOND, MOST_COPIED, COPYING_SHARE = 1e9, 1 << 30, 0.1
"""What a copy of the state in memory costs, how large one may be, in bytes, and which share of the time it may take."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointFlags:
    """Flags of a command that makes one image."""

    checkpoint: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Keep the state of the run in this file, and the one before in FILE.previous: at 512 pixels about 10 MB with Adam,
    130 MB with L-BFGS that remembers 20 steps, 600 MB with 100."""
    checkpoint_every: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Keep it every N steps; if not given about every 30 seconds, more seldom where the file is large."""
    resume: bool = False
    """Go on from the checkpoint, to the same image as without a break; begin if there is none yet."""

    def check_checkpoint(self, others: Collection[Path], force: bool) -> None:
        """Fail before the run if its state could not, or must not, be written.

        Args:
            others: The files that are read, or written otherwise.
            force: Whether an existing checkpoint may be replaced.

        Raises:
            ArgumentError: It cannot, or another flag is missing or wrong.
        """
        every, path = self.checkpoint_every, self.checkpoint
        if path is None:
            for flag, given in (("--resume", self.resume), ("--checkpoint-every", every is not None)):
                if given:
                    raise ArgumentError(f"{flag} without --checkpoint: expected the file to keep; add --checkpoint FILE")
            return
        if every is not None and every < 1:
            raise ArgumentError(f"--checkpoint-every {every}: expected a number of steps, at least 1")
        if {path.resolve(), previous_of(path)} & {other.resolve() for other in others}:
            raise ArgumentError(f"--checkpoint {path} is also a file that is read or written otherwise: name another")
        check_outputs({"--checkpoint": path}, resume=self.resume, force=force)
        if is_there(path) and not (path.exists() or self.resume or force):
            raise ArgumentError(f"--checkpoint {path}: there is {previous_of(path).name}: --resume from it, or --force")

    def keeper(
        self,
        about: Callable[[], Mapping[str, Any]],
        num_steps: Sequence[int],
        save_image: Callable[[Image], None],
    ) -> "Keeper":
        """Who keeps what is known of the run.

        Args:
            about: Returns what must be the same in a run that goes on, JSON values by name.
            num_steps: At each size of the pyramid; the last number holds for all further ones.
            save_image: Writes an image as it is on its way, ``(h, w, 3)``.

        Raises:
            ArgumentError: The checkpoint is unreadable, or of another run: the message shows the difference.
        """
        path = self.checkpoint
        if path is None:
            return Keeper(None, None, {}, save_image)
        known = dict(about())
        found = None
        if self.resume and not is_there(path):
            print(f"jnst: no checkpoint {shown(path)} yet: beginning", file=sys.stderr)
        elif self.resume:
            found = _load(path)
            _check_same(path, found, known, num_steps)
        return Keeper(path, self.checkpoint_every, known, save_image, found)


@dataclasses.dataclass(frozen=True)
class _Known:
    """The last that was heard of a run.

    Attributes:
        report: The report; the next step takes the buffers of its state.
        copy: A copy of its state, or of what its image is made of alone.
        whole: Whether it is all of the state.
    """

    report: Report
    copy: RunState
    whole: bool


class Keeper:
    """Keeps a run's losses, and its state in a file; other threads may call `last_resort`.

    Args:
        path: The file; None: none is kept.
        every: So many steps lie between two checkpoints; None: see `SECONDS`.
        about: What must be the same in a run that goes on.
        save_image: Writes an image as it is on its way.
        found: The checkpoint to go on from.
    """

    def __init__(
        self,
        path: Path | None,
        every: int | None,
        about: Mapping[str, Any],
        save_image: Callable[[Image], None],
        found: SavedState | None = None,
    ) -> None:
        self.state = found
        self.records, self._before = (Records.loaded({} if found is None else found.records) for _ in range(2))
        self._path, self._every, self._about, self._save_image = path, every, about, save_image
        self._seconds = self.records.seconds
        self._lock, self._ended = threading.RLock(), False
        self._known: _Known | None = None
        self._last_chunk, self._saved_at, self._pause = 0.0, time.monotonic(), SECONDS

    def listen(self, report: Report) -> Report:
        """Note what is reported, and save the state if it is time.

        Returns:
            The report, with the seconds of the whole run.
        """
        with self._lock:
            before = self.records.seconds
            report = report._replace(seconds=self._seconds + report.seconds)
            self.records.add(report)
            self._known = self._copied(report, report.seconds - before)
            if self._path is not None and last_step(report) < report.num_steps and self._due(report):
                self._save_or_say(report)
        return report

    def whole(self, solution: Solution) -> Solution:
        """The solution with the losses of all steps, also of those before the checkpoint."""
        before, parts = self._before, self._before.parts
        return dataclasses.replace(
            solution,
            losses=np.concatenate([before.total, solution.losses]),
            parts={
                name: np.concatenate([side[name] for side in (parts, solution.parts) if name in side])
                for name in {**parts, **solution.parts}
            },
        )

    def end(self, save_image: Callable[[], None], solution: Solution | None) -> None:
        """Save the result, and the state that it has; from then on there is nothing left to save.

        Args:
            save_image: Writes the result.
            solution: The run's end; None: the checkpoint stays as it is.

        Raises:
            ArgumentError: A file cannot be written.
            ResourceError: The disk is full.
        """
        with self._lock:
            self._ended = True
            save_image()
            if solution is not None and self._path is not None:
                self._save(solution.state)

    def last_resort(self) -> None:
        """Save what is known of a run that does not come to an end by itself: its last image, and its state."""
        with self._lock:
            if self._ended or self._known is None:
                return
            self._ended, known = True, self._known
            self._save_image(image(known.copy.run, known.report.method))
            if self._path is None:
                return
            try:
                self._save(known.copy if known.whole else known.report)
                print(stopped_line(self._path), file=sys.stderr)
            except JnstError as error:
                print(f"jnst: no checkpoint: {error}", file=sys.stderr)
            except RuntimeError:  # the step that is under way has taken its buffers
                print(
                    f"jnst: {shown(self._path)} stays as it was: steps are long, and the state is large",
                    file=sys.stderr,
                )

    def _due(self, report: Report) -> bool:
        if self._every is not None:
            return passes(report, self._every)
        return time.monotonic() - self._saved_at >= self._pause

    def _save_or_say(self, report: Report) -> None:
        """A checkpoint that cannot be written is no reason to lose the run."""
        begun = time.monotonic()
        try:
            self._save(report)
        except JnstError as error:
            print(f"jnst: no checkpoint: {error}", file=sys.stderr)
        self._saved_at = time.monotonic()
        self._pause = max(SECONDS, (self._saved_at - begun) / SHARE)

    def _save(self, state: Any) -> None:
        assert self._path is not None
        save_state(self._path, state, about=self._about, records=self.records.arrays())

    def _copied(self, report: Report, seconds: float) -> _Known:
        """Copy the state if it is small beside the time that steps take; the end of short ones is waited for."""
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(report.state))
        # The first chunk of a size takes long because it is compiled.
        pays = size <= min(MOST_COPIED, COPYING_SHARE * COPIED_PER_SECOND * min(seconds, self._last_chunk))
        whole, self._last_chunk = self._path is not None and pays, seconds
        state = report.run_state
        kept = state if whole else dataclasses.replace(state, run=dataclasses.replace(state.run, optimizer=None))
        return _Known(report, jax.tree.map(jnp.copy, kept), whole)


def _load(path: Path) -> SavedState:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = load_state(path)
    for warning in said:
        print(f"jnst: {warning.message}", file=sys.stderr)
    return found


def _check_same(path: Path, found: SavedState, known: Mapping[str, Any], num_steps: Sequence[int]) -> None:
    records = Records.loaded(found.records)
    odd = differences(found.about.get("run", {}), known["run"]) + records.odd_steps(
        int(found.leaves[".scale"]), num_steps
    )
    if odd:
        raise ArgumentError(
            f"checkpoint {shown(path)} is of another run ({'; '.join(odd)}): give what it was made with, or begin anew "
            "with --force or another file"
        )
    print(f"jnst: going on from {shown(path)} after step {len(records.total)}", file=sys.stderr)
