"""Batches of images, made by threads ahead of their use; what is in them depends on seed, epoch and index alone."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np

from jnst.apps.training.augment import Augmentation, centre_view, random_view
from jnst.apps.training.data import ORDER, VIEW, WORKERS, Dataset, read_pixels, stream
from jnst.types import Array

Item = TypeVar("Item")
Made = TypeVar("Made")


class Batch(NamedTuple):
    """Images, their classes, and which of them count.

    Attributes:
        images: uint8 ``(n, size, size, 3)``, sRGB.
        labels: int32 ``(n,)``.
        weights: float32 ``(n,)``: 1, or 0 for the black images that fill up the last batch.
    """

    images: np.ndarray | Array
    labels: np.ndarray | Array
    weights: np.ndarray | Array


def prefetch(
    make: Callable[[Item], Made], items: Iterable[Item], *, workers: int = WORKERS, ahead: int = 2 * WORKERS
) -> Generator[Made, None, None]:
    """Yield ``make(item)`` for each item, in order, computed by threads at most ``ahead`` items before its use.

    An exception in ``make`` is raised where its result would have been yielded. Closing the generator, or an exception,
    ends the threads before it returns.
    """
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Made]] = deque()
    items = iter(items)
    try:
        waiting.extend(pool.submit(make, item) for item in islice(items, ahead))
        while waiting:
            made = waiting.popleft().result()
            waiting.extend(pool.submit(make, item) for item in islice(items, 1))
            yield made
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


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
    """Yield one epoch: every training image once, in random order, each as a random view.

    Args:
        dataset: The images.
        batch_size: How many of them are in a batch; the last one may have fewer.
        size: The side of a view in pixels.
        seed: Of order and views.
        epoch: Likewise, from 1.
        augmentation: How views vary.
        multiple: Batches are filled up to a multiple of this, the number of devices.
    """
    order = stream(ORDER, seed, epoch).permutation(len(dataset.train))

    def make(indices: Sequence[int]) -> Batch:
        examples = [dataset.train[index] for index in indices]
        views = [
            random_view(stream(VIEW, seed, epoch, index), read_pixels(example, dataset.side), size, augmentation)
            for index, example in zip(indices, examples, strict=True)
        ]
        return _batch(views, [example.label for example in examples], _rows(batch_size, multiple))

    return prefetch(make, [order[first : first + batch_size].tolist() for first in range(0, len(order), batch_size)])


def held_out_batches(
    dataset: Dataset, *, batch_size: int, size: int, multiple: int = 1
) -> Generator[Batch, None, None]:
    """Yield every held-out image once, in order, as its middle; arguments as in `training_batches`."""

    def make(first: int) -> Batch:
        examples = dataset.test[first : first + batch_size]
        views = [centre_view(read_pixels(example, dataset.side), size) for example in examples]
        return _batch(views, [example.label for example in examples], _rows(batch_size, multiple))

    return prefetch(make, range(0, len(dataset.test), batch_size))


def _rows(batch_size: int, multiple: int) -> int:
    return -(-batch_size // multiple) * multiple


def _batch(views: Sequence[np.ndarray], labels: Sequence[int], rows: int) -> Batch:
    size = views[0].shape[0]
    images = np.zeros((rows, size, size, 3), np.uint8)
    images[: len(views)] = views
    missing = rows - len(views)
    weights = np.asarray([1.0] * len(views) + [0.0] * missing, np.float32)
    return Batch(images, np.asarray([*labels, *[0] * missing], np.int32), weights)
