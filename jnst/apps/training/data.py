"""Image folders for training: decoded once, split into training and held-out images, and served in batches.

The content of a batch depends only on the seed, the epoch and the batch's position, never on the number of threads.
"""

import dataclasses
import hashlib
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from jnst.apps.io import load_image
from jnst.apps.io.load import SUFFIXES
from jnst.apps.training.augmentation import Augmentation, augment, centre_crop
from jnst.errors import ArgumentError, ImageError
from jnst.types import Array

MAX_CACHED_BYTES = 4 * 2**30
"""Decoded pixels kept in memory. Further images are decoded again each time they are needed."""

OVERSAMPLING = 2
"""Images are kept at this many times the side of a crop: a crop of a quarter of the area is not enlarged."""

WORKERS = min(8, os.cpu_count() or 1)
"""Decoding threads."""

SPLIT, ORDER, VIEW = 1, 2, 3
"""Purposes of random numbers. Each has its own stream."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """An image and its class.

    Attributes:
        path: The file.
        label: Index into `Dataset.classes`.
        pixels: uint8 ``(h, w, 3)``, or None if it did not fit into memory.
    """

    path: Path
    label: int
    pixels: np.ndarray | None


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images.

    Attributes:
        classes: Names of the class folders, sorted.
        train: Training images, sorted by class, then by name.
        test: Held-out images in the same order.
        damaged: One line for each unreadable file: its name and what is wrong with it.
        side: Upper limit of every image's shorter side in pixels. Larger images were reduced.
        fingerprint: Hexadecimal hash of all names, labels and pixels, and of the split.
    """

    classes: tuple[str, ...]
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    damaged: tuple[str, ...]
    side: int
    fingerprint: str


class Batch(NamedTuple):
    """Images and their classes.

    Attributes:
        images: uint8 ``(n, size, size, 3)``, sRGB.
        labels: int32 ``(n,)``.
        weights: float32 ``(n,)``: 1 for an image, 0 for the black padding at the end of a batch.
    """

    images: np.ndarray | Array
    labels: np.ndarray | Array
    weights: np.ndarray | Array


@dataclasses.dataclass(frozen=True, eq=False)
class Photos:
    """Images without labels.

    Attributes:
        examples: The images, sorted by name; their labels are 0.
        damaged: As in `Dataset`, like what follows.
        side: See there.
        fingerprint: Hexadecimal hash of all names and pixels.
    """

    examples: tuple[Example, ...]
    damaged: tuple[str, ...]
    side: int
    fingerprint: str


def load_folder(folder: Path) -> list[np.ndarray]:
    """Read all images below a folder, sorted by path, as uint8 ``(h, w, 3)``.

    Raises:
        ImageError: The folder does not exist or holds no images, or an image cannot be read.
    """
    return [_load_pixels(path) for path in _some_images(folder)]


def load_photos(folder: str | os.PathLike[str], *, side: int, max_cached_bytes: int = MAX_CACHED_BYTES) -> Photos:
    """Read all images below a folder, found and skipped as by `load_dataset`.

    Args:
        folder: The folder.
        side: As for `load_dataset`.
        max_cached_bytes: As for `load_dataset`.

    Raises:
        ImageError: The folder does not exist or holds no images, or none of them is readable.
    """
    folder = Path(folder)
    decoded = _decode_all(_some_images(folder), side, max_cached_bytes)
    damaged = tuple(result.error for result in decoded.values() if result.error)
    examples = tuple(Example(path, 0, result.pixels) for path, result in decoded.items() if not result.error)
    if not examples:
        raise _none_readable(folder, damaged)
    return Photos(examples, damaged, side, _fingerprint(folder, [examples], decoded))


def load_dataset(
    folder: str | os.PathLike[str],
    *,
    held_out: float = 0.2,
    seed: int = 0,
    side: int = 448,
    max_cached_bytes: int = MAX_CACHED_BYTES,
) -> Dataset:
    """Read a folder that holds one folder of images per class.

    Images are found by their suffix at any depth below their class folder. Files and folders whose names begin with a
    dot are ignored. Unreadable files are skipped and listed in the result.

    Args:
        folder: The folder of class folders.
        held_out: Fraction of each class to hold out, above 0 and below 1. Each class keeps at least one training
            image and at least one held-out image.
        seed: Seed of the split.
        side: Larger images are reduced until their shorter side has this many pixels.
        max_cached_bytes: Limit of the decoded pixels kept in memory.

    Raises:
        ImageError: The folder does not exist or has fewer than two class folders; no image is readable; or a class has
            fewer than two readable images.
        ArgumentError: ``held_out`` is not between 0 and 1.
    """
    if not 0 < held_out < 1:
        raise ArgumentError(f"held-out fraction {held_out}: expected a number above 0 and below 1, for example 0.2")
    folder = Path(folder)
    paths_by_class = _find_classes(folder)
    paths = [path for files in paths_by_class.values() for path in files]
    decoded = _decode_all(paths, side, max_cached_bytes)
    damaged = tuple(result.error for result in decoded.values() if result.error)
    readable = {name: [path for path in files if not decoded[path].error] for name, files in paths_by_class.items()}
    _check_counts(folder, readable, damaged)
    train, test = _split(readable, decoded, held_out, seed)
    return Dataset(tuple(readable), train, test, damaged, side, _fingerprint(folder, (train, test), decoded))


