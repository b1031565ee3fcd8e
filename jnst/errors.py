"""What can go wrong, and the exit status that the command line gives it.

Every class is a `ValueError`, so that library code may catch that alone. A message is one line: what
came, what is expected, what to do.
"""

from typing import Any


class JnstError(ValueError):
    """A wrong argument, and the base of every error that jnst raises on purpose."""

    exit_code = 2


class PictureError(JnstError):
    """A picture that cannot be read, or that is not what a picture must be."""

    exit_code = 3


class WeightsError(JnstError):
    """A weights file that cannot be read, does not fit the network, or does not reach a layer."""

    exit_code = 4


class NumericsError(JnstError):
    """A loss that stopped being finite.

    Attributes:
        result: The run up to there, ending with the last finite picture; what the function would have returned.
    """

    exit_code = 5
    result: Any = None


class ResourceError(JnstError):
    """Memory or disk space that ran out."""

    exit_code = 6
