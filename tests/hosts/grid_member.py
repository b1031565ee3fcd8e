"""`jnst` as one of the processes that the tests start.

Where ``HELD_AFTER`` is set, the process stands still after so many lines of its journal, to be killed there.
"""

import os
import sys
import time

from jnst.catalogue.journal import Journal, Record
from jnst.cli import main


def hold_after(lines: int) -> None:
    """Make a journal's writing of a line the last thing that this process does."""
    write, written = Journal.write, []

    def write_and_hold(self: Journal, record: Record) -> None:
        write(self, record)
        written.append(record)
        if len(written) == lines:
            time.sleep(600)

    Journal.write = write_and_hold


if __name__ == "__main__":
    if "HELD_AFTER" in os.environ:
        hold_after(int(os.environ["HELD_AFTER"]))
    sys.exit(main())
