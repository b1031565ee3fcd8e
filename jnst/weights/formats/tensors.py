"""What every reader of weights returns, and the bound that every reader keeps to."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from jnst.errors import WeightsError

MAX_BYTES = 2 << 30
"""No checkpoint of a network known here comes near this size."""

MAX_RATIO = 100
"""Trained weights hardly compress: a file that claims to hold more than this many times its size is a bomb."""

Keep = Callable[[Iterable[str], Mapping[str, str]], Collection[str]]
"""From the names of a file's tensors and its metadata to the tensors that are to be read."""


def keep_all(names: Iterable[str], metadata: Mapping[str, str]) -> Collection[str]:
    """Read every tensor."""
    return frozenset(names)


@dataclasses.dataclass(frozen=True, eq=False)
class Tensors:
    """A checkpoint as it was published: nothing renamed, nothing transposed.

    Attributes:
        arrays: The tensors by the names that the file gives them.
        metadata: The file's own remarks (safetensors have them).
        format: The key of `jnst.weights.formats.FORMATS` that read it.
        source: Where it was read from, for messages.
    """

    arrays: Mapping[str, np.ndarray]
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    format: str = "arrays"
    source: str = "arrays"


LONGEST_MESSAGE = 600


def one_line(message: str) -> str:
    """A message that may quote anything from a file: in printable characters, and no longer than can be read."""
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
    half = LONGEST_MESSAGE // 2
    return printable if len(printable) <= LONGEST_MESSAGE else f"{printable[:half]} … {printable[-half:]}"


def check_size(path: Path, declared: int) -> None:
    """Check, before anything is allocated, that a file may hold as much as it declares.

    Args:
        path: The file, compressed or not.
        declared: Bytes that its tensors take in memory.

    Raises:
        WeightsError: More than `MAX_BYTES`, or more than `MAX_RATIO` times the size of the file.
    """
    size = path.stat().st_size
    if declared > min(MAX_BYTES, MAX_RATIO * size):
        raise WeightsError(
            f"{path}: declares {declared} bytes of tensors in a file of {size} bytes, expected at most "
            f"{MAX_RATIO} times its size and {MAX_BYTES} in all: do not trust this file, get it from its publisher"
        )
