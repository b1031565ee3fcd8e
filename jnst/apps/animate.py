"""Intermediate images of a run, as numbered files or as a film."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from jnst.apps.io import save_image
from jnst.apps.pixels import to_levels
from jnst.apps.thinning import Thinned
from jnst.errors import ArgumentError, ImageError
from jnst.transfer import Report
from jnst.types import Image
from jnst.weights.files import PathLike, shown, write_atomically

FILMS = {".webp": "WEBP", ".gif": "GIF"}
"""The formats of films by the suffix of the file's name."""
FRAMES, MAX_FRAMES = 48, 96
"""About how many frames a film has by default, and how many it has at most, the last one included."""
FRAME_MS, LAST_MS = 80, 2000
"""How long a frame and the last frame are shown, in milliseconds."""
WEBP_QUALITY = 85


def passes(report: Report, every: int) -> bool:
    """Whether one of the steps of a report is a multiple of ``every``."""
    return report.last // every > (report.first - 1) // every


class Snapshots:
    """A callback that saves the image every N steps: ``out-0100.png``, ``out-0200.png`` ... for ``out.png``.

    Steps are counted over all sizes of a pyramid, and their numbers are padded to the digits of the last one. If a
    multiple of N falls within a chunk of steps, the image at the end of the chunk is saved, with the number of its last
    step.

    Args:
        path: The name to insert numbers into. Its suffix selects the format, see `jnst.save_image`.
        every: The number of steps between two images, at least 1.
        bit_depth: See `jnst.save_image`.
        quality: See `jnst.save_image`.

    Raises:
        ArgumentError: ``every`` is less than 1.
    """

    def __init__(self, path: PathLike, every: int, *, bit_depth: int = 8, quality: int = 95) -> None:
        if every < 1:
            raise ArgumentError(f"an image every {every} steps: expected at least 1")
        self._path, self._every = Path(os.fsdecode(path)), every
        self._bit_depth, self._quality = bit_depth, quality

    def __call__(self, report: Report) -> None:
        """Save the image if it is due.

        Raises:
            ArgumentError: The file cannot be written.
            ResourceError: The disk is full.
        """
        if passes(report, self._every):
            number = f"{report.last:0{len(str(report.num_steps))}d}"
            path = self._path.with_stem(f"{self._path.stem}-{number}")
            save_image(path, report.image, bit_depth=self._bit_depth, quality=self._quality)


class Film:
    """A callback that keeps images for a film: the first one, and then one every N steps.

    When there are more than `MAX_FRAMES`, every second one is dropped, and N doubles. So runs of any length need the
    memory of that many images, at three bytes per pixel.

    Args:
        every: The number of steps between two frames, at least 1; None for about `FRAMES` frames.

    Raises:
        ArgumentError: ``every`` is less than 1.
    """

    def __init__(self, every: int | None = None) -> None:
        if every is not None and every < 1:
            raise ArgumentError(f"a frame every {every} steps: expected at least 1")
        self._every = every
        self._frames = Thinned[np.ndarray](MAX_FRAMES - 1)
        self._started = False

    def __call__(self, report: Report) -> None:
        """Keep the image if it is due, but not that of the last step, which `save` adds."""
        every = self._every or -(-report.num_steps // FRAMES)
        if (passes(report, every) or not self._started) and report.last < report.num_steps:
            self._frames.offer(lambda: to_levels(report.image))
        self._started = True

    def save(self, path: PathLike, last: Image) -> int:
        """Write the film. All frames get the size of the last one. Consecutive frames that are equal become one.

        Args:
            path: Ends in .webp or .gif.
            last: The result of the run, ``(h, w, 3)`` in [0, 1], which is shown for longer.

        Returns:
            The number of frames.

        Raises:
            ImageError: The image is too large for the format.
            ArgumentError: Another suffix, or the file cannot be written. An old file is intact.
            ResourceError: The disk is full. An old file is intact.
        """
        kind = film_format(path)
        end = _frame(to_levels(last), None, kind)
        frames = [_frame(levels, end.size, kind) for levels in self._frames.items]
        durations = [FRAME_MS] * len(frames) + [LAST_MS]
        first, *others = [*frames, end]
        film = io.BytesIO()
        try:
            first.save(
                film, kind, save_all=True, append_images=others, duration=durations, loop=0, quality=WEBP_QUALITY
            )
        except (OSError, ValueError) as error:
            size = f"{end.width}x{end.height}"
            raise ImageError(
                f"{shown(path)}: frames of {size} pixels do not fit {kind} ({error}): choose a smaller size"
            ) from error
        write_atomically(path, film.getvalue())
        with Pillow.open(film) as saved:
            return getattr(saved, "n_frames", 1)


def film_format(path: PathLike) -> str:
    """The format of a film, by the suffix of its name.

    Raises:
        ArgumentError: The suffix is not a key of `FILMS`.
    """
    suffix = os.path.splitext(os.fsdecode(path))[1].lower()
    if suffix not in FILMS:
        raise ArgumentError(f"the film {shown(path)} has the suffix {suffix!r}: expected one of {', '.join(FILMS)}")
    return FILMS[suffix]


def _frame(levels: np.ndarray, size: tuple[int, int] | None, kind: str) -> Pillow.Image:
    frame = Pillow.fromarray(levels)
    if size is not None and frame.size != size:
        frame = frame.resize(size, Pillow.Resampling.BICUBIC)
    # Each frame gets its own palette, which follows the image, and takes one byte per pixel.
    return frame.quantize(256, Pillow.Quantize.MEDIANCUT) if kind == "GIF" else frame
