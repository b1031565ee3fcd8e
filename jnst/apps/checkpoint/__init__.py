"""The complete state of a run as a file."""

from jnst.apps.checkpoint.container import (
    PREVIOUS,
    Contents,
    differences,
    is_there,
    previous_of,
    read_contents,
    write_contents,
)
from jnst.apps.checkpoint.state import load_state, save_state
from jnst.solve.saved import SavedState, leaves_of

__all__ = [
    "PREVIOUS",
    "Contents",
    "SavedState",
    "differences",
    "is_there",
    "leaves_of",
    "load_state",
    "previous_of",
    "read_contents",
    "save_state",
    "write_contents",
]
