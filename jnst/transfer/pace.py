"""How many steps one compiled program makes."""

import os

from jnst.types import Array

SCANNED_STEPS = 25
"""Steps in one compiled chunk on accelerators,"""
LENGTHS = (SCANNED_STEPS, 5, 1)
"""or fewer where they take long: each length is a program of its own."""
LONGEST = 1.0
"""Seconds that a chunk may take: a run can be ended, shown and saved between two chunks only."""


def chunk_length(image: Array) -> int:
    """How many steps to compile into one program: 1 on CPUs, whose loop bodies run without threaded convolutions."""
    platforms = {device.platform for device in image.devices()}
    return 1 if platforms == {"cpu"} else SCANNED_STEPS


class Pace:
    """The length of the next chunk, as the run goes.

    Args:
        image: The image, for its device.
        chunk: As asked for; None: by device, and by the time that chunks take.
    """

    def __init__(self, image: Array, chunk: int | None = None) -> None:
        self.length = chunk or chunk_length(image)
        # A run that must repeat to the last bit cannot hang on a clock.
        self._adapts = chunk is None and "xla_gpu_deterministic_ops=true" not in os.environ.get("XLA_FLAGS", "")
        self._compiled: set[int] = set()

    def took(self, length: int, seconds: float) -> None:
        """Learn how long a chunk took; the first of each length is compiled meanwhile, and says nothing."""
        if self._adapts and length == self.length and length in self._compiled and seconds > LONGEST:
            self.length = max((fit for fit in LENGTHS if fit * seconds <= LONGEST * length), default=LENGTHS[-1])
        self._compiled.add(length)
