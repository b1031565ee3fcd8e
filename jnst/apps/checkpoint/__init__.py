"""The state of a run as a file, every bit of it."""

from jnst.apps.checkpoint.container import (
    PREVIOUS,
    Contents,
    differences,
    is_there,
    previous_of,
    read_contents,
    write_contents,
)
from jnst.apps.checkpoint.state import SavedState, fitted, leaves_of, load_state, save_state

__all__ = [
    "PREVIOUS",
    "Contents",
    "SavedState",
    "differences",
    "fitted",
    "is_there",
    "leaves_of",
    "load_state",
    "previous_of",
    "read_contents",
    "save_state",
    "write_contents",
]
