"""Whether a machine did something else while it measured.

Ratios are no protection: threads that wait for each other by spinning, as PyTorch's do under OpenMP's usual policy,
lose far more to a busy neighbour than threads that sleep. On two busy cores PyTorch's steps were seen to take seven
times as long as under ``OMP_WAIT_POLICY=passive``, which would have made ours look seven times as good.
"""

import os
import resource
from pathlib import Path
from typing import NamedTuple

STAT = Path("/proc/stat")
IDLE = (3, 4)
"""Of the times in /proc/stat: idle, and waiting for disks."""
GUESTS = (8, 9)
"""Counted a second time, under user and nice."""
LOUD = 0.05
"""A share of the machine's time above which a measurement is not worth publishing."""


class Times(NamedTuple):
    """Seconds of all cores since the machine was started, those of work, and those of this process and its children."""

    passed: float
    busy: float
    own: float


def times() -> Times | None:
    """The clocks as they stand; None where the system has no /proc/stat."""
    try:
        fields = [int(field) for field in STAT.read_text().partition("\n")[0].split()[1:]]
    except OSError:
        return None
    unit = os.sysconf("SC_CLK_TCK")
    passed = sum(each for place, each in enumerate(fields) if place not in GUESTS)
    own = sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    return Times(passed / unit, (passed - sum(fields[place] for place in IDLE)) / unit, own)


def others_share(before: Times | None, after: Times | None) -> float | None:
    """Which part of the machine's time between two readings others took, from 0 to 1; None if it is not known."""
    if before is None or after is None or after.passed <= before.passed:
        return None
    busy = (after.busy - before.busy) - (after.own - before.own)
    return min(1.0, max(0.0, busy / (after.passed - before.passed)))
