"""The widths of a network as text, so that a weights file and the command line can hold them: ``"32,32/64,64"``."""

import re

from jnst.backbones.vgg import Widths
from jnst.errors import ArgumentError

MOST_BLOCKS, MOST_CONVOLUTIONS, MOST_FILTERS = 5, 4, 2048

CONVNET_WIDTHS: Widths = ((16,), (32,), (64,))
"""One convolution of 16, 32 and 64 filters, with a pooling before each but the first."""


def parse_widths(widths: object) -> Widths:
    """Read the number of filters of every convolution, block by block.

    Args:
        widths: ``"16/32/64"`` (blocks apart by slashes, convolutions by commas), or the same as nested sequences.

    Returns:
        ``((16,), (32,), (64,))``.

    Raises:
        ArgumentError: Something else, more than 5 blocks, more than 4 convolutions in one, or more than 2048 filters.
    """
    text = widths if isinstance(widths, str) else _joined(widths)
    number = r"[1-9]\d{0,3}"
    if re.fullmatch(rf"{number}([,/]{number})*", text, re.ASCII):
        blocks = tuple(tuple(map(int, block.split(","))) for block in text.split("/"))
        if (
            len(blocks) <= MOST_BLOCKS
            and max(map(len, blocks)) <= MOST_CONVOLUTIONS
            and max(map(max, blocks)) <= MOST_FILTERS
        ):
            return blocks
    raise ArgumentError(
        f"widths {str(widths)[:60]!r} are not readable: expected numbers of filters from 1 to {MOST_FILTERS}, commas "
        f"between the convolutions of a block (at most {MOST_CONVOLUTIONS}), "
        f"slashes between blocks (at most {MOST_BLOCKS}); write for example 16/32/64 or 32,32/64,64"
    )


def format_widths(widths: Widths) -> str:
    """The inverse of `parse_widths`: ``((32, 32), (64,))`` is ``"32,32/64"``."""
    return "/".join(",".join(map(str, block)) for block in widths)


def _joined(widths: object) -> str:
    """Nested sequences as text; nothing else is any."""
    whole = isinstance(widths, tuple | list) and all(
        isinstance(block, tuple | list) and all(type(width) is int for width in block) for block in widths
    )
    return format_widths(tuple(map(tuple, widths))) if whole else ""  # pyright: ignore[reportArgumentType]
