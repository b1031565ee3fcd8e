"""Imported before everything else: what holds for the command `jnst` already while it loads, which takes a second."""

import itertools
import os
import signal
import sys
from types import FrameType


def is_command() -> bool:
    """Whether this process is the command `jnst`, or `python -m jnst`, and not a program that imports the library."""
    if sys.argv[:1] == ["-m"]:  # as Python itself writes it, until the module is found
        return ("-m", "jnst") in itertools.pairwise(sys.orig_argv)
    return os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0] == "jnst"


def end_quietly_on_interruption() -> None:
    """Let a Ctrl-C end the process with status 130 wherever nothing else is set: nothing is there yet to be saved."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def replace_closed_streams() -> None:
    """Open nothing in place of standard streams that are closed (`>&-`): the next file would take their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # The lowest number that is free: this one.
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
