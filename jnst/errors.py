"""What can go wrong, and the exit status that the command line gives it.

Every class is a `ValueError`, so that library code may catch that alone. A message is one line: what
came, what is expected, what to do.
"""

import difflib
from collections.abc import Callable, Iterable
from typing import Any


class JnstError(ValueError):
    """A wrong argument, and the base of every error that jnst raises on purpose."""

    exit_code = 2


class ImageError(JnstError):
    """An image that cannot be read, or that is not what an image must be."""

    exit_code = 3


class WeightsError(JnstError):
    """A weights file that cannot be read, does not fit the network, or does not reach a layer."""

    exit_code = 4


class NumericsError(JnstError):
    """A loss that stopped being finite.

    Attributes:
        result: The run up to there, ending with the last finite image; what the function would have returned.
    """

    exit_code = 5
    result: Any = None


class ResourceError(JnstError):
    """Memory or disk space that ran out."""

    exit_code = 6


def did_you_mean(
    name: str, choices: Iterable[str], *, most: int = 3, cutoff: float = 0.6, quote: Callable[[str], str] = str
) -> str:
    """Say "did you mean a or b?" of the choices most like a name, or nothing if none is.

    Args:
        name: What came.
        choices: What could have come.
        most: How many are named at most.
        cutoff: How like they must be, from 0 to 1: see `difflib.get_close_matches`.
        quote: How a choice is written.
    """
    near = difflib.get_close_matches(name, list(choices), n=most, cutoff=cutoff)
    return f"did you mean {' or '.join(map(quote, near))}?" if near else ""


def hint(name: str, choices: Iterable[str]) -> str:
    """The end of a message about an unknown name: "did you mean a or b?", or else all there are."""
    choices = tuple(choices)
    return did_you_mean(name, choices) or f"there are {', '.join(choices)}"
