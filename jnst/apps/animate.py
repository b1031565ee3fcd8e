"""A run's images on the way: kept in files, or made into a film."""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from jnst.apps.io import save_image
from jnst.apps.thinning import Thinned
from jnst.errors import ArgumentError, ImageError
from jnst.solve.run import Report
from jnst.types import Image
from jnst.weights.files import PathLike, shown, write_atomically

FILMS = {".webp": "WEBP", ".gif": "GIF"}
"""Formats of films by their suffixes."""
FRAMES, MOST_FRAMES = 48, 96
"""About how many frames a film has if not told, and how many it ever has, with the last one added."""
FRAME_MS, LAST_MS = 80, 2000
"""How long a frame is seen, and the last one; in milliseconds."""
WEBP_QUALITY = 85


def passes(report: Report, every: int) -> bool:
    """Whether a multiple of ``every`` is among the steps that are reported."""
    return last_step(report) // every > (report.first - 1) // every


def last_step(report: Report) -> int:
    """The number of the last step that is reported."""
    return report.first + len(report.total) - 1


class Snapshots:
    """A callback that saves the image every so many steps: ``out-0100.png``, ``out-0200.png`` ... for ``out.png``.

    The numbers have as many digits as the run's number of steps, through all sizes of a pyramid. Where several steps
    make one chunk, the image after the chunk in which the step falls is saved, with the number of its last step.

    Args:
        path: The name that numbers are put into; its suffix is the format, see `jnst.save_image`.
        every: So many steps, at least 1.
        bit_depth: See `jnst.save_image`.
        quality: See `jnst.save_image`.
        finish: What is done to an image before it is saved.

    Raises:
        ArgumentError: ``every`` is less than 1.
    """

    def __init__(
        self,
        path: PathLike,
        every: int,
        *,
        bit_depth: int = 8,
        quality: int = 95,
        finish: Callable[[Image], Image] = lambda image: image,
    ) -> None:
        if every < 1:
            raise ArgumentError(f"an image every {every} steps: expected at least 1")
        self._path, self._every, self._finish = Path(os.fsdecode(path)), every, finish
        self._bit_depth, self._quality = bit_depth, quality

    def __call__(self, report: Report) -> None:
        """Save the image if it is time.

        Raises:
            ArgumentError: The file cannot be written.
            ResourceError: The disk is full.
        """
        if passes(report, self._every):
            number = f"{last_step(report):0{len(str(report.num_steps))}d}"
            path = self._path.with_stem(f"{self._path.stem}-{number}")
            image = self._finish(report.image)
            save_image(path, image, bit_depth=self._bit_depth, quality=self._quality)


class Film:
    """A callback that keeps images for a film: the first one, and then one every so many steps.

    When there are more than `MOST_FRAMES`, every second one is let go and twice as many steps lie between them from
    then on, so that a run of any length takes the memory of so many images, three bytes a pixel.

    Args:
        every: Steps between two frames, at least 1; None: so many that there are about `FRAMES`.
        finish: What is done to an image before it is kept.

    Raises:
        ArgumentError: ``every`` is less than 1.
    """

    def __init__(self, every: int | None = None, *, finish: Callable[[Image], Image] = lambda image: image) -> None:
        if every is not None and every < 1:
            raise ArgumentError(f"a frame every {every} steps: expected at least 1")
        self._every, self._finish = every, finish
        self._frames = Thinned[np.ndarray](MOST_FRAMES - 1)
        self._started = False

    def __call__(self, report: Report) -> None:
        """Keep the image if it is time; the last step's is left to `save`."""
        every = self._every or -(-report.num_steps // FRAMES)
        if (passes(report, every) or not self._started) and last_step(report) < report.num_steps:
            self._frames.offer(lambda: _levels(self._finish(report.image)))
        self._started = True

    def save(self, path: PathLike, last: Image) -> int:
        """Write the film, all frames at the size of the last, which is held.

        Frames that are exactly alike are written as one.

        Args:
            path: Ends in .webp or .gif.
            last: The run's result, ``(h, w, 3)`` in [0, 1].

        Returns:
            How many frames it has.

        Raises:
            ImageError: The image is too large for the format.
            ArgumentError: Another suffix, or the file cannot be written; an old file stays intact.
            ResourceError: The disk is full; an old file stays intact.
        """
        kind = film_format(path)
        end = _frame(_levels(last), None, kind)
        frames = [_frame(levels, end.size, kind) for levels in self._frames.items] + [end]
        buffer = io.BytesIO()
        durations = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
        try:
            frames[0].save(
                buffer,
                kind,
                save_all=True,
                append_images=frames[1:],
                duration=durations,
                loop=0,
                quality=WEBP_QUALITY,
            )
        except (OSError, ValueError) as error:
            size = f"{end.width}x{end.height}"
            raise ImageError(
                f"{shown(path)}: frames of {size} pixels do not fit {kind} ({error}): choose a smaller size"
            ) from error
        write_atomically(path, buffer.getvalue())
        with Pillow.open(buffer) as film:
            return getattr(film, "n_frames", 1)


def film_format(path: PathLike) -> str:
    """The format of a film by its name's suffix.

    Raises:
        ArgumentError: The suffix is not a key of `FILMS`.
    """
    suffix = os.path.splitext(os.fsdecode(path))[1].lower()
    if suffix not in FILMS:
        raise ArgumentError(f"the film {shown(path)} has the suffix {suffix!r}: expected one of {', '.join(FILMS)}")
    return FILMS[suffix]


def _levels(image: Image) -> np.ndarray:
    return np.asarray(np.clip(np.asarray(image), 0, 1) * 255 + 0.5, np.uint8)


def _frame(levels: np.ndarray, size: tuple[int, int] | None, kind: str) -> Pillow.Image:
    frame = Pillow.fromarray(levels)
    if size is not None and frame.size != size:
        frame = frame.resize(size, Pillow.Resampling.BICUBIC)
    # A palette for each frame: a byte a pixel from here on, and colours that follow the image.
    return frame.quantize(256, Pillow.Quantize.MEDIANCUT) if kind == "GIF" else frame
