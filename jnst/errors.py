"""What can go wrong, and the exit status of the command line for each kind.

A message is one line: what came, what is expected, what to do.
"""

import difflib
from collections.abc import Callable, Iterable
from typing import Any


class JnstError(Exception):
    """The base of every error that jnst raises on purpose."""

    exit_code = 1


class ArgumentError(JnstError, ValueError):
    """A wrong argument."""

    exit_code = 2


class ImageError(ArgumentError):
    """An image that cannot be read, or an array that is not an image."""

    exit_code = 3


class WeightsError(ArgumentError):
    """Weights that cannot be read, do not fit the network, or do not reach a layer."""

    exit_code = 4


class NumericsError(JnstError, ArithmeticError):
    """A loss that stopped being finite.

    Attributes:
        result: The run up to there, ending with the last finite image: what the function would have returned.
    """

    exit_code = 5
    result: Any = None


class ResourceError(JnstError, RuntimeError):
    """Not enough memory or disk space."""

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
    return did_you_mean(name, choices) or f"expected one of {', '.join(choices)}"
