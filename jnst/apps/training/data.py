"""A folder of folders of images: found, decoded once, and split into a part to train on and a part held out."""

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from jnst.apps.io import load_image
from jnst.apps.io.peek import SUFFIXES
from jnst.errors import ArgumentError, ImageError

MOST_BYTES = 4 * 2**30
"""How many decoded pixels are kept in memory; images beyond are decoded again whenever they are needed."""

WORKERS = min(8, os.cpu_count() or 1)
"""Threads that decode; results never depend on their number."""

SPLIT, ORDER, VIEW = 1, 2, 3
"""What random numbers are for; each purpose has a stream of its own."""


def stream(purpose: int, seed: int, *numbers: int) -> np.random.Generator:
    """The random generator for one purpose (`SPLIT`, `ORDER`, `VIEW`), a seed, and numbers that say for what."""
    return np.random.default_rng((purpose, seed, *numbers))


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """An image and its class.

    Attributes:
        path: The file.
        label: An index into `Dataset.classes`.
        pixels: uint8 ``(h, w, 3)``; None where memory did not suffice.
    """

    path: Path
    label: int
    pixels: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Images in classes.

    Attributes:
        classes: The names of the class folders, sorted.
        train: What is trained on, class by class, by name.
        test: What is held out, likewise.
        damaged: For each file that could not be read a line that names it and says why.
        side: No image's shorter side is longer than this; larger ones were reduced.
        fingerprint: Hexadecimal digits of a hash of every name, label and pixel, and of the split.
    """

    classes: tuple[str, ...]
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    damaged: tuple[str, ...]
    side: int
    fingerprint: str


@dataclasses.dataclass(frozen=True, eq=False)
class _Read:
    """A decoded file, or the reason why it could not be."""

    pixels: np.ndarray | None
    digest: str = ""
    fault: str = ""


def load_dataset(
    folder: str | os.PathLike[str],
    *,
    held_out: float = 0.2,
    seed: int = 0,
    side: int = 448,
    most_bytes: int = MOST_BYTES,
) -> Dataset:
    """Read a folder that holds one folder of images for each class.

    Files are found by their suffix at any depth below the class folder; names that begin with a dot are passed over.
    Files that cannot be decoded are left out and named in the result.

    Args:
        folder: The folder of class folders.
        held_out: The fraction of each class that is not trained on, above 0 and below 1; at least one image of each
            class is held out and at least one is not.
        seed: Of the split.
        side: Larger images are reduced until their shorter side is this many pixels.
        most_bytes: How many bytes of decoded pixels may be kept.

    Raises:
        ImageError: No such folder; fewer than two class folders; no image that can be read, or a class with fewer
            than two.
        ArgumentError: ``held_out`` is not between 0 and 1.
    """
    if not 0 < held_out < 1:
        raise ArgumentError(f"held-out fraction {held_out}: expected a number above 0 and below 1, for example 0.2")
    folder = Path(folder)
    found = _find(folder)
    paths = [path for files in found.values() for path in files]
    with ThreadPoolExecutor(WORKERS) as pool:
        reads: dict[Path, _Read] = {}
        for path, read in zip(paths, pool.map(lambda path: _read(path, side), paths), strict=True):
            most_bytes -= 0 if read.pixels is None else read.pixels.nbytes
            reads[path] = read if most_bytes >= 0 else dataclasses.replace(read, pixels=None)
    damaged = tuple(read.fault for read in reads.values() if read.fault)
    good = {name: [path for path in files if not reads[path].fault] for name, files in found.items()}
    _check_counts(folder, good, damaged)
    train, test = _split(good, reads, held_out, seed)
    return Dataset(tuple(good), train, test, damaged, side, _fingerprint(folder, (train, test), reads))


def read_pixels(example: Example, side: int) -> np.ndarray:
    """The pixels of an example, from memory or from its file.

    Args:
        example: Of a `Dataset`.
        side: The dataset's.

    Returns:
        uint8 ``(h, w, 3)``.

    Raises:
        ImageError: The file has become unreadable since it was first read.
    """
    return _decode(example.path, side) if example.pixels is None else example.pixels


def _decode(path: Path, side: int) -> np.ndarray:
    pixels = np.asarray(np.asarray(load_image(path)) * 255 + 0.5, np.uint8)
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    if shorter <= side:
        return pixels
    size = (max(side, round(width * side / shorter)), max(side, round(height * side / shorter)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _read(path: Path, side: int) -> _Read:
    try:
        pixels = _decode(path, side)
    except ImageError as error:
        return _Read(None, fault=str(error))
    return _Read(pixels, hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest())


def _find(folder: Path) -> dict[str, list[Path]]:
    """The image files of every class folder, sorted."""
    try:
        children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise ImageError(
            f"'{folder}' cannot be read ({error.strerror}): name a folder with one folder of images for each class"
        ) from error
    classes = [child for child in children if child.is_dir()]
    if len(classes) < 2:
        held = f"one class folder, {classes[0].name!r}" if classes else f"no folders, {len(children)} files"
        raise ImageError(
            f"'{folder}' holds {held}: expected two or more folders, one for each class with its images; sort them so"
        )
    return {child.name: sorted(path for path in child.rglob("*") if _is_image(path)) for child in classes}


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def _check_counts(folder: Path, good: dict[str, list[Path]], damaged: Sequence[str]) -> None:
    if damaged and not any(good.values()):
        raise ImageError(f"'{folder}': none of its {len(damaged)} images can be read, the first: {damaged[0]}")
    for name, files in good.items():
        if len(files) < 2:
            raise ImageError(
                f"'{folder / name}' holds {len(files)} readable images ({', '.join(SUFFIXES)}): expected at least 2, "
                "one to train on and one held out; add some, or take the folder away"
            )


def _split(
    good: dict[str, list[Path]], reads: dict[Path, _Read], held_out: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    train: list[Example] = []
    test: list[Example] = []
    for label, files in enumerate(good.values()):
        count = min(max(round(held_out * len(files)), 1), len(files) - 1)
        chosen = set(stream(SPLIT, seed, label).permutation(len(files))[:count].tolist())
        for index, path in enumerate(files):
            (test if index in chosen else train).append(Example(path, label, reads[path].pixels))
    return tuple(train), tuple(test)


def _fingerprint(folder: Path, parts: Sequence[Sequence[Example]], reads: dict[Path, _Read]) -> str:
    lines = [
        f"{part} {example.label} {reads[example.path].digest} {example.path.relative_to(folder).as_posix()!r}"
        for part, examples in enumerate(parts)
        for example in examples
    ]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