def read_pixels(example: Example, side: int) -> np.ndarray:
    """Return the pixels of an example, from memory or from its file.

    Args:
        example: An example of a `Dataset`.
        side: `Dataset.side`.

    Returns:
        uint8 ``(h, w, 3)``.

    Raises:
        ImageError: The file has become unreadable since it was first read.
    """
    return _decode(example.path, side) if example.pixels is None else example.pixels


def hash_images(images: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of the shapes and pixels of images, in hexadecimal digits."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr(image.shape).encode() + image.tobytes())
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class _Decoded:
    """A decoded file, or the reason why it could not be decoded."""

    pixels: np.ndarray | None
    digest: str = ""
    error: str = ""


def _load_pixels(path: Path) -> np.ndarray:
    return np.asarray(np.asarray(load_image(path)) * 255 + 0.5, np.uint8)


def _decode(path: Path, side: int) -> np.ndarray:
    pixels = _load_pixels(path)
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    if shorter <= side:
        return pixels
    size = (max(side, round(width * side / shorter)), max(side, round(height * side / shorter)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def _try_decode(path: Path, side: int) -> _Decoded:
    try:
        pixels = _decode(path, side)
    except ImageError as error:
        return _Decoded(None, error=str(error))
    return _Decoded(pixels, hash_images([pixels]))


def _decode_all(paths: Sequence[Path], side: int, max_cached_bytes: int) -> dict[Path, _Decoded]:
    """Decode files in threads, and keep the pixels of the first that fit into ``max_cached_bytes``."""
    decoded: dict[Path, _Decoded] = {}
    cached_bytes = 0
    with ThreadPoolExecutor(WORKERS) as pool:
        for path, result in zip(paths, pool.map(lambda path: _try_decode(path, side), paths), strict=True):
            cached_bytes += 0 if result.pixels is None else result.pixels.nbytes
            decoded[path] = result if cached_bytes <= max_cached_bytes else dataclasses.replace(result, pixels=None)
    return decoded


def _some_images(folder: Path) -> list[Path]:
    paths = _find_images(folder)
    if not paths:
        is_folder = "contains no images" if folder.is_dir() else "is not a folder of images"
        raise ImageError(f"'{folder}' {is_folder} ({', '.join(SUFFIXES)}): choose a folder that contains some")
    return paths


def _none_readable(folder: Path, damaged: Sequence[str]) -> ImageError:
    return ImageError(f"'{folder}': none of its {len(damaged)} images can be read; the first error: {damaged[0]}")


def _find_images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.is_dir()
    )


def _find_classes(folder: Path) -> dict[str, list[Path]]:
    """Return the image files of every class folder, sorted."""
    try:
        children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise ImageError(
            f"'{folder}' cannot be read ({error.strerror}): choose a folder with one folder of images per class"
        ) from error
    classes = [child for child in children if child.is_dir()]
    if len(classes) < 2:
        found = f"one class folder, {classes[0].name!r}" if classes else f"{len(children)} files and no folders"
        raise ImageError(
            f"'{folder}' contains {found}: expected two or more folders, one per class; sort the images into folders"
        )
    return {child.name: _find_images(child) for child in classes}


def _check_counts(folder: Path, readable: Mapping[str, Sequence[Path]], damaged: Sequence[str]) -> None:
    if damaged and not any(readable.values()):
        raise _none_readable(folder, damaged)
    for name, files in readable.items():
        if len(files) < 2:
            raise ImageError(
                f"'{folder / name}' contains {len(files)} readable images ({', '.join(SUFFIXES)}): expected at least "
                "2, one for training and one to hold out; add images or remove the folder"
            )


def _split(
    readable: Mapping[str, Sequence[Path]], decoded: Mapping[Path, _Decoded], held_out: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    train: list[Example] = []
    test: list[Example] = []
    for label, files in enumerate(readable.values()):
        count = min(max(round(held_out * len(files)), 1), len(files) - 1)
        chosen = set(_generator(SPLIT, seed, label).permutation(len(files))[:count].tolist())
        for index, path in enumerate(files):
            (test if index in chosen else train).append(Example(path, label, decoded[path].pixels))
    return tuple(train), tuple(test)


def _fingerprint(folder: Path, parts: Sequence[Sequence[Example]], decoded: Mapping[Path, _Decoded]) -> str:
    lines = [
        f"{part} {example.label} {decoded[example.path].digest} {example.path.relative_to(folder).as_posix()!r}"
        for part, examples in enumerate(parts)
        for example in examples
    ]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _generator(purpose: int, seed: int, *numbers: int) -> np.random.Generator:
    """Return the random generator of one purpose (`SPLIT`, `ORDER`, `VIEW`), seed and, for example, epoch and image."""
    return np.random.default_rng((purpose, seed, *numbers))


def training_batches(
    dataset: Dataset,
    *,
    batch_size: int,
    size: int,
    seed: int,
    epoch: int,
    augmentation: Augmentation,
    multiple: int = 1,
) -> Generator[Batch, None, None]:
    """Yield one epoch: every training image once, in random order and augmented.

    Args:
        dataset: The images.
        batch_size: Images per batch. The last batch may have fewer.
        size: Side of the crops in pixels.
        seed: Seed of the order and the crops.
        epoch: Number of the epoch from 1, which also seeds the order and the crops.
        augmentation: How the images vary.
        multiple: Batches are padded to a multiple of this number, the number of devices.
    """
    order = _generator(ORDER, seed, epoch).permutation(len(dataset.train))

    def make(indices: Sequence[int]) -> Batch:
        examples = [dataset.train[index] for index in indices]
        views = [
            augment(_generator(VIEW, seed, epoch, index), read_pixels(example, dataset.side), size, augmentation)
            for index, example in zip(indices, examples, strict=True)
        ]
        return _batch(views, examples, _round_up(batch_size, multiple))

    return prefetch(make, [order[first : first + batch_size].tolist() for first in range(0, len(order), batch_size)])


def photo_batches(
    photos: Photos,
    *,
    batch_size: int,
    size: int,
    seed: int,
    steps: Iterable[int],
    augmentation: Augmentation,
) -> Generator[np.ndarray, None, None]:
    """Yield one batch of crops per step, ``(batch_size, size, size, 3)``, uint8.

    All images are drawn once, in random order, before any is drawn again.

    Args:
        photos: The images.
        batch_size: Crops per batch.
        size: Side of the crops in pixels.
        seed: Seed of the order and the crops.
        steps: Numbers of steps from 0, on which a batch depends.
        augmentation: How the images vary.
    """

    def make(step: int) -> np.ndarray:
        return np.stack([crop(draw) for draw in range(step * batch_size, (step + 1) * batch_size)])

    def crop(draw: int) -> np.ndarray:
        epoch, place = divmod(draw, len(photos.examples))
        index = _generator(ORDER, seed, epoch).permutation(len(photos.examples))[place]
        pixels = read_pixels(photos.examples[index], photos.side)
        return augment(_generator(VIEW, seed, draw), pixels, size, augmentation)

    return prefetch(make, steps)


def held_out_batches(
    dataset: Dataset, *, batch_size: int, size: int, multiple: int = 1
) -> Generator[Batch, None, None]:
    """Yield the centre crop of every held-out image once, in order. The arguments are those of `training_batches`."""

    def make(first: int) -> Batch:
        examples = dataset.test[first : first + batch_size]
        views = [centre_crop(read_pixels(example, dataset.side), size) for example in examples]
        return _batch(views, examples, _round_up(batch_size, multiple))

    return prefetch(make, range(0, len(dataset.test), batch_size))


def prefetch(
    make: Callable[[Item], Result], items: Iterable[Item], *, workers: int = WORKERS, ahead: int = 2 * WORKERS
) -> Generator[Result, None, None]:
    """Yield ``make(item)`` for each item in order, computed in threads.

    An exception in ``make`` is raised where its result would have been yielded. The threads have ended when the
    generator is closed or an exception leaves it.

    Args:
        make: The function to compute.
        items: Its arguments.
        workers: Number of threads.
        ahead: At most this many results are computed before they are needed.
    """
    pool = ThreadPoolExecutor(workers)
    pending: deque[Future[Result]] = deque()
    items = iter(items)
    try:
        pending.extend(pool.submit(make, item) for item in islice(items, ahead))
        while pending:
            result = pending.popleft().result()
            pending.extend(pool.submit(make, item) for item in islice(items, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _round_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def _batch(views: Sequence[np.ndarray], examples: Sequence[Example], rows: int) -> Batch:
    """Stack images and labels, padded to a number of rows."""
    images = np.zeros((rows, *views[0].shape), np.uint8)
    labels, weights = np.zeros(rows, np.int32), np.zeros(rows, np.float32)
    count = len(views)
    images[:count], labels[:count], weights[:count] = views, [example.label for example in examples], 1
    return Batch(images, labels, weights)
