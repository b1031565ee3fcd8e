"""What every reader of weights returns, and the limits that every reader respects."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from jnst.errors import WeightsError

MAX_BYTES = 2 << 30
"""Far more than any checkpoint of a network in this library takes."""

MAX_RATIO = 100
"""Trained weights hardly compress. A file that claims to contain more than this many times its size is a bomb."""

Keep = Callable[[Iterable[str], Mapping[str, str]], Collection[str]]
"""Maps the names of a file's tensors and its metadata to the names of the tensors to read."""


def keep_all(names: Iterable[str], metadata: Mapping[str, str]) -> Collection[str]:
    """Keep every tensor."""
    return frozenset(names)


@dataclasses.dataclass(frozen=True, eq=False)
class Tensors:
    """A checkpoint as published: nothing is renamed or transposed.

    Attributes:
        arrays: The tensors by their names in the file.
        metadata: The file's metadata, if the format has any (safetensors).
        format: The key of `jnst.weights.formats.FORMATS` of the reader.
        source: Where the tensors were read from, for messages.
    """

    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    format: str = "arrays"
    source: str = "arrays"


LONGEST_MESSAGE = 600


def one_line(message: str) -> str:
    """Make a message that may quote anything from a file printable, and shorten it."""
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
    half = LONGEST_MESSAGE // 2
    return printable if len(printable) <= LONGEST_MESSAGE else f"{printable[:half]} … {printable[-half:]}"


def check_size(path: Path, declared: int) -> None:
    """Check that the size that a file declares is plausible, before any memory is allocated.

    Args:
        path: The file, compressed or not.
        declared: The size of its tensors in memory, in bytes.

    Raises:
        WeightsError: It is more than `MAX_BYTES`, or more than `MAX_RATIO` times the size of the file.
    """
    size = path.stat().st_size
    if declared > min(MAX_BYTES, MAX_RATIO * size):
        raise WeightsError(
            f"{path}: declares {declared} bytes of tensors in a file of {size} bytes, expected at most "
            f"{MAX_RATIO} times as many and {MAX_BYTES}: do not trust this file, get it from its publisher"
        )
